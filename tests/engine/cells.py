"""Small networks for the conformance tests, in a file because MindSpore compiles cells from their source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mindspore import Parameter, Tensor, nn, ops


class Call(nn.Cell):
    """operator(*inputs, *settings); a primitive or a function of MindSpore."""

    def __init__(self, operator: Callable[..., Any], *settings: Any) -> None:
        super().__init__()
        self.operator = operator
        self.settings = settings

    def construct(self, *inputs):  # type: ignore[no-untyped-def]
        return self.operator(*inputs, *self.settings)


class CallWithTuple(nn.Cell):
    """operator((inputs…), *settings), for operators over several tensors."""

    def __init__(self, operator: Callable[..., Any], *settings: Any) -> None:
        super().__init__()
        self.operator = operator
        self.settings = settings

    def construct(self, *inputs):  # type: ignore[no-untyped-def]
        return self.operator(inputs, *self.settings)


class Update(nn.Cell):
    """operator(parameter, *inputs) writes the parameter in place; returns the parameter afterwards."""

    def __init__(self, operator: Callable[..., Any], initial: np.ndarray) -> None:
        super().__init__()
        self.operator = operator
        self.state = Parameter(Tensor(initial), name="state")

    def construct(self, *inputs):  # type: ignore[no-untyped-def]
        self.operator(self.state, *inputs)
        return self.state


class UpdateAndKeepOld(nn.Cell):
    """Returns the parameter as it was, and writes it in place."""

    def __init__(self, operator: Callable[..., Any], initial: np.ndarray) -> None:
        super().__init__()
        self.operator = operator
        self.state = Parameter(Tensor(initial), name="state")

    def construct(self, *inputs):  # type: ignore[no-untyped-def]
        old = ops.reshape(self.state, self.state.shape)
        kept = self.state
        self.operator(self.state, *inputs)
        return kept, old, self.state


class Several(nn.Cell):
    """Cells side by side, each with its own inputs: one export and one run check many cases."""

    def __init__(self, cells: Sequence[nn.Cell], counts: Sequence[int]) -> None:
        super().__init__()
        self.members = nn.CellList(list(cells))
        ends = np.cumsum(counts).tolist()
        self.spans = tuple(zip([0, *ends[:-1]], ends, strict=True))

    def construct(self, *inputs):  # type: ignore[no-untyped-def]
        outputs = ()
        for i in range(len(self.members)):
            begin, end = self.spans[i]
            outputs = (*outputs, self.members[i](*inputs[begin:end]))
        return outputs


class CallBetween(nn.Cell):
    """operator(x, setting, y), for operators whose setting stands between two tensors."""

    def __init__(self, operator: Callable[..., Any], setting: Any) -> None:
        super().__init__()
        self.operator = operator
        self.setting = setting

    def construct(self, x, y):  # type: ignore[no-untyped-def]
        return self.operator(x, self.setting, y)


class RowNumbers(nn.Cell):
    """0, 1, … as many as x has rows."""

    def construct(self, x):  # type: ignore[no-untyped-def]
        return ops.range(0, x.shape[0], 1)


class ZerosLike(nn.Cell):
    def construct(self, x):  # type: ignore[no-untyped-def]
        return ops.zeros_like(x)


class OnesLike(nn.Cell):
    def construct(self, x):  # type: ignore[no-untyped-def]
        return ops.ones_like(x)
