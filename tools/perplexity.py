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
    VerifyError,
    load_encoder,
)
from mindir_llm.tools.reference import CheckpointError, ReferenceLlama, log_softmax

__all__ = ["Perplexity", "backend_scorer", "perplexity", "read_texts", "reference_scorer"]

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
    """The texts of a file, which <|endoftext|> separates."""
    pieces = Path(path).read_text(encoding="utf-8").split(_SEPARATOR)
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


def reference_scorer(model: ReferenceLlama) -> Scorer:
    """Score with the float64 reference."""

    def score(ids: Sequence[int]) -> NDArray[np.floating]:
        model.reset()
        return model.feed_all(ids)

    return score


def backend_scorer(backend: Backend, batch: int = 1) -> Scorer:
    """Score with a bundle: one decode step a token, every batch slot fed the same."""

    def score(ids: Sequence[int]) -> NDArray[np.floating]:
        rows = np.tile(np.asarray(ids, np.int32), (batch, 1))
        return backend.logits(rows, [1] * len(ids))[:, 0]

    return score


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
        folder = Path(args.model)
        length = TOKENS_PER_TEXT
        if (folder / "manifest.json").exists():
            bundle = BundleFolder.open(folder)
            length = min(length, bundle.max_seq_len + 1)
            backend: Backend
            backend = (
                EngineBackend(bundle, args.threads, args.exact)
                if args.backend == "engine"
                else MindSporeBackend(bundle)
            )
            scorer = backend_scorer(backend, bundle.batch)
        else:
            scorer = reference_scorer(ReferenceLlama(folder))
        encode = load_encoder(folder)
        texts = [encode(text)[:length] for text in read_texts(args.text)]
        result = perplexity(scorer, [ids for ids in texts if len(ids) > 1])
    except (VerifyError, CheckpointError, OSError, RuntimeError) as error:
        print(f"mindir-llm: error: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"perplexity": result.value, "mean_nll": result.mean_nll, "tokens": result.tokens}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
