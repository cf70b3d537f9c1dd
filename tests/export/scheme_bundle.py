"""Bundles whose linear layers are quantized each in its own way, written without the exporter's own weight
streams: traced graphs, values from LinearPacker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from numpy_llama import Array, all_logits

from mindir_llm.export.quantize.activation import static_grid
from mindir_llm.export.quantize.packing import LinearPacker, input_factor
from mindir_llm.export.quantize.scheme import QuantizedWeight, WeightScheme, fit_grid, round_to_grid
from mindir_llm.export.trace import signature_names, trace_llama
from mindir_llm.export.weights import lay_out
from mindir_llm.models.config import LlamaConfig
from mindir_llm.models.quantization import WeightQuantization
from mindir_llm.models.rotary import rotary_tables

MAX_SEQ_LEN, CHUNK = 32, 8


def quantize(values: NDArray[Any], how: WeightQuantization, dtype: str) -> QuantizedWeight:
    scheme = WeightScheme(
        how.bits, how.group_size, how.symmetric, dtype if how.activations == "float" else "float32"
    )
    return round_to_grid(values, scheme, *fit_grid(values, scheme))


class SchemeBundle:
    """One network quantized by a mapping from module names, and what it means in numpy."""

    def __init__(
        self,
        config: dict[str, Any],
        tensors: Mapping[str, NDArray[Any]],
        quantization: Mapping[str, WeightQuantization],
        dtype: str,
        ids: list[int],
        symmetric_inputs: bool = True,
    ) -> None:
        """ids: what the grids of activations per tensor are calibrated on."""
        self.config, self.dtype, self.quantization = config, dtype, dict(quantization)
        self.tensors = {name: np.asarray(values) for name, values in tensors.items()}
        self.weights = {
            name: quantize(self.tensors[f"{name}.weight"], how, dtype) for name, how in quantization.items()
        }
        ranges: dict[str, tuple[float, float]] = {}

        def observe(name: str, values: Array) -> Array:
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = (min(low, values.min()), max(high, values.max()))
            return values

        all_logits(config, self.tensors, ids, inputs=observe)
        # Less than the range, so that something saturates.
        self.grids = {
            name: static_grid(0.8 * ranges[name][0], 0.8 * ranges[name][1], symmetric_inputs)
            for name, how in quantization.items()
            if how.activations == "per_tensor"
        }

    def expected(self, ids: list[int]) -> Array:
        """Logits in float64 over the stored numbers, inputs rounded where the schemes say so."""
        stored = {name: values.astype(self.dtype).astype(np.float64) for name, values in self.tensors.items()}
        for name, weight in self.weights.items():
            stored[f"{name}.weight"] = weight.dequantize(np.float64)
            if name in self.grids and f"{name}.bias" in stored:
                steps = weight.scale[:, 0] / float(input_factor(self.grids[name]))
                stored[f"{name}.bias"] = np.rint(self.tensors[f"{name}.bias"] / steps) * steps

        def round_inputs(name: str, values: Array) -> Array:
            how = self.quantization.get(name)
            if how is None or how.activations == "float":
                return values
            if how.activations == "per_token":
                step = np.abs(values).max(-1, keepdims=True) / 127
                return np.rint(values / step) * step
            grid = self.grids[name]
            factor = float(input_factor(grid))
            return (np.clip(np.rint(values * factor + grid.zero), -128, 127) - grid.zero) / factor

        return all_logits(self.config, stored, ids, inputs=round_inputs)

    def write(self, folder: Path, checkpoint: Path, target: str) -> Path:
        """The bundle for a target. checkpoint: the network, as a folder."""
        config = LlamaConfig.from_file(checkpoint / "config.json")
        rows = MAX_SEQ_LEN + CHUNK
        graphs = {
            name: trace_llama(
                config, target=target, batch=1, tokens=tokens, max_seq_len=MAX_SEQ_LEN, rotary_rows=rows,
                dtype=self.dtype, kv_dtype=self.dtype, quantization=self.quantization, graph_name=name,
            )
            for name, tokens in (("prefill", CHUNK), ("decode", 1))
        }  # fmt: skip
        assert set(graphs["prefill"].parameters) == set(graphs["decode"].parameters)
        values = self._values(target)
        values["rotary.cos"], values["rotary.sin"] = rotary_tables(config, rows)
        places = lay_out(graphs["decode"].parameters)
        data = bytearray(max(place.offset + place.length for place in places.values()))
        data[0] = 1
        for spec in graphs["decode"].parameters:
            array, place = values[spec.name], places[spec.name]
            kind = "uint8" if spec.dtype == "qint4x2" else spec.dtype
            assert (str(array.dtype), array.shape) == (kind, spec.shape), spec.name
            data[place.offset : place.offset + place.length] = np.ascontiguousarray(array).tobytes()
        data.extend(bytes(-len(data) % 64))
        files = {"weights/data_0": bytes(data)}
        files |= {f"{name}.mindir": graph.serialize(places) for name, graph in graphs.items()}
        (folder / "weights").mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        (folder / "manifest.json").write_text(json.dumps(self._manifest(config, target, files)))
        return folder

    def _manifest(self, config: LlamaConfig, target: str, files: Mapping[str, bytes]) -> dict[str, Any]:
        names = signature_names(config.num_hidden_layers)
        return {
            "format": "mindir-llm-bundle",
            "format_version": 1,
            "producer": "test",
            "target": target,
            "dtype": self.dtype,
            "kv_dtype": self.dtype,
            "batch_size": 1,
            "max_seq_len": MAX_SEQ_LEN,
            "prefill_chunk": CHUNK,
            "graphs": {"prefill": "prefill.mindir", "decode": "decode.mindir"},
            "inputs": list(names.inputs),
            "outputs": list(names.outputs),
            "model": config.to_json(),
            "quantization": {"scheme": "none"},
            "tokenizer": None,
            "files": {
                name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in files.items()
            },
        }

    def _values(self, target: str) -> dict[str, NDArray[Any]]:
        values = {name: array.astype(self.dtype) for name, array in self.tensors.items()}
        if not self.config["tie_word_embeddings"] or "lm_head" in self.quantization:
            values.setdefault("lm_head.weight", values["model.embed_tokens.weight"])
        for name, weight in self.weights.items():
            packer = LinearPacker(
                self.quantization[name],
                target,
                weight.integers.shape,
                self.dtype,
                self.tensors.get(f"{name}.bias"),
                self.grids.get(name),
            )
            values[f"{name}.weight"] = np.concatenate(list(packer.weight(blocks_of(weight))))
            values |= {f"{name}.{part}": array for part, array in packer.others().items()}
        return values


def blocks_of(weight: QuantizedWeight, rows: int = 10) -> list[QuantizedWeight]:
    """A weight in blocks of some rows."""
    return [
        QuantizedWeight(
            weight.scheme,
            weight.integers[i : i + rows],
            weight.scale[i : i + rows],
            None if weight.zero is None else weight.zero[i : i + rows],
        )
        for i in range(0, len(weight.integers), rows)
    ]
