"""Stories -> rows of token ids of one length, as training takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["BOS", "EOS", "IGNORED", "Rows", "pack"]

BOS, EOS = 1, 2
# The target of a position from which nothing is to be predicted.
IGNORED = -1


class Rows(NamedTuple):
    """int32 arrays [rows, length]: ids, the number of the document of each, and the ids to predict."""

    ids: NDArray[np.int32]
    documents: NDArray[np.int32]
    targets: NDArray[np.int32]


def pack(documents: Iterable[list[int]], length: int, rows: int) -> Rows:
    """Fill `rows` rows with documents, each as BOS text EOS.

    Every row starts with the start of a document, as generation does; the document that no longer fits is
    cut. One that alone is too long for a row is left out, so that each row holds an end as well. ValueError
    when the documents run out.
    """
    # One more than `length`, since the targets are the ids shifted by one.
    width = length + 1
    packed = np.zeros((rows, width), np.int32)
    owner = np.zeros((rows, width), np.int32)
    source = _framed(documents, width)
    for row in range(rows):
        filled, number = 0, 0
        while filled < width:
            document = next(source, None)
            if document is None:
                raise ValueError(f"the documents fill only {row} of {rows} rows of {length} tokens")
            part = document[: width - filled]
            packed[row, filled : filled + len(part)] = part
            owner[row, filled : filled + len(part)] = number
            filled, number = filled + len(part), number + 1
    # What follows an EOS is no business of the document that ended.
    targets = np.where(owner[:, 1:] == owner[:, :-1], packed[:, 1:], IGNORED).astype(np.int32)
    return Rows(packed[:, :-1].copy(), owner[:, :-1].copy(), targets)


def _framed(documents: Iterable[list[int]], width: int) -> Iterator[list[int]]:
    for document in documents:
        if len(document) + 2 <= width:
            yield [BOS, *document, EOS]
