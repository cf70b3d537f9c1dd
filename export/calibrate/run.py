"""Take all calibration sequences through the network, one linear input after the other."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mindir_llm.export.calibrate.network import attention, linear, rms_norm, rotate, rotation, swiglu
from mindir_llm.export.calibrate.rows import RowStore
from mindir_llm.export.calibrate.settings import CalibrationSettings
from mindir_llm.export.calibrate.state import SavedState
from mindir_llm.export.calibrate.statistics import Accumulator, InputStatistics
from mindir_llm.export.calibrate.texts import load_sequences
from mindir_llm.export.checkpoint import Checkpoint
from mindir_llm.export.errors import ExportError
from mindir_llm.models.config import ConfigError, LlamaConfig

__all__ = ["Calibration", "Progress", "Site", "VisitedLayers", "Visitor", "calibrate", "calibrate_text"]

Float = NDArray[np.floating[Any]]
Progress = Callable[[int, int, str], None]
"""Called with passes of a sequence through a part of a layer: done, in total, and the part's name."""

_EMBEDDING = "model.embed_tokens"
_HEAD = "lm_head"
_VISITOR = "visitor/"
_MEMORY_LIMIT = 1 << 30
# Passes over all sequences that a layer takes.
_PASSES = 5


@dataclass(frozen=True)
class Site:
    """A place in the network where one matrix goes into one or more linear layers.

    layer: its number; the number of layers for the output layer. linears: module name (such as
    'model.layers.3.mlp.down_proj') -> float weight [out, in]; a visitor must not change them in place.
    statistics: of the matrix [tokens, in]; second moment and drift are the visitor's, to be changed in place.
    """

    layer: int
    linears: Mapping[str, Float]
    statistics: InputStatistics


class Visitor(Protocol):
    """Sees every site once, in the order of the network: of each layer q/k/v, o, gate/up, down; then lm_head.

    key names the visitor and its settings: a calibration is continued only with the same one.
    """

    key: str

    def visit(self, site: Site) -> Mapping[str, Float] | None:
        """Look at a site. Weights that are returned by module name, float [out, in], take the place of those
        in site.linears when the inputs of later sites are computed; None changes nothing."""

    def save(self, layer: int) -> Mapping[str, NDArray[Any]]:
        """What the visitor has to remember of a layer whose sites it has all seen, {} for nothing."""

    def restore(self, layer: int, saved: Mapping[str, NDArray[Any]]) -> None:
        """Take back what save() gave in an earlier run: the sites of this layer are not visited again."""


@dataclass(frozen=True)
class Calibration:
    """What a calibration found.

    inputs: module name of a linear layer -> statistics of its input, without the second moment (and the
    sample, unless it is to be kept), which only a visitor sees; layers with the same input share one object.
    keys, values: per layer, of the rows that the KV caches hold, [tokens, kv_heads*head_dim]; keys after
    rotation. tokens: number of rows. visited: where there is a cache, what the visitor saved, which is there
    as long as the cache is.
    """

    inputs: Mapping[str, InputStatistics]
    keys: tuple[InputStatistics, ...]
    values: tuple[InputStatistics, ...]
    tokens: int
    visited: VisitedLayers | None = None


class VisitedLayers:
    """What a visitor saved of each layer, read from the cache array by array."""

    def __init__(self, state: SavedState) -> None:
        self._state = state

    def names(self, layer: int) -> list[str]:
        """The number of layers stands for the output layer, as in Site."""
        names = self._state.names(layer)
        return [name.removeprefix(_VISITOR) for name in names if name.startswith(_VISITOR)]

    def array(self, layer: int, name: str) -> NDArray[Any]:
        return self._state.array(layer, _VISITOR + name)


def calibrate_text(
    checkpoint: str | Path,
    text: str | Path,
    settings: CalibrationSettings | None = None,
    visitor: Visitor | None = None,
    *,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Calibrate with a text file or JSONL; see load_sequences and calibrate.

    ExportError also: the checkpoint has no tokenizer that can be read, and the file is not of token ids.
    """
    from mindir_llm.tokenizer import TokenizerError, load_tokenizer

    settings = settings or CalibrationSettings()
    tokenizer, problem = None, ""
    try:
        tokenizer = load_tokenizer(checkpoint)
    except TokenizerError as error:
        problem = f" ({error})"
    try:
        sequences = load_sequences(text, tokenizer, settings)
    except ExportError as error:
        raise ExportError(f"{error}{problem}") from None
    return calibrate(checkpoint, sequences, settings, visitor, cache=cache, progress=progress)


def calibrate(
    checkpoint: str | Path,
    sequences: Sequence[NDArray[np.integer]],
    settings: CalibrationSettings | None = None,
    visitor: Visitor | None = None,
    *,
    cache: str | Path | None = None,
    progress: Progress | None = None,
    memory_limit: int = _MEMORY_LIMIT,
    dtype: DTypeLike = np.float32,
) -> Calibration:
    """Run a Hugging Face checkpoint over sequences of token ids, [n] each, and gather statistics.

    settings: what is measured; its samples and length were for reading a text, here all ids are taken.
    cache: folder where finished layers are kept, so that a run that was stopped continues; a damaged or
    foreign state there is left out with a warning. It may be deleted whenever no calibration runs; until
    then an unfinished one occupies as much as the hidden states of all tokens. memory_limit: matrices of
    all tokens that are larger, in bytes, lie in a temporary file (in cache, or where the system keeps
    temporary files). dtype: float32; float64 for comparisons. In memory are those matrices (two at a time;
    four for the drift), the weights of one site, its second moment and drift; of other layers nothing but
    vectors. ExportError: an unsupported or damaged checkpoint, or ids outside of its vocabulary; OSError: the
    disk.
    """
    settings = settings or CalibrationSettings()
    run = _Run(Path(checkpoint), sequences, settings, visitor, progress, memory_limit, np.dtype(dtype))
    run.spill = None if cache is None else Path(cache)
    state = None if cache is None else SavedState(Path(cache), run.key())
    return run.run(state)


class _Run:
    """One calibration. Names of parts are module names; a tensor's name is that and '.weight'."""

    def __init__(
        self,
        folder: Path,
        sequences: Sequence[NDArray[np.integer]],
        settings: CalibrationSettings,
        visitor: Visitor | None,
        progress: Progress | None,
        memory_limit: int,
        dtype: np.dtype[Any],
    ) -> None:
        self._folder = folder
        self._checkpoint = Checkpoint.open(folder)
        try:
            self._config = LlamaConfig.from_file(folder / "config.json")
        except ConfigError as error:
            raise ExportError(str(error)) from None
        self._sequences = [np.asarray(ids) for ids in sequences]
        self._settings = settings
        self._visitor = visitor
        self._progress = progress
        self._memory_limit = memory_limit
        self._dtype = dtype
        self.spill: Path | None = None
        self._check_ids()
        self._lengths = [len(ids) for ids in self._sequences]
        self._tokens = sum(self._lengths)
        self._cos, self._sin = rotation(self._config, max(self._lengths), dtype)
        self._sample: NDArray[np.integer] | None = None
        if settings.sample_rows:
            rng = np.random.default_rng(settings.seed)
            wanted = min(settings.sample_rows, self._tokens)
            self._sample = np.sort(rng.choice(self._tokens, wanted, replace=False))
        self._done = 0
        self._total = (self._config.num_hidden_layers * _PASSES + 1) * len(self._sequences)
        self._inputs: dict[str, InputStatistics] = {}
        self._keys: list[InputStatistics] = []
        self._values: list[InputStatistics] = []

    def _check_ids(self) -> None:
        if not self._sequences or not all(ids.ndim == 1 and len(ids) for ids in self._sequences):
            raise ExportError("calibration needs at least one sequence, and a token in each")
        for ids in self._sequences:
            if ids.min() < 0 or ids.max() >= self._config.vocab_size:
                raise ExportError(
                    f"calibration: token ids from {ids.min()} to {ids.max()}, but {self._folder} has a"
                    f" vocabulary of {self._config.vocab_size}"
                )

    def key(self) -> str:
        """A hash of everything that decides the results.

        A checkpoint is known by its tables of tensors and by size and time of its files: hashing all of it
        would take longer than a layer.
        """
        digest = hashlib.sha256((self._folder / "config.json").read_bytes())
        files = {entry.file for entry in self._checkpoint.tensors.values()}
        for file in sorted(files):
            stat = file.stat()
            digest.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        for name, entry in sorted(self._checkpoint.tensors.items()):
            digest.update(f"{name} {entry.dtype} {entry.shape} {entry.file.name} {entry.offset}\n".encode())
        for ids in self._sequences:
            digest.update(len(ids).to_bytes(8, "little") + ids.astype("<i8").tobytes())
        chosen = self._settings
        settings = (chosen.second_moment, chosen.drift, chosen.sample_rows, chosen.keep_samples, chosen.seed)
        visitor = "" if self._visitor is None else self._visitor.key
        digest.update(json.dumps([2, *settings, str(self._dtype), visitor]).encode())
        return digest.hexdigest()

    def run(self, state: SavedState | None) -> Calibration:
        layers = self._config.num_hidden_layers
        first = 0 if state is None else min(state.steps, layers + 1)
        if state is not None:
            for step in range(first):
                self._restore(step, state.arrays(step))
        if first <= layers:
            with self._stores(self._config.hidden_size) as hidden:
                if first == 0 or state is None:
                    self._embed(hidden)
                else:
                    state.restore_hidden(hidden)
                for step in range(first, layers + 1):
                    if step < layers:
                        self._layer(step, hidden)
                    else:
                        self._head(hidden)
                    if state is not None:
                        state.save(self._saved(step), hidden if step < layers else [])
        visited = None if state is None else VisitedLayers(state)
        return Calibration(self._inputs, tuple(self._keys), tuple(self._values), self._tokens, visited)

    # -- the network

    def _embed(self, hidden: Sequence[RowStore]) -> None:
        """Rows of the embedding for every token; those of the text, not the whole table, are in memory."""
        name = f"{_EMBEDDING}.weight"
        used = np.unique(np.concatenate(self._sequences))
        table = np.empty((len(used), self._config.hidden_size), self._dtype)
        start = 0
        for block in self._blocks(name, (self._config.vocab_size, self._config.hidden_size)):
            first, last = np.searchsorted(used, (start, start + len(block)))
            table[first:last] = block[used[first:last] - start]
            start += len(block)
        for index, ids in enumerate(self._sequences):
            for store in hidden:
                store.write(index, table[np.searchsorted(used, ids)])

    def _layer(self, layer: int, hidden: Sequence[RowStore]) -> None:
        """Replace hidden states by those behind a layer: of the network that the visitor changes, and, for
        the drift, of the float one."""
        config = self._config
        name = f"model.layers.{layer}"
        attn, mlp = f"{name}.self_attn", f"{name}.mlp"
        width = config.num_attention_heads * config.head_dim
        kv_width = config.num_key_value_heads * config.head_dim
        hidden_size, intermediate = config.hidden_size, config.intermediate_size

        norm = self._vector(f"{name}.input_layernorm.weight", hidden_size)
        inputs = self._accumulator(hidden_size)
        for index in self._pass(f"layer {layer}: attention input"):
            inputs.add(*(rms_norm(store.read(index), norm, config.rms_norm_eps) for store in hidden))
        shapes = {"q_proj": width, "k_proj": kv_width, "v_proj": kv_width}
        weights = self._site(
            layer, {f"{attn}.{part}": (out, hidden_size) for part, out in shapes.items()}, inputs
        )
        bias = {part: self._bias(f"{attn}.{part}", out) for part, out in shapes.items()}

        with self._stores(width) as contexts:
            inputs = self._accumulator(width)
            keys, values = Accumulator(kv_width), Accumulator(kv_width)
            for index in self._pass(f"layer {layer}: attention"):
                outputs = []
                for store, context, held in zip(hidden, contexts, weights, strict=False):
                    x = rms_norm(store.read(index), norm, config.rms_norm_eps)
                    q, k, v = (
                        linear(x, held[f"{attn}.{part}"], bias[part]).reshape(len(x), -1, config.head_dim)
                        for part in shapes
                    )
                    k = rotate(k, self._cos, self._sin)
                    if store is hidden[0]:
                        keys.add(k.reshape(len(x), -1))
                        values.add(v.reshape(len(x), -1))
                    outputs.append(attention(rotate(q, self._cos, self._sin), k, v))
                    context.write(index, outputs[-1])
                inputs.add(*outputs)
            del weights, held  # as large as the next ones, which are to be read
            self._keys.append(keys.finish())
            self._values.append(values.finish())
            weights = self._site(layer, {f"{attn}.o_proj": (hidden_size, width)}, inputs)
            out_bias = self._bias(f"{attn}.o_proj", hidden_size)

            norm = self._vector(f"{name}.post_attention_layernorm.weight", hidden_size)
            inputs = self._accumulator(hidden_size)
            for index in self._pass(f"layer {layer}: attention output"):
                outputs = []
                for store, context, held in zip(hidden, contexts, weights, strict=False):
                    x = store.read(index)
                    x += linear(context.read(index), held[f"{attn}.o_proj"], out_bias)
                    store.write(index, x)
                    outputs.append(rms_norm(x, norm, config.rms_norm_eps))
                inputs.add(*outputs)
            del weights, held
        weights = self._site(
            layer, {f"{mlp}.{part}": (intermediate, hidden_size) for part in ("gate_proj", "up_proj")}, inputs
        )

        with self._stores(intermediate) as products:
            inputs = self._accumulator(intermediate)
            for index in self._pass(f"layer {layer}: MLP"):
                outputs = []
                for store, product, held in zip(hidden, products, weights, strict=False):
                    x = rms_norm(store.read(index), norm, config.rms_norm_eps)
                    gate = linear(x, held[f"{mlp}.gate_proj"])
                    outputs.append(swiglu(gate, linear(x, held[f"{mlp}.up_proj"])))
                    product.write(index, outputs[-1])
                inputs.add(*outputs)
            del weights, held
            weights = self._site(layer, {f"{mlp}.down_proj": (hidden_size, intermediate)}, inputs)
            for index in self._pass(f"layer {layer}: MLP output"):
                for store, product, held in zip(hidden, products, weights, strict=False):
                    x = store.read(index)
                    x += linear(product.read(index), held[f"{mlp}.down_proj"])
                    store.write(index, x)

    def _head(self, hidden: Sequence[RowStore]) -> None:
        """The last norm, and the output layer's input."""
        config = self._config
        norm = self._vector("model.norm.weight", config.hidden_size)
        inputs = self._accumulator(config.hidden_size)
        for index in self._pass("output layer"):
            inputs.add(*(rms_norm(store.read(index), norm, config.rms_norm_eps) for store in hidden))
        self._site(config.num_hidden_layers, {_HEAD: (config.vocab_size, config.hidden_size)}, inputs)

    def _site(
        self, layer: int, shapes: Mapping[str, tuple[int, int]], inputs: Accumulator
    ) -> tuple[Mapping[str, Float], Mapping[str, Float]]:
        """Note an input's statistics, show it to the visitor, return the weights to go on with, and those of
        the float network."""
        statistics = inputs.finish()
        if not np.all(np.isfinite(statistics.mean_square)):
            raise ExportError(
                f"calibration: the input of {next(iter(shapes))} has values that are not finite;"
                " is the checkpoint damaged?"
            )
        # Samples of all layers together are as large as a few layers.
        forgotten = ("second_moment", "drift", *(() if self._settings.keep_samples else ("sample",)))
        small = statistics.without(*forgotten)
        self._inputs.update(dict.fromkeys(shapes, small))
        if self._visitor is None and layer == self._config.num_hidden_layers:
            return {}, {}  # nobody needs the output layer, which may be the largest matrix of all
        original = {name: self._matrix(name, shape) for name, shape in shapes.items()}
        weights = dict(original)
        if self._visitor is not None:
            changed = self._visitor.visit(Site(layer, dict(weights), statistics))
            for name, weight in (changed or {}).items():
                if name not in weights or weight.shape != weights[name].shape:
                    raise ValueError(f"a visitor returned {name} {weight.shape}, which this site has not")
                weights[name] = weight.astype(self._dtype, copy=False)
        return weights, original

    # -- weights

    def _blocks(self, tensor: str, shape: tuple[int, ...]) -> Iterator[Float]:
        if tensor not in self._checkpoint.tensors:
            raise ExportError(f"{self._folder}: missing tensors: {tensor}")
        self._checkpoint.check_readable(tensor, shape)
        return self._checkpoint.blocks(tensor, self._dtype)

    def _read(self, tensor: str, shape: tuple[int, ...]) -> Float:
        result = np.empty(shape, self._dtype)
        start = 0
        for block in self._blocks(tensor, shape):
            result[start : start + len(block)] = block
            start += len(block)
        return result

    def _matrix(self, module: str, shape: tuple[int, int]) -> Float:
        tied = module == _HEAD and self._config.tie_word_embeddings
        return self._read(f"{_EMBEDDING if tied else module}.weight", shape)

    def _vector(self, tensor: str, width: int) -> Float:
        return self._read(tensor, (width,))

    def _bias(self, module: str, width: int) -> Float | None:
        return self._read(f"{module}.bias", (width,)) if self._config.attention_bias else None

    # -- bookkeeping

    def _store(self, width: int) -> RowStore:
        return RowStore(self._lengths, width, self._dtype, self._memory_limit, self.spill)

    @contextlib.contextmanager
    def _stores(self, width: int) -> Iterator[Sequence[RowStore]]:
        """One for each network that runs."""
        with contextlib.ExitStack() as stack:
            count = 2 if self._settings.drift else 1
            yield [stack.enter_context(contextlib.closing(self._store(width))) for _ in range(count)]

    def _accumulator(self, width: int) -> Accumulator:
        chosen = self._settings
        return Accumulator(width, chosen.second_moment, self._sample, chosen.drift)

    def _pass(self, what: str) -> Iterator[int]:
        """Numbers of all sequences, reporting each when it is done."""
        for index in range(len(self._sequences)):
            yield index
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._total, what)

    def _saved(self, step: int) -> dict[str, NDArray[Any]]:
        """A finished step's results as arrays; names are paths."""
        arrays: dict[str, NDArray[Any]] = {}
        prefix = self._prefix(step)
        written: dict[int, str] = {}
        for name, statistics in self._inputs.items():
            if name.startswith(prefix):
                # Layers with the same input share it in the file too.
                owner = written.setdefault(id(statistics), name)
                arrays[f"input/{name}"] = np.asarray(owner)
                if owner == name:
                    arrays |= {f"statistics/{name}/{key}": v for key, v in statistics.arrays().items()}
        if step < self._config.num_hidden_layers:
            for kind, found in (("keys", self._keys), ("values", self._values)):
                arrays |= {f"{kind}/{key}": value for key, value in found[step].arrays().items()}
        if self._visitor is not None:
            arrays |= {_VISITOR + key: value for key, value in self._visitor.save(step).items()}
        return arrays

    def _restore(self, step: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        def below(path: str) -> dict[str, NDArray[Any]]:
            return {name[len(path) :]: value for name, value in arrays.items() if name.startswith(path)}

        owners = {name: str(owner) for name, owner in below("input/").items()}
        found = {
            owner: InputStatistics.from_arrays(below(f"statistics/{owner}/"))
            for owner in set(owners.values())
        }
        self._inputs.update({name: found[owner] for name, owner in owners.items()})
        if step < self._config.num_hidden_layers:
            self._keys.append(InputStatistics.from_arrays(below("keys/")))
            self._values.append(InputStatistics.from_arrays(below("values/")))
        if self._visitor is not None:
            self._visitor.restore(step, below(_VISITOR))
        self._done += len(self._sequences) * (_PASSES if step < self._config.num_hidden_layers else 1)

    def _prefix(self, step: int) -> str:
        return f"model.layers.{step}." if step < self._config.num_hidden_layers else _HEAD
