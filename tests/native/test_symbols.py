"""What a program can link to: the functions of the header, and nothing that could clash with its own."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mindir_llm.runtime import _native

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm (binutils)")


def defined(library: Path, *flags: str) -> list[tuple[str, str]]:
    """(kind, name) of the global symbols that a library defines."""
    command = ["nm", "--defined-only", "--extern-only", *flags, str(library)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [(fields[-2], fields[-1].split("@")[0]) for fields in map(str.split, lines) if len(fields) == 3]


def test_the_shared_library_exports_the_header_and_nothing_else(installed: Path) -> None:
    (library,) = installed.glob("lib*/**/libmindir_llm.so")
    assert {name for _, name in defined(library, "--dynamic")} == set(_native.PROTOTYPES)


def test_the_static_library_defines_prefixed_names_only(installed: Path) -> None:
    """Weak symbols are instances of the standard library's templates, which every C++ program shares."""
    (library,) = installed.glob("lib*/**/libmindir_llm.a")
    names = [name for kind, name in defined(library) if kind not in "WVu"]
    assert set(_native.PROTOTYPES) <= set(names)
    assert [name for name in names if not re.match(r"mllm_|_Z\w*?(4mllm|\d+mllm_)", name)] == []


@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf (binutils)")
def test_the_library_is_named_after_its_abi(installed: Path) -> None:
    (library,) = installed.glob("lib*/**/libmindir_llm.so")
    dynamic = subprocess.run(
        ["readelf", "-d", str(library)], check=True, capture_output=True, text=True
    ).stdout
    assert f"[libmindir_llm.so.{_native.ABI_VERSION}]" in dynamic
    needed = set(re.findall(r"NEEDED.*\[([\w-]+)", dynamic))
    assert needed <= {
        "libstdc",
        "libm",
        "libgcc_s",
        "libc",
        "libpthread",
        "libdl",
        "ld-linux-x86-64",
        "ld-linux-aarch64",
    }
