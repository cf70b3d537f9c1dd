"""The command `python -m mindir_llm.tools.demo_model OUTDIR`."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from .checkpoint_files import read_weights, write_checkpoint
from .grammar import stories
from .network import Shape
from .tokenizer_training import train_tokenizer
from .train import ROUNDS, Settings, Weights, train

__all__ = ["main", "make"]

# Stories that the tokenizer learns from; more do not change its pieces much.
TOKENIZER_STORIES = 6000


def make(directory: Path, shape: Shape, rounds: Sequence[Settings], first_round: int = 1) -> float:
    """Train tokenizer and network, write the checkpoint folder; returns the held-out loss, nats per token.

    Rounds before `first_round` (counted from 1) are not repeated: the folder holds what they have made. It is
    written anew at every evaluation, so that what was reached survives an interruption.
    """

    def log(line: str) -> None:
        print(line, flush=True)

    tokenizer = train_tokenizer(stories(0, TOKENIZER_STORIES), shape.vocab_size)

    def save(weights: Weights) -> None:
        write_checkpoint(directory, shape, weights, tokenizer)

    loss = math.nan
    for number, settings in enumerate(rounds[first_round - 1 :], first_round):
        log(f"round {number} of {len(rounds)}")
        loss = train(tokenizer, shape, settings, log, save, read_weights(directory) if number > 1 else None)
    return loss


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and make the model; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mindir_llm.tools.demo_model", description=__doc__)
    parser.add_argument("outdir", type=Path, help="checkpoint folder to write")
    parser.add_argument(
        "--first-round",
        type=int,
        choices=range(1, len(ROUNDS) + 1),
        default=1,
        help="go on from the end of the round before, which OUTDIR holds (default %(default)s)",
    )
    chosen = parser.parse_args(arguments)
    if chosen.first_round > 1 and not (chosen.outdir / "model.safetensors").is_file():
        parser.error(f"{chosen.outdir} holds no model to go on from; leave out --first-round")
    loss = make(chosen.outdir, Shape(), ROUNDS, chosen.first_round)
    print(f"{chosen.outdir}: held-out loss {loss:.4f} nats per token")
    return 0


if __name__ == "__main__":
    sys.exit(main())
