"""Host side: a Hugging Face checkpoint in, a bundle of MindIR graphs and weights out.

MindSpore is imported when a graph is traced, not when this package is.
"""

from mindir_llm.export.bundle import ExportOptions, export_bundle
from mindir_llm.export.errors import ExportError

__all__ = ["ExportError", "ExportOptions", "export_bundle"]
