"""ONNX Runtime GenAI with its own model builder."""

from __future__ import annotations

import shutil
from pathlib import Path

from mindir_llm.tools.compare_peers.peers.base import PyPIPeer, Variant
from mindir_llm.tools.compare_peers.peers.pins import CONVERT_TORCH, ONNXRUNTIME_GENAI
from mindir_llm.tools.compare_peers.site import Site

__all__ = ["OnnxRuntimeGenAI"]


class OnnxRuntimeGenAI(PyPIPeer):
    name = "onnxruntime-genai"
    variants = (Variant("int4", 4), Variant("int8", 8))
    notes = ("the model builder's defaults for CPUs (MatMulNBits, blocks of 32, int8 activations)",)
    environment = ONNXRUNTIME_GENAI
    converter = CONVERT_TORCH
    distributions = ("onnxruntime-genai", "onnxruntime")
    worker = "run_onnxruntime_genai.py"

    def make(self, site: Site, checkpoint: Path, folder: Path, variant: Variant) -> None:
        scratch = folder / "cache"
        command = [str(site.python(self.converter)), "-m", "onnxruntime_genai.models.builder"]
        command += ["-i", str(checkpoint), "-o", str(folder), "-p", variant.name, "-e", "cpu"]
        site.run([*command, "-c", str(scratch)], f"convert-onnxruntime_genai-{variant.name}")
        shutil.rmtree(scratch, ignore_errors=True)
