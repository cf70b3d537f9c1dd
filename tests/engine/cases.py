"""What the conformance tests draw: for each primitive, cells, inputs and how close two results must be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cells
import numpy as np
from hypothesis import strategies as st
from mindspore import dtype as mstype
from mindspore import nn, ops
from mindspore.ops import auto_generate as gen

Array = np.ndarray[Any, np.dtype[Any]]
# Expected value -> largest difference that passes, element by element. None: equal, NaN to NaN, zeros by
# sign.
Bound = Callable[[Array], Any] | None

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8")
MSTYPES = {
    "bool": mstype.bool_,
    "int8": mstype.int8,
    "int16": mstype.int16,
    "int32": mstype.int32,
    "int64": mstype.int64,
    "uint8": mstype.uint8,
    "float16": mstype.float16,
    "float32": mstype.float32,
    "float64": mstype.float64,
}


@dataclass(frozen=True)
class Case:
    """One use of a primitive."""

    label: str
    cell: Callable[[], nn.Cell]
    inputs: tuple[Array, ...]
    bound: Bound = None
    # float64 inputs -> the true result, where MindSpore's own kernel is an approximation; the engine must be
    # within 4 units in the last place of it.
    truth: Callable[..., Array] | None = None

    def __repr__(self) -> str:
        shapes = ", ".join(f"{x.dtype}{list(x.shape)}" for x in self.inputs)
        return f"{self.label}({shapes})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What hypothesis prints for a failing example."""
        printer.text(repr(self))


Draw = Callable[[st.SearchStrategy[Any]], Any]
CaseStrategy = st.SearchStrategy[Case]


def ulps(count: float) -> Bound:
    """`count` units in the last place of the expected value, in its own type."""
    return lambda expected: count * np.spacing(np.abs(expected)).astype(np.float64)


def approximately(relative: float) -> Bound:
    """For MindSpore's polynomial kernels, which also flush denormal results to zero."""

    def bound(expected: Array) -> Any:
        room = np.spacing(np.abs(expected)).astype(np.float64) * 4 + float(np.finfo(np.float32).tiny)
        if expected.dtype == np.float16:
            room = room + 2e-5
        return np.maximum(relative * np.abs(expected.astype(np.float64)), room)

    return bound


def subnormal(expected: Array) -> Any:
    """Exact, but for results that MindSpore's vector loops flush to zero."""
    return np.finfo(expected.dtype).tiny if expected.dtype.kind == "f" else 0


# ---- drawing inputs ----

seeds = st.integers(0, 2**32 - 1)


def shapes(min_rank: int = 1, max_rank: int = 4) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes with few elements; the last axis is sometimes long enough for vector loops and their tails."""
    last = st.sampled_from([1, 2, 3, 4, 7, 8, 16, 17, 33, 67])
    outer = st.lists(st.integers(1, 4), min_size=max(min_rank - 1, 0), max_size=max_rank - 1)
    full = st.tuples(outer, last).map(lambda parts: (*parts[0], parts[1]))
    return st.one_of(st.just(()), full) if min_rank == 0 else full


def values(shape: Sequence[int], dtype: str, seed: int, scale: float = 3.0, special: bool = True) -> Array:
    """Random numbers; where `special`, some floats are zeros of both signs, infinities, NaN and extremes."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if not dtype.startswith("float"):
        info = np.iinfo(dtype)
        if special and seed % 4 == 0:
            return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        return rng.integers(max(info.min, -20), 20, shape).astype(dtype)
    x = np.asarray(rng.standard_normal(shape) * scale).astype(dtype)
    if special and seed % 2 == 0:
        limits = np.finfo(dtype)
        odd = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, limits.max, limits.min, limits.tiny], dtype)
        x = np.where(rng.random(shape) < 0.3, rng.choice(odd, shape), x)
    return np.asarray(x, dtype)


@st.composite
def broadcastable(draw: Draw, count: int) -> list[tuple[int, ...]]:
    """Shapes that broadcast to one another's."""
    full = draw(shapes(0, 4))
    result = []
    for _ in range(count):
        ones = draw(st.lists(st.booleans(), min_size=len(full), max_size=len(full)))
        shape = tuple(1 if one else size for one, size in zip(ones, full, strict=True))
        leading = draw(st.integers(0, len(shape)))
        result.append(shape[leading:] if all(size == 1 for size in shape[:leading]) else shape)
    result[draw(st.integers(0, count - 1))] = full
    return result


# ---- element by element ----


def binary(
    operator: Callable[..., Any], dtypes: Sequence[str], bound: Bound = None, special: bool = True
) -> CaseStrategy:
    """Two tensors, or a tensor and a Python number on either side."""

    @st.composite
    def case(draw: Draw) -> Case:
        dtype = draw(st.sampled_from(dtypes))
        name = type(operator).__name__
        if dtype != "bool" and draw(st.integers(0, 3)) == 0:
            number = draw(st.sampled_from([1e-5, 0.125, -3.0] if dtype.startswith("float") else [2, -3 % 7]))
            x = values(draw(shapes(1, 3)), dtype, draw(seeds), special=special)
            return Case(f"{name} number {number}", lambda: cells.Call(operator, number), (x,), bound)
        a, b = (values(shape, dtype, draw(seeds), special=special) for shape in draw(broadcastable(2)))
        if name in ("FloorDiv", "FloorMod"):  # division of integers by zero is not defined
            b = np.where(b == 0, np.array(3, dtype), b)
        return Case(name, lambda: cells.Call(operator), (a, b), bound)

    return case()


def unary(
    operator: Callable[..., Any],
    dtypes: Sequence[str],
    bound: Bound = None,
    *,
    special: bool = True,
    scale: float = 3.0,
    positive: bool = False,
    truth: Callable[..., Array] | None = None,
) -> CaseStrategy:
    @st.composite
    def case(draw: Draw) -> Case:
        dtype = draw(st.sampled_from(dtypes))
        x = values(draw(shapes(0, 4)), dtype, draw(seeds), scale, special)
        if positive:
            x = np.abs(x)
        return Case(type(operator).__name__, lambda: cells.Call(operator), (x,), bound, truth)

    return case()


def with_number(
    operator: Callable[..., Any], dtypes: Sequence[str], numbers: Sequence[Any], bound: Bound = None
) -> CaseStrategy:
    """operator(tensor, number), for primitives whose second operand is always a Python number."""

    @st.composite
    def case(draw: Draw) -> Case:
        dtype = draw(st.sampled_from(dtypes))
        number = draw(
            st.sampled_from([n for n in numbers if dtype.startswith("float") or isinstance(n, int)])
        )
        x = values(draw(shapes(1, 3)), dtype, draw(seeds), special=False)
        return Case(f"{type(operator).__name__} {number}", lambda: cells.Call(operator, number), (x,), bound)

    return case()


@st.composite
def clamp_scalar(draw: Draw) -> Case:
    dtype = draw(st.sampled_from(["float32", "int32"]))
    low, high = draw(st.sampled_from([(-1, 2), (None, 1), (0, None), (3, -3)]))
    if dtype == "float32":
        low, high = (None if end is None else end + 0.25 for end in (low, high))
    x = values(draw(shapes(1, 3)), dtype, draw(seeds), special=False)
    return Case(f"ClampScalar {low} {high}", lambda: cells.Call(gen.ClampScalar(), low, high), (x,))


@st.composite
def full_reduction(draw: Draw, operator: Callable[..., Any]) -> Case:
    x = values(draw(shapes(1, 4)), draw(st.sampled_from(["float32", "int32"])), draw(seeds), special=False)
    return Case(type(operator).__name__, lambda: cells.Call(operator), (x,))


@st.composite
def product_ext(draw: Draw) -> Case:
    x = values(draw(shapes(1, 4)), "float32", draw(seeds), special=False)
    axis, keep = draw(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1))), draw(st.booleans())
    keep = keep and axis is not None
    cell = lambda: cells.Call(gen.ProdExt(), axis, keep, None)  # noqa: E731
    return Case(f"ProdExt {axis} {keep}", cell, (x,), ulps(x.size))


@st.composite
def dense(draw: Draw) -> Case:
    k, n = (draw(st.sampled_from([1, 2, 5, 17, 33])) for _ in range(2))
    x = values((*draw(shapes(1, 2)), k), "float32", draw(seeds), 1.0, False)
    w, b = (
        values((n, k), "float32", draw(seeds), 1.0, False),
        values((n,), "float32", draw(seeds), 1.0, False),
    )
    size = np.abs(x.astype(np.float64)) @ np.abs(w.astype(np.float64)).T + np.abs(b)
    bound = _at_least((k + 2) * np.finfo("float32").eps * size)
    if draw(st.booleans()):
        return Case("Dense", lambda: cells.Call(gen.Dense()), (x, w, b), bound)
    return Case("Dense without bias", lambda: cells.Call(gen.Dense(), None), (x, w), bound)


@st.composite
def select(draw: Draw) -> Case:
    condition, a, b = draw(broadcastable(3))
    dtype = draw(st.sampled_from(["float16", "float32", "int32", "int64", "bool"]))
    inputs = (
        values(condition, "bool", draw(seeds)),
        values(a, dtype, draw(seeds)),
        values(b, dtype, draw(seeds)),
    )
    return Case("Select", lambda: cells.Call(ops.Select()), inputs)


@st.composite
def masked_fill(draw: Draw) -> Case:
    shape = draw(shapes(1, 4))
    mask = shape[draw(st.integers(0, len(shape) - 1)) :]
    dtype = draw(st.sampled_from(["float16", "float32", "int32"]))
    inputs = [values(shape, dtype, draw(seeds)), values(mask, "bool", draw(seeds))]
    if draw(st.booleans()):
        return Case("MaskedFill tensor", lambda: cells.Call(ops.MaskedFill()), (*inputs, np.array(-7, dtype)))
    # MindSpore takes a number of the tensor's kind only.
    number = -7 if dtype == "int32" else -7.0
    return Case("MaskedFill number", lambda: cells.Call(ops.MaskedFill(), number), tuple(inputs))


@st.composite
def cast(draw: Draw) -> Case:
    source, target = draw(st.sampled_from(list(MSTYPES))), draw(st.sampled_from(list(MSTYPES)))
    # Out of range, float to integer depends on the machine's conversion instruction.
    floats_in_range = target.startswith("float") or target == "bool"
    x = values(
        draw(shapes(0, 3)),
        source,
        draw(seeds),
        20.0,
        special=floats_in_range or not source.startswith("float"),
    )
    if source.startswith("float") and target.startswith("uint"):
        x = np.abs(x)
    return Case(f"Cast {source} to {target}", lambda: cells.Call(ops.Cast(), MSTYPES[target]), (x,))


# ---- moving data ----

MOVED = ("float16", "float32", "int8", "int32", "int64", "bool")


@st.composite
def some_tensor(draw: Draw, min_rank: int = 1, max_rank: int = 4) -> Array:
    return values(draw(shapes(min_rank, max_rank)), draw(st.sampled_from(MOVED)), draw(seeds))


@st.composite
def reshape(draw: Draw) -> Case:
    x = draw(some_tensor())
    count, target = x.size, []
    for _ in range(draw(st.integers(0, 3))):
        divisor = draw(st.sampled_from([d for d in range(1, count + 1) if count % d == 0]))
        target.append(divisor)
        count //= divisor
    target.append(count)
    if draw(st.booleans()):
        target[draw(st.integers(0, len(target) - 1))] = -1
    return Case(f"Reshape to {target}", lambda: cells.Call(ops.Reshape(), tuple(target)), (x,))


@st.composite
def transpose(draw: Draw) -> Case:
    x = draw(some_tensor(2, 5))
    order = tuple(draw(st.permutations(range(x.ndim))))
    return Case(f"Transpose {order}", lambda: cells.Call(ops.Transpose(), order), (x,))


@st.composite
def broadcast_to(draw: Draw) -> Case:
    source, target = draw(broadcastable(2).filter(lambda pair: len(pair[0]) > 0))
    target = np.broadcast_shapes(source, target)
    wanted = list(target)
    for axis in range(1, len(source) + 1):
        if draw(st.booleans()):
            wanted[-axis] = -1 if source[-axis] == target[-axis] else target[-axis]
    x = values(source, draw(st.sampled_from(["float16", "float32", "int32", "bool"])), draw(seeds))
    return Case(f"BroadcastTo {wanted}", lambda: cells.Call(ops.BroadcastTo(tuple(wanted))), (x,))


@st.composite
def concat(draw: Draw) -> Case:
    shape = draw(shapes(1, 4))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    dtype = draw(st.sampled_from(MOVED))
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        part = list(shape)
        part[axis] = draw(st.integers(1, 5))
        parts.append(values(part, dtype, draw(seeds)))
    return Case(f"Concat axis {axis}", lambda: cells.CallWithTuple(ops.Concat(axis)), tuple(parts))


@st.composite
def stack(draw: Draw) -> Case:
    shape = draw(shapes(1, 3))
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    dtype = draw(st.sampled_from(["float16", "float32", "int32", "bool"]))
    parts = tuple(values(shape, dtype, draw(seeds)) for _ in range(draw(st.integers(1, 4))))
    return Case(f"Stack axis {axis}", lambda: cells.CallWithTuple(ops.Stack(axis)), parts)


@st.composite
def split(draw: Draw) -> Case:
    shape = list(draw(shapes(1, 3)))
    axis, count = draw(st.integers(-len(shape), len(shape) - 1)), draw(st.integers(1, 3))
    shape[axis] = count * draw(st.integers(1, 4))
    x = values(shape, draw(st.sampled_from(["float16", "float32", "int32"])), draw(seeds))
    return Case(f"Split axis {axis} into {count}", lambda: cells.Call(ops.Split(axis, count)), (x,))


@st.composite
def strided_slice(draw: Draw) -> Case:
    x = draw(some_tensor(1, 4))
    rank = draw(st.integers(1, x.ndim))
    begin, end, strides = [], [], []
    begin_mask = end_mask = shrink_mask = 0
    for axis in range(rank):
        size = x.shape[axis]
        if draw(st.integers(0, 4)) == 0:  # x[:, i]
            shrink_mask |= 1 << axis
            at = draw(st.integers(-size, size - 1))
            begin.append(at)
            end.append(at + 1 if at != -1 else size)
            strides.append(1)
            continue
        stride = draw(st.sampled_from([1, 1, 2, 3, -1, -2]))
        low, high = sorted((draw(st.integers(0, size - 1)), draw(st.integers(0, size - 1))))
        if stride > 0:
            start, stop = low, high + 1
        else:
            start, stop = high, low - 1
            if stop < 0:
                stop = -size - 1
        if draw(st.booleans()) and start >= 0:
            start -= size
        begin.append(start)
        end.append(stop)
        strides.append(stride)
        begin_mask |= (1 << axis) * draw(st.integers(0, 1))
        end_mask |= (1 << axis) * draw(st.integers(0, 1))
    operator = ops.StridedSlice(begin_mask, end_mask, 0, 0, shrink_mask)
    label = f"StridedSlice {begin}:{end}:{strides} masks {begin_mask},{end_mask},{shrink_mask}"
    return Case(label, lambda: cells.Call(operator, tuple(begin), tuple(end), tuple(strides)), (x,))


@st.composite
def expand_dims(draw: Draw) -> Case:
    x = draw(some_tensor(1, 4))
    axis = draw(st.integers(-x.ndim - 1, x.ndim))
    return Case(f"ExpandDims {axis}", lambda: cells.Call(ops.ExpandDims(), axis), (x,))


@st.composite
def squeeze(draw: Draw) -> Case:
    x = draw(some_tensor(2, 4))
    axis = draw(st.integers(0, x.ndim - 1))
    shape = list(x.shape)
    shape[axis] = 1
    x = values(shape, str(x.dtype), draw(seeds))
    axes: Any = (axis - draw(st.sampled_from([0, x.ndim])),) if draw(st.booleans()) else ()
    return Case(f"Squeeze {axes}", lambda: cells.Call(ops.Squeeze(axes)), (x,))


@st.composite
def tile(draw: Draw) -> Case:
    x = values(draw(shapes(1, 3)), draw(st.sampled_from(["float16", "float32", "int32"])), draw(seeds))
    multiples = tuple(draw(st.lists(st.integers(1, 3), min_size=x.ndim, max_size=4)))
    return Case(f"Tile {multiples}", lambda: cells.Call(ops.Tile(), multiples), (x,))


@st.composite
def same_tensor(draw: Draw, operator: Callable[..., Any], dtypes: Sequence[str] = MOVED) -> Case:
    x = values(draw(shapes(1, 4)), draw(st.sampled_from(dtypes)), draw(seeds))
    return Case(type(operator).__name__, lambda: cells.Call(operator), (x,))


@st.composite
def tensor_copy_slices(draw: Draw) -> Case:
    x = values(draw(shapes(1, 3)), draw(st.sampled_from(["float16", "float32", "int32"])), draw(seeds))
    begin = draw(st.integers(0, len(x) - 1))
    end = draw(st.integers(begin + 1, len(x)))
    part = values((end - begin, *x.shape[1:]), str(x.dtype), draw(seeds))
    label = f"TensorCopySlices {begin}:{end}"
    return Case(label, lambda: cells.Call(gen.TensorCopySlices(), (begin,), (end,), (1,)), (x, part))


# ---- by index ----


def indices(shape: Sequence[int], limit: int, dtype: str, seed: int, negative: bool = False) -> Array:
    return np.asarray(
        np.random.default_rng(seed).integers(-limit if negative else 0, limit, shape).astype(dtype)
    )


@st.composite
def gather(draw: Draw) -> Case:
    table = values(
        draw(shapes(1, 4)),
        draw(st.sampled_from(["float16", "float32", "int32", "int64", "int8"])),
        draw(seeds),
    )
    batch_dims = draw(st.integers(0, table.ndim - 1))
    axis = draw(st.integers(batch_dims, table.ndim - 1))
    shape = (*table.shape[:batch_dims], *draw(shapes(1, 2)))
    index = indices(shape, table.shape[axis], draw(st.sampled_from(["int32", "int64"])), draw(seeds))
    written = axis - draw(st.sampled_from([0, table.ndim]))
    label = f"Gather axis {written} batch_dims {batch_dims}"
    return Case(label, lambda: cells.Call(ops.Gather(batch_dims), written), (table, index))


@st.composite
def gather_d(draw: Draw) -> Case:
    x = values(draw(shapes(1, 3)), draw(st.sampled_from(["float16", "float32", "int32"])), draw(seeds))
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    shape = list(x.shape)
    shape[axis] = draw(st.integers(1, 5))
    index = indices(
        shape, x.shape[axis], draw(st.sampled_from(["int32", "int64"])), draw(seeds), negative=True
    )
    return Case(f"GatherD {axis}", lambda: cells.CallBetween(ops.GatherD(), axis), (x, index))


@st.composite
def embedding(draw: Draw) -> Case:
    rows, width = draw(st.integers(1, 9)), draw(st.sampled_from([1, 3, 16, 33]))
    table = values((rows, width), draw(st.sampled_from(["float16", "float32"])), draw(seeds))
    index = indices(draw(shapes(1, 3)), rows, draw(st.sampled_from(["int32", "int64"])), draw(seeds))
    return Case("Embedding", lambda: cells.Call(gen.Embedding()), (index, table))


@st.composite
def tensor_scatter_elements(draw: Draw) -> Case:
    data = values(draw(shapes(1, 3)), draw(st.sampled_from(["float16", "float32", "int32"])), draw(seeds))
    axis = draw(st.integers(-data.ndim, data.ndim - 1))
    shape = tuple(draw(st.integers(1, size)) for size in data.shape)
    index = indices(
        shape, data.shape[axis], draw(st.sampled_from(["int32", "int64"])), draw(seeds), negative=True
    )
    reduction = draw(st.sampled_from(["none", "none", "add"]))
    if reduction == "add":  # repeated indices add in an order that is not specified
        data = values(data.shape, "int32", draw(seeds), special=False)
    update = values(shape, str(data.dtype), draw(seeds), special=reduction == "none")
    operator = ops.TensorScatterElements(axis=axis, reduction=reduction)
    return Case(
        f"TensorScatterElements {axis} {reduction}", lambda: cells.Call(operator), (data, index, update)
    )


@st.composite
def tensor_scatter_update(draw: Draw) -> Case:
    data = values(draw(shapes(1, 3)), draw(st.sampled_from(["float16", "float32", "int32"])), draw(seeds))
    depth = draw(st.integers(1, data.ndim))
    total = int(np.prod(data.shape[:depth]))
    # Distinct rows: which of two writes to one place wins is not specified.
    flat = np.random.default_rng(draw(seeds)).permutation(total)[: draw(st.integers(1, min(total, 6)))]
    index = np.stack(np.unravel_index(flat, data.shape[:depth]), -1)
    update = values((len(flat), *data.shape[depth:]), str(data.dtype), draw(seeds))
    index = index.astype(draw(st.sampled_from(["int32", "int64"])))
    return Case("TensorScatterUpdate", lambda: cells.Call(ops.TensorScatterUpdate()), (data, index, update))


@st.composite
def scatter_parts(draw: Draw) -> tuple[Array, Array, Array]:
    """A tensor, distinct row numbers, and as many rows."""
    state = values(draw(shapes(1, 3)), draw(st.sampled_from(["float16", "float32", "int32"])), draw(seeds))
    rows = np.random.default_rng(draw(seeds)).permutation(len(state))[: draw(st.integers(1, 4))]
    update = values((len(rows), *state.shape[1:]), str(state.dtype), draw(seeds))
    index = rows.astype(draw(st.sampled_from(["int32", "int64"])))
    return state, index, update


@st.composite
def scatter_update(draw: Draw) -> Case:
    state, *inputs = draw(scatter_parts())
    return Case("ScatterUpdate", lambda: cells.Update(ops.ScatterUpdate(), state), tuple(inputs))


@st.composite
def scatter_nd_update(draw: Draw) -> Case:
    case = draw(tensor_scatter_update())
    state, index, update = case.inputs
    return Case("ScatterNdUpdate", lambda: cells.Update(ops.ScatterNdUpdate(), state), (index, update))


# ---- reductions, products ----


def reduction(operator: Callable[[bool], Any], dtypes: Sequence[str], exact: bool) -> CaseStrategy:
    """operator(keep_dims)(x, axes). Sums add in any order: n additions cost at most n half-ulps of Σ|x|."""

    @st.composite
    def case(draw: Draw) -> Case:
        dtype = draw(st.sampled_from(dtypes))
        x = values(draw(shapes(1, 4)), dtype, draw(seeds), special=exact)
        if exact and dtype.startswith(
            "float"
        ):  # MindSpore's maximum drops NaN or not, depending on its place
            x = np.nan_to_num(x, nan=1.5, posinf=np.inf, neginf=-np.inf)
        axes: Any = draw(st.lists(st.integers(0, x.ndim - 1), min_size=0, max_size=x.ndim, unique=True))
        axes = tuple(axis - draw(st.sampled_from([0, x.ndim])) for axis in axes)
        if len(axes) == 1 and draw(st.booleans()):
            axes = axes[0]
        keep = draw(st.booleans())
        made = operator(keep)
        over = tuple(range(x.ndim)) if axes == () else axes
        bound = None
        if not exact and dtype.startswith("float"):
            size = np.abs(x.astype(np.float64)).sum(axis=over, keepdims=keep)
            room = x.size * np.finfo(dtype).eps * size
            # Each factor of a product brings one rounding.
            bound = ulps(x.size) if type(made).__name__ == "ReduceProd" else _at_least(room)
        return Case(f"{type(made).__name__} {axes} keep {keep}", lambda: cells.Call(made, axes), (x,), bound)

    return case()


def reduction_ext(operator: Callable[..., Any], dtypes: Sequence[str]) -> CaseStrategy:
    """operator(x, axes or None, keep_dims, dtype or None)."""

    @st.composite
    def case(draw: Draw) -> Case:
        dtype = draw(st.sampled_from(dtypes))
        x = values(draw(shapes(1, 4)), dtype, draw(seeds), special=False)
        axes = draw(
            st.one_of(st.none(), st.lists(st.integers(0, x.ndim - 1), min_size=1, unique=True).map(tuple))
        )
        keep = draw(st.booleans())
        size = np.abs(x.astype(np.float64)).sum(axis=axes, keepdims=keep)
        bound = _at_least(x.size * np.finfo(dtype).eps * size) if dtype.startswith("float") else None
        label = f"{type(operator).__name__} {axes} keep {keep}"
        return Case(label, lambda: cells.Call(operator, axes, keep, None), (x,), bound)

    return case()


def _at_least(room: Any) -> Bound:
    """An absolute bound plus one rounding of the result."""
    return lambda expected: room + np.spacing(np.abs(expected)).astype(np.float64)


def softmax(operator: Callable[[Any], Any], dtypes: Sequence[str]) -> CaseStrategy:
    @st.composite
    def case(draw: Draw) -> Case:
        dtype = draw(st.sampled_from(dtypes))
        x = values(draw(shapes(1, 4)), dtype, draw(seeds), special=False)
        axis = draw(st.integers(-x.ndim, x.ndim - 1))
        if draw(st.booleans()):  # masked scores
            x = np.where(np.random.default_rng(draw(seeds)).random(x.shape) < 0.3, -1e9, x).astype(dtype)
        made = operator(axis)
        # MindSpore's exponential is a polynomial good to a few units; the sum adds at most n more.
        room = (x.shape[axis] + 64) * np.finfo("float32").eps
        bound = (lambda e: room * np.maximum(np.abs(e), 1)) if dtype == "float32" else approximately(1e-2)
        return Case(f"{type(made).__name__} axis {axis}", lambda: cells.Call(made), (x,), bound)

    return case()


def product(
    operator: Callable[[bool, bool], Any], batch_rank: int, dtypes: Sequence[str], broadcast: bool = False
) -> CaseStrategy:
    """a [..., m, k] times b [..., k, n], each transposed or not; k additions in any order, in float32."""

    @st.composite
    def case(draw: Draw) -> Case:
        m, k, n = (draw(st.sampled_from([1, 2, 3, 5, 8, 17, 32, 65])) for _ in range(3))
        dtype = draw(st.sampled_from(dtypes))
        left, right = draw(st.booleans()), draw(st.booleans())
        batch = tuple(
            draw(st.integers(1, 3)) for _ in range(draw(st.integers(1, batch_rank)) if batch_rank else 0)
        )
        batches = [batch, batch]
        if broadcast and draw(st.booleans()):
            batches[draw(st.integers(0, 1))] = tuple(1 for _ in batch)
        a = values((*batches[0], *((k, m) if left else (m, k))), dtype, draw(seeds), 1.0, special=False)
        b = values((*batches[1], *((n, k) if right else (k, n))), dtype, draw(seeds), 1.0, special=False)
        made = operator(left, right)
        x, y = (np.abs(t.astype(np.float64)) for t in (a, b))
        size = (np.swapaxes(x, -1, -2) if left else x) @ (np.swapaxes(y, -1, -2) if right else y)
        bound = _at_least((k + 1) * np.finfo("float32").eps * size)
        return Case(f"{type(made).__name__} {left} {right}", lambda: cells.Call(made), (a, b), bound)

    return case()


@st.composite
def matmul_ext(draw: Draw) -> Case:
    m, k, n = (draw(st.sampled_from([1, 2, 5, 17, 33])) for _ in range(3))
    dtype = draw(st.sampled_from(["float16", "float32"]))
    batch_a, batch_b = draw(broadcastable(2).filter(lambda pair: max(map(len, pair)) <= 2))
    a = values((*batch_a, m, k), dtype, draw(seeds), 1.0, False)
    b = values((*batch_b, k, n), dtype, draw(seeds), 1.0, False)
    size = np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64))
    bound = _at_least((k + 1) * np.finfo("float32").eps * size)
    return Case("MatMulExt", lambda: cells.Call(gen.MatMulExt()), (a, b), bound)


@st.composite
def batch_matmul_ext(draw: Draw) -> Case:
    batch, m, k, n = (draw(st.sampled_from([1, 2, 5, 17, 33])) for _ in range(4))
    dtype = draw(st.sampled_from(["float16", "float32"]))
    a = values((batch, m, k), dtype, draw(seeds), 1.0, False)
    b = values((batch, k, n), dtype, draw(seeds), 1.0, False)
    bound = _at_least(
        (k + 1) * np.finfo("float32").eps * (np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64)))
    )
    return Case("BatchMatMulExt", lambda: cells.Call(gen.BatchMatMulExt()), (a, b), bound)


# ---- order ----


@st.composite
def top_k(draw: Draw) -> Case:
    # Distinct numbers: which index MindSpore gives first among equals depends on its partial sort.
    shape, dtype = draw(shapes(1, 3)), draw(st.sampled_from(["float16", "float32", "int32"]))
    count = int(np.prod(shape))
    x = (np.random.default_rng(draw(seeds)).permutation(count) - count // 2).reshape(shape).astype(dtype)
    k = draw(st.integers(1, x.shape[-1]))
    return Case(f"TopK {k}", lambda: cells.Call(ops.TopK(sorted=True), k), (x,))


@st.composite
def arg_max(draw: Draw) -> Case:
    x = values(draw(shapes(1, 3)), draw(st.sampled_from(["float16", "float32"])), draw(seeds), special=False)
    if draw(st.booleans()):
        x = (x // 2).astype(x.dtype)
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    output = draw(st.sampled_from([mstype.int32, mstype.int64]))
    return Case(f"Argmax {axis}", lambda: cells.Call(ops.Argmax(axis, output)), (x,))


@st.composite
def cum_sum(draw: Draw) -> Case:
    dtype = draw(st.sampled_from(["float32", "int32"]))
    x = values(draw(shapes(1, 3)), dtype, draw(seeds), special=False)
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    room = x.size * np.finfo("float32").eps * float(np.abs(x.astype(np.float64)).sum())
    bound = _at_least(room) if dtype == "float32" else None
    label = f"CumSum {axis}"
    return Case(label, lambda: cells.Call(ops.CumSum(), axis), (x,), bound)


UNARY_FLOATS = ("float16", "float32")

# Primitive -> what to draw for it.
STRATEGIES: dict[str, CaseStrategy] = {
    "Add": binary(ops.Add(), ("float16", "float32", "float64", "int32", "int64", "int8", "uint8")),
    "Sub": binary(ops.Sub(), ("float16", "float32", "float64", "int32", "int64", "int8", "uint8")),
    "Mul": binary(ops.Mul(), ("float16", "float32", "float64", "int32", "int64", "int8", "uint8"), subnormal),
    "Div": binary(ops.Div(), ("float16", "float32", "float64"), special=False),
    "RealDiv": binary(ops.RealDiv(), ("float16", "float32", "float64"), special=False),
    "FloorDiv": binary(ops.FloorDiv(), ("float32", "int32", "int64"), special=False),
    "FloorMod": binary(ops.FloorMod(), ("float32", "int32", "int64"), special=False),
    "RemainderTensorScalar": with_number(gen.RemainderTensorScalar(), ("float32", "int32"), (3, -4, 1.5)),
    "Muls": with_number(gen.Muls(), ("float16", "float32", "int32"), (3, -4, 0.3)),
    "Divs": with_number(gen.Divs(), ("float16", "float32"), (3, -4, 0.3)),
    "ClampScalar": clamp_scalar(),
    "Minimum": binary(ops.Minimum(), ("float16", "float32", "int32", "int64")),
    "Maximum": binary(ops.Maximum(), ("float16", "float32", "int32", "int64")),
    "Pow": binary(ops.Pow(), ("float32",), ulps(4), special=False),
    "Equal": binary(ops.Equal(), ("float16", "float32", "int32", "int64", "int8", "bool")),
    "NotEqual": binary(ops.NotEqual(), ("float16", "float32", "int32", "int64", "int8", "bool")),
    "Greater": binary(ops.Greater(), ("float16", "float32", "int32", "int64", "int8")),
    "GreaterEqual": binary(ops.GreaterEqual(), ("float16", "float32", "int32", "int64", "int8")),
    "Less": binary(ops.Less(), ("float16", "float32", "int32", "int64", "int8")),
    "LessEqual": binary(ops.LessEqual(), ("float16", "float32", "int32", "int64", "int8")),
    "LogicalAnd": binary(ops.LogicalAnd(), ("bool",)),
    "LogicalOr": binary(ops.LogicalOr(), ("bool",)),
    "Select": select(),
    "MaskedFill": masked_fill(),
    "Sqrt": unary(ops.Sqrt(), UNARY_FLOATS, ulps(1), truth=np.sqrt),
    "Rsqrt": unary(ops.Rsqrt(), UNARY_FLOATS, ulps(2), truth=lambda x: 1 / np.sqrt(x)),
    "Exp": unary(ops.Exp(), UNARY_FLOATS, approximately(1e-5), truth=np.exp),
    "Log": unary(ops.Log(), UNARY_FLOATS, approximately(1e-4), positive=True, special=False, truth=np.log),
    "Sin": unary(ops.Sin(), UNARY_FLOATS, approximately(1e-5), special=False, truth=np.sin),
    "Cos": unary(ops.Cos(), UNARY_FLOATS, approximately(1e-5), special=False, truth=np.cos),
    "Tanh": unary(ops.Tanh(), UNARY_FLOATS, approximately(2e-4), special=False, truth=np.tanh),
    "Erf": unary(ops.Erf(), UNARY_FLOATS, ulps(4)),
    "Reciprocal": unary(ops.Reciprocal(), UNARY_FLOATS, approximately(1e-7)),
    "Floor": unary(ops.Floor(), UNARY_FLOATS),
    "Ceil": unary(ops.Ceil(), UNARY_FLOATS),
    "Round": unary(ops.Round(), UNARY_FLOATS),
    "Sigmoid": unary(ops.Sigmoid(), UNARY_FLOATS, approximately(1e-5), truth=lambda x: 1 / (1 + np.exp(-x))),
    # mindir_ops: MindSpore's float16 SiLU and GeLU are off by some thousandths.
    "SiLU": unary(
        gen.SiLU(), ("float32",), approximately(1e-5), special=False, truth=lambda x: x / (1 + np.exp(-x))
    ),
    "ReLU": unary(ops.ReLU(), UNARY_FLOATS, special=False),
    "GeLU": unary(ops.GeLU(), ("float32",), approximately(1e-4), special=False),
    "Neg": unary(ops.Neg(), ("float16", "float32", "float64", "int32", "int64", "int8")),
    "Abs": unary(ops.Abs(), ("float16", "float32", "int32", "int64")),
    "Square": unary(ops.Square(), ("float16", "float32", "int32")),
    "LogicalNot": unary(ops.LogicalNot(), ("bool",)),
    "Cast": cast(),
    "Reshape": reshape(),
    "Flatten": same_tensor(ops.Flatten()),
    "Identity": same_tensor(ops.Identity()),
    "TensorCopySlices": tensor_copy_slices(),
    "Transpose": transpose(),
    "BroadcastTo": broadcast_to(),
    "Concat": concat(),
    "Stack": stack(),
    "Split": split(),
    "StridedSlice": strided_slice(),
    "ExpandDims": expand_dims(),
    "Squeeze": squeeze(),
    "Tile": tile(),
    "Gather": gather(),
    "GatherD": gather_d(),
    "Embedding": embedding(),
    "TensorScatterElements": tensor_scatter_elements(),
    "TensorScatterUpdate": tensor_scatter_update(),
    "ScatterUpdate": scatter_update(),
    "ScatterNdUpdate": scatter_nd_update(),
    "ReduceSum": reduction(lambda keep: ops.ReduceSum(keep), ("float16", "float32", "int32"), exact=False),
    "ReduceMean": reduction(lambda keep: ops.ReduceMean(keep), ("float16", "float32"), exact=False),
    "ReduceMax": reduction(lambda keep: ops.ReduceMax(keep), ("float16", "float32", "int32"), exact=True),
    "ReduceMin": reduction(lambda keep: ops.ReduceMin(keep), ("float16", "float32", "int32"), exact=True),
    "ReduceProd": reduction(lambda keep: ops.ReduceProd(keep), ("float32", "int32"), exact=False),
    "Max": full_reduction(gen.Max()),
    "Min": full_reduction(gen.Min()),
    "ProdExt": product_ext(),
    "SumExt": reduction_ext(gen.SumExt(), ("float32",)),
    "MeanExt": reduction_ext(gen.MeanExt(), ("float32",)),
    "Softmax": softmax(lambda axis: ops.Softmax(axis), UNARY_FLOATS),
    "LogSoftmax": softmax(lambda axis: ops.LogSoftmax(axis), UNARY_FLOATS),
    "MatMul": product(lambda a, b: ops.MatMul(a, b), 0, UNARY_FLOATS),
    "BatchMatMulExt": batch_matmul_ext(),
    "BatchMatMul": product(lambda a, b: ops.BatchMatMul(a, b), 2, UNARY_FLOATS),
    "MatMulExt": matmul_ext(),
    "Dense": dense(),
    "TopK": top_k(),
    "Argmax": arg_max(),
    "CumSum": cum_sum(),
}
