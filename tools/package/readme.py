"""The README inside of a package."""

from __future__ import annotations

from mindir_llm.tools.package.elf import Needs

__all__ = ["appliance_readme", "package_readme"]

# Measured with `python -m mindir_llm.tools.package.measure`, see docs/packages.md.
FIRST_TOKEN = """\
The demo model of the repository (1.3M parameters, int8 weights, a bundle of 2 MB) on one core of a
Sapphire-Rapids-class server: from start to the first token {seconds} ms, with at most {megabytes} MB of
resident memory (medians of 21 runs of `mindir-llm run BUNDLE -p "Once upon a time" --max-tokens 1`).
"""
MEASURED = {"dynamic": ("9", "10"), "static": ("8", "9")}


def package_readme(machine: str, version: str, needs: Needs | None) -> str:
    """needs: of the executable; None: it is static."""
    if needs is None:
        kind = "The executable is static: it runs on any Linux, needs no other file, and no Python."
        content = "    bin/mindir-llm         run, chat, bench, inspect; --help lists their options"
    else:
        versions = ", ".join(f"{family} {number}" for family, number in needs.versions.items())
        kind = (
            f"It needs the system's {', '.join(needs.libraries)}\n(newest symbol versions: {versions}), "
            "and no Python. Older systems: take the static archive."
        )
        content = """\
    bin/mindir-llm         run, chat, bench, inspect; --help lists their options
    include/mindir_llm.h   the C interface
    lib/libmindir_llm.so   for programs in C and C++
    lib/libmindir_llm.a
    lib/cmake, lib/pkgconfig   find_package(mindir_llm), pkg-config mindir_llm"""
    seconds, megabytes = MEASURED["static" if needs is None else "dynamic"]
    return f"""\
# mindir-llm {version} for Linux on {machine}

Runs language models that were exported as MindIR bundles. The kernels that fit the processor are chosen
at run time.
{kind}

    bin/mindir-llm run BUNDLE -p "Once upon a time"
    bin/mindir-llm chat BUNDLE

{content}
    sbom.spdx.json         what this archive is made of (SPDX 2.3)
    SHA256SUMS             sha256sum --check SHA256SUMS

{FIRST_TOKEN.format(seconds=seconds, megabytes=megabytes)}
Licence: Apache-2.0, see LICENSE.
"""


def appliance_readme(machine: str, version: str, bundle: str) -> str:
    return f"""\
# {bundle} with mindir-llm {version} for Linux on {machine}

Model and runtime in one folder. The executable is static: no installation, no Python, no other file. The
folder may be read-only, and no privileges are needed.

    ./run -p "Once upon a time"            the same as: ./mindir-llm run bundle -p "Once upon a time"
    ./mindir-llm chat bundle
    sha256sum --check SHA256SUMS

Licence of mindir-llm: Apache-2.0, see LICENSE. The model in bundle/ has its own.
"""
