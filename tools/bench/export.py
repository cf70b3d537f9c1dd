"""`mindir-llm export` as a module of its own, also where the package is used without being installed."""

from __future__ import annotations

import sys

from mindir_llm.export.command import register
from mindir_llm.runtime.cli import Parser


def main() -> int:
    parser = Parser(prog="mindir-llm")
    register(parser.add_subparsers(required=True))
    arguments = parser.parse_args(["export", *sys.argv[1:]])
    try:
        code: int = arguments.run(arguments)
    except RuntimeError as error:
        print(f"mindir-llm: error: {error}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
