"""The archives of the engine: all of it, and the static executable alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from mindir_llm.tools.package.archive import write_checksums, write_tar
from mindir_llm.tools.package.build import Built, repository
from mindir_llm.tools.package.readme import package_readme
from mindir_llm.tools.package.sbom import RUNTIMES, write_sbom

__all__ = ["write_archive", "write_static_archive"]


def write_archive(built: Built, version: str, work: Path, output: Path) -> Path:
    root = _fresh(work / built.target.name / f"mindir-llm-{version}-linux-{built.target.name}")
    shutil.copytree(built.tree, root, symlinks=True, dirs_exist_ok=True)
    readme = package_readme(built.target.name, version, built.executable_needs)
    return _finish(root, version, readme, built.linked_in, output)


def write_static_archive(built: Built, version: str, work: Path, output: Path) -> Path:
    root = _fresh(work / built.target.name / f"mindir-llm-{version}-linux-{built.target.name}-static")
    (root / "bin").mkdir(parents=True)
    shutil.copyfile(built.static_executable, root / "bin" / "mindir-llm")
    (root / "bin" / "mindir-llm").chmod(0o755)
    return _finish(root, version, package_readme(built.target.name, version, None), RUNTIMES, output)


def _fresh(root: Path) -> Path:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    return root


def _finish(
    root: Path, version: str, readme: str, linked_in: tuple[tuple[str, str], ...], output: Path
) -> Path:
    (root / "README.md").write_text(readme)
    shutil.copyfile(repository() / "LICENSE", root / "LICENSE")
    write_sbom(root, version, linked_in)
    write_checksums(root)
    archive = output / f"{root.name}.tar.gz"
    write_tar(root, archive)
    return archive
