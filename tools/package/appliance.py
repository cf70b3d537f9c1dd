"""A model and a static executable in one folder, which starts as it is."""

from __future__ import annotations

import shutil
from pathlib import Path

from mindir_llm.tools.package.archive import write_checksums, write_tar
from mindir_llm.tools.package.build import Built, repository
from mindir_llm.tools.package.errors import PackageError
from mindir_llm.tools.package.readme import appliance_readme

__all__ = ["check_bundle", "write_appliance"]

_RUN = """\
#!/bin/sh
# Continues a text with the model of this folder: ./run -p "Once upon a time"
here=$(dirname -- "$0")
exec "$here/mindir-llm" run "$here/bundle" "$@"
"""


def check_bundle(bundle: Path) -> None:
    if not (bundle / "manifest.json").is_file():
        raise PackageError(f"{bundle}: no bundle: manifest.json is missing; mindir-llm export writes bundles")


def write_appliance(built: Built, version: str, bundle: Path, work: Path, output: Path) -> Path:
    check_bundle(bundle)
    name = bundle.resolve().name
    root = work / built.target.name / f"{name}-linux-{built.target.name}"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    shutil.copytree(bundle, root / "bundle")
    shutil.copyfile(built.static_executable, root / "mindir-llm")
    (root / "run").write_text(_RUN)
    for program in ("mindir-llm", "run"):
        (root / program).chmod(0o755)
    shutil.copyfile(repository() / "LICENSE", root / "LICENSE")
    (root / "README.md").write_text(appliance_readme(built.target.name, version, name))
    write_checksums(root)
    archive = output / f"{root.name}.tar.gz"
    write_tar(root, archive)
    return archive
