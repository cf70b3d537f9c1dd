"""What a built program or library asks of the machine it runs on, read from the file itself."""

from __future__ import annotations

import re
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mindir_llm.tools.package.errors import PackageError
from mindir_llm.tools.package.targets import Target

__all__ = ["NEWEST", "Needs", "check_needs", "read_needs", "version_key"]

# What may be needed: the C library in its parts, and the C++ runtime.
LIBRARIES = re.compile(r"^(libc|libm|libpthread|libdl|librt|libstdc\+\+|libgcc_s|ld-linux[\w-]*)\.so\.\d+$")
# The C++ runtime that distributions with glibc 2.34 have at least: that of GCC 11.
NEWEST = {"GLIBC": "2.34", "GLIBCXX": "3.4.29", "CXXABI": "1.3.13"}


@dataclass(frozen=True)
class Needs:
    """Shared libraries and, for each family of versioned symbols (GLIBC, GLIBCXX, …), the newest version."""

    machine: int
    libraries: tuple[str, ...]
    versions: dict[str, str]

    @property
    def is_static(self) -> bool:
        return not self.libraries


def version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def read_needs(path: Path, objdump: str) -> Needs:
    """Of an ELF file."""
    head = path.read_bytes()[:20]
    if head[:4] != b"\x7fELF":
        raise PackageError(f"{path}: not an ELF file")
    (machine,) = struct.unpack_from("<H", head, 18)
    text = subprocess.run([objdump, "-p", str(path)], capture_output=True, text=True, check=True).stdout
    libraries = tuple(sorted(re.findall(r"^\s*NEEDED\s+(\S+)", text, re.M)))
    versions: dict[str, str] = {}
    references = text.partition("Version References:")[2]
    for family, version in re.findall(r"\b([A-Z]+)_(\d+(?:\.\d+)+)", references):
        if version_key(version) > version_key(versions.get(family, "0")):
            versions[family] = version
    return Needs(machine, libraries, dict(sorted(versions.items())))


def check_needs(path: Path, needs: Needs, target: Target, newest: dict[str, str] = NEWEST) -> None:
    """Refuse what would not start where the package says that it does. A newest of "0": none is needed."""
    if needs.machine != target.elf_machine:
        raise PackageError(f"{path.name}: built for ELF machine {needs.machine}, not for {target.name}")
    strange = [name for name in needs.libraries if not LIBRARIES.match(name)]
    if strange:
        raise PackageError(f"{path.name}: needs {', '.join(strange)}, which packages do not bring along")
    for family, limit in newest.items():
        if limit == "0" and family in needs.versions:
            raise PackageError(
                f"{path.name}: needs {family}_{needs.versions[family]}, and there must be no need of {family}"
            )
        if version_key(needs.versions.get(family, "0")) > version_key(limit):
            raise PackageError(
                f"{path.name}: needs {family}_{needs.versions[family]}, and {family}_{limit} is the newest "
                "that packages promise: build with an older compiler or C library"
            )
