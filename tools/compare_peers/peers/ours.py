"""This project's engine, from the running package."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mindir_llm.runtime import _native
from mindir_llm.runtime.errors import MindirLLMError
from mindir_llm.tools.bench.errors import BenchError
from mindir_llm.tools.bench.subject import make_bundle
from mindir_llm.tools.compare_peers.errors import CompareError
from mindir_llm.tools.compare_peers.peers.base import WORKERS, Variant
from mindir_llm.tools.compare_peers.site import Site, worker_environment

__all__ = ["MindirLLM"]

PACKAGES = ("runtime", "tokenizer", "models", "export", "tools")


class MindirLLM:
    """Exported anew in every run: that takes half a minute, and what it depends on is what changes."""

    name = "mindir-llm"
    ours = True
    variants: tuple[Variant, ...] = (Variant("a16w4", 4), Variant("a16w8", 8))
    notes: tuple[str, ...] = ("package: all Python modules and the engine",)

    def setup(self, site: Site) -> None:
        pass

    def facts(self, site: Site) -> dict[str, Any]:
        try:
            engine = _native._find().stat().st_size
            number = _version()
        except (MindirLLMError, OSError) as error:
            raise CompareError(str(error)) from None
        # By name: the path of an editable install holds whatever lies beside the packages as well.
        specs = [find_spec(f"mindir_llm.{name}") for name in PACKAGES]
        folders = [Path(path) for spec in specs if spec for path in spec.submodule_search_locations or ()]
        modules = {file.resolve() for folder in folders for file in folder.rglob("*.py")}
        size = engine + sum(file.stat().st_size for file in modules)
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


def _version() -> str:
    try:
        return version("mindir-llm")
    except PackageNotFoundError:
        number: str = _native.library().mllm_version().decode()
        return number
