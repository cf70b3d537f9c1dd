"""`python -m mindir_llm.tools.demo_model`."""

import sys

from .make import main

sys.exit(main())
