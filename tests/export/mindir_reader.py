"""Look into a .mindir file through MindSpore's own protobuf classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# qint4x2 (18) is read as the bytes that it is.
DTYPES = {1: "<f4", 2: "<u1", 3: "<i1", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 18: "<u1"}
STRUCTURE = {"Constant", "MakeTuple", "TupleGetItem", "Depend"}


def read_model(path: Path) -> Any:
    from mindspore.train import mind_ir_pb2

    model = mind_ir_pb2.ModelProto()
    model.ParseFromString(path.read_bytes())
    return model


def operator(node: Any) -> str:
    """'MatMul' from 'REF::MatMul:6'."""
    kind: str = node.op_type
    return kind.split(":")[2] if kind.startswith("REF::") else kind


def operators(model: Any) -> set[str]:
    """Primitives of a graph, without those that only shape the file."""
    return {operator(node) for node in model.graph.node} - STRUCTURE


def tensors_in(attribute: Any) -> list[Any]:
    """Tensor types inside an attribute, tuples flattened."""
    found = list(attribute.tensors)
    for value in attribute.values:
        found += tensors_in(value)
    return found


def parameter(folder: Path, tensor: Any) -> NDArray[Any]:
    """The value of a parameter, read from the data file it points to."""
    place = tensor.external_data
    with (folder / place.location).open("rb") as file:
        file.seek(place.offset)
        data = file.read(place.length)
    return np.frombuffer(data, DTYPES[tensor.data_type]).reshape(tuple(tensor.dims))


def constant(node: Any) -> Any:
    """Value of a Constant node; None for NONE and for memory states."""
    return _value(node.attribute[0])


def _value(attribute: Any) -> Any:
    kind = attribute.type
    if kind in (7, 9):
        # Elements of a tuple keep their number in the repeated field.
        return attribute.ints[0] if attribute.ints else attribute.i
    if kind == 1:
        return attribute.floats[0] if attribute.floats else attribute.f
    if kind == 19:
        tensor = attribute.tensors[0]
        return np.frombuffer(tensor.raw_data, DTYPES[tensor.data_type]).reshape(tuple(tensor.dims))
    if kind == 20:
        return tuple(_value(item) for item in attribute.values)
    if kind in (23, 25):
        return None
    raise AssertionError(f"constant of type {kind}")
