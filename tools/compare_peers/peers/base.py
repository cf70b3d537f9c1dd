"""What the comparison needs of an engine, and the part that all engines from PyPI share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mindir_llm.tools.compare_peers.site import Environment, Site, worker_environment

__all__ = ["Peer", "PyPIPeer", "Variant"]

WORKERS = Path(__file__).resolve().parents[1] / "workers"
CONVERTERS = Path(__file__).resolve().parents[1] / "converters"

# Sizes of the files that pip recorded, without what Python compiles at the first import. Files of one content
# count once: a wheel cannot hold links, so some carry each library under three names.
_FACTS = """
import hashlib, importlib.metadata as metadata, json, sys
sizes, versions = {}, {}
for name in sys.argv[1:]:
    one = metadata.distribution(name)
    versions[name] = one.version
    for path in one.files or []:
        file = path.locate()
        if path.suffix != ".pyc" and file.is_file():
            content = file.read_bytes()
            sizes[hashlib.sha256(content).digest()] = len(content)
print(json.dumps({"versions": versions, "package_bytes": sum(sizes.values())}))
"""


@dataclass(frozen=True)
class Variant:
    """A kind of weights. bits: of a quantized weight, without its scales."""

    name: str
    bits: int


class Peer(Protocol):
    """An engine. Every method but command raises CompareError with a reason that goes into the report.

    notes: how it was set up, for readers of the report.
    """

    @property
    def name(self) -> str: ...

    @property
    def ours(self) -> bool: ...

    @property
    def variants(self) -> tuple[Variant, ...]: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    def setup(self, site: Site) -> None:
        """Install it."""

    def facts(self, site: Site) -> dict[str, Any]:
        """{"versions": {distribution: version}, "package_bytes": size of these distributions}."""

    def convert(self, site: Site, shape: str, checkpoint: Path, variant: Variant) -> Path:
        """The folder of the converted model."""

    def model(self, folder: Path) -> Path:
        """What the worker opens in that folder."""

    def command(self, site: Site) -> list[str]:
        """Starts the worker."""

    def variables(self, site: Site) -> dict[str, str]:
        """The worker's environment variables."""


class PyPIPeer:
    """An engine in an environment of its own, and a converter in another, so that what is measured is what a
    user installs. distributions: those whose size counts as the engine's."""

    name: str
    ours = False
    variants: tuple[Variant, ...]
    notes: tuple[str, ...] = ()
    environment: Environment
    converter: Environment
    distributions: tuple[str, ...]
    worker: str

    def setup(self, site: Site) -> None:
        site.ensure(self.environment)
        site.ensure(self.converter)

    def facts(self, site: Site) -> dict[str, Any]:
        facts: dict[str, Any] = site.ask(self.environment, _FACTS, *self.distributions)
        return facts

    def convert(self, site: Site, shape: str, checkpoint: Path, variant: Variant) -> Path:
        folder = site.workdir / shape / f"{self.environment.name}-{variant.name}"
        return site.convert(folder, lambda part: self.make(site, checkpoint, part, variant))

    @abstractmethod
    def make(self, site: Site, checkpoint: Path, folder: Path, variant: Variant) -> None:
        """Convert the checkpoint into an empty folder."""

    def model(self, folder: Path) -> Path:
        return folder

    def command(self, site: Site) -> list[str]:
        return [str(site.python(self.environment)), str(WORKERS / self.worker)]

    def variables(self, site: Site) -> dict[str, str]:
        return worker_environment(site.threads, ours=False)
