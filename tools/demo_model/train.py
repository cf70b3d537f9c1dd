"""Training of the demo model with MindSpore on a CPU."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import mindspore as ms
import numpy as np
import sentencepiece
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

from .grammar import stories
from .network import Shape, TrainingLlama, TrainingLoss
from .packing import Rows, pack

__all__ = ["HELD_OUT", "ROUNDS", "Settings", "Weights", "train"]

# Numbers of stories from here on are never trained on.
HELD_OUT = 10_000_000

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Settings:
    """One round of training: what it reads, how long and how fast it learns."""

    steps: int = 1400
    first_story: int = 0
    batch: int = 4
    length: int = 288
    peak_rate: float = 2.5e-3
    final_rate: float = 1e-4
    warmup: int = 100
    weight_decay: float = 0.05
    clip: float = 1.0
    seed: int = 1
    evaluate_every: int = 200
    held_out_rows: int = 48

    def rate(self, step: int) -> float:
        """The learning rate of a step: a linear warm-up, then a cosine."""
        if step < self.warmup:
            return self.peak_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.final_rate + (self.peak_rate - self.final_rate) * 0.5 * (1 + math.cos(math.pi * progress))


# Made the committed checkpoint. Every round is a whole training, ending at a low rate and in a usable model;
# the next one starts from it, as it was written, with stories that are new.
ROUNDS = (
    Settings(),
    Settings(steps=1000, first_story=1_000_000, peak_rate=1.8e-3),
)


def _rows(processor: sentencepiece.SentencePieceProcessor, first: int, settings: Settings, rows: int) -> Rows:
    """Rows of the stories from number `first` on. Three stories are more than enough for a row."""
    return pack((processor.encode(text) for text in stories(first, 3 * rows + 16)), settings.length, rows)


def train(
    tokenizer: bytes,
    shape: Shape,
    settings: Settings,
    log: Callable[[str], None],
    save: Callable[[Weights], None],
    initial: Weights | None = None,
) -> float:
    """One round, from `initial` or from random weights; returns the held-out loss, a mean in nats per token.

    `save` gets the weights at every evaluation, the last of them after the last step. RuntimeError should
    training diverge.
    """
    ms.set_context(device_target="CPU")
    ms.set_seed(settings.seed)
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    started = time.monotonic()
    data = _rows(processor, settings.first_story, settings, settings.steps * settings.batch)
    held_out = _rows(processor, HELD_OUT, settings, settings.held_out_rows)
    log(f"data: {data.ids.size} tokens, made in {time.monotonic() - started:.0f} s")

    network = TrainingLlama(shape, settings.length, settings.seed)
    loss = TrainingLoss(network, shape.vocab_size)
    parameters = network.trainable_params()
    if initial is not None:
        for parameter in parameters:
            parameter.set_data(Tensor(initial[parameter.name]))
    log(f"parameters: {sum(parameter.size for parameter in parameters)}")
    rates = np.array([settings.rate(step) for step in range(settings.steps)], np.float32)
    # Only matrices decay: norm gains have nothing to gain from being small.
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    gains = [parameter for parameter in parameters if parameter.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": gains, "weight_decay": 0.0},
        {"order_params": parameters},
    ]
    optimizer = nn.AdamWeightDecay(groups, Tensor(rates), beta1=0.9, beta2=0.98, eps=1e-8)
    value_and_grad = ms.value_and_grad(loss, None, optimizer.parameters)

    @ms.jit
    def step(ids: Tensor, documents: Tensor, targets: Tensor) -> Tensor:
        value, gradients = value_and_grad(ids, documents, targets)
        optimizer(ops.clip_by_global_norm(gradients, settings.clip))
        return value

    @ms.jit
    def evaluate(ids: Tensor, documents: Tensor, targets: Tensor) -> Tensor:
        return loss(ids, documents, targets)

    def batch(rows: Rows, index: int) -> list[Tensor]:
        chosen = slice(index * settings.batch, (index + 1) * settings.batch)
        return [Tensor(part[chosen]) for part in rows]

    def held_out_loss() -> float:
        batches = settings.held_out_rows // settings.batch
        return float(np.mean([evaluate(*batch(held_out, index)).asnumpy() for index in range(batches)]))

    recent: list[float] = []
    found = math.inf
    started = time.monotonic()
    for index in range(settings.steps):
        recent.append(float(step(*batch(data, index)).asnumpy()))
        if not math.isfinite(recent[-1]):
            raise RuntimeError(f"the loss of step {index} is {recent[-1]}; lower Settings.peak_rate")
        done = index + 1
        if done % 50 == 0 or done == settings.steps:
            seconds = time.monotonic() - started
            log(f"step {done:5d}  loss {np.mean(recent):.4f}  {seconds:6.0f} s  {seconds / done:.2f} s/step")
            recent.clear()
        if done % settings.evaluate_every == 0 or done == settings.steps:
            found = held_out_loss()
            log(f"step {done:5d}  held-out loss {found:.4f}")
            save(network.weights())
    return found
