"""Builds the engine for a target and lays out what packages are made of."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mindir_llm.tools.package import zig
from mindir_llm.tools.package.elf import NEWEST, Needs, check_needs, read_needs
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
    linked_in: tuple[
        tuple[str, str], ...
    ] = ()  # parts of executable and library that are not ours: name, licence


def repository() -> Path:
    """The sources that this package stands in."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "runtime" / "engine" / "CMakeLists.txt").is_file():
        raise PackageError(
            "the engine's sources are not here: packages are made in a clone of the repository"
        )
    return root


def build(target: Target, work: Path, jobs: int, compiler: Path | None = None) -> Built:
    """Compile once, link the executable both ways, install and strip.

    compiler: Zig's, which then makes the shared library and the executable that goes with it.
    """
    root = repository()
    gcc, objdump, strip = target.tool("g++"), target.tool("objdump"), target.tool("strip")
    if target.name not in zig.TARGETS:
        compiler = None
    folder = work / target.name
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "build.log"
    log.write_text("")
    toolchains = root / "runtime" / "engine" / "cmake" / "toolchains"
    binary = folder / "build"
    configure = [*_configure(root, binary), "-DMLLM_LTO=ON"]
    if not target.is_host():
        configure.append(f"-DCMAKE_TOOLCHAIN_FILE={toolchains / (target.name + '.cmake')}")
    # The static library comes from GCC in any case: those who link it have GCC's C++ runtime.
    if compiler is None:
        parts = [_Part(binary, configure, ("all",), ("runtime", "tools", "development"))]
    else:
        other = folder / "build-zig"
        with_zig = [
            *_configure(root, other), f"-DCMAKE_TOOLCHAIN_FILE={toolchains / 'zig.cmake'}",
            f"-DMLLM_ZIG={compiler}", f"-DMLLM_ZIG_MACHINE={target.name}", f"-DMLLM_ZIG_GLIBC={zig.GLIBC}",
        ]  # fmt: skip
        parts = [
            _Part(binary, configure, ("mindir_llm", "mindir_llm_static"), ("development",)),
            _Part(other, with_zig, ("mindir_llm", "mindir_llm_cli"), ("runtime", "tools")),
        ]
    compilers = f"{gcc} and zig" if compiler else gcc
    print(f"{target.name}: compiling with {compilers}", file=sys.stderr, flush=True)
    trees = {"lib": folder / "tree", f"lib/{target.triple}": folder / "debian-tree"}
    # Addresses of other libraries' functions are bound at the start, and then read-only.
    hardened = [f"-DCMAKE_{kind}_LINKER_FLAGS=-Wl,-z,relro,-z,now" for kind in ("EXE", "SHARED")]
    for libraries, tree in trees.items():
        shutil.rmtree(tree, ignore_errors=True)
        for part in parts:
            _call([*part.configure, *hardened, f"-DCMAKE_INSTALL_LIBDIR={libraries}"], log)
            _call(_make(part.binary, jobs, *part.targets), log)
            install = [*_cmake()[:1], "--install", str(part.binary), "--prefix", str(tree)]
            for component in part.components:
                _call([*install, "--component", component], log)
        shared = (tree / libraries / "libmindir_llm.so").resolve()
        _call([strip, *_UNNEEDED, str(tree / "bin" / "mindir-llm"), str(shared)], log)
        archive = str(tree / libraries / "libmindir_llm.a")
        # What only this very compiler could link again does not go into packages.
        ordinary = [strip, "--strip-debug", *_UNNEEDED, "--remove-section=.gnu.lto_*"]
        _call([*ordinary, "--enable-deterministic-archives", archive], log)
    # GCC's objects once more: only the link differs.
    _call([*configure, "-DCMAKE_EXE_LINKER_FLAGS=-static"], log)
    _call(_make(binary, jobs, "mindir_llm_cli"), log)
    static = folder / "mindir-llm-static"
    _call([strip, *_UNNEEDED, "-o", str(static), str(binary / "runtime" / "engine" / "mindir-llm")], log)
    tree = trees["lib"]
    executable = tree / "bin" / "mindir-llm"
    library = (tree / "lib" / "libmindir_llm.so").resolve()
    needs = {path: read_needs(path, objdump) for path in (executable, library, static)}
    for path, found in needs.items():
        check_needs(path, found, target, zig.NEWEST if compiler else NEWEST)
    if not needs[static].is_static:
        raise PackageError(f"{static}: needs {', '.join(needs[static].libraries)}: it is not static")
    linked_in = zig.RUNTIMES if compiler else ()
    debian_tree = trees[f"lib/{target.triple}"]
    return Built(target, tree, debian_tree, static, needs[executable], needs[library], linked_in)


@dataclass(frozen=True)
class _Part:
    """What one compiler contributes to the installed tree."""

    binary: Path
    configure: list[str]
    targets: tuple[str, ...]
    components: tuple[str, ...]


def _configure(root: Path, binary: Path) -> list[str]:
    # No path of the machine that built it is in what comes out.
    maps = f"-ffile-prefix-map={root}=. -ffile-prefix-map={binary.resolve()}=build"
    return [
        *_cmake(), "-S", str(root), "-B", str(binary), "-DCMAKE_BUILD_TYPE=Release",
        "-DCMAKE_INSTALL_PREFIX=/usr", "-DMLLM_BUILD_TESTS=OFF",
        "-DCMAKE_SKIP_RPATH=ON", f"-DCMAKE_CXX_FLAGS={maps}", f"-DCMAKE_C_FLAGS={maps}",
    ]  # fmt: skip


def _make(binary: Path, jobs: int, *targets: str) -> list[str]:
    return [*_cmake()[:1], "--build", str(binary), "-j", str(jobs), "--target", *targets]


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
