"""`mindir-llm run`, `chat` and `inspect`: flags in, work elsewhere."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .errors import InvalidArgumentError
from .sampling import Option, SamplingParams, options

_NO_FLAGS = {"logprobs", "prompt_logprobs", "n", "best_of"}  # have no place in one streamed text
# The command line differs from Python only where 16 tokens would look broken.
_DEFAULTS = {"max_tokens": 256}
_CHAT_DEFAULTS = {"max_tokens": 1024}

_RUN_EXAMPLES = """examples:
  mindir-llm run bundle -p "Once upon a time"
  mindir-llm run bundle -p "Once upon a time" --temperature 0 --max-tokens 200
  mindir-llm run bundle --prompt-file story.txt --top-p 0.9 --seed 7 --stop "The end"
  echo "What is MindIR?" | mindir-llm run bundle -p - --chat
  mindir-llm run bundle -p "Name a city." --chat --json-schema city.schema.json
  mindir-llm run bundle -p "Yes or no?" --grammar answer.gbnf
"""

_CHAT_EXAMPLES = """examples:
  mindir-llm chat bundle
  mindir-llm chat bundle --system "Answer in one sentence." --temperature 0.7 --stats
  mindir-llm chat bundle --context-full drop
  mindir-llm chat bundle --json-schema answer.schema.json
  printf 'Hello!\\nWhat did I say?\\n' | mindir-llm chat bundle --temperature 0
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
    _add_engine_flags(parser)
    _add_sampling_flags(parser, _DEFAULTS)
    parser.set_defaults(run=run)


def register_chat(commands: Any) -> None:
    """Add the `chat` command to an argparse subparsers object."""
    parser = commands.add_parser(
        "chat",
        help="talk with a bundle in the terminal",
        description="Talk with a bundle through its chat template. /help lists what can be done in it. "
        "Earlier turns stay in the KV cache. With a pipe as input each line is one turn.",
        epilog=_CHAT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="directory that `mindir-llm export` wrote")
    parser.add_argument("--system", metavar="TEXT", help="system message")
    parser.add_argument("--load", metavar="FILE", help="go on with a conversation that /save wrote")
    parser.add_argument(
        "--chat-template", metavar="FILE", help="chat template to use instead of the bundle's own"
    )
    parser.add_argument(
        "--context-full",
        choices=["stop", "drop"],
        default="stop",
        help="when the context is full: say so, or drop the oldest turns (default: stop)",
    )
    parser.add_argument("--stats", action="store_true", help="print the speed after each answer")
    _add_engine_flags(parser)
    _add_sampling_flags(parser, _CHAT_DEFAULTS)
    parser.set_defaults(run=chat)


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
    params = _sampling_params(arguments)
    with LLM(arguments.bundle, **_engine_options(arguments)) as llm:
        if llm.memory_text and not arguments.quiet:
            sys.stderr.write(f"memory: {llm.memory_text}\n")
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
            sys.stderr.write(f"{stream.output.metrics.line()}; {llm.info.threads} threads\n")
    return 0


def chat(arguments: argparse.Namespace) -> int:
    """The `chat` command."""
    from . import chat as terminal
    from .conversation import Conversation
    from .llm import LLM

    params = _sampling_params(arguments)
    template = None
    if arguments.chat_template is not None:
        template = _decode(Path(arguments.chat_template).read_bytes(), arguments.chat_template, whole=True)
    with LLM(arguments.bundle, **_engine_options(arguments)) as llm:
        if llm.memory_text:
            sys.stderr.write(f"memory: {llm.memory_text}\n")
        if template is None and llm.get_tokenizer().chat_template is None:
            raise InvalidArgumentError(
                f"{arguments.bundle}: has no chat template; give one with --chat-template FILE"
            )
        conversation = Conversation(
            llm,
            params,
            system=arguments.system,
            context_full=arguments.context_full,
            chat_template=template,
        )
        if arguments.load is not None:
            conversation.load(arguments.load)
        terminal.run(terminal.at(), conversation, arguments.stats)
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


def _add_engine_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads", type=int, metavar="N", help="worker threads (default: one per physical core)"
    )
    add_resource_flags(parser)
    parser.add_argument(
        "--exact", action="store_true", help="keep activations in float32 (slower; for quantized bundles)"
    )


def add_resource_flags(parser: argparse.ArgumentParser) -> None:
    """--cores, --priority and --max-memory, of everything that opens a bundle."""
    parser.add_argument(
        "--cores",
        metavar="LIST",
        help="processors to run on, such as 0-3,6 (default: those that the process may use)",
    )
    parser.add_argument(
        "--priority",
        choices=["low", "normal", "high"],
        default="normal",
        help="how eagerly the system gives it a processor (default: normal)",
    )
    parser.add_argument(
        "--max-memory",
        metavar="SIZE",
        help="memory that the process may take, such as 512M or 1Gi: context and prefill chunk shrink to fit",
    )


def _engine_options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "threads": arguments.threads,
        "exact": arguments.exact,
        "max_memory": arguments.max_memory,
        "cores": arguments.cores,
        "priority": arguments.priority,
        "progress": True,
    }


def _add_sampling_flags(parser: argparse.ArgumentParser, changed_defaults: dict[str, Any]) -> None:
    group = parser.add_argument_group("sampling")
    defaults = SamplingParams(**changed_defaults)
    for name, option in options().items():
        if name not in _NO_FLAGS:
            _add_flag(group, name, option, getattr(defaults, name))


def _sampling_params(arguments: argparse.Namespace) -> SamplingParams:
    values = {name: getattr(arguments, name) for name in options() if name not in _NO_FLAGS}
    for name, option in options().items():
        if option.is_file and values[name] is not None:
            values[name] = _decode(Path(values[name]).read_bytes(), values[name], whole=True)
    return SamplingParams(**values)


def _add_flag(group: Any, name: str, option: Option, default: Any) -> None:
    flag = "--" + (name.removesuffix("s") if name in ("stop_token_ids", "bad_words") else name).replace(
        "_", "-"
    )
    if option.kind is bool:
        group.add_argument(flag, dest=name, action="store_true", help=option.help)
        return
    shown = "none" if default is None or default == () else default
    described = f"{option.help} (default: {shown})".replace("%", "%%")
    several = option.many or option.by_id
    group.add_argument(
        flag,
        dest=name,
        type=_id_and_number if option.by_id else str if option.kind is str else _number(option),
        action="append" if several else "store",
        default=None if several else default,
        metavar="ID=X"
        if option.by_id
        else "FILE"
        if option.is_file
        else {int: "N", float: "X", str: "TEXT"}[option.kind],
        help=described,
    )


def _id_and_number(text: str) -> tuple[int, float]:
    index, _, number = text.partition("=")
    return int(index), float(number)


_id_and_number.__name__ = "ID=X"


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


def _decode(content: bytes, source: str, whole: bool = False) -> str:
    """The text of a file; unless it is wanted whole, one newline at its end belongs to the file, not to the
    prompt."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(
            f"{source}: not valid UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}"
        ) from None
    return text if whole else text.removesuffix("\n")
