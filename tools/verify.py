"""`mindir-llm verify`: run a bundle in the engine, in stock MindSpore and, as a checkpoint, in float64 numpy;
compare.
 All of them read the same tokens (teacher forcing), first in prefill chunks, then one by one, so that one
wrong token does not hide behind another.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindir_llm.tools.backends import (
    INT8_ACTIVATIONS,
    Backend,
    BundleFolder,
    EngineBackend,
    MindSporeBackend,
    ReferenceBackend,
    VerifyError,
    check_files,
    load_encoder,
)
from mindir_llm.tools.progress import Bar
from mindir_llm.tools.reference import CheckpointError

__all__ = ["Difference", "Pair", "Report", "register", "verify_bundle"]

_DEFAULT_DECODE_STEPS = 16
_DEFAULT_TEXT = (
    "Once upon a time there was a little girl who lived near a big forest. Every morning she walked to the "
    "river to see the ducks. One day the smallest duck was gone. She looked under the bridge and "
    "behind the old tree. There it was, asleep in the grass. The girl smiled and waited until it woke up. "
)

# Largest |Δlogit| between backends that compute with the same stored numbers. All arithmetic is float32, so
# float32 caches leave only the order of additions: measured 1e-5 on a 260K model; the limit leaves room for
# depth.
_LIMIT_FLOAT32_CACHE = 1e-4
# A key or value that lies next to the middle of two float16 neighbours is rounded up by one backend and down
# by the other. One such row moves a logit by at most 2^-10 of it through one attention head; many rows of a
# long sequence and large logits move it further. The second limit is in units of the logits' standard
# deviation. Measured on the 260K model, whose logits have 8: 4e-3 after 160 tokens, 3e-2 after 500.
_LIMIT_FLOAT16_CACHE = 2e-2
_SCALED_LIMIT_FLOAT16_CACHE = 1e-2
# A step of an int8 cache is up to 16 times as large as one of float16, but rarer. Measured 0.005 on the demo
# model. Of the ascend graphs the limit covers what float16 activations cost beside it.
_SCALED_LIMIT_INT8_CACHE = 4e-2
# The ascend graphs ask for float16 activations: every layer may add 2^-11 of the residual stream. (The engine
# keeps them in float32 and stays below: 6e-2 after 500 tokens on the 260K model.)
_LIMIT_ASCEND = 5e-2
_SCALED_LIMIT_ASCEND = 2e-2
# Against the original checkpoint the difference is what storing the weights costs, which grows with the
# logits: limits in units of their standard deviation. float16 keeps 11 bits, int8 with one scale a row about
# 7 of the row's largest weight, int4 about 3 of its group's. Measured 0.003, 0.05 and 0.8 on the 260K model;
# int4 without groups costs up to 2.2 on the demo model, so that against the original checkpoint only gross
# faults are found. "Rounded as stored" finds the others.
# An int8 cache costs what int8 weights do, and where scales of channels were calibrated on other text, more:
# 0.06 and 0.4 on the demo model.
_SCALED_LIMITS_INT8_CACHE = {None: 0.0, "per_token": 0.25, "per_channel": 1.0}
_SCALED_LIMITS = {"none": 0.02, "a16w8": 0.25, "a16w4": 4.0, "a8w8-dynamic": 0.25, "a8w8": 1.0}


@dataclass(frozen=True)
class Difference:
    """Two backends' logits over one phase. top1_agreement is the share of positions with the same argmax."""

    max_abs: float
    mean_abs: float
    top1_agreement: float


@dataclass(frozen=True)
class Pair:
    """Two backends compared. limit: the largest max_abs that passes, in logits."""

    left: str
    right: str
    prefill: Difference
    decode: Difference | None
    limit: float

    @property
    def passed(self) -> bool:
        # Not "any above": a NaN is above nothing.
        phases = [phase for phase in (self.prefill, self.decode) if phase is not None]
        return all(phase.max_abs <= self.limit for phase in phases)


@dataclass(frozen=True)
class Report:
    """Everything that `verify` found out. file_problems: one line per file that differs from the manifest."""

    bundle: str
    target: str
    scheme: str
    dtype: str
    kv_dtype: str
    file_count: int
    file_problems: tuple[str, ...]
    prompt_tokens: int
    decode_steps: int
    notes: tuple[str, ...]
    pairs: tuple[Pair, ...]

    @property
    def passed(self) -> bool:
        return not self.file_problems and all(pair.passed for pair in self.pairs)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field, and `passed` for the report and for each pair."""
        pairs = [{**asdict(pair), "passed": pair.passed} for pair in self.pairs]
        return {**asdict(self), "pairs": pairs, "passed": self.passed}


def register(subparsers: Any) -> None:
    """Add the `verify` subcommand to an argparse subparsers object."""
    parser = subparsers.add_parser(
        "verify",
        help="compare a bundle with stock MindSpore and with its checkpoint",
        description="Run a bundle in the engine and in stock MindSpore, and its checkpoint in float64 numpy, "
        "over the same tokens, and report how far their logits are apart. Exit code 0: within the limits; 1: "
        "not, or a file differs from the manifest; 2: the comparison could not be made.",
    )
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="the Hugging Face folder that BUNDLE was exported from"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--prompt", metavar="TEXT", help="text to feed (default: a short story)")
    source.add_argument("--text", metavar="FILE", help="UTF-8 file to feed")
    parser.add_argument(
        "--tokens", type=int, metavar="N", help="prompt tokens (default: two and a half prefill chunks)"
    )
    parser.add_argument(
        "--decode-steps",
        type=int,
        default=_DEFAULT_DECODE_STEPS,
        metavar="N",
        help=f"tokens fed one by one after the prompt (default: {_DEFAULT_DECODE_STEPS})",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="X",
        help="largest |Δlogit| that passes, for every pair (default: by quantization and dtype)",
    )
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="of the engine (default: physical cores)"
    )
    parser.add_argument("--no-mindspore", action="store_true", help="leave stock MindSpore out")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=_run)


def verify_bundle(
    bundle: BundleFolder,
    checkpoint: str | Path | None = None,
    *,
    text: str | None = None,
    tokens: int | None = None,
    decode_steps: int = _DEFAULT_DECODE_STEPS,
    tolerance: float | None = None,
    threads: int = 0,
    mindspore: bool = True,
    show_progress: bool = False,
) -> Report:
    """Compare a bundle's backends; see the command's help for the arguments.

    VerifyError: an argument out of range, or a backend that cannot run; CheckpointError: an unreadable
    checkpoint.
    """
    with Bar(show_progress, "sha256", "B", sum(f["size"] for f in bundle.manifest["files"].values())) as bar:
        problems = check_files(bundle, bar.update)
    notes = []
    if problems:
        notes.append("not run, because files are damaged")
        return _report(bundle, problems, 0, 0, notes, [])

    backends: list[Backend] = [EngineBackend(bundle, threads)]
    if bundle.scheme != "none" and not bundle.rounds_activations:
        backends.append(EngineBackend(bundle, threads, exact=False))
    if bundle.target != "cpu":
        notes.append(f"stock MindSpore cannot run target {bundle.target} on a CPU: left out")
    elif mindspore:
        backends.append(MindSporeBackend(bundle))
    if checkpoint is not None:
        original = ReferenceBackend(checkpoint)
        if original.vocab_size != bundle.vocab_size:
            raise VerifyError(
                f"--checkpoint: {checkpoint} has a vocabulary of {original.vocab_size}, the bundle one of "
                f"{bundle.vocab_size}; it was exported from another checkpoint"
            )
        backends.append(original)
        if not _stores_exactly(bundle):
            backends.append(ReferenceBackend(checkpoint, bundle.storage))
    if len(backends) < 2:
        raise VerifyError("nothing to compare the engine with: give --checkpoint DIR")

    prompt, steps = _steps(bundle, tokens, decode_steps)
    ids = _token_ids(bundle, text, sum(steps))
    results = {}
    with Bar(show_progress, "logits", "token", ids.shape[1] * len(backends)) as bar:
        for backend in backends:
            results[backend.name] = backend.logits(ids, steps, bar.update)
    prefills = len(steps) - decode_steps
    names = [backend.name for backend in backends]
    pairs = []
    for i, left in enumerate(names):
        for right in names[i + 1 :]:
            if left.startswith("numpy"):
                continue  # the reference against itself says nothing about the bundle
            if INT8_ACTIVATIONS in (left, right) and not {left, right} & {"engine", "numpy"}:
                continue  # says the same as the comparison with the exact engine
            a, b = results[left], results[right]
            limit = tolerance if tolerance is not None else _limit(bundle, right, results)
            decode = _difference(a[prefills:], b[prefills:]) if decode_steps else None
            pairs.append(Pair(left, right, _difference(a[:prefills], b[:prefills]), decode, limit))
    return _report(bundle, problems, prompt, decode_steps, notes, pairs)


def _report(
    bundle: BundleFolder,
    problems: Sequence[str],
    prompt: int,
    decode_steps: int,
    notes: Sequence[str],
    pairs: Sequence[Pair],
) -> Report:
    return Report(
        bundle=str(bundle.path),
        target=bundle.target,
        scheme=bundle.scheme,
        dtype=bundle.manifest["dtype"],
        kv_dtype=bundle.kv_storage,
        file_count=len(bundle.manifest["files"]),
        file_problems=tuple(problems),
        prompt_tokens=prompt,
        decode_steps=decode_steps,
        notes=tuple(notes),
        pairs=tuple(pairs),
    )


def _stores_exactly(bundle: BundleFolder) -> bool:
    """Weights of every checkpoint type but float64 fit float32 exactly."""
    return (
        bundle.scheme == "none"
        and bundle.manifest["dtype"] == "float32"
        and bundle.manifest["kv_dtype"] == "float32"
    )


def _limit(bundle: BundleFolder, right: str, results: dict[str, NDArray[np.floating]]) -> float:
    """The default limit of a pair, in logits."""
    spread = float(results[right].std())
    # The coarsest of all layers decides.
    storing = max(_SCALED_LIMITS[scheme] for scheme in bundle.schemes)
    storing += _SCALED_LIMITS_INT8_CACHE[bundle.manifest.get("kv_granularity")]
    if right == INT8_ACTIVATIONS:
        return storing * spread  # no worse than rounding the weights
    # What rounds on the way turns the last bit of one backend into a step of an integer, which makes
    # others of the next layers: through a whole network that is as much as rounding itself.
    if bundle.rounds_activations or (right == "numpy" and not _stores_exactly(bundle)):
        return storing * spread
    if bundle.manifest["kv_dtype"] == "int8":
        return max(_LIMIT_FLOAT16_CACHE, _SCALED_LIMIT_INT8_CACHE * spread)
    if bundle.target != "cpu":
        return max(_LIMIT_ASCEND, _SCALED_LIMIT_ASCEND * spread)
    if bundle.manifest["kv_dtype"] == "float32":
        return _LIMIT_FLOAT32_CACHE
    return max(_LIMIT_FLOAT16_CACHE, _SCALED_LIMIT_FLOAT16_CACHE * spread)


def _difference(a: NDArray[np.floating], b: NDArray[np.floating]) -> Difference:
    apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
    agree = a.argmax(axis=-1) == b.argmax(axis=-1)
    return Difference(float(apart.max()), float(apart.mean()), float(agree.mean()))


def _steps(bundle: BundleFolder, tokens: int | None, decode_steps: int) -> tuple[int, list[int]]:
    """Prompt length, and the lengths of all pieces: prefill chunks, then single tokens."""
    room = bundle.max_seq_len - decode_steps
    if decode_steps < 0 or room < 1:
        raise VerifyError(
            f"--decode-steps: {decode_steps} is not in 0 … {bundle.max_seq_len - 1} "
            f"({bundle.max_seq_len} is the bundle's max_seq_len)"
        )
    prompt = tokens if tokens is not None else min(2 * bundle.chunk + bundle.chunk // 2, room)
    if not 1 <= prompt <= room:
        raise VerifyError(f"--tokens: {prompt} is not in 1 … {room} (max_seq_len less decode steps)")
    chunks = [min(bundle.chunk, prompt - start) for start in range(0, prompt, bundle.chunk)]
    return prompt, chunks + [1] * decode_steps


def _token_ids(bundle: BundleFolder, text: str | None, length: int) -> NDArray[np.int32]:
    """ids [B, length]; each batch slot reads the text from another place, so that mixed-up slots are seen."""
    if bundle.manifest["tokenizer"] is None:
        if text is not None:
            raise VerifyError(
                "the bundle has no tokenizer, so it cannot read a text; leave out --prompt and --text"
            )
        rng = np.random.default_rng(0)
        return rng.integers(0, bundle.vocab_size, (bundle.batch, length), dtype=np.int32)
    ids = load_encoder(bundle.path)(text if text is not None else _DEFAULT_TEXT)
    if len(ids) < 2:
        raise VerifyError("the text has no tokens")
    repeated = np.resize(np.asarray(ids, np.int32), length)
    return np.stack([np.roll(repeated, -7 * slot) for slot in range(bundle.batch)])


def _run(args: argparse.Namespace) -> int:
    try:
        text = args.prompt
        if args.text is not None:
            text = Path(args.text).read_text(encoding="utf-8")
        report = verify_bundle(
            BundleFolder.open(args.bundle),
            args.checkpoint,
            text=text,
            tokens=args.tokens,
            decode_steps=args.decode_steps,
            tolerance=args.tolerance,
            threads=args.threads,
            mindspore=not args.no_mindspore,
            show_progress=not args.json,
        )
    except (VerifyError, CheckpointError, UnicodeDecodeError) as error:
        print(f"mindir-llm: error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report.to_json(), indent=2) if args.json else _table(report))
    return 0 if report.passed else 1


def _table(report: Report) -> str:
    """The report for people."""
    stored = f"weights {report.dtype}, KV cache {report.kv_dtype}"
    if report.scheme != "none":
        stored = f"{report.scheme}, {stored}"
    lines = [
        f"{report.bundle}: target {report.target}, {stored}",
    ]
    if report.file_problems:
        lines += [f"damaged: {problem}" for problem in report.file_problems]
    else:
        lines.append(f"sha256 of {report.file_count} files: as in the manifest")
    if report.pairs:
        lines.append(
            f"{report.prompt_tokens} tokens in prefill chunks, then {report.decode_steps} decode steps"
        )
    lines += [f"note: {note}" for note in report.notes]
    if report.pairs:
        width = max(len(f"{pair.left} | {pair.right}") for pair in report.pairs)
        head = f"{'max |Δ|':>9} {'mean |Δ|':>9} {'top-1':>7}"
        lines += [
            "",
            f"{'logits':{width}}  {'prefill':^27}  {'decode':^27}",
            f"{'':{width}}  {head}  {head}  {'limit':>8}",
        ]
        for pair in report.pairs:
            verdict = "ok" if pair.passed else "TOO FAR APART"
            lines.append(
                f"{f'{pair.left} | {pair.right}':{width}}  {_cells(pair.prefill)}  {_cells(pair.decode)}"
                f"  {pair.limit:8.1e}  {verdict}"
            )
        lines.append("")
    lines.append("verified" if report.passed else "NOT verified")
    return "\n".join(lines)


def _cells(difference: Difference | None) -> str:
    if difference is None:
        return f"{'-':>9} {'-':>9} {'-':>7}"
    return f"{difference.max_abs:9.1e} {difference.mean_abs:9.1e} {difference.top1_agreement:7.1%}"
