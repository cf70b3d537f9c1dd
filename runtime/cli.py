"""The `mindir-llm` command: finds its subcommands, and turns their errors into one line and an exit code.

Exit codes: 0 done, 2 a mistake or an input that cannot be used, 130 Ctrl-C, 141 the reader of the output
has gone.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any, NoReturn

PROGRAM = "mindir-llm"
GROUP = "mindir_llm.commands"

# The runtime's own commands are there also where the package is used without being installed.
_OWN = {
    "run": EntryPoint("run", "mindir_llm.runtime.commands:register_run", GROUP),
    "chat": EntryPoint("chat", "mindir_llm.runtime.commands:register_chat", GROUP),
    "inspect": EntryPoint("inspect", "mindir_llm.runtime.commands:register_inspect", GROUP),
}
# What a missing module means: the extra of the package that brings it.
_EXTRA = {"mindspore": "export", "safetensors": "export", "tqdm": "export"}

EXAMPLES = f"""examples:
  {PROGRAM} export CHECKPOINT BUNDLE --quant a16w8     make a bundle (needs {PROGRAM}[export])
  {PROGRAM} run BUNDLE -p "Once upon a time"           generate text
  {PROGRAM} chat BUNDLE                                talk with it
  {PROGRAM} inspect BUNDLE                             show what is in it
"""


class Parser(argparse.ArgumentParser):
    """argparse with this program's one-line errors."""

    def error(self, message: str) -> NoReturn:
        hint = f" (see {self.prog} --help)"
        sys.stderr.write(f"{PROGRAM}: error: {message}{hint}\n")
        raise SystemExit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        parser = _parser(arguments)
        parsed = parser.parse_args(arguments)
        code: int = parsed.run(parsed)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "mindir_llm":
            raise
        return _fail(_missing(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _fail(f"{where}{error.strerror or error}")
    except (RuntimeError, ValueError) as error:
        # Every part of the package has errors of its own that are meant for the user; anything else is a bug
        # and shows its traceback.
        if not type(error).__module__.startswith("mindir_llm."):
            raise
        return _fail(str(error))


def _fail(message: str) -> int:
    sys.stderr.write(f"{PROGRAM}: error: {' '.join(message.splitlines())}\n")
    return 2


def _missing(error: ModuleNotFoundError) -> str:
    module = (error.name or str(error)).partition(".")[0]
    extra = _EXTRA.get(module)
    remedy = f"pip install 'mindir-llm[{extra}]'" if extra else f"pip install {module}"
    return f"this needs {module}, which is not installed: {remedy}"


def _parser(arguments: Sequence[str]) -> Parser:
    parser = Parser(
        prog=PROGRAM,
        description="Export language models with MindSpore to MindIR bundles, and run them anywhere.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    known = {**{point.name: point for point in entry_points(group=GROUP)}, **_OWN}
    # Load only what is asked for: the others may need packages that are slow to import, or missing.
    asked = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name in [asked] if asked in known else sorted(known):
        assert name is not None
        _register(commands, name, known[name])
    return parser


def _register(commands: Any, name: str, point: EntryPoint) -> None:
    try:
        register: Callable[[Any], None] = point.load()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("mindir_llm") and point.name in _OWN:
            raise
        message = _missing(error)
        broken = commands.add_parser(name, help=message, add_help=False, prefix_chars="\0")
        broken.add_argument("rest", nargs="*")
        broken.set_defaults(run=lambda _: _fail(message))
        return
    register(commands)


class _ShowVersion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        try:
            number = version(PROGRAM)
        except PackageNotFoundError:
            from . import _native

            number = _native.library().mllm_version().decode()
        print(f"{PROGRAM} {number}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
