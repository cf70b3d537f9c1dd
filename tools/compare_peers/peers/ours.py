"""This project's engine, from the running package."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mindir_llm.tools.bench.errors import BenchError
from mindir_llm.tools.bench.subject import make_bundle
from mindir_llm.tools.compare_peers.errors import CompareError
from mindir_llm.tools.compare_peers.peers.base import WORKERS, Variant
from mindir_llm.tools.compare_peers.site import Site, worker_environment

__all__ = ["MindirLLM"]


class MindirLLM:
    """Exported anew in every run: that takes half a minute, and what it depends on is what changes."""

    name = "mindir-llm"
    ours = True
    variants: tuple[Variant, ...] = (Variant("a16w4", 4), Variant("a16w8", 8))
    notes: tuple[str, ...] = ("package: all Python modules and the engine",)

    def setup(self, site: Site) -> None:
        pass

    def facts(self, site: Site) -> dict[str, Any]:
        import mindir_llm
        from mindir_llm.runtime import _native

        try:
            number = version("mindir-llm")
        except PackageNotFoundError:
            number = _native.library().mllm_version().decode()
        except OSError as error:
            raise CompareError(str(error)) from None
        folders = [Path(folder) for folder in mindir_llm.__path__]
        files = {file for folder in folders for part in _parts(folder) for file in part.rglob("*.py")}
        size = sum(file.stat().st_size for file in files) + _native._find().stat().st_size
        return {"versions": {"mindir-llm": number}, "package_bytes": size}

    def convert(self, site: Site, shape: str, checkpoint: Path, variant: Variant) -> Path:
        try:
            return make_bundle(shape, variant.name, site.workdir, fresh=True)
        except BenchError as error:
            raise CompareError(str(error)) from None

    def model(self, folder: Path) -> Path:
        return folder

    def command(self, site: Site) -> list[str]:
        return [sys.executable, str(WORKERS / "run_mindir_llm.py")]

    def variables(self, site: Site) -> dict[str, str]:
        return worker_environment(site.threads, ours=True)


def _parts(folder: Path) -> list[Path]:
    """The package's folders; in a checkout they may be links."""
    return [path.resolve() for path in folder.iterdir() if path.is_dir()]
