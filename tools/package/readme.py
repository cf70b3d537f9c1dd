"""The README inside of a package."""

from __future__ import annotations

import textwrap

from mindir_llm.tools.package.elf import Needs
from mindir_llm.tools.package.measure import read_record

__all__ = ["appliance_readme", "package_readme"]

_COMMAND = 'bin/mindir-llm run BUNDLE -p "Once upon a time" --max-tokens 1 --threads 1'


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
    lib/libmindir_llm.a    the same to link in, with the C++ runtime of GCC 11 or newer
    lib/cmake, lib/pkgconfig   find_package(mindir_llm), pkg-config mindir_llm
    share/man/man1         man -l share/man/man1/mindir-llm.1"""
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

{_first_token(machine, "dynamic" if needs else "static")}

Licence: Apache-2.0, see LICENSE.
"""


def _first_token(machine: str, kind: str) -> str:
    """Time and memory to the first token: of that machine, or of another where it was not measured."""
    measured = read_record(machine, kind)
    text = ""
    if measured is None:
        text = "On a machine of this kind nothing was measured yet. For comparison, on x86_64: "
        measured = read_record("x86_64", kind)
    if measured is None:
        return "Time and memory to the first token: not measured."
    text += (
        f"The demo model of the repository ({measured.model}) on one core of {measured.processor}: "
        f"from start to the first token {measured.seconds * 1e3:.1f} ms, with at most "
        f"{measured.peak_bytes / 1e6:.1f} MB of resident memory "
        f"(medians of {measured.runs} runs of `{_COMMAND}`)."
    )
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


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
