"""`mindir-llm bench`: speed, memory and load time of a bundle, against what the machine could do."""

from mindir_llm.tools.bench.errors import BenchError

__all__ = ["BenchError"]
