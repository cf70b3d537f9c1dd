"""`python -m mindir_llm.tools.compare_peers`: flags in, report out."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindir_llm.runtime.cli import Parser
from mindir_llm.tools.bench.errors import BenchError
from mindir_llm.tools.bench.measure import machine_facts, write_json
from mindir_llm.tools.bench.plot import new_figure
from mindir_llm.tools.compare_peers.checkpoint import prepare_checkpoint
from mindir_llm.tools.compare_peers.errors import CompareError
from mindir_llm.tools.compare_peers.peers import all_peers
from mindir_llm.tools.compare_peers.plot import plot_comparison
from mindir_llm.tools.compare_peers.report import (
    FORMAT,
    FORMAT_VERSION,
    build_report,
    markdown,
    text,
    write_between_markers,
)
from mindir_llm.tools.compare_peers.runner import Lengths, measure_rounds, prepare, worker_measure
from mindir_llm.tools.compare_peers.site import Site
from mindir_llm.tools.progress import Bar
from mindir_llm.tools.random_checkpoint import SHAPES

__all__ = ["main"]

_PROGRAM = "python -m mindir_llm.tools.compare_peers"
_EXAMPLES = f"""examples:
  {_PROGRAM} --workdir peers --shape tiny --rounds 2           try everything out
  {_PROGRAM} --workdir peers --set-up-only                     install and convert now, measure later
  {_PROGRAM} --workdir peers --markdown docs/performance.md --plot docs/peers.svg
  {_PROGRAM} --from-json peers/tinyllama-1.1b/comparison.json --markdown docs/performance.md

The first run downloads and builds for a long time (about 4 GB with the converters and a CPU build of torch);
later ones keep that. llama.cpp is built from source and needs a C++ compiler, on CPUs with AMX clang rather
than GCC 12.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = Parser(
        prog=_PROGRAM,
        description="Measure this engine and others on the same random checkpoint, taking turns in one run.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [peer.name for peer in all_peers()]
    parser.add_argument("--workdir", type=Path, metavar="DIR", help="environments, models and results")
    parser.add_argument(
        "--shape", choices=sorted(SHAPES), default="tinyllama-1.1b", help="(default: tinyllama-1.1b)"
    )
    parser.add_argument(
        "--only", action="append", choices=names, help="measure only this engine; may be repeated"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="(default: 5)")
    parser.add_argument("--threads", type=int, metavar="N", help="default: one per physical core")
    parser.add_argument("--set-up-only", action="store_true", help="install and convert, do not measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: DIR/SHAPE/comparison.json")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables between its markers")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them: a .png or .svg (matplotlib)")
    parser.add_argument(
        "--from-json", type=Path, metavar="FILE", help="report these results instead of measuring"
    )
    args = parser.parse_args(arguments)
    try:
        _check(args)
        report = _read(args.from_json) if args.from_json else _compare(args)
        if report is not None:
            _write(report, args)
    except (CompareError, BenchError, OSError) as error:
        print(f"mindir-llm: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _check(args: argparse.Namespace) -> None:
    """Everything that can be told before hours are spent."""
    if (args.workdir is None) == (args.from_json is None):
        raise CompareError("give --workdir or --from-json, one of them (see --help)")
    for flag in ("rounds", "threads"):
        value = getattr(args, flag)
        if value is not None and value < 1:
            raise CompareError(f"--{flag}: {value} is not positive")
    if args.plot:
        new_figure(args.plot, 1)


def _compare(args: argparse.Namespace) -> dict[str, Any] | None:
    site = Site(args.workdir.absolute(), args.threads or physical_cores(), _say)
    peers = [peer for peer in all_peers() if args.only is None or peer.name in args.only]
    checkpoint = prepare_checkpoint(args.shape, site.workdir)
    entries = prepare(peers, site, args.shape, checkpoint)
    for entry in entries:
        _say(f"{entry.name}: {entry.reason or 'ready'}")
    if args.set_up_only:
        return None
    config = SHAPES[args.shape]
    lengths = Lengths()
    if config["max_position_embeddings"] < lengths.max_seq_len:
        raise CompareError(f"--shape: {args.shape} has fewer than {lengths.max_seq_len} positions")
    path = args.json or site.workdir / args.shape / "comparison.json"
    machine = {**machine_facts(), "threads": site.threads}

    def report(loads: list[float]) -> dict[str, Any]:
        return build_report(entries, shape=args.shape, lengths=lengths, machine=machine, load_averages=loads)

    with Bar(True, "engines", "engine", args.rounds * len(entries)) as bar:
        loads = measure_rounds(
            entries,
            args.rounds,
            worker_measure(site, lengths, config["vocab_size"]),
            lambda _: bar.update(1),
            lambda loads: write_json(report(loads), path),
        )
    _say(f"results: {path}")
    return report(loads)


def _write(report: dict[str, Any], args: argparse.Namespace) -> None:
    print(text(report))
    if args.plot:
        args.plot.parent.mkdir(parents=True, exist_ok=True)
        plot_comparison(report, args.plot)
    if args.markdown:
        link = None
        if args.plot:
            link = Path(os.path.relpath(args.plot, args.markdown.parent)).as_posix()
        write_between_markers(args.markdown, markdown(report, link))


def _read(path: Path) -> dict[str, Any]:
    try:
        report: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CompareError(f"{path}: not JSON: {error}") from None
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise CompareError(f"{path}: not the results of a comparison")
    if report.get("format_version") != FORMAT_VERSION:
        raise CompareError(
            f"{path}: format_version {report.get('format_version')}, expected {FORMAT_VERSION}"
        )
    return report


def physical_cores() -> int:
    """Cores that this process may use; threads of one core count once where the system tells them apart."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = set()
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(((topology / "physical_package_id").read_text(), (topology / "core_id").read_text()))
        except OSError:
            cores.add((str(cpu), ""))
    return len(cores)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
