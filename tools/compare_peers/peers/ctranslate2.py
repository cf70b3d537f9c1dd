"""CTranslate2 with its converter of Hugging Face checkpoints."""

from __future__ import annotations

from pathlib import Path

from mindir_llm.tools.compare_peers.peers.base import PyPIPeer, Variant
from mindir_llm.tools.compare_peers.peers.pins import CONVERT_TORCH, CTRANSLATE2
from mindir_llm.tools.compare_peers.site import Site

__all__ = ["CTranslate2"]


class CTranslate2(PyPIPeer):
    name = "ctranslate2"
    variants = (Variant("int8", 8),)
    notes = ("has no 4-bit weights on CPUs",)
    environment = CTRANSLATE2
    converter = CONVERT_TORCH
    distributions = ("ctranslate2",)
    worker = "run_ctranslate2.py"

    def make(self, site: Site, checkpoint: Path, folder: Path, variant: Variant) -> None:
        command = [site.program(self.converter, "ct2-transformers-converter"), "--model", str(checkpoint)]
        command += ["--output_dir", str(folder), "--quantization", variant.name]
        # --force: the folder is there, and empty.
        site.run([*command, "--low_cpu_mem_usage", "--force"], f"convert-ctranslate2-{variant.name}")
