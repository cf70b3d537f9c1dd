"""Runs a static executable of another machine under qemu-user and compares its text with that made here.

Where the emulated processor has no fused multiply-add, that is the text of this machine's portable kernels.

python -m mindir_llm.tools.package.cross compare armv7 build/cross-armv7/runtime/engine/mindir-llm BUNDLE...
python -m mindir_llm.tools.package.cross --tokens 200 compare armv7 …    longer texts
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mindir_llm.runtime.cli import Parser
from mindir_llm.tools.package.errors import PackageError
from mindir_llm.tools.package.targets import find_target

__all__ = ["PROCESSORS", "emulated_text", "emulator", "main", "text_here"]

PROMPT, TOKENS = "Once upon a time", 60
# Processors that QEMU emulates for a target: between them every kernel set is chosen. The last one of ARMv7
# has no NEON, as some of that time: it stops at every instruction that only kernels may have.
PROCESSORS = {
    "aarch64": ("cortex-a57", "neoverse-n1", "max"),
    "armv7": ("cortex-a7", "cortex-a9", "cortex-a9,neon=off"),
    "riscv64": ("rv64",),
}
# Those without a fused multiply-add: they round twice, as the portable kernels do on x86-64.
ROUND_TWICE = ("cortex-a9", "cortex-a9,neon=off")
_QEMU = {"aarch64": "qemu-aarch64", "armv7": "qemu-arm", "riscv64": "qemu-riscv64"}


def emulator(target: str) -> str | None:
    """The program that runs a target's executables here, or None."""
    return shutil.which(_QEMU[target]) or shutil.which(f"{_QEMU[target]}-static")


def emulated_text(target: str, processor: str, executable: Path, bundle: Path, tokens: int = TOKENS) -> str:
    """What the executable continues PROMPT with, greedily."""
    program = emulator(target)
    if program is None:
        raise PackageError(f"{_QEMU[target]} is missing: apt-get install qemu-user")
    environment = {**os.environ, "QEMU_CPU": processor}
    return _text([program, str(executable)], bundle, tokens, environment, f"{target} ({processor})")


def text_here(bundle: Path, processor: str, tokens: int = TOKENS) -> str:
    """What this machine's engine must continue PROMPT with for that processor's text to be right."""
    environment = dict(os.environ)
    if processor in ROUND_TWICE:
        environment["MINDIR_LLM_ISA"] = "generic"
    engine = [sys.executable, "-m", "mindir_llm.runtime.cli"]
    return _text(engine, bundle, tokens, environment, "this machine")


def _text(engine: list[str], bundle: Path, tokens: int, environment: dict[str, str], machine: str) -> str:
    command = [*engine, "run", str(bundle), "-p", PROMPT]
    command += ["--max-tokens", str(tokens), "--temperature", "0", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise PackageError(f"{machine}: {done.stderr.strip() or done.returncode}")
    return done.stdout.removesuffix("\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """`tools TARGET` prints the emulator where all that a target needs is here; `compare` compares."""
    parser = Parser(prog="python -m mindir_llm.tools.package.cross", description=__doc__)
    parser.add_argument("--tokens", type=int, default=TOKENS, help=f"length of a text (default: {TOKENS})")
    parser.add_argument("command", choices=("tools", "compare"))
    parser.add_argument("target", help=", ".join(sorted(PROCESSORS)))
    parser.add_argument("executable", type=Path, nargs="?", help="a static mindir-llm for that target")
    parser.add_argument("bundles", type=Path, nargs="*")
    parsed = parser.parse_args(arguments)
    try:
        target = find_target(parsed.target)
        if parsed.command == "tools":
            target.tool("g++")
            print(emulator(target.name) or "", end="")
            return 0
        if not parsed.bundles:
            parser.error("compare takes an executable and bundles")
        for bundle in parsed.bundles:
            for processor in PROCESSORS[target.name]:
                expected = text_here(bundle, processor, parsed.tokens)
                text = emulated_text(target.name, processor, parsed.executable, bundle, parsed.tokens)
                if text != expected:
                    raise PackageError(f"{target.name} ({processor}), {bundle}: {text!r}, not {expected!r}")
                whose = "this machine's portable kernels" if processor in ROUND_TWICE else "this machine"
                print(f"{target.name} ({processor}), {bundle.name}: the text of {whose}", flush=True)
    except PackageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
