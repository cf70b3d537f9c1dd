"""The machines that packages are made for, and the tools that each needs."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass

from mindir_llm.tools.package.errors import PackageError

__all__ = ["TARGETS", "Target", "find_target"]


@dataclass(frozen=True)
class Target:
    """A machine as each of the worlds that meet here calls it."""

    name: str  # ours, as in file names
    triple: str  # of Debian's compiler
    debian: str  # architecture of a .deb
    wheel: str | None  # end of a wheel's platform tag; None: no wheel is made
    elf_machine: int  # e_machine of its programs

    def is_host(self) -> bool:
        return platform.machine() == self.name

    def tool(self, name: str) -> str:
        """A binutils or GCC program for this machine; a missing one is an error that says how to get it."""
        program = name if self.is_host() else f"{self.triple}-{name}"
        if shutil.which(program) is None:
            package = f"g++-{self.triple.replace('_', '-')}" if not self.is_host() else "g++ binutils"
            raise PackageError(f"{program} is missing: apt-get install {package}")
        return program


TARGETS = (
    Target("x86_64", "x86_64-linux-gnu", "amd64", "x86_64", 62),
    Target("aarch64", "aarch64-linux-gnu", "arm64", "aarch64", 183),
    Target("armv7", "arm-linux-gnueabihf", "armhf", None, 40),
    Target("riscv64", "riscv64-linux-gnu", "riscv64", None, 243),
)


def find_target(name: str) -> Target:
    """The target of that name; `host` is this machine."""
    wanted = platform.machine() if name == "host" else name
    for target in TARGETS:
        if target.name == wanted:
            return target
    names = ", ".join(target.name for target in TARGETS)
    raise PackageError(f"no target {wanted!r}: there are {names}")
