"""`python -m mindir_llm.tools.bench`."""

import sys

from mindir_llm.tools.bench.command import main

sys.exit(main())
