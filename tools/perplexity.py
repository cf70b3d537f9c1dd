"""Perplexity of a bundle (in the engine or in stock MindSpore) or of a checkpoint (in float64 numpy) over a
text.

    python -m mindir_llm.tools.perplexity BUNDLE_OR_CHECKPOINT --text FILE [--backend engine|mindspore]
 Protocol: the file is split at <|endoftext|>, each piece is stripped and encoded with a BOS in front, its
first 256 ids are fed to an empty cache, and every id but the BOS is predicted from those before it. A bundle
is fed token by token through its decode graph.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindir_llm.tools.backends import (
    Backend,
    BundleFolder,
    EngineBackend,
    MindSporeBackend,
    Progress,
    VerifyError,
    ignore,
    load_encoder,
)
from mindir_llm.tools.reference import CheckpointError, ReferenceLlama, log_softmax

__all__ = [
    "TOKENS_PER_TEXT",
    "Perplexity",
    "Scorer",
    "Subject",
    "backend_scorer",
    "open_subject",
    "perplexity",
    "read_texts",
    "reference_scorer",
]

TOKENS_PER_TEXT = 256
_SEPARATOR = "<|endoftext|>"

# ids [n] -> logits [n, vocab] that follow each of them, from an empty cache.
Scorer = Callable[[Sequence[int]], NDArray[np.floating]]


@dataclass(frozen=True)
class Perplexity:
    """Negative log likelihoods in nats: per text, summed over its predicted tokens."""

    nll: tuple[float, ...]
    predicted: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return sum(self.predicted)

    @property
    def mean_nll(self) -> float:
        return sum(self.nll) / self.tokens

    @property
    def value(self) -> float:
        """exp of the mean negative log likelihood per predicted token."""
        return float(np.exp(self.mean_nll))


def read_texts(path: str | Path) -> list[str]:
    """The texts of a file, which <|endoftext|> separates. VerifyError: it is not UTF-8."""
    try:
        pieces = Path(path).read_text(encoding="utf-8").split(_SEPARATOR)
    except UnicodeDecodeError as error:
        raise VerifyError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from None
    return [piece.strip() for piece in pieces if piece.strip()]


def perplexity(scorer: Scorer, texts: Iterable[Sequence[int]]) -> Perplexity:
    """Score each text's ids (BOS first, at least two)."""
    sums, counts = [], []
    for ids in texts:
        if len(ids) < 2:
            raise ValueError(f"a text needs at least two ids, one of them has {len(ids)}")
        scores = log_softmax(scorer(ids[:-1]))
        sums.append(-float(scores[np.arange(len(ids) - 1), np.asarray(ids[1:])].sum()))
        counts.append(len(ids) - 1)
    return Perplexity(tuple(sums), tuple(counts))


def reference_scorer(model: ReferenceLlama, progress: Progress = ignore) -> Scorer:
    """Score with the reference. progress is called with the number of tokens done since its last call."""

    def score(ids: Sequence[int]) -> NDArray[np.floating]:
        model.reset()
        logits = model.feed_all(ids)
        progress(len(ids))
        return logits

    return score


def backend_scorer(backend: Backend, batch: int = 1, progress: Progress = ignore) -> Scorer:
    """Score with a bundle: one decode step a token, every batch slot fed the same. progress as above."""

    def score(ids: Sequence[int]) -> NDArray[np.floating]:
        rows = np.tile(np.asarray(ids, np.int32), (batch, 1))
        return backend.logits(rows, [1] * len(ids), progress)[:, 0]

    return score


@dataclass(frozen=True)
class Subject:
    """A bundle or a checkpoint that is ready to score texts.

    what: one line for people. longest: ids that one text may have, the last of which is only predicted; None:
    no limit. scorer: makes a Scorer that reports to a progress callback.
    """

    path: Path
    what: str
    vocab_size: int
    longest: int | None
    scorer: Callable[[Progress], Scorer]


def open_subject(
    path: str | Path,
    backend: str = "engine",
    threads: int = 0,
    exact: bool = False,
    precision: str = "float64",
) -> Subject:
    """Open a bundle in 'engine' or 'mindspore', or a checkpoint in numpy.

    threads, exact: of the engine. precision: of numpy, 'float64' or 'float32'. VerifyError, CheckpointError:
    it cannot be opened.
    """
    folder = Path(path)
    if (folder / "manifest.json").exists():
        bundle = BundleFolder.open(folder)
        network: Backend
        if backend == "engine":
            network, how = EngineBackend(bundle, threads, exact), "engine, exact" if exact else "engine"
        else:
            network, how = MindSporeBackend(bundle), "MindSpore"
        return Subject(
            folder,
            f"bundle for {bundle.target}, {bundle.scheme}, {how}",
            bundle.vocab_size,
            bundle.max_seq_len + 1,
            lambda progress: backend_scorer(network, bundle.batch, progress),
        )
    model = ReferenceLlama(folder, precision=precision)
    return Subject(
        folder,
        f"checkpoint in numpy, {precision}",
        model.vocab_size,
        None,
        lambda progress: reference_scorer(model, progress),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mindir_llm.tools.perplexity", description=__doc__.split("\n")[0]
    )
    parser.add_argument("model", metavar="BUNDLE_OR_CHECKPOINT")
    parser.add_argument("--text", required=True, metavar="FILE", help="UTF-8; <|endoftext|> separates texts")
    parser.add_argument(
        "--backend", choices=("engine", "mindspore"), default="engine", help="what runs a bundle"
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="of the engine (default: one per physical core)"
    )
    parser.add_argument(
        "--exact", action="store_true", help="engine: keep activations in float32 in every product"
    )
    args = parser.parse_args(arguments)
    try:
        subject = open_subject(args.model, args.backend, args.threads, args.exact)
        length = min(TOKENS_PER_TEXT, subject.longest or TOKENS_PER_TEXT)
        encode = load_encoder(args.model)
        texts = [encode(text)[:length] for text in read_texts(args.text)]
        result = perplexity(subject.scorer(ignore), [ids for ids in texts if len(ids) > 1])
    except (VerifyError, CheckpointError, OSError, RuntimeError) as error:
        print(f"mindir-llm: error: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"perplexity": result.value, "mean_nll": result.mean_nll, "tokens": result.tokens}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
