"""One-operator networks of the NPU op set, in a file because MindSpore compiles cells from their source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mindspore import Parameter, Tensor, nn
from mindspore import dtype as mstype


class WeightQuant(nn.Cell):
    """WeightQuantBatchMatmul over a weight that the graph holds; int4 weights come packed, two to a byte."""

    def __init__(self, operator: Callable[..., Any], weight: np.ndarray, is_int4: bool) -> None:
        super().__init__()
        self.operator = operator
        tensor = Tensor(weight, dtype=mstype.qint4x2) if is_int4 else Tensor(weight)
        self.weight = Parameter(tensor, name="weight", requires_grad=False)

    def construct(self, x, scale, offset, bias):  # type: ignore[no-untyped-def]
        return self.operator(x, self.weight, scale, offset, None, None, bias)


class WeightQuantPlain(WeightQuant):
    """Without offset and bias."""

    def construct(self, x, scale):  # type: ignore[no-untyped-def]
        return self.operator(x, self.weight, scale, None, None, None, None)


class QuantMatmul(nn.Cell):
    """int8 by int8, without offset; with a bias, and a scale per token where there is a fifth input."""

    def __init__(self, operator: Callable[..., Any]) -> None:
        super().__init__()
        self.operator = operator

    def construct(self, x1, x2, scale, bias):  # type: ignore[no-untyped-def]
        return self.operator(x1, x2, scale, None, bias, None)


class QuantMatmulPerToken(QuantMatmul):
    def construct(self, x1, x2, scale, bias, per_token):  # type: ignore[no-untyped-def]
        return self.operator(x1, x2, scale, None, bias, per_token)


class Quantize(nn.Cell):
    def __init__(self, operator: Callable[..., Any]) -> None:
        super().__init__()
        self.operator = operator

    def construct(self, x, scale, offset):  # type: ignore[no-untyped-def]
        return self.operator(x, scale, offset, False, "ROUND", mstype.int8)


class WriteCache(nn.Cell):
    def __init__(self, operator: Callable[..., Any], axis: int) -> None:
        super().__init__()
        self.operator = operator
        self.axis = axis

    def construct(self, cache, start, rows):  # type: ignore[no-untyped-def]
        return self.operator(cache, start, rows, self.axis, "update")


class PromptAttention(nn.Cell):
    def __init__(self, operator: Callable[..., Any]) -> None:
        super().__init__()
        self.operator = operator

    def construct(self, q, k, v, mask):  # type: ignore[no-untyped-def]
        return self.operator(q, k, v, mask, None, None, None, None, None, None, None, None)


class PromptAttentionUnmasked(PromptAttention):
    def construct(self, q, k, v):  # type: ignore[no-untyped-def]
        return self.operator(q, k, v, None, None, None, None, None, None, None, None, None)


class IncrementalAttention(nn.Cell):
    def __init__(self, operator: Callable[..., Any]) -> None:
        super().__init__()
        self.operator = operator

    def construct(self, q, k, v, mask):  # type: ignore[no-untyped-def]
        return self.operator(
            q, (k,), (v,), mask, None, None, None, None, None, None, None, None, None, None, None
        )


class IncrementalInt8Attention(nn.Cell):
    def __init__(self, operator: Callable[..., Any]) -> None:
        super().__init__()
        self.operator = operator

    def construct(self, q, k, v, mask, scale):  # type: ignore[no-untyped-def]
        return self.operator(
            q, (k,), (v,), mask, None, None, None, None, None, None, None, scale, None, None, None
        )
