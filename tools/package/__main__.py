"""`python -m mindir_llm.tools.package`."""

import sys

from mindir_llm.tools.package.command import main

sys.exit(main())
