"""`mindir-llm evaluate`: how well a bundle or a checkpoint predicts a text, and how far it is from a float
checkpoint."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindir_llm.tools.backends import Progress, VerifyError, ignore, load_encoder
from mindir_llm.tools.perplexity import TOKENS_PER_TEXT, Scorer, Subject, open_subject, read_texts
from mindir_llm.tools.progress import Bar
from mindir_llm.tools.reference import log_softmax

__all__ = ["Comparison", "Evaluation", "Score", "compare", "cut", "evaluate", "register"]

_EXAMPLES = """\
examples:
  mindir-llm evaluate bundle --text stories.txt
      perplexity
  mindir-llm evaluate bundle --text stories.txt --reference TinyLlama-1.1B-Chat
      also what was lost against the original: KL divergence and top-1 agreement
  mindir-llm evaluate bundle --text book.txt --pieces 40 --json
      a long text without <|endoftext|>, in up to 40 pieces
"""


@dataclass(frozen=True)
class Score:
    """How well a model predicts. mean_nll: negative log likelihood in nats per predicted token."""

    model: str
    what: str
    mean_nll: float

    @property
    def perplexity(self) -> float:
        return math.exp(self.mean_nll) if self.mean_nll < 700 else math.inf

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "perplexity": self.perplexity}


@dataclass(frozen=True)
class Comparison:
    """A model against the reference, over all predicted tokens.

    mean_kl, max_kl: Kullback-Leibler divergence of the model's distribution from the reference's, sum over
    the vocabulary of p_ref (log p_ref - log p), in nats. top1_agreement: share of tokens where both find the
    same id the likeliest.
    """

    reference: Score
    perplexity_ratio: float
    mean_kl: float
    max_kl: float
    top1_agreement: float

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "reference": self.reference.to_json()}


@dataclass(frozen=True)
class Evaluation:
    """Everything that `evaluate` found out. tokens: how many were predicted, in how many texts."""

    score: Score
    comparison: Comparison | None
    texts: int
    tokens: int

    def to_json(self) -> dict[str, Any]:
        """A JSON object; the model's own numbers on top."""
        return {
            **self.score.to_json(),
            "texts": self.texts,
            "tokens": self.tokens,
            "comparison": None if self.comparison is None else self.comparison.to_json(),
        }


def register(subparsers: Any) -> None:
    """Add the `evaluate` subcommand to an argparse subparsers object."""
    parser = subparsers.add_parser(
        "evaluate",
        help="perplexity over a text, and the distance to the float checkpoint",
        description="Measure how well a bundle, or a checkpoint, predicts a text: perplexity, and with "
        "--reference also KL divergence and top-1 agreement against a float checkpoint.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="BUNDLE|CHECKPOINT")
    parser.add_argument(
        "--text", required=True, metavar="FILE", help="UTF-8 file; <|endoftext|> separates texts"
    )
    parser.add_argument(
        "--reference", metavar="CHECKPOINT", help="Hugging Face folder that the model is compared with"
    )
    parser.add_argument(
        "--tokens",
        type=int,
        default=TOKENS_PER_TEXT,
        metavar="N",
        help=f"length of a text, BOS included (default: {TOKENS_PER_TEXT}, at most what a bundle takes)",
    )
    parser.add_argument(
        "--pieces",
        type=int,
        default=1,
        metavar="N",
        help="of a longer text: pieces of that length to take, each with its own BOS; 0: all (default: 1)",
    )
    parser.add_argument(
        "--backend", choices=("engine", "mindspore"), default="engine", help="what runs a bundle"
    )
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="of the engine (default: physical cores)"
    )
    parser.add_argument(
        "--exact", action="store_true", help="engine: keep activations in float32 in every product"
    )
    parser.add_argument(
        "--precision",
        choices=("float64", "float32"),
        default="float64",
        help="of checkpoints, which numpy runs (default: float64; float32 is faster)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_run)


def evaluate(
    model: Subject,
    texts: Sequence[Sequence[int]],
    reference: Subject | None = None,
    progress: Progress = ignore,
) -> Evaluation:
    """Score texts, each at least two ids of which the first is only read.

    progress is called with the number of tokens done since its last call; all texts count once for the model
    and once for the reference. VerifyError: no text, or vocabularies that differ.
    """
    if not texts:
        raise VerifyError("the text has no tokens")
    if reference is not None and reference.vocab_size != model.vocab_size:
        raise VerifyError(
            f"--reference: {reference.path} has a vocabulary of {reference.vocab_size}, {model.path} one of "
            f"{model.vocab_size}"
        )
    sums = compare(texts, model.scorer(progress), None if reference is None else reference.scorer(progress))
    score = Score(str(model.path), model.what, sums.nll / sums.tokens)
    comparison = None
    if reference is not None:
        base = Score(str(reference.path), reference.what, sums.reference_nll / sums.tokens)
        comparison = Comparison(
            reference=base,
            perplexity_ratio=math.exp(min(score.mean_nll - base.mean_nll, 700)),
            mean_kl=sums.kl / sums.tokens,
            max_kl=sums.max_kl,
            top1_agreement=sums.agreeing / sums.tokens,
        )
    return Evaluation(score, comparison, len(texts), sums.tokens)


@dataclass
class Sums:
    """Added up over predicted tokens; see Comparison. Nothing of the reference stays zero without one."""

    tokens: int = 0
    nll: float = 0.0
    reference_nll: float = 0.0
    kl: float = 0.0
    max_kl: float = 0.0
    agreeing: int = 0


def compare(texts: Iterable[Sequence[int]], model: Scorer, reference: Scorer | None) -> Sums:
    """Score every text with both, one text at a time, so that few logits are in memory."""
    sums = Sums()
    for ids in texts:
        if len(ids) < 2:
            raise ValueError(f"a text needs at least two ids, one of them has {len(ids)}")
        positions, following = np.arange(len(ids) - 1), np.asarray(ids[1:])
        scores = log_softmax(model(ids[:-1]))
        sums.tokens += len(following)
        sums.nll -= float(scores[positions, following].sum())
        if reference is not None:
            wanted = log_softmax(reference(ids[:-1]))
            sums.reference_nll -= float(wanted[positions, following].sum())
            # Rounding may make the sum of a token slightly negative where the two are equal.
            divergence = np.maximum((np.exp(wanted) * (wanted - scores)).sum(axis=1), 0)
            sums.kl += float(divergence.sum())
            sums.max_kl = max(sums.max_kl, float(divergence.max()))
            sums.agreeing += int((scores.argmax(axis=1) == wanted.argmax(axis=1)).sum())
    return sums


def cut(
    texts: Iterable[str], encode: Callable[[str], list[int]], length: int, pieces: int = 1
) -> Iterator[list[int]]:
    """The first `pieces` pieces (0: all) of every text, each at most `length` ids with what `encode` puts in
    front; pieces with nothing to predict are left out."""
    front = encode("")
    step = max(1, length - len(front))
    for text in texts:
        body = encode(text)[len(front) :]
        starts = range(0, len(body), step)
        for start in starts if pieces == 0 else starts[:pieces]:
            ids = front + body[start : start + step]
            if len(ids) > 1:
                yield ids


def _run(args: argparse.Namespace) -> int:
    for flag, value, low in (("--tokens", args.tokens, 2), ("--pieces", args.pieces, 0)):
        if value < low:
            raise VerifyError(f"{flag}: {value} is below {low}")
    texts = read_texts(args.text)  # first of all: opening a model takes longer than finding a file missing
    model = open_subject(args.model, args.backend, args.threads, args.exact, args.precision)
    reference = None
    if args.reference is not None:
        if (Path(args.reference) / "manifest.json").exists():
            raise VerifyError(
                f"--reference: {args.reference} is a bundle; give the checkpoint it was made of"
            )
        reference = open_subject(args.reference, precision=args.precision)
    length = min(args.tokens, model.longest or args.tokens)
    ids = list(cut(texts, _encoder(args.model, args.reference), length, args.pieces))
    if not ids:
        raise VerifyError(f"--text: {args.text} holds nothing to predict")
    total = sum(len(text) - 1 for text in ids) * (1 if reference is None else 2)
    with Bar(not args.json, "evaluate", "token", total) as bar:
        result = evaluate(model, ids, reference, bar.update)
    print(json.dumps(result.to_json(), indent=2) if args.json else _table(result))
    return 0


def _encoder(model: str, reference: str | None) -> Callable[[str], list[int]]:
    """The model's tokenizer, or that of the reference where the model has none."""
    try:
        return load_encoder(model)
    except VerifyError:
        if reference is None:
            raise
        return load_encoder(reference)


def _table(result: Evaluation) -> str:
    """The result for people."""
    score, comparison = result.score, result.comparison
    lines = [f"{score.model}: {score.what}"]
    if comparison is not None:
        lines.append(f"{comparison.reference.model}: {comparison.reference.what}, the reference")
    plural = "" if result.texts == 1 else "s"
    lines += [f"{result.tokens} tokens predicted in {result.texts} text{plural}", ""]
    rows = [("perplexity", f"{score.perplexity:.4f}")]
    if comparison is not None:
        rows += [
            ("perplexity of the reference", f"{comparison.reference.perplexity:.4f}"),
            ("ratio", f"{comparison.perplexity_ratio:.4f}"),
            ("KL divergence, mean", f"{comparison.mean_kl:.2e} nats"),
            ("KL divergence, largest", f"{comparison.max_kl:.2e} nats"),
            ("top-1 agreement", f"{comparison.top1_agreement:.2%}"),
        ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(lines + [f"{name:{width}}  {value}" for name, value in rows])
