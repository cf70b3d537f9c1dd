"""References in float64, written from the papers one number at a time, and inputs to hold them to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.quantize.scheme import WeightScheme

Array = NDArray[np.float64]


def grid(values: Array, scheme: WeightScheme) -> tuple[float, int]:
    """Scale and zero point for a group's weights, scales unrounded."""
    bits = scheme.bits
    if scheme.symmetric:
        return (float(np.abs(values).max()) / (2 ** (bits - 1) - 1) or 1.0), 0
    least, largest = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = (largest - least) / (2**bits - 1) or 1.0
    return scale, int(np.rint(-least / scale)) - 2 ** (bits - 1)


def nearest(value: float, scale: float, zero: int, scheme: WeightScheme) -> int:
    low, high = -(2 ** (scheme.bits - 1)), 2 ** (scheme.bits - 1) - 1
    if scheme.bits == 8 and scheme.symmetric:
        low = -127
    return int(min(max(np.rint(value / scale) + zero, low), high))


def round_to_nearest(weight: Array, scheme: WeightScheme) -> tuple[NDArray[np.int64], Array]:
    """Integers and the values they stand for, weight by weight."""
    size = scheme.group_size or weight.shape[1]
    integers = np.zeros(weight.shape, np.int64)
    values = np.zeros(weight.shape)
    for row in range(weight.shape[0]):
        for start in range(0, weight.shape[1], size):
            scale, zero = grid(weight[row, start : start + size], scheme)
            for column in range(start, min(start + size, weight.shape[1])):
                integers[row, column] = nearest(weight[row, column], scale, zero, scheme)
                values[row, column] = (integers[row, column] - zero) * scale
    return integers, values


def gptq(
    weight: Array, hessian: Array, scheme: WeightScheme, damping: float, desc_act: bool, static_groups: bool
) -> tuple[NDArray[np.int64], Array]:
    """Optimal Brain Quantization in a fixed order, as GPTQ's equations 2 and 3 have it: after each column the
    inverse Hessian loses that column by a step of Gaussian elimination, and all columns left are
    corrected."""
    rows, columns = weight.shape
    size = scheme.group_size or columns
    remaining = weight.copy()
    damped = hessian + damping * np.diag(hessian).mean() * np.eye(columns)
    dead = np.diag(damped) == 0
    damped[dead, dead] = 1
    inverse = np.linalg.inv(damped)
    order = list(range(columns))
    if desc_act:
        order.sort(key=lambda column: -hessian[column, column])
    grids: dict[tuple[int, int], tuple[float, int]] = {}
    integers = np.zeros(weight.shape, np.int64)
    values = np.zeros(weight.shape)
    for done, column in enumerate(order):
        group = column // size
        part = slice(group * size, (group + 1) * size)
        for row in range(rows):
            if (row, group) not in grids:
                source = weight if desc_act or static_groups or size >= columns else remaining
                grids[row, group] = grid(source[row, part], scheme)
            scale, zero = grids[row, group]
            integers[row, column] = nearest(remaining[row, column], scale, zero, scheme)
            values[row, column] = (integers[row, column] - zero) * scale
            error = (remaining[row, column] - values[row, column]) / inverse[column, column]
            for later in order[done + 1 :]:
                remaining[row, later] -= error * inverse[column, later]
        inverse = inverse - np.outer(inverse[:, column], inverse[column]) / inverse[column, column]
    return integers, values


def output_error(difference: Array, inputs: Array) -> float:
    """Squared error of all outputs of all inputs, output by output."""
    return sum(float(np.dot(x, row)) ** 2 for x in inputs for row in difference)


def correlated_inputs(seed: int, count: int, features: int, outliers: int = 0) -> Array:
    """Inputs whose features hang together, as those of a network do; some of them 30 times as large."""
    random = np.random.default_rng(seed)
    rank = max(features // 4, 1)
    inputs = random.standard_normal((count, rank)) @ random.standard_normal((rank, features))
    inputs += 0.3 * random.standard_normal((count, features))
    inputs[:, random.permutation(features)[:outliers]] *= 30
    return inputs
