"""llama.cpp, built from the source that llama-cpp-python carries, for the machine it runs on."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from mindir_llm.tools.compare_peers.peers.base import CONVERTERS, PyPIPeer, Variant
from mindir_llm.tools.compare_peers.peers.pins import CONVERT_LLAMA_CPP, LLAMA_CPP
from mindir_llm.tools.compare_peers.site import Environment, Site

__all__ = ["LlamaCpp", "LlamaCppFlash"]


def _with_compiler(environment: Environment) -> Environment:
    """Build with clang where there is one: GCC 12's _tile_loadconfig tells the optimizer of 8 bytes of 64, so
    that the rest of the configuration may never be written; llama.cpp's AMX kernels then fault."""
    for version in ("-21", "-20", "-19", "-18", "-17", "-16", "-15", "-14", ""):
        c, cpp = f"clang{version}", f"clang++{version}"
        if shutil.which(c) and shutil.which(cpp):
            return dataclasses.replace(environment, variables=(("CC", c), ("CXX", cpp)))
    return environment


class LlamaCpp(PyPIPeer):
    name = "llama.cpp"
    variants = (Variant("Q4_0", 4), Variant("Q8_0", 8))
    notes: tuple[str, ...] = (
        "built for this machine's instructions (GGML_NATIVE), quantized by its own quantizer; n_ctx 2048, "
        "n_batch 512",
    )
    environment = _with_compiler(LLAMA_CPP)
    converter = CONVERT_LLAMA_CPP
    distributions = ("llama-cpp-python",)
    worker = "run_llama_cpp.py"

    def make(self, site: Site, checkpoint: Path, folder: Path, variant: Variant) -> None:
        whole = folder / "bfloat16.gguf"
        log = f"convert-llama_cpp-{variant.name}"
        site.run(
            [
                str(site.python(self.converter)),
                str(CONVERTERS / "write_gguf.py"),
                str(checkpoint),
                str(whole),
            ],
            log,
        )
        site.run(
            [
                str(site.python(self.environment)),
                str(CONVERTERS / "quantize_gguf.py"),
                str(whole),
                str(self.model(folder)),
                variant.name,
                str(site.threads),
            ],
            log,
        )
        whole.unlink()

    def model(self, folder: Path) -> Path:
        return folder / "model.gguf"


class LlamaCppFlash(LlamaCpp):
    """The same files with flash attention, which is faster for prompts and slower for decoding behind long
    ones: neither is the better setting, so both are measured."""

    name = "llama.cpp, flash attention"
    notes = ()

    def command(self, site: Site) -> list[str]:
        return [*super().command(site), "--flash-attn"]
