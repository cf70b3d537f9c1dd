"""OpenVINO GenAI with optimum-intel's exporter."""

from __future__ import annotations

from pathlib import Path

from mindir_llm.tools.compare_peers.peers.base import PyPIPeer, Variant
from mindir_llm.tools.compare_peers.peers.pins import CONVERT_OPENVINO, OPENVINO_GENAI
from mindir_llm.tools.compare_peers.site import Site

__all__ = ["OpenVinoGenAI"]


class OpenVinoGenAI(PyPIPeer):
    name = "openvino-genai"
    variants = (Variant("int4", 4), Variant("int8", 8))
    notes = ("optimum-intel's default weight compression; LLMPipeline with its defaults",)
    environment = OPENVINO_GENAI
    converter = CONVERT_OPENVINO
    distributions = ("openvino-genai", "openvino", "openvino-tokenizers")
    worker = "run_openvino_genai.py"

    def make(self, site: Site, checkpoint: Path, folder: Path, variant: Variant) -> None:
        command = [site.program(self.converter, "optimum-cli"), "export", "openvino"]
        command += ["--model", str(checkpoint), "--task", "text-generation-with-past"]
        command += ["--weight-format", variant.name, str(folder)]
        site.run(command, f"convert-openvino-{variant.name}")
