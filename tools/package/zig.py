"""Zig's compiler, for executables and shared libraries that run on older systems than that which builds them.

It is Clang with the symbols of every glibc, and links its C++ runtime in.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from mindir_llm.tools.package.errors import PackageError

__all__ = ["GLIBC", "NEWEST", "RUNTIMES", "TARGETS", "find_zig"]

GLIBC = "2.28"
# Targets whose programs have been run and compared; others keep Debian's compilers.
TARGETS = ("x86_64", "aarch64")
# Symbols that what is built may need: none of a C++ runtime or of GCC's.
NEWEST = {"GLIBC": GLIBC, "GLIBCXX": "0", "CXXABI": "0", "GCC": "0"}
# What it links in.
RUNTIMES = (
    ("libc++", "Apache-2.0 WITH LLVM-exception"),
    ("libc++abi", "Apache-2.0 WITH LLVM-exception"),
    ("libunwind", "Apache-2.0 WITH LLVM-exception"),
    ("compiler-rt", "MIT"),
)


def find_zig(wanted: str | None) -> Path | None:
    """The compiler; wanted: `zig`, or `gcc`, for which there is none; None: where it is installed."""
    if wanted == "gcc":
        return None
    module = importlib.util.find_spec("ziglang")
    for folder in (module.submodule_search_locations or []) if module else []:
        if (program := Path(folder) / "zig").is_file():
            return program
    if wanted is None:
        return None
    if found := shutil.which("zig"):
        return Path(found)
    raise PackageError("zig is missing: pip install ziglang")
