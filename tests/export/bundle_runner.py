"""Run a bundle's two graphs the way a device does: chunked prefill, then single tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = list[NDArray[Any]]
GraphRunner = Callable[[Arrays], Arrays]


def stock_mindspore(path: Path) -> GraphRunner:
    """A graph loaded by stock MindSpore, unchanged."""
    import mindspore as ms

    cell = ms.nn.GraphCell(ms.load(str(path)))
    return lambda inputs: [out.asnumpy() for out in cell(*[ms.Tensor(value) for value in inputs])]


class BundleRunner:
    """One batch of sequences fed through a bundle's graphs."""

    def __init__(self, bundle: Path, load: Callable[[Path], GraphRunner] = stock_mindspore) -> None:
        self.manifest = json.loads((bundle / "manifest.json").read_text())
        self._prefill = load(bundle / self.manifest["graphs"]["prefill"])
        self._decode = load(bundle / self.manifest["graphs"]["decode"])
        self.reset()

    def reset(self) -> None:
        """Empty caches; what they hold beyond the fed tokens must not matter, so it is not zero."""
        model = self.manifest["model"]
        shape = (
            self.manifest["batch_size"],
            model["num_key_value_heads"],
            self.manifest["max_seq_len"],
            model["head_dim"],
        )
        rng = np.random.default_rng(0)
        self.caches = []
        for name in self.manifest["inputs"][3:]:
            is_scale = "_scale" in name
            values = 30 * rng.standard_normal((*shape[:3], 1) if is_scale else shape)
            self.caches.append(values.astype("float32" if is_scale else self.manifest["kv_dtype"]))

    def decode(self, ids: Sequence[int], positions: Sequence[int]) -> NDArray[np.float32]:
        """One token per sequence at the given positions -> logits [B, vocab]."""
        return self._call(self._decode, [[token] for token in ids], positions, [p + 1 for p in positions])

    def prefill(
        self, ids: Sequence[Sequence[int]], positions: Sequence[int], padding: int = 0
    ) -> NDArray[np.float32]:
        """Up to P tokens per sequence, padded -> logits [B, vocab] of each sequence's last token."""
        chunk = self.manifest["prefill_chunk"]
        rows = [[*row, *[padding] * (chunk - len(row))] for row in ids]
        lengths = [position + len(row) for position, row in zip(positions, ids, strict=True)]
        return self._call(self._prefill, rows, positions, lengths)

    def feed(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """A whole prompt from position 0 in chunks (batch of one) -> logits [vocab]."""
        chunk = self.manifest["prefill_chunk"]
        for start in range(0, len(ids), chunk):
            logits = self.prefill([ids[start : start + chunk]], [start], padding=3)
        return logits[0]

    def _call(
        self,
        graph: GraphRunner,
        ids: Sequence[Sequence[int]],
        positions: Sequence[int],
        lengths: Sequence[int],
    ) -> NDArray[np.float32]:
        integers = [np.array(value, np.int32) for value in (ids, positions, lengths)]
        logits, *self.caches = graph([*integers, *self.caches])
        assert logits.dtype == np.float32
        return logits
