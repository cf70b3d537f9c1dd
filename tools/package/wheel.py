"""Wheels with a library that was built for a target; all else in them is as pyproject.toml says."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import os
import tempfile
import time
import zipfile
from pathlib import Path

from mindir_llm.tools.package.archive import epoch
from mindir_llm.tools.package.build import Built, repository
from mindir_llm.tools.package.elf import Needs, version_key
from mindir_llm.tools.package.errors import PackageError

__all__ = ["platform_tag", "write_wheel"]

# The first glibc beside which distributions have a C++ runtime of that version.
GLIBC_OF_GLIBCXX = {"3.4.24": "2.28", "3.4.28": "2.31", "3.4.29": "2.34", "3.4.30": "2.35"}


def platform_tag(needs: Needs, machine: str) -> str:
    """manylinux_X_Y_machine of the oldest C library that has all that is needed."""
    glibc = needs.versions.get("GLIBC", "2.17")
    wanted = version_key(needs.versions.get("GLIBCXX", "3.4"))
    for glibcxx, beside in GLIBC_OF_GLIBCXX.items():
        if wanted <= version_key(glibcxx):
            glibc = max(glibc, beside, key=version_key)
            break
    else:
        raise PackageError(f"no manylinux tag allows GLIBCXX_{needs.versions['GLIBCXX']}")
    return f"manylinux_{glibc.replace('.', '_')}_{machine}"


def write_wheel(built: Built, output: Path) -> Path:
    try:
        from scikit_build_core.build import prepare_metadata_for_build_wheel
    except ImportError as error:
        raise PackageError("wheels need scikit-build-core: pip install scikit-build-core") from error
    assert built.target.wheel is not None
    root = repository()
    tag = f"py3-none-{platform_tag(built.library_needs, built.target.wheel)}"
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        here = Path.cwd()
        os.chdir(root)  # the hook of PEP 517 looks for pyproject.toml where it is called
        try:
            info = prepare_metadata_for_build_wheel(folder)
        finally:
            os.chdir(here)
        for path in sorted((Path(folder) / info).rglob("*")):
            if path.is_file() and path.name != "RECORD":
                files[f"{info}/{path.relative_to(Path(folder) / info).as_posix()}"] = path.read_bytes()
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: mindir-llm\nRoot-Is-Purelib: false\nTag: {tag}\n"
    ).encode()
    files.update(_python_files(root))
    library = (built.tree / "lib" / "libmindir_llm.so").resolve()
    files["mindir_llm/runtime/libmindir_llm.so"] = library.read_bytes()
    record = "".join(f"{name},{_digest(content)},{len(content)}\n" for name, content in sorted(files.items()))
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = output / f"{info.removesuffix('.dist-info')}-{tag}.whl"
    moment = time.gmtime(epoch())[:6]
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        # The metadata come last, as PEP 427 wishes.
        for name in sorted(files, key=lambda name: (name.startswith(info), name)):
            entry = zipfile.ZipInfo(name, moment)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            archive.writestr(entry, files[name])
    return wheel


def _python_files(root: Path) -> dict[str, bytes]:
    """The packages that pyproject.toml maps into the wheel, less what it excludes."""
    settings = _settings(root)
    excluded = settings["exclude"]
    files = {}
    for name, folder in settings["packages"].items():
        for path in sorted((root / folder).rglob("*")):
            entry = f"{name}/{path.relative_to(root / folder).as_posix()}"
            if not path.is_file() or "__pycache__" in path.parts or path.suffix == ".so":
                continue
            if not any(fnmatch.fnmatch(entry, pattern) for pattern in excluded):
                files[entry] = path.read_bytes()
    return files


def _settings(root: Path) -> dict[str, dict[str, str]]:
    """`wheel` of tool.scikit-build."""
    try:
        import tomllib
    except ImportError as error:  # Python 3.10
        raise PackageError("wheels are made with Python 3.11 or newer") from error
    tool = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["scikit-build"]["wheel"]
    return {"packages": tool["packages"], "exclude": tool["exclude"]}


def _digest(content: bytes) -> str:
    packed = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"sha256={packed}"
