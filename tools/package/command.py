"""`python -m mindir_llm.tools.package`: flags in, packages out."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mindir_llm.runtime.cli import Parser
from mindir_llm.tools.package.appliance import check_bundle, write_appliance
from mindir_llm.tools.package.build import Built, build, repository
from mindir_llm.tools.package.deb import write_deb
from mindir_llm.tools.package.errors import PackageError
from mindir_llm.tools.package.layout import write_archive, write_static_archive
from mindir_llm.tools.package.measure import record
from mindir_llm.tools.package.targets import TARGETS, Target, find_target
from mindir_llm.tools.package.wheel import write_wheel
from mindir_llm.tools.package.zig import GLIBC, find_zig
from mindir_llm.tools.package.zig import TARGETS as ZIG_TARGETS

__all__ = ["main"]

KINDS = ("archive", "static", "wheel", "deb")
_EXAMPLES = """examples:
  python -m mindir_llm.tools.package                               # everything, for every machine
  python -m mindir_llm.tools.package --target host --kind static
  python -m mindir_llm.tools.package --target aarch64 --bundle bundle   # an appliance: runtime and model
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = Parser(
        prog="python -m mindir_llm.tools.package",
        description="Build the packages that devices download. The same sources give the same bytes.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(target.name for target in TARGETS)
    parser.add_argument(
        "--target", action="append", metavar="NAME", help=f"{names} or host; again for several (default: all)"
    )
    parser.add_argument(
        "--kind", action="append", choices=KINDS, help="what to make; again for several (default: all)"
    )
    parser.add_argument(
        "--compiler",
        choices=("gcc", "zig"),
        help=f"zig: executable and shared library of {', '.join(ZIG_TARGETS)} run with glibc {GLIBC} "
        "(default where the Python package ziglang is installed); gcc: they need what this system has",
    )
    parser.add_argument("--bundle", type=Path, help="make an appliance of this bundle instead")
    parser.add_argument(
        "--measure",
        type=Path,
        metavar="BUNDLE",
        help="first measure this machine's executables with a bundle of the demo model: time and memory "
        "to the first token, for all READMEs from now on (takes --target host)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("dist"), help="folder for packages (default: dist)"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("build/package"), help="folder to build in (default: build/package)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at once")
    parsed = parser.parse_args(arguments)
    try:
        targets = [find_target(name) for name in parsed.target] if parsed.target else list(TARGETS)
        zig = find_zig(parsed.compiler)
        for target in targets:  # what is missing is said before an hour of compiling
            target.tool("g++")
        for bundle in filter(None, (parsed.bundle, parsed.measure)):
            check_bundle(bundle)
        if parsed.measure and not all(target.is_host() for target in targets):
            raise PackageError("--measure runs what was built, which works with --target host only")
        version = project_version(repository())
        parsed.output.mkdir(parents=True, exist_ok=True)
        for target in targets:
            built = build(target, parsed.work, parsed.jobs, zig)
            _report(target, built)
            if parsed.measure:
                for kind, one in record(built, parsed.measure).items():
                    took, peak = f"{one.seconds * 1e3:.1f} ms", f"{one.peak_bytes / 1e6:.1f} MB"
                    print(f"{target.name}: {kind}: first token after {took}, at most {peak}", flush=True)
            for package in _packages(built, version, parsed):
                print(f"{package}: {package.stat().st_size / 1e6:.2f} MB", flush=True)
    except PackageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _packages(built: Built, version: str, parsed: argparse.Namespace) -> list[Path]:
    if parsed.bundle:
        return [write_appliance(built, version, parsed.bundle, parsed.work, parsed.output)]
    kinds = parsed.kind or KINDS
    made = []
    if "archive" in kinds:
        made.append(write_archive(built, version, parsed.work, parsed.output))
    if "static" in kinds:
        made.append(write_static_archive(built, version, parsed.work, parsed.output))
    if "wheel" in kinds and built.target.wheel:
        made.append(write_wheel(built, parsed.output))
    if "deb" in kinds:
        made.append(write_deb(built, version, parsed.work, parsed.output))
    return made


def _report(target: Target, built: Built) -> None:
    executable = built.tree / "bin" / "mindir-llm"
    versions = ", ".join(f"{family}_{number}" for family, number in built.executable_needs.versions.items())
    print(
        f"{target.name}: executable {executable.stat().st_size / 1e6:.2f} MB, needs "
        f"{', '.join(built.executable_needs.libraries)} ({versions}); static executable "
        f"{built.static_executable.stat().st_size / 1e6:.2f} MB",
        flush=True,
    )


def project_version(root: Path) -> str:
    found = re.search(r'^version = "([^"]+)"', (root / "pyproject.toml").read_text(), re.M)
    if not found:
        raise PackageError("pyproject.toml: no version")
    return found[1]
