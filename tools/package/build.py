"""Builds the engine for a target and lays out what packages are made of."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mindir_llm.tools.package.elf import Needs, check_needs, read_needs
from mindir_llm.tools.package.errors import PackageError
from mindir_llm.tools.package.targets import Target

__all__ = ["Built", "build", "repository"]

_UNNEEDED = ["--remove-section=.comment"]  # the compiler's name, once for each object file


@dataclass(frozen=True)
class Built:
    """The installed tree, whose executable uses the system's libraries, and a static executable."""

    target: Target
    tree: Path
    debian_tree: Path  # the same with libraries in the folder of their machine, as Debian has them
    static_executable: Path
    executable_needs: Needs
    library_needs: Needs


def repository() -> Path:
    """The sources that this package stands in."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "runtime" / "engine" / "CMakeLists.txt").is_file():
        raise PackageError(
            "the engine's sources are not here: packages are made in a clone of the repository"
        )
    return root


def build(target: Target, work: Path, jobs: int) -> Built:
    """Compile once, link the executable both ways, install and strip."""
    root = repository()
    compiler, objdump, strip = target.tool("g++"), target.tool("objdump"), target.tool("strip")
    folder = work / target.name
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "build.log"
    log.write_text("")
    binary = folder / "build"
    # No path of the machine that built it is in what comes out.
    maps = f"-ffile-prefix-map={root}=. -ffile-prefix-map={binary.resolve()}=build"
    configure = [
        *_cmake(), "-S", str(root), "-B", str(binary), "-DCMAKE_BUILD_TYPE=Release",
        "-DCMAKE_INSTALL_PREFIX=/usr", "-DMLLM_BUILD_TESTS=OFF",
        "-DCMAKE_SKIP_RPATH=ON", f"-DCMAKE_CXX_FLAGS={maps}", f"-DCMAKE_C_FLAGS={maps}",
    ]  # fmt: skip
    if target.name == "x86_64":  # where programs of both links have been run and compared
        configure.append("-DMLLM_LTO=ON")
    if not target.is_host():
        toolchains = root / "runtime" / "engine" / "cmake" / "toolchains"
        configure.append(f"-DCMAKE_TOOLCHAIN_FILE={toolchains / (target.name + '.cmake')}")
    make = [*_cmake()[:1], "--build", str(binary), "-j", str(jobs)]
    print(f"{target.name}: compiling with {compiler}", file=sys.stderr, flush=True)
    trees = {"lib": folder / "tree", f"lib/{target.triple}": folder / "debian-tree"}
    # Addresses of other libraries' functions are bound at the start, and then read-only.
    hardened = "-Wl,-z,relro,-z,now"
    for libraries, tree in trees.items():
        flags = [f"-DCMAKE_{kind}_LINKER_FLAGS={hardened}" for kind in ("EXE", "SHARED")]
        _call([*configure, *flags, f"-DCMAKE_INSTALL_LIBDIR={libraries}"], log)
        _call(make, log)
        shutil.rmtree(tree, ignore_errors=True)
        _call([*_cmake()[:1], "--install", str(binary), "--prefix", str(tree)], log)
        shared = (tree / libraries / "libmindir_llm.so").resolve()
        _call([strip, *_UNNEEDED, str(tree / "bin" / "mindir-llm"), str(shared)], log)
        archive = str(tree / libraries / "libmindir_llm.a")
        # What only this very compiler could link again does not go into packages.
        ordinary = [strip, "--strip-debug", *_UNNEEDED, "--remove-section=.gnu.lto_*"]
        _call([*ordinary, "--enable-deterministic-archives", archive], log)
    tree = trees["lib"]
    # The same objects once more: only the link differs.
    _call([*configure, "-DCMAKE_EXE_LINKER_FLAGS=-static"], log)
    _call([*make, "--target", "mindir_llm_cli"], log)
    static = folder / "mindir-llm-static"
    _call([strip, *_UNNEEDED, "-o", str(static), str(binary / "runtime" / "engine" / "mindir-llm")], log)
    executable = tree / "bin" / "mindir-llm"
    library = (tree / "lib" / "libmindir_llm.so").resolve()
    needs = {path: read_needs(path, objdump) for path in (executable, library, static)}
    for path, found in needs.items():
        check_needs(path, found, target)
    if not needs[static].is_static:
        raise PackageError(f"{static}: needs {', '.join(needs[static].libraries)}: it is not static")
    return Built(target, tree, trees[f"lib/{target.triple}"], static, needs[executable], needs[library])


def _cmake() -> list[str]:
    """CMake with Ninja: those beside this Python first, as `make setup` puts them there."""
    beside = Path(sys.executable).parent
    found = [
        shutil.which(name, path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
        for name in ("cmake", "ninja")
    ]
    if not found[0]:
        raise PackageError("cmake is missing: apt-get install cmake, or pip install cmake")
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={found[1]}"] if found[1] else []
    return [found[0], *generator]


def _call(command: list[str], log: Path) -> None:
    with log.open("ab") as output:
        failed = subprocess.run(command, stdout=output, stderr=output).returncode
    if failed:
        tail = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
        raise PackageError(f"{Path(command[0]).name} failed: {''.join(tail)} (all of it: {log})")
