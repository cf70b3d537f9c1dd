"""MindIR files that no exporter writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mindspore.train import mind_ir_pb2 as pb

FLOAT, INT64, TENSORS, TUPLE = 1, 7, 19, 20
HUGE = (2**31, 2**40, 2**62, 2**63 - 1)


def empty_model() -> Any:
    """One float input x [2, 3]; the graph still lacks nodes and an output."""
    model = pb.ModelProto(ir_version="1.1", producer_name="test", mind_ir_version=3, little_endian=True)
    model.graph.name = "main"
    value = model.graph.input.add(name="x")
    value.tensor.add(dims=[2, 3], data_type=FLOAT)
    return model


def add_node(graph: Any, name: str, operator: str, inputs: list[str]) -> Any:
    node = graph.node.add(name=name, op_type=operator, input=inputs, output=[name])
    shape = node.attribute.add(name="shape", type=TENSORS)
    shape.tensors.add(dims=[2, 3], data_type=FLOAT)
    return node


def add_primitive(model: Any, name: str, legacy: bool = False) -> str:
    """Returns how nodes refer to it."""
    model.primitives.add(name=f"{name}:1", op_type=name, prim_type=1 if legacy else 2)
    return f"REF::{name}:1"


def add_output(graph: Any, name: str) -> None:
    value = graph.output.add(name=name)
    value.tensor.add(dims=[2, 3], data_type=FLOAT)


def add_tuple(graph: Any, name: str, numbers: list[int]) -> None:
    node = graph.node.add(name=name, op_type="Constant", output=[name])
    value = node.attribute.add(name="value", type=TUPLE)
    for number in numbers:
        value.values.add(type=INT64, ints=[number])


def chain(links: list[tuple[str, list[str]]], output: str | None = None) -> Any:
    """Neg nodes with these names and inputs; the last is the output."""
    model = empty_model()
    neg = add_primitive(model, "Neg")
    for name, inputs in links:
        add_node(model.graph, name, neg, inputs)
    add_output(model.graph, output or links[-1][0])
    return model


def functions(calls: dict[str, list[str]]) -> Any:
    """Function graphs that call one another in turn; the first is called by the main graph."""
    model = empty_model()
    neg = add_primitive(model, "Neg")
    for name, callees in calls.items():
        function = model.functions.add(name=name)
        function.input.add(name=f"{name}:p").tensor.add(dims=[2, 3], data_type=FLOAT)
        last = f"{name}:p"
        for number, callee in enumerate(callees):
            add_node(function, f"{name}:c{number}", f"REF::{callee}", [last])
            last = f"{name}:c{number}"
        add_node(function, f"{name}:out", neg, [last])
        add_output(function, f"{name}:out")
    add_node(model.graph, "y", f"REF::{next(iter(calls))}", ["x"])
    add_output(model.graph, "y")
    return model


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def nested_constant(depth: int) -> bytes:
    """A tuple in a tuple in a tuple …, as bytes: protobuf itself refuses to write it."""
    value = b""
    for _ in range(depth):  # AttributeProto: name, type TUPLE, values
        value = field(1, b"value") + varint(16 << 3) + varint(TUPLE) + (field(17, value) if value else b"")
    # NodeProto output, name, op_type, attribute
    node = field(2, b"c") + field(3, b"c") + field(4, b"Constant") + field(5, value)
    graph = field(1, node) + field(2, b"main") + field(6, field(1, b"c"))
    return field(1, b"1.1") + field(7, graph)


def nested_type(depth: int) -> bytes:
    """An input whose type is nested."""
    value = b""
    for _ in range(depth):
        value = varint(16 << 3) + varint(TUPLE) + (field(17, value) if value else b"")
    graph = field(2, b"main") + field(5, field(1, b"x") + field(5, value)) + field(6, field(1, b"x"))
    return field(1, b"1.1") + field(7, graph)


def with_parameter(change: Callable[[Any], None]) -> Any:
    """x + w, with a change to w's TensorProto."""
    model = empty_model()
    add = add_primitive(model, "Add")
    tensor = model.graph.parameter.add(name="w", dims=[2, 3], data_type=FLOAT, raw_data=bytes(24))
    change(tensor)
    add_node(model.graph, "y", add, ["x", "w"])
    add_output(model.graph, "y")
    return model


def external(location: str, offset: int = 0, length: int = 24) -> Callable[[Any], None]:
    def change(tensor: Any) -> None:
        tensor.ClearField("raw_data")
        tensor.external_data.location = location
        tensor.external_data.offset = offset
        tensor.external_data.length = length

    return change


def setting(**fields: Any) -> Callable[[Any], None]:
    def change(tensor: Any) -> None:
        for name, value in fields.items():
            tensor.ClearField(name)
            if isinstance(value, list):
                getattr(tensor, name).extend(value)
            else:
                setattr(tensor, name, value)

    return change


def broadcast(dims: list[int], operator: str = "BroadcastTo") -> Any:
    model = empty_model()
    primitive = add_primitive(model, operator)
    add_tuple(model.graph, "shape", dims)
    add_node(model.graph, "y", primitive, ["x", "shape"])
    add_output(model.graph, "y")
    return model


def doubling(count: int) -> Any:
    """Concat(y, y) again and again: the size doubles with every node."""
    model = empty_model()
    concat = add_primitive(model, "Concat")
    make_tuple = add_primitive(model, "MakeTuple", legacy=True)
    axis = model.graph.node.add(name="axis", op_type="Constant", output=["axis"])
    axis.attribute.add(name="value", type=INT64, i=0)
    last = "x"
    for number in range(count):
        add_node(model.graph, f"t{number}", make_tuple, [last, last])
        add_node(model.graph, f"y{number}", concat, [f"t{number}", "axis"])
        last = f"y{number}"
    add_output(model.graph, last)
    return model


def doubling_tuples(count: int) -> Any:
    """MakeTuple(t, t) again and again: flattened, the output has 2^count elements."""
    model = empty_model()
    make_tuple = add_primitive(model, "MakeTuple", legacy=True)
    last = "x"
    for number in range(count):
        add_node(model.graph, f"t{number}", make_tuple, [last, last])
        last = f"t{number}"
    add_output(model.graph, last)
    return model


def with_input(dims: list[int]) -> Any:
    model = chain([("y", ["x"])])
    del model.graph.input[0].tensor[0].dims[:]
    model.graph.input[0].tensor[0].dims.extend(dims)
    return model


def refused() -> Iterator[tuple[str, bytes]]:
    """Name and bytes of files that must be refused, when opened or when run."""
    models: dict[str, Any] = {
        "no graph": pb.ModelProto(ir_version="1.1"),
        "no output": empty_model(),
        "unknown output": chain([("y", ["x"])], output="z"),
        "unknown input": chain([("y", ["nowhere"])]),
        "node reads itself": chain([("y", ["y"])]),
        "cycle of two": chain([("a", ["b"]), ("b", ["a"])]),
        "node reads a later one": chain([("a", ["b"]), ("b", ["x"])]),
        "two nodes of one name": chain([("a", ["x"]), ("a", ["x"])]),
        "node without inputs": chain([("a", [])]),
        "function calls itself": functions({"f": ["f"]}),
        "functions call one another": functions({"f": ["g"], "g": ["f"]}),
        "function call too deep": functions(
            {f"f{i}": [f"f{i + 1}"] if i < 19999 else [] for i in range(20000)}
        ),
        "functions call in 2^60 ways": functions(
            {f"f{i}": [f"f{i + 1}"] * 2 if i < 60 else [] for i in range(61)}
        ),
        "concatenated to 2^60": doubling(60),
        "tuple of 2^60": doubling_tuples(60),
        "weight: dtype unknown": with_parameter(setting(data_type=15)),
        "weight: too few bytes": with_parameter(setting(raw_data=bytes(23))),
        "weight: no bytes": with_parameter(setting(raw_data=b"")),
        "weight: negative size": with_parameter(setting(dims=[-2, 3])),
        "weight: many axes": with_parameter(setting(dims=[1] * 100000)),
        "weight: file missing": with_parameter(external("absent/data_0")),
        "weight: no file name": with_parameter(external("")),
        "weight: parent folder": with_parameter(external("../secret")),
        "weight: absolute path": with_parameter(external("/etc/passwd")),
        "weight: hidden parent folder": with_parameter(external("a/../../secret")),
        "weight: folder": with_parameter(external(".")),
        "weight: negative offset": with_parameter(external("data", -8)),
        "weight: beyond the end": with_parameter(external("data", 1 << 20)),
        "weight: partly beyond the end": with_parameter(external("data", 1000)),
        "weight: wrong length": with_parameter(external("data", 0, 20)),
        "weight: negative length": with_parameter(external("data", 0, -24)),
        "input of 2^62 bytes": with_input([2**30, 2**30]),
        "input of negative size": with_input([-7, 3]),
    }
    for size in HUGE:
        models[f"weight: dims {size}"] = with_parameter(setting(dims=[size, 3]))
        models[f"weight: dims {size} twice"] = with_parameter(setting(dims=[size, size]))
        models[f"weight: offset {size}"] = with_parameter(external("data", size))
        models[f"weight: length {size}"] = with_parameter(external("data", 0, size))
        models[f"BroadcastTo {size}"] = broadcast([size, 2, 3])
        models[f"BroadcastTo {-size}"] = broadcast([-size, 2, 3])
        models[f"Tile {size}"] = broadcast([size, size], "Tile")
        models[f"Reshape {size}"] = broadcast([size, -1], "Reshape")
        models[f"Reshape overflow {size}"] = broadcast([size, size, 6], "Reshape")
        models[f"Transpose {size}"] = broadcast([size, 0], "Transpose")
    models["Reshape two unknowns"] = broadcast([-1, -1], "Reshape")
    models["Transpose repeats an axis"] = broadcast([0, 0], "Transpose")
    models["Tile by -1"] = broadcast([-1, 1], "Tile")
    unknown = chain([("y", ["x"])])
    unknown.graph.node[0].op_type = "REF::Nothing:9"
    models["unknown primitive"] = unknown
    plain = chain([("y", ["x"])])
    plain.graph.node[0].op_type = ""
    models["no primitive"] = plain
    for name, model in models.items():
        yield name, model.SerializeToString()
    for depth in (200, 20000):
        yield f"constant nested {depth} deep", nested_constant(depth)
        yield f"type nested {depth} deep", nested_type(depth)
    yield "empty file", b""
    yield "zeros", bytes(4096)
    yield "ones", b"\xff" * 4096
    yield "length beyond the end", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"


def accepted() -> Iterator[tuple[str, bytes]]:
    """Unusual, but fine. Model caches keep files as symbolic links to a store elsewhere."""
    yield "weight: symbolic link", with_parameter(external("link")).SerializeToString()
    yield (
        "chain of 20000 nodes",
        chain([(f"n{i}", [f"n{i - 1}" if i else "x"]) for i in range(20000)]).SerializeToString(),
    )
    yield "functions three deep", functions({"f": ["g"], "g": ["h"], "h": []}).SerializeToString()
