"""What is inside the graph and data files of a bundle."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mindir_reader import constant, operator, operators, parameter, read_model, tensors_in
from numpy_mindir import int4_weight
from tiny_checkpoint import kv_scales, random_tensors, tiny_config, write_checkpoint

from mindir_llm.export import ExportOptions, bundle, export_bundle
from mindir_llm.export.trace import ParameterSpec
from mindir_llm.export.weights import lay_out

# What a MindSpore Lite 2.7 converter and CPU runtime were seen to take (design, section 4).
LITE = set(
    """
    Gather Reshape Transpose StridedSlice Concat Mul Add Sub Neg ReduceMean ReduceSum Rsqrt MatMul BatchMatMul
    BroadcastTo Equal Greater Cast Softmax
    """.split()  # noqa: SIM905
)
GRAPHS = ("prefill", "decode")
CASES = {
    "cpu-float32": ExportOptions(dtype="float32", max_seq_len=16, prefill_chunk=4),
    "cpu-float16": ExportOptions(max_seq_len=16, prefill_chunk=4),
    "cpu-a16w8": ExportOptions(quant="a16w8", max_seq_len=16, prefill_chunk=4),
    "cpu-a16w4": ExportOptions(quant="a16w4", max_seq_len=16, prefill_chunk=4),
    "cpu-a16w4-float32": ExportOptions(quant="a16w4", dtype="float32", max_seq_len=16, prefill_chunk=4),
    "cpu-a16w4-channel": ExportOptions(quant="a16w4", group_size=0, max_seq_len=16, prefill_chunk=4),
    "cpu-kv8": ExportOptions(dtype="float32", kv_dtype="int8", max_seq_len=16, prefill_chunk=4),
    "cpu-kv8-channel": ExportOptions(
        kv_dtype="int8", kv_granularity="per_channel", max_seq_len=16, prefill_chunk=4
    ),
    "ascend-kv8": ExportOptions(target="ascend", kv_dtype="int8", max_seq_len=16, prefill_chunk=4),
    "ascend-kv8-channel": ExportOptions(
        target="ascend", kv_dtype="int8", kv_granularity="per_channel", max_seq_len=16, prefill_chunk=4
    ),
    "ascend-float16": ExportOptions(target="ascend", max_seq_len=16, prefill_chunk=4),
    "ascend-a16w8": ExportOptions(target="ascend", quant="a16w8", max_seq_len=16, prefill_chunk=4),
    "ascend-a16w4": ExportOptions(target="ascend", quant="a16w4", max_seq_len=16, prefill_chunk=4),
    "ascend-a16w4-channel": ExportOptions(
        target="ascend", quant="a16w4", group_size=0, max_seq_len=16, prefill_chunk=4
    ),
}


def scheme(name: str) -> str:
    """Of the case of this name."""
    return CASES[name].quant


def linear_inputs(name: str) -> int:
    """Width of what the layer of a parameter reads, in this module's checkpoint."""
    return 44 if "down_proj" in name else 32


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(tie_word_embeddings=True, attention_bias=True)
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), config, random_tensors(config))


@pytest.fixture(scope="module")
def bundles(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    scales = kv_scales(tiny_config())
    return {
        name: export_bundle(
            checkpoint,
            folder / name,
            options,
            kv_scales=scales if options.kv_granularity == "per_channel" else None,
        )
        for name, options in CASES.items()
    }


@pytest.mark.parametrize("name", ["cpu-float32", "cpu-float16"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_float_cpu_graphs_keep_to_what_mindspore_lite_takes(
    bundles: dict[str, Path], name: str, graph: str
) -> None:
    model = read_model(bundles[name] / f"{graph}.mindir")
    assert operators(model) <= LITE
    for node in model.graph.node:
        for attribute in node.attribute:
            assert all(len(tensor.dims) <= 4 for tensor in tensors_in(attribute)), node.name
    assert {tensor.data_type for tensor in model.graph.parameter} <= {1, 10}
    assert len(model.functions) == 0


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("ascend")])
def test_ascend_graphs_name_the_fused_primitives(bundles: dict[str, Path], name: str) -> None:
    common = {"RmsNorm", "ApplyRotaryPosEmb", "KVCacheScatterUpdate", "Swiglu"}
    linear = "MatMul" if scheme(name) == "none" else "WeightQuantBatchMatmul"
    attention = {"prefill": "PromptFlashAttention", "decode": "IncreFlashAttention"}
    for graph in GRAPHS:
        found = operators(read_model(bundles[name] / f"{graph}.mindir"))
        assert common | {linear, attention[graph]} <= found
        assert not found & (set(attention.values()) - {attention[graph]})
        # A copy of a cache, which MindSpore makes where it cannot see that nothing else reads it.
        assert "TensorMove" not in found


@pytest.mark.parametrize("graph", GRAPHS)
def test_ascend_graphs_say_how_int8_caches_are_rounded_and_read(bundles: dict[str, Path], graph: str) -> None:
    models = {name: read_model(bundles[f"ascend-kv8{name}"] / f"{graph}.mindir") for name in ("", "-channel")}
    for name, kind in (("", "DynamicQuantExt"), ("-channel", "QuantV2")):
        counts = Counter(operator(node) for node in models[name].graph.node)
        assert counts[kind] == 2 * 2, "keys and values of two layers"
        assert counts["KVCacheScatterUpdate"] == (8 if name == "" else 4)
        nodes = {node.name: node for node in models[name].graph.node}
        for node in nodes.values():
            if operator(node) == "IncreFlashAttention":
                scale = nodes[node.input[11]]
                assert (operator(scale) == "Cast") == (name == "-channel")
            elif operator(node) == "QuantV2":
                square_root, rounding, dtype = (constant(nodes[one]) for one in node.input[3:])
                assert (square_root, rounding, dtype) == (0, 0, 32)
    stored = {tensor.name: tensor for tensor in models["-channel"].graph.parameter}
    folder = bundles["ascend-kv8-channel"]
    for scale_name, values in kv_scales(tiny_config()).items():
        np.testing.assert_array_equal(parameter(folder, stored[scale_name]), values)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_signature(bundles: dict[str, Path], name: str, graph: str) -> None:
    manifest = json.loads((bundles[name] / "manifest.json").read_text())
    model = read_model(bundles[name] / f"{graph}.mindir")
    tokens = manifest["prefill_chunk"] if graph == "prefill" else 1
    options = CASES[name]
    kv = 3 if options.kv_dtype == "int8" else 1 if options.dtype == "float32" else 10
    kinds = {"key_cache": ((1, 2, 16, 8), kv), "value_cache": ((1, 2, 16, 8), kv)}
    if options.kv_dtype == "int8":
        assert manifest["kv_granularity"] == (options.kv_granularity or "per_token")
    if manifest.get("kv_granularity") == "per_token":
        kinds |= {"key_cache_scale": ((1, 2, 16, 1), 1), "value_cache_scale": ((1, 2, 16, 1), 1)}
    assert manifest["kv_dtype"] == (options.kv_dtype or options.dtype)
    expected: dict[str, Any] = {
        "input_ids": ((1, tokens), 6),
        "input_position": ((1,), 6),
        "batch_valid_length": ((1,), 6),
        **{f"{kind}.{i}": cache for i in range(2) for kind, cache in kinds.items()},
    }
    found = {v.name: (tuple(v.tensor[0].dims), v.tensor[0].data_type) for v in model.graph.input}
    assert list(found) == list(expected) == manifest["inputs"]
    assert found == expected
    assert model.user_info["output_names"].split(",") == manifest["outputs"]
    assert manifest["outputs"] == ["logits", *manifest["inputs"][3:]]
    (output,) = model.graph.output
    types = [(tuple(t.dims), t.data_type) for t in tensors_in(output.attr_info)]
    assert types == [((1, 50), 1), *kinds.values(), *kinds.values()]
    names = {node.name for node in model.graph.node}
    assert {"logits", "key_cache.0.updated", "value_cache.1.updated"} <= names
    assert all(node.name == node.output[0] for node in model.graph.node)


@pytest.mark.parametrize("name", CASES)
def test_graphs_are_well_formed_and_free_of_this_machine(bundles: dict[str, Path], name: str) -> None:
    for graph in GRAPHS:
        path = bundles[name] / f"{graph}.mindir"
        model = read_model(path)
        known = {value.name for value in (*model.graph.input, *model.graph.parameter)}
        table = {primitive.name for primitive in model.primitives}
        for node in model.graph.node:
            assert set(node.input) <= known, "nodes are in topological order"
            assert node.name not in known, "names are unique"
            known.add(node.name)
            assert node.op_type == "Constant" or node.op_type.removeprefix("REF::") in table
        data = path.read_bytes()
        for trace_of_here in (b"0x", b"construct", b".py", str(Path.cwd()).encode()):
            assert trace_of_here not in data


def test_graph_files_do_not_grow_with_the_model(tmp_path: Path) -> None:
    """No broadcast zeros or other large constants are stored in the graph."""
    config = tiny_config(intermediate_size=2048, num_hidden_layers=1, max_position_embeddings=64)
    write_checkpoint(tmp_path / "checkpoint", config, random_tensors(config))
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(prefill_chunk=64))
    for graph in GRAPHS:
        model = read_model(tmp_path / "bundle" / f"{graph}.mindir")
        for node in model.graph.node:
            value = constant(node) if operator(node) == "Constant" else None
            assert not isinstance(value, np.ndarray) or value.nbytes <= 4 * 64, node.name


@pytest.mark.parametrize("name", CASES)
def test_manifest_describes_every_file(bundles: dict[str, Path], name: str) -> None:
    folder = bundles[name]
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    manifest = json.loads(text)
    assert text == json.dumps(manifest, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert present == {*manifest["files"], "manifest.json"}
    for location, record in manifest["files"].items():
        data = (folder / location).read_bytes()
        assert record == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert manifest["model"]["head_dim"] == 8
    expected: dict[str, Any] = {"scheme": scheme(name)}
    if scheme(name) != "none":
        expected |= {"method": "rtn", "weight_bits": 8, "granularity": "per-channel", "symmetric": True}
    if scheme(name) == "a16w4":
        expected |= {"weight_bits": 4, "group_size": 0 if "channel" in name else 32}
        expected |= {"granularity": "per-channel" if "channel" in name else "per-group"}
    assert manifest["quantization"] == expected
    assert manifest["tokenizer"] is None


@pytest.mark.parametrize("name", CASES)
def test_data_file_layout(bundles: dict[str, Path], checkpoint: Path, name: str) -> None:
    folder = bundles[name]
    places: dict[str, tuple[int, int]] = {}
    for graph in GRAPHS:
        model = read_model(folder / f"{graph}.mindir")
        for tensor in model.graph.parameter:
            assert not tensor.raw_data
            place = tensor.external_data
            assert place.location == "weights/data_0"
            assert place.offset % 64 == 0
            item_bytes = {1: 4, 2: 1, 3: 1, 10: 2, 18: 1}[tensor.data_type]
            assert place.length == item_bytes * int(np.prod(tensor.dims))
            known = places.setdefault(tensor.name, (place.offset, place.length))
            assert known == (place.offset, place.length), "both graphs share one copy"
    data = (folder / "weights" / "data_0").read_bytes()
    assert data[:64] == b"\x01" + bytes(63)
    end = 64
    for offset, length in sorted(places.values()):
        assert offset >= end
        assert not any(data[end:offset])
        end = offset + length
    assert len(data) == end + -end % 64
    # A tied lm_head is stored once, except that its quantized form needs a copy.
    assert ("lm_head.weight" in places) == (scheme(name) != "none")
    assert places["model.embed_tokens.weight"][1] == 50 * 32 * np.dtype(CASES[name].dtype).itemsize


def test_weights_keep_their_values(bundles: dict[str, Path]) -> None:
    source = random_tensors(tiny_config(tie_word_embeddings=True, attention_bias=True))
    folder = bundles["cpu-float32"]
    model = read_model(folder / "decode.mindir")
    for tensor in model.graph.parameter:
        if not tensor.name.startswith("rotary."):
            np.testing.assert_array_equal(parameter(folder, tensor), source[tensor.name])


def weight_text(nodes: dict[str, Any], parameters: dict[str, Any], name: str) -> str:
    """What computes a value, written as nested calls; parameters by the last part of their name."""
    if name in parameters:
        return str(name.rsplit(".", 1)[-1])
    node = nodes[name]
    kind = operator(node)
    if kind == "Constant":
        value = constant(node)
        return str(value.item() if isinstance(value, np.ndarray) else value).replace(" ", "")
    return f"{kind}({', '.join(weight_text(nodes, parameters, source) for source in node.input)})"


@pytest.mark.parametrize("name", ["cpu-a16w4", "cpu-a16w4-float32", "cpu-a16w4-channel"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_int4_cpu_graph_unpacks_in_exactly_this_way(bundles: dict[str, Path], name: str, graph: str) -> None:
    """The engine recognizes this sequence of primitives and runs one kernel for it."""
    model = read_model(bundles[name] / f"{graph}.mindir")
    nodes = {node.name: node for node in model.graph.node}
    parameters = {tensor.name: tensor for tensor in model.graph.parameter}
    products = [node for node in model.graph.node if operator(node) == "MatMul"]
    assert len(products) == 2 * 7 + 1, "every linear layer and the lm_head"
    float32 = 43
    for product in products:
        _, weight, transpose_a, transpose_b = product.input
        text = weight_text(nodes, parameters, weight)
        k, n = linear_inputs_of(nodes, parameters, weight)
        both = f"Cast(weight, {float32})"
        high = f"Floor(Mul({both}, 0.0625))"
        low = f"Sub({both}, Mul({high}, 16.0))"
        pair = f"({k},{n // 2},1)"
        pairs = f"Concat(MakeTuple(Reshape({low}, {pair}), Reshape({high}, {pair})), -1)"
        integers = f"Sub(Reshape({pairs}, ({k},{n})), 8.0)"
        scale = "weight_scale" if "float32" in name else f"Cast(weight_scale, {float32})"
        if "channel" not in name:
            groups = -(-k // 32)
            scale = f"BroadcastTo(Reshape({scale}, ({groups},1,{n})), ({groups},32,{n}))"
            scale = f"Reshape({scale}, ({groups * 32},{n}))"
            if k % 32:
                scale = f"StridedSlice({scale}, (0,), ({k},), (1,), 1, 0, 0, 0, 0)"
        assert text == f"Mul({integers}, {scale})"
        assert constant(nodes[transpose_a]) == constant(nodes[transpose_b]) == 0


def linear_inputs_of(nodes: dict[str, Any], parameters: dict[str, Any], weight: str) -> tuple[int, int]:
    """K and N of the layer whose packed weight a value is computed from."""
    while weight not in parameters:
        weight = nodes[weight].input[0]
    tensor = parameters[weight]
    assert tensor.data_type == 2
    k, pairs = tensor.dims
    assert k == linear_inputs(weight)
    return k, 2 * pairs


@pytest.mark.parametrize("kind", ["", "-channel"])
def test_int4_weights_of_both_targets_are_the_same_numbers(
    bundles: dict[str, Path], checkpoint: Path, kind: str
) -> None:
    folders = {target: bundles[f"{target}-a16w4{kind}"] for target in ("cpu", "ascend")}
    models = {target: read_model(folder / "decode.mindir") for target, folder in folders.items()}
    stored = {
        target: {tensor.name: tensor for tensor in model.graph.parameter} for target, model in models.items()
    }
    assert stored["cpu"].keys() == stored["ascend"].keys()
    nodes = {node.name: node for node in models["ascend"].graph.node}
    products = [node for node in nodes.values() if operator(node) == "WeightQuantBatchMatmul"]
    assert len(products) == 2 * 7 + 1
    for product in products:
        weight, scale = product.input[1:3]
        transpose_x, transpose_weight, group = (constant(nodes[name]) for name in product.input[7:])
        k = linear_inputs(weight)
        n = stored["ascend"][scale].dims[-1]
        # One group that holds all inputs is none: the NPU's kernel takes no group as large as the input.
        assert (transpose_x, transpose_weight, group) == (0, 0, 32 if k > 32 and not kind else 0)
        assert stored["ascend"][weight].data_type == 18
        assert stored["ascend"][scale].data_type == 10
        assert list(stored["ascend"][scale].dims) == ([-(-k // 32), n] if group else [n])
        assert list(stored["cpu"][scale].dims) == [-(-k // 32) if not kind else 1, n]
        assert list(stored["ascend"][weight].dims) == list(stored["cpu"][weight].dims) == [k, n // 2]
        packed = {target: parameter(folders[target], stored[target][weight]) for target in folders}
        scales = {target: parameter(folders[target], stored[target][scale]) for target in folders}
        decoded = int4_weight(packed["ascend"], scales["ascend"], group)
        codes = np.stack([packed["cpu"] % 16, packed["cpu"] // 16], axis=-1).reshape(k, n)
        by_input = scales["cpu"].astype(np.float64)[np.arange(k) // (k if kind else 32)]
        np.testing.assert_array_equal((codes - 8.0) * by_input, decoded)
        # And the numbers are the checkpoint's, up to half a step.
        source = random_tensors(tiny_config(tie_word_embeddings=True, attention_bias=True))
        tensor = source["model.embed_tokens.weight" if weight == "lm_head.weight" else weight]
        assert np.all(np.abs(decoded - tensor.T) <= 0.51 * by_input)


def test_next_file_starts_before_the_limit() -> None:
    specs = [ParameterSpec(f"p{i}", (size,), "int8") for i, size in enumerate([100, 100, 500, 10, 10])]
    places = [lay_out(specs, 300)[spec.name] for spec in specs]
    assert [place.location[-1] for place in places] == ["0", "0", "1", "2", "2"]
    assert [place.offset for place in places] == [64, 192, 64, 64, 128]


def test_stock_mindspore_reads_several_data_files(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mindspore as ms

    monkeypatch.setattr(bundle, "lay_out", lambda specs: lay_out(specs, 6000))
    folder = export_bundle(checkpoint, tmp_path / "bundle", CASES["cpu-float32"])
    assert len(list((folder / "weights").iterdir())) > 3
    source = random_tensors(tiny_config(tie_word_embeddings=True, attention_bias=True))
    monkeypatch.chdir(tmp_path)
    for path in ("bundle/prefill.mindir", "./bundle/decode.mindir"):
        loaded = {p.name: p.asnumpy() for p in ms.nn.GraphCell(ms.load(path)).get_parameters()}
        for name, values in source.items():
            np.testing.assert_array_equal(loaded[name], values)
