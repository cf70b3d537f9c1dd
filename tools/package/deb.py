"""A Debian package from the installed tree."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
from email.utils import formatdate
from pathlib import Path

from mindir_llm.tools.package.archive import epoch
from mindir_llm.tools.package.build import Built, repository
from mindir_llm.tools.package.errors import PackageError
from mindir_llm.tools.package.readme import package_readme

__all__ = ["write_deb"]

# Findings of lintian that are as they should be.
OVERRIDES = """\
# Who publishes the package says so in DEBFULLNAME and DEBEMAIL.
mindir-llm: bogus-mail-host *
mindir-llm: bogus-mail-host-in-debian-changelog *
# It is not part of a distribution's archive.
mindir-llm: initial-upload-closes-no-bugs *
# One package has all of it: executable, library and what it takes to build with the library.
mindir-llm: package-name-doesnt-match-sonames *
mindir-llm: link-to-shared-library-in-wrong-package *
"""
# The first GCC that brought a C++ runtime of that version.
GCC_OF_GLIBCXX = {"3.4.24": "8", "3.4.26": "9", "3.4.28": "9.3", "3.4.29": "11", "3.4.30": "12"}


def write_deb(built: Built, version: str, work: Path, output: Path) -> Path:
    if shutil.which("dpkg-deb") is None:
        raise PackageError("dpkg-deb is missing: apt-get install dpkg")
    root = work / built.target.name / "deb"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(built.debian_tree, root / "usr", symlinks=True)
    for page in sorted((root / "usr" / "share").glob("man/man*/*")):
        page.with_name(f"{page.name}.gz").write_bytes(gzip.compress(page.read_bytes(), 9, mtime=0))
        page.unlink()
    documents = root / "usr" / "share" / "doc" / "mindir-llm"
    documents.mkdir(parents=True)
    (documents / "copyright").write_text(_COPYRIGHT)
    readme = package_readme(built.target.name, version, built.executable_needs)
    (documents / "README.md").write_text(readme)
    changes = f"mindir-llm ({version}-1) unstable; urgency=low\n\n  * See the project's CHANGELOG.md.\n\n"
    changes += f" -- {maintainer()}  {formatdate(epoch())}\n"
    (documents / "changelog.Debian.gz").write_bytes(gzip.compress(changes.encode(), 9, mtime=0))
    (documents / "changelog.gz").write_bytes(
        gzip.compress((repository() / "CHANGELOG.md").read_bytes(), 9, mtime=0)
    )
    overrides = root / "usr" / "share" / "lintian" / "overrides"
    overrides.mkdir(parents=True)
    (overrides / "mindir-llm").write_text(OVERRIDES)
    for path in sorted(root.rglob("*")):
        if not path.is_symlink():
            is_program = path.is_dir() or path.parent.name == "bin"
            path.chmod(0o755 if is_program else 0o644)
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]
    control = root / "DEBIAN"
    control.mkdir()
    size = sum(path.stat().st_size for path in files) // 1024 + 1
    (control / "control").write_text(
        f"""\
Package: mindir-llm
Version: {version}-1
Architecture: {built.target.debian}
Maintainer: {maintainer()}
Installed-Size: {size}
Depends: {_dependencies(built)}
Section: science
Priority: optional
Multi-Arch: no
Description: run language models exported as MindIR bundles
 A native engine for quantized Llama-family models on any CPU, with a command
 line (run, chat, bench, inspect) and a C library with header, CMake package
 and pkg-config file. Kernels are chosen at run time.
"""
    )
    (control / "md5sums").write_text(
        "".join(f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n" for path in files)
    )
    libraries = built.debian_tree / "lib" / built.target.triple
    soname = next(path.name for path in libraries.glob("libmindir_llm.so.*") if path.is_symlink())
    (control / "shlibs").write_text(f"libmindir_llm {soname.rsplit('.', 1)[1]} mindir-llm (>= {version})\n")
    (control / "triggers").write_text("activate-noawait ldconfig\n")
    for path in control.iterdir():
        path.chmod(0o644)
    for path in [root, *root.rglob("*")]:
        os.utime(path, (epoch(), epoch()), follow_symlinks=False)
    package = output / f"mindir-llm_{version}-1_{built.target.debian}.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(root), str(package)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise PackageError(f"dpkg-deb failed: {done.stderr.strip()}")
    return package


def maintainer() -> str:
    """As Debian's own tools find it."""
    name = os.environ.get("DEBFULLNAME") or "mindir-llm developers"
    return f"{name} <{os.environ.get('DEBEMAIL') or 'mindir-llm@localhost'}>"


def _dependencies(built: Built) -> str:
    """What the symbol versions of the executable and the library ask for."""
    glibc, gcc = "2.17", "5"
    for needs in (built.executable_needs, built.library_needs):
        glibc = max(glibc, needs.versions.get("GLIBC", glibc), key=lambda v: [int(p) for p in v.split(".")])
        for glibcxx, release in GCC_OF_GLIBCXX.items():
            if needs.versions.get("GLIBCXX") == glibcxx:
                gcc = max(gcc, release, key=float)
    libraries = {*built.executable_needs.libraries, *built.library_needs.libraries}
    if "libstdc++.so.6" not in libraries:  # it is linked in
        return f"libc6 (>= {glibc})"
    return f"libc6 (>= {glibc}), libgcc-s1 (>= 3.0), libstdc++6 (>= {gcc})"


_COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: mindir-llm

Files: *
Copyright: 2026 the mindir-llm developers
License: Apache-2.0
 On Debian systems the complete text of the Apache License 2.0 can be found in
 /usr/share/common-licenses/Apache-2.0.
"""
