"""Kernels of machines that this one is not compile, where Debian's compiler for such a machine is installed.

`make test-cross` runs them too, which takes long; this takes seconds, and fails when a header that they
share with this machine's kernels has lost what they call.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ENGINE = Path(__file__).resolve().parents[2] / "runtime" / "engine"
ARM64, ARM32 = "aarch64-linux-gnu-g++", "arm-linux-gnueabihf-g++"
# The end of a file's name -> who compiles it, with the flags of CMakeLists.txt.
COMPILERS = {
    "neon": (ARM64,),
    "neondot": (ARM64, "-march=armv8.2-a+dotprod"),
    "neoni8mm": (ARM64, "-march=armv8.2-a+dotprod+i8mm"),
    "vfpv4": (ARM32, "-mfpu=neon-vfpv4"),
}
FILES = [file for end in COMPILERS for file in sorted((ENGINE / "kernels").rglob(f"*_{end}.cpp"))]


def test_there_are_such_files() -> None:
    assert len(FILES) >= 6


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_kernels_compile(file: Path) -> None:
    compiler, *flags = COMPILERS[file.stem.rpartition("_")[2]]
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-Wno-restrict", "-Wno-maybe-uninitialized"]
    command = [compiler, "-std=c++20", "-O1", "-fsyntax-only", f"-I{ENGINE}", *warnings, *flags, str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:2000]
