"""MindSpore's log level must be set before it is imported for the first time."""

import os

os.environ.setdefault("GLOG_v", "3")
