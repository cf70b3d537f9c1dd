"""Trace a network without weights and write its MindIR with plain, reproducible names.

MindSpore numbers graphs, variables and memory addresses per process, so two exports of one model never have
equal bytes. Everything of that kind is replaced or dropped here; what stays is the graph.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mindir_llm.export.errors import ExportError
from mindir_llm.models.config import LlamaConfig
from mindir_llm.models.quantization import WeightQuantization

__all__ = ["ExternalData", "GraphSignature", "ParameterSpec", "TracedGraph", "signature_names", "trace_llama"]

# TensorProto.data_type -> numpy dtype name, for the types this exporter writes.
_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 9: "bool", 10: "float16", 18: "qint4x2"}
_ITEM_BYTES = {"float32": 4, "uint8": 1, "int8": 1, "int32": 4, "bool": 1, "float16": 2, "qint4x2": 1}


@dataclass(frozen=True)
class GraphSignature:
    """Plain names of a graph's inputs and outputs in order. An output may share its name with the input it
    updates."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class ParameterSpec:
    """A parameter that a graph reads.

    dtype: 'float32', 'float16', 'int8', 'uint8' or 'qint4x2', which is two 4-bit integers in a byte. shape:
    dimensions as stored; of qint4x2 the last one counts bytes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class ExternalData:
    """Where a parameter's bytes lie: a file relative to the graph's folder, and offset and length in
    bytes."""

    location: str
    offset: int
    length: int


def signature_names(layers: int, kv_granularity: str | None = None) -> GraphSignature:
    """The signature of every language-model graph with this many layers; kv_granularity as in GraphShape."""
    kinds = ["key_cache", "value_cache"]
    if kv_granularity == "per_token":
        kinds += ["key_cache_scale", "value_cache_scale"]
    caches = tuple(f"{kind}.{i}" for i in range(layers) for kind in kinds)
    return GraphSignature(
        ("input_ids", "input_position", "batch_valid_length", *caches),
        ("logits", *caches),
    )


class TracedGraph:
    """A MindIR model with plain names, whose parameters do not have their bytes yet."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.parameters = tuple(
            ParameterSpec(tensor.name, tuple(tensor.dims), _DTYPES[tensor.data_type])
            for tensor in model.graph.parameter
        )

    def serialize(self, places: Mapping[str, ExternalData]) -> bytes:
        """The .mindir file's bytes, with each parameter's place filled in."""
        for tensor in self._model.graph.parameter:
            place = places[tensor.name]
            tensor.external_data.location = place.location
            tensor.external_data.offset = place.offset
            tensor.external_data.length = place.length
        data: bytes = self._model.SerializeToString(deterministic=True)
        return data


def trace_llama(
    config: LlamaConfig,
    *,
    target: str,
    batch: int,
    tokens: int,
    max_seq_len: int,
    rotary_rows: int,
    dtype: str,
    kv_dtype: str,
    quantization: Mapping[str, WeightQuantization],
    graph_name: str,
    kv_granularity: str | None = None,
) -> TracedGraph:
    """Trace one graph of a Llama network for `target`; the arguments are those of models.graph.GraphShape."""
    try:
        import mindspore  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "mindspore":
            raise
        raise ExportError("exporting needs MindSpore: pip install 'mindir-llm[export]'") from None
    from mindspore import Tensor

    from mindir_llm.models.ascend_ops import AscendOperators
    from mindir_llm.models.cpu_ops import CpuOperators
    from mindir_llm.models.graph import GraphShape, OperatorSet
    from mindir_llm.models.llama import LlamaForCausalLM

    shape = GraphShape(batch, tokens, max_seq_len, rotary_rows, dtype, kv_dtype, quantization, kv_granularity)
    build: OperatorSet = CpuOperators(shape) if target == "cpu" else AscendOperators(shape)
    network = LlamaForCausalLM(config, shape, build)
    rows = (batch, config.num_key_value_heads, max_seq_len)
    caches = [Tensor(np.zeros((*rows, config.head_dim), kv_dtype))] * 2
    caches += [Tensor(np.zeros((*rows, 1), np.float32))] * (shape.caches_per_layer - 2)
    arguments = [
        Tensor(np.zeros((batch, tokens), np.int32)),
        Tensor(np.zeros((batch,), np.int32)),
        Tensor(np.ones((batch,), np.int32)),
        *caches * config.num_hidden_layers,
    ]
    model = _compile(network, arguments)
    _rewrite(model, signature_names(config.num_hidden_layers, kv_granularity), graph_name)
    return TracedGraph(model)


def _compile(network: Any, arguments: Sequence[Any]) -> Any:
    """MindSpore's own export path, stopped before weights are copied into the protobuf."""
    import mindspore
    from mindspore.train import mind_ir_pb2

    try:
        from mindspore.graph.api import _cell_graph_executor
    except ImportError:  # before MindSpore 2.9
        from mindspore.common.api import _cell_graph_executor

    mode = mindspore.get_context("mode")
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    try:
        network.set_train(False)
        graph_id, _ = _cell_graph_executor.compile(
            network, *arguments, phase="export.mindir", do_convert=False
        )
        data = _cell_graph_executor._get_func_graph_proto(network, graph_id, "mind_ir")
    finally:
        mindspore.set_context(mode=mode)
    model = mind_ir_pb2.ModelProto()
    model.ParseFromString(data)
    return model


def _rewrite(model: Any, signature: GraphSignature, graph_name: str) -> None:
    """Give the graph plain names and drop what differs from run to run."""
    graph = model.graph
    if len(model.functions):
        raise ExportError(
            f"{graph_name}: the traced graph has {len(model.functions)} sub-graphs; expected none"
        )
    _drop_parameter_loads(graph)
    names = _plain_names(graph, signature, graph_name)
    operators = _plain_operators(model)
    for value in (*graph.input, *graph.output, *graph.parameter):
        value.name = names.get(value.name, value.name)
    for tensor in graph.parameter:
        for field in ("raw_data", "ref_key", "external_data", "doc_string"):
            tensor.ClearField(field)
        tensor.ref_key = tensor.name
    for node in graph.node:
        node.name = names[node.name]
        node.output[0] = node.name
        for index, source in enumerate(node.input):
            node.input[index] = names[source]
        node.op_type = operators.get(node.op_type, node.op_type)
        # Scopes count operators per process; compiler hints and source lines mean nothing outside of it.
        for field in ("domain", "doc_string", "node_attr", "primal_attr"):
            node.ClearField(field)
        for attribute in node.attribute:
            _drop_addresses(attribute)
    for value in (*graph.input, *graph.output):
        value.ClearField("doc_string")
        for tensor in value.tensor:
            tensor.ClearField("ref_key")
            if tensor.name:
                tensor.name = value.name
        if value.HasField("attr_info"):
            _drop_addresses(value.attr_info)
    # Holds the phase: a time and a pointer.
    for field in ("attribute", "doc_string", "bprop_hash", "bprop_filepath"):
        graph.ClearField(field)
    graph.name = graph_name
    model.user_info["output_names"] = ",".join(signature.outputs)


def _plain_names(graph: Any, signature: GraphSignature, graph_name: str) -> dict[str, str]:
    """MindSpore's name of every input, parameter and node -> ours."""
    if len(graph.input) != len(signature.inputs):
        raise ExportError(
            f"{graph_name}: the traced graph has {len(graph.input)} inputs, expected {len(signature.inputs)}"
        )
    names = {value.name: plain for value, plain in zip(graph.input, signature.inputs, strict=True)}
    for tensor in graph.parameter:
        names[tensor.name] = tensor.name.split(":")[-1]
    nodes = {node.name: node for node in graph.node}
    output = nodes[graph.output[0].name]
    if _operator(output) == "Depend":  # orders the cache writes before the end
        output = nodes[output.input[0]]
    if _operator(output) != "MakeTuple" or len(output.input) != len(signature.outputs):
        raise ExportError(
            f"{graph_name}: the traced graph does not return a tuple of {len(signature.outputs)}"
        )
    for source, plain in zip(output.input, signature.outputs, strict=True):
        # A node cannot have the name of the input that it updates.
        names[source] = f"{plain}.updated" if plain in signature.inputs else plain
    counts: Counter[str] = Counter()
    for node in graph.node:
        kind = _operator(node)
        if node.name not in names:
            names[node.name] = f"{kind}.{counts[kind]}"
            counts[kind] += 1
    if len(set(names.values())) != len(names):
        raise ExportError(f"{graph_name}: two values of the traced graph would share a name")
    return names


def _drop_parameter_loads(graph: Any) -> None:
    """Let nodes name parameters directly, and drop the ordering of those reads.

    MindSpore reads each parameter through Load, ordered by UpdateState. No graph of ours writes a parameter,
    so the order says nothing; what remains orders the writes of caches (target ascend), or vanishes
    altogether (target cpu).
    """
    parameters = {tensor.name for tensor in graph.parameter}
    stateless = set(parameters)
    constants = {node.name for node in graph.node if node.op_type == "Constant"}
    same: dict[str, str] = {}
    kept = []
    for node in graph.node:
        inputs = [same.get(name, name) for name in node.input]
        kind = _operator(node)
        if kind == "Load" and inputs[0] in parameters:
            same[node.name] = inputs[0]
            continue
        if kind == "MakeTuple" and stateless.issuperset(inputs):
            stateless.add(node.name)
        if kind == "UpdateState":
            inputs = [name for name in inputs if name not in stateless]
            if len(inputs) == 1:
                same[node.name] = inputs[0]
                continue
        if kind == "Depend" and (inputs[0] in constants or inputs[1] in constants):
            same[node.name] = inputs[0]
            continue
        del node.input[:]
        node.input.extend(inputs)
        kept.append(node)
    for value in graph.output:
        value.name = same.get(value.name, value.name)
    read = {value.name for value in graph.output}
    live = []
    for node in reversed(kept):
        if node.name in read:
            read.update(node.input)
            live.append(node)
    del graph.node[:]
    graph.node.extend(reversed(live))


def _operator(node: Any) -> str:
    """'MatMul' from 'REF::MatMul:6'."""
    match = re.fullmatch(r"REF::(.+):\d+", node.op_type)
    return match[1] if match else str(node.op_type)


def _plain_operators(model: Any) -> dict[str, str]:
    """Rename the operator table in the order of first use; MindSpore's reference -> ours."""
    used = list(dict.fromkeys(node.op_type for node in model.graph.node if node.op_type.startswith("REF::")))
    table = {f"REF::{primitive.name}": primitive for primitive in model.primitives}
    renamed: dict[str, str] = {}
    seen: dict[bytes, str] = {}
    kept: list[tuple[str, bytes]] = []
    for reference in used:
        primitive = table[reference]
        kind = reference.removeprefix("REF::").rsplit(":", 1)[0]
        for attribute in primitive.attribute:
            _drop_addresses(attribute)
        primitive.name = ""
        primitive.ClearField("instance_name")
        content = primitive.SerializeToString(deterministic=True)
        if content not in seen:
            seen[content] = f"{kind}:{len(kept)}"
            kept.append((seen[content], content))
        renamed[reference] = f"REF::{seen[content]}"
    model.ClearField("primitives")
    for name, content in kept:
        primitive = model.primitives.add()
        primitive.ParseFromString(content)
        primitive.name = name
    return renamed


def _drop_addresses(attribute: Any) -> None:
    """`ref_key` in a type holds a memory address."""
    for tensor in attribute.tensors:
        tensor.ClearField("ref_key")
    for value in attribute.values:
        _drop_addresses(value)
