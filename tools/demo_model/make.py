"""The command `python -m mindir_llm.tools.demo_model OUTDIR`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from .checkpoint_files import write_checkpoint
from .grammar import stories
from .network import Shape
from .tokenizer_training import train_tokenizer
from .train import Settings, Weights, train

__all__ = ["main", "make"]

# Stories that the tokenizer learns from; more do not change its pieces much.
TOKENIZER_STORIES = 6000


def make(directory: Path, shape: Shape, settings: Settings) -> float:
    """Train tokenizer and network, write the checkpoint folder; returns the held-out loss, nats per token.

    The folder is written anew at every evaluation, so that what was reached survives an interruption.
    """

    def log(line: str) -> None:
        print(line, flush=True)

    tokenizer = train_tokenizer(stories(0, TOKENIZER_STORIES), shape.vocab_size)

    def save(weights: Weights, loss: float) -> None:
        write_checkpoint(directory, shape, weights, tokenizer)

    _, loss = train(tokenizer, shape, settings, log, save)
    return loss


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and make the model; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mindir_llm.tools.demo_model", description=__doc__)
    parser.add_argument("outdir", type=Path, help="checkpoint folder to write")
    parser.add_argument(
        "--steps", type=int, default=Settings.steps, help="training steps (default %(default)s)"
    )
    chosen = parser.parse_args(arguments)
    if chosen.steps < 1:
        parser.error("--steps must be at least 1")
    loss = make(chosen.outdir, Shape(), dataclasses.replace(Settings(), steps=chosen.steps))
    print(f"{chosen.outdir}: held-out loss {loss:.4f} nats per token")
    return 0


if __name__ == "__main__":
    sys.exit(main())
