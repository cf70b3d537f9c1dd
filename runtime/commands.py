"""`mindir-llm run` and `mindir-llm inspect`: flags in, work elsewhere."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .errors import InvalidArgumentError
from .sampling import Option, SamplingParams, options

# The command line differs from Python only where 16 tokens would look broken.
_DEFAULTS = {"max_tokens": 256}

_RUN_EXAMPLES = """examples:
  mindir-llm run bundle -p "Once upon a time"
  mindir-llm run bundle -p "Once upon a time" --temperature 0 --max-tokens 200
  mindir-llm run bundle --prompt-file story.txt --top-p 0.9 --seed 7 --stop "The end"
  echo "What is MindIR?" | mindir-llm run bundle -p - --chat
"""

_INSPECT_EXAMPLES = """examples:
  mindir-llm inspect bundle
  mindir-llm inspect bundle/decode.mindir
  mindir-llm inspect bundle --json | jq .memory
"""


def register_run(commands: Any) -> None:
    """Add the `run` command to an argparse subparsers object."""
    parser = commands.add_parser(
        "run",
        help="generate text with a bundle",
        description="Generate text: it streams to stdout, then the speed goes to stderr.",
        epilog=_RUN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="directory that `mindir-llm export` wrote")
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("-p", "--prompt", metavar="TEXT", help="text to continue; - reads it from stdin")
    prompt.add_argument("--prompt-file", metavar="FILE", help="file with the text to continue (UTF-8)")
    parser.add_argument("--chat", action="store_true", help="ask it as a user, through the chat template")
    parser.add_argument("--echo", action="store_true", help="print the prompt before its continuation")
    parser.add_argument("--quiet", action="store_true", help="do not print the speed")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="worker threads (default: one per physical core)"
    )
    parser.add_argument(
        "--exact", action="store_true", help="keep activations in float32 (slower; for quantized bundles)"
    )
    sampling = parser.add_argument_group("sampling")
    defaults = SamplingParams(**_DEFAULTS)  # type: ignore[arg-type]
    for name, option in options().items():
        if name != "logprobs":  # it has no place in streamed text
            _add_flag(sampling, name, option, getattr(defaults, name))
    parser.set_defaults(run=run)


def register_inspect(commands: Any) -> None:
    """Add the `inspect` command to an argparse subparsers object."""
    parser = commands.add_parser(
        "inspect",
        help="show what is in a bundle or a MindIR file",
        description="Show inputs, outputs, operators, weights, quantization and memory.",
        epilog=_INSPECT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", metavar="BUNDLE|FILE.mindir", help="a bundle's directory, or one graph")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(run=inspect)


def run(arguments: argparse.Namespace) -> int:
    """The `run` command."""
    from .llm import LLM

    text = _prompt(arguments)
    given = {name: getattr(arguments, name) for name in options() if name != "logprobs"}
    params = SamplingParams(**given)
    with LLM(arguments.bundle, threads=arguments.threads, exact=arguments.exact) as llm:
        prompt: Any = text
        if arguments.chat:
            prompt = {"prompt_token_ids": llm.chat_prompt([{"role": "user", "content": text}])}
        stream = llm.stream(prompt, params)
        # Bytes, because the text is UTF-8 whatever the terminal's locale says.
        out = sys.stdout.buffer
        last = ""
        if arguments.echo:
            last = text
            out.write(text.encode())
            out.flush()
        for piece in stream:
            last = piece
            out.write(piece.encode())
            out.flush()
        if not last.endswith("\n"):
            out.write(b"\n")
            out.flush()
        if not arguments.quiet:
            metrics = stream.output.metrics
            sys.stderr.write(
                f"prompt {metrics.prompt_tokens} tokens, {metrics.prompt_tokens_per_second:.1f} tokens/s; "
                f"decode {metrics.decode_tokens} tokens, {metrics.decode_tokens_per_second:.1f} tokens/s; "
                f"{llm.info.threads} threads\n"
            )
    return 0


def inspect(arguments: argparse.Namespace) -> int:
    """The `inspect` command."""
    from . import inspection

    path = Path(arguments.path)
    report = inspection.bundle(path) if path.is_dir() else inspection.graph(path)
    if arguments.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print(inspection.as_text(report))
    return 0


def _add_flag(group: Any, name: str, option: Option, default: Any) -> None:
    flag = "--" + (name.removesuffix("s") if name == "stop_token_ids" else name).replace("_", "-")
    if option.kind is bool:
        group.add_argument(flag, dest=name, action="store_true", help=option.help)
        return
    shown = "none" if default is None or default == () else default
    described = f"{option.help} (default: {shown})".replace("%", "%%")
    group.add_argument(
        flag,
        dest=name,
        type=str if option.kind is str else _number(option),
        action="append" if option.many else "store",
        default=None if option.many else default,
        metavar={int: "N", float: "X", str: "TEXT"}[option.kind],
        help=described,
    )


def _number(option: Option) -> Any:
    def convert(text: str) -> Any:
        return None if option.optional and text == "none" else option.kind(text)

    # argparse says: "invalid integer value: 'x'"
    convert.__name__ = "integer" if option.kind is int else "number"
    return convert


def _prompt(arguments: argparse.Namespace) -> str:
    if arguments.prompt_file is not None:
        return _decode(Path(arguments.prompt_file).read_bytes(), arguments.prompt_file)
    if arguments.prompt == "-":
        return _decode(sys.stdin.buffer.read(), "stdin")
    try:
        # Bytes that are no UTF-8 arrive as lone surrogates.
        arguments.prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"--prompt is not valid UTF-8 (at character {error.start}); check the terminal's encoding"
        ) from None
    return arguments.prompt


def _decode(content: bytes, source: str) -> str:
    """The text of a file; one newline at its end belongs to the file, not to the prompt."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(
            f"{source}: not valid UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}"
        ) from None
    return text.removesuffix("\n")
