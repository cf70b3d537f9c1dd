"""`python -m mindir_llm.tools.compare_peers`."""

import sys

from mindir_llm.tools.compare_peers.command import main

sys.exit(main())
