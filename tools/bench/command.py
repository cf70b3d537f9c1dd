"""`mindir-llm bench`: flags in, tables out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mindir_llm.runtime.cli import Parser
from mindir_llm.runtime.commands import add_resource_flags
from mindir_llm.tools.bench.errors import BenchError
from mindir_llm.tools.bench.measure import (
    full_plan,
    measure,
    quick_plan,
    run_profile,
    write_json,
)
from mindir_llm.tools.bench.plot import new_figure, plot_report
from mindir_llm.tools.bench.report import profile_text, read_report, report_text
from mindir_llm.tools.bench.subject import KV_DTYPES, QUANTIZATIONS, default_workdir, make_bundle
from mindir_llm.tools.progress import Bar
from mindir_llm.tools.random_checkpoint import SHAPES

__all__ = ["main", "register"]

_DESCRIPTION = """\
Measure a bundle: prefill and decode speed, time to the first token, load time, peak memory, and how near
they come to what this machine's memory and multipliers can do. Every number is a median of repetitions, with
their range; load time and memory are measured in fresh processes.
"""
_EXAMPLES = """examples:
  mindir-llm bench bundle
  mindir-llm bench bundle --profile --threads 1
  mindir-llm bench --shape tinyllama-1.1b --quant a16w8 --json tinyllama.json --plot tinyllama.svg
  mindir-llm bench --shape tinyllama-1.1b --quant a16w8 --kv-dtype int8
  mindir-llm bench --shape tinyllama-1.1b --quant a8w8-dynamic --prefill 512 --contexts 16
  mindir-llm bench bundle --tokenizer book.txt
  mindir-llm bench board.json --plot board.svg      (measured on a board: bench bundle --json board.json)
"""


def register(subparsers: Any) -> None:
    """Add the `bench` subcommand to an argparse subparsers object."""
    parser = subparsers.add_parser(
        "bench",
        help="measure a bundle's speed, memory and load time",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_arguments(parser)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m mindir_llm.tools.bench`; returns the exit code."""
    parser = Parser(
        prog="python -m mindir_llm.tools.bench",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_arguments(parser)
    return _run(parser.parse_args(arguments))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundle",
        metavar="BUNDLE",
        nargs="?",
        help="directory that `mindir-llm export` wrote; or a report that --json wrote, on any machine, to "
        "show it again and to draw it",
    )
    made = parser.add_argument_group("instead of BUNDLE, random weights of a known shape")
    made.add_argument("--shape", choices=sorted(SHAPES), help="make (once) and measure such a bundle")
    made.add_argument(
        "--quant",
        choices=QUANTIZATIONS,
        metavar="SCHEME",
        help=f"what its numbers become: {', '.join(QUANTIZATIONS)} (default: a16w8)",
    )
    made.add_argument("--kv-dtype", choices=KV_DTYPES, help="its KV caches (default: float16)")
    made.add_argument(
        "--workdir", type=Path, metavar="DIR", help=f"where it is kept (default: {default_workdir()})"
    )
    made.add_argument("--fresh", action="store_true", help="export it again, with the code as it is now")
    parser.add_argument("--threads", type=int, metavar="N", help="default: one per physical core")
    add_resource_flags(parser)
    parser.add_argument("--repeat", type=int, metavar="N", help="repetitions (default: 5, with --quick 2)")
    parser.add_argument(
        "--prefill", type=_lengths, metavar="N,N…", help="prompt lengths (default: 32,128,512,1536)"
    )
    parser.add_argument(
        "--contexts",
        type=_lengths,
        metavar="N,N…",
        help="tokens in the cache when decoding starts (default: 16,512,1024,1900)",
    )
    parser.add_argument("--quick", action="store_true", help="few and short pieces: a check, not a result")
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="TEXT",
        help="measure instead how fast BUNDLE's tokenizer, or that of a checkpoint's folder, takes this file",
    )
    parser.add_argument("--exact", action="store_true", help="keep activations in floating point")
    parser.add_argument("--profile", action="store_true", help="print instead where time goes, per operator")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON as well")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it too: a .png or .svg (matplotlib)")
    parser.set_defaults(run=_run)


_OF_MEASURING = (
    "threads",
    "cores",
    "max-memory",
    "repeat",
    "prefill",
    "contexts",
    "quick",
    "tokenizer",
    "exact",
    "profile",
    "json",
)


def _lengths(text: str) -> tuple[int, ...]:
    lengths = tuple(int(part) for part in text.split(","))
    if min(lengths) < 1:
        raise argparse.ArgumentTypeError(f"{text}: lengths are positive")
    return lengths


def _run(args: argparse.Namespace) -> int:
    try:
        _check(args)
        if args.tokenizer:
            from mindir_llm.tools.bench.tokenizer import measure_tokenizer

            print(measure_tokenizer(args.bundle, args.tokenizer, args.repeat or 5).text())
            return 0
        bundle = args.bundle
        if bundle is not None and Path(bundle).is_file():
            report = read_report(Path(bundle))
            print(report_text(report))
            if args.plot:
                plot_report(report, args.plot)
            return 0
        if bundle is None:
            bundle = make_bundle(
                args.shape,
                args.quant or "a16w8",
                args.workdir or default_workdir(),
                kv_dtype=args.kv_dtype,
                fresh=args.fresh,
            )
        resources = {"max_memory": args.max_memory, "cores": args.cores, "priority": args.priority}
        plan = (quick_plan if args.quick else full_plan)(args.repeat)
        plan = replace(plan, prefill=args.prefill or plan.prefill, contexts=args.contexts or plan.contexts)
        if args.profile:
            profile = run_profile(
                bundle, plan, threads=args.threads, exact=args.exact, resources=resources, note=_note
            )
            print(profile_text(profile))
            if args.json:
                write_json(profile, args.json)
            return 0
        with Bar(True, "bench", "token", None) as bar:
            report = measure(
                bundle,
                plan,
                threads=args.threads,
                exact=args.exact,
                resources=resources,
                progress=bar.update,
                note=_note,
            )
        print(report_text(report))
        if args.json:
            write_json(report, args.json)
        if args.plot:
            plot_report(report, args.plot)
    except (BenchError, OSError) as error:
        print(f"mindir-llm: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def _check(args: argparse.Namespace) -> None:
    """Everything that can be told before minutes are spent."""
    if (args.bundle is None) == (args.shape is None):
        raise BenchError("give a BUNDLE or --shape, one of them (see --help)")
    if args.bundle is not None:
        for flag in ("quant", "kv-dtype", "workdir"):
            if getattr(args, flag.replace("-", "_")) is not None:
                raise BenchError(f"--{flag} goes with --shape, not with a BUNDLE")
        if args.fresh:
            raise BenchError("--fresh goes with --shape, not with a BUNDLE")
        if Path(args.bundle).is_file():
            for flag in _OF_MEASURING:
                if getattr(args, flag.replace("-", "_")):
                    raise BenchError(f"--{flag} is for measuring, and {args.bundle} is a file: a report")
        elif not Path(args.bundle).is_dir():
            raise BenchError(f"{args.bundle}: no such folder")
    for flag in ("threads", "repeat"):
        value = getattr(args, flag)
        if value is not None and value < 1:
            raise BenchError(f"--{flag}: {value} is not positive")
    if args.tokenizer:
        if args.bundle is None:
            raise BenchError("--tokenizer needs a BUNDLE, or a folder with tokenizer files")
        for flag in ("profile", "json", "plot", "threads"):
            if getattr(args, flag):
                raise BenchError(f"--{flag} does not go with --tokenizer")
    if args.profile and args.plot:
        raise BenchError("--plot draws a report, which --profile does not make")
    for path in (args.json, args.plot):
        if path is not None and not path.absolute().parent.is_dir():
            raise BenchError(f"{path}: the folder {path.absolute().parent} does not exist")
    if args.plot:
        new_figure(args.plot, 1)
