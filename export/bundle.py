"""Checkpoint in, bundle out: trace both graphs, stream the weights, write the manifest, rename into place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.checkpoint import Checkpoint
from mindir_llm.export.errors import ExportError
from mindir_llm.export.tokenizer_files import read_tokenizer
from mindir_llm.export.trace import TracedGraph, signature_names, trace_llama
from mindir_llm.export.weights import FileRecord, Progress, WeightPlan, lay_out, write_weights
from mindir_llm.models.config import ConfigError, LlamaConfig
from mindir_llm.models.quantization import WeightQuantization
from mindir_llm.models.rotary import rotary_tables

__all__ = ["ExportOptions", "export_bundle"]

_FORMAT = "mindir-llm-bundle"
_FORMAT_VERSION = 1
_PRODUCER = "mindir-llm 0.1.0"
_MANIFEST = "manifest.json"
_EMBEDDING = "model.embed_tokens.weight"
_DEFAULT_MAX_SEQ_LEN = 2048
# A chunk reads all weights once, so a large one costs little more time than a small one; its padded rows cost
# nothing in the engine.
_DEFAULT_PREFILL_CHUNK = 256
_TARGETS = ("cpu", "ascend")
_DTYPES = ("float16", "float32")
_KV_DTYPES = (*_DTYPES, "int8")
_KV_GRANULARITIES = ("per_channel", "per_token")
_QUANTIZATIONS = ("none", "a16w8", "a16w4", "a8w8-dynamic")
_GROUP_SIZES = (0, 32, 64, 128)
_DEFAULT_GROUP_SIZE = 32


@dataclass(frozen=True)
class ExportOptions:
    """What to export. None means a default that depends on the model.

    quant: 'none', 'a16w8' (int8 weights, one scale per output channel), 'a16w4' (int4 weights, one scale
    per group_size inputs of an output channel) or 'a8w8-dynamic' (int8 weights, and the inputs of linear
    layers rounded to int8 with one scale per token). group_size: of a16w4 only: 32, 64, 128, or 0 for one
    scale per output channel; default 32. dtype: 'float16' or 'float32' of weights that are not quantized, and
    of scales. kv_dtype: of the KV caches, also 'int8'; default dtype. kv_granularity: of int8 caches:
    'per_channel', with calibrated scales (kv_scales of export_bundle), or 'per_token', where each row of a
    head gets its scale as it comes; default per_token. target: operators, 'cpu' or 'ascend'. max_seq_len:
    rows of the static caches; default the model's own limit, at most 2048. prefill_chunk: tokens per prefill
    call; default 256. batch: sequences per call. force: replace an existing bundle.
    """

    quant: str = "none"
    group_size: int | None = None
    dtype: str = "float16"
    kv_dtype: str | None = None
    kv_granularity: str | None = None
    target: str = "cpu"
    max_seq_len: int | None = None
    prefill_chunk: int | None = None
    batch: int = 1
    force: bool = False


@dataclass(frozen=True)
class _Settings:
    """Options with every default filled in and checked against the model."""

    scheme: WeightQuantization | None
    quantization: Mapping[str, WeightQuantization]
    dtype: str
    kv_dtype: str
    kv_granularity: str | None
    target: str
    max_seq_len: int
    prefill_chunk: int
    batch: int


def export_bundle(
    checkpoint: str | Path,
    bundle: str | Path,
    options: ExportOptions | None = None,
    progress: Progress | None = None,
    kv_scales: Mapping[str, NDArray[np.float32]] | None = None,
) -> Path:
    """Export a Hugging Face checkpoint folder to a bundle folder and return the bundle's path.

    The bundle appears complete or not at all: it is written beside its place and renamed. progress is called
    with bytes of weights written and in total. kv_scales: of int8 caches with scales per channel, by
    parameter: 'model.layers.{i}.self_attn.key_scale' and '….value_scale', positive float32 [KV heads,
    head_dim]. ExportError: an unsupported model or option, a damaged
    checkpoint, or an existing bundle without `force`; OSError: the disk.
    """
    checkpoint, bundle = Path(checkpoint), Path(os.path.abspath(bundle))
    options = options or ExportOptions()
    _check_destination(bundle, options.force)
    source = Checkpoint.open(checkpoint)
    try:
        config = LlamaConfig.from_file(checkpoint / "config.json")
    except ConfigError as error:
        raise ExportError(str(error)) from None
    settings = _settle(options, config)
    _check_pairs(checkpoint, config, settings.quantization)
    computed = _kv_scales(config, settings, kv_scales)
    tokenizer = read_tokenizer(checkpoint, config.vocab_size)
    for message in tokenizer.warnings:
        warnings.warn(message, stacklevel=2)

    graphs = {
        "prefill": _trace(config, settings, settings.prefill_chunk, "prefill"),
        "decode": _trace(config, settings, 1, "decode"),
    }
    parameters = graphs["decode"].parameters
    if set(parameters) != set(graphs["prefill"].parameters):
        raise AssertionError("prefill and decode graphs do not read the same parameters")
    computed["rotary.cos"], computed["rotary.sin"] = rotary_tables(config, _rotary_rows(settings))
    tied_to = {"lm_head.weight": _EMBEDDING} if config.tie_word_embeddings else {}
    plan = WeightPlan(source, parameters, computed, tied_to, settings.quantization)
    places = lay_out(plan.parameters)

    bundle.parent.mkdir(parents=True, exist_ok=True)
    _check_space(bundle.parent, sum(place.length for place in places.values()))
    with _atomic_folder(bundle, options.force) as folder:
        files = write_weights(plan, places, folder, progress)
        for name, graph in graphs.items():
            files[f"{name}.mindir"] = _write(folder / f"{name}.mindir", graph.serialize(places))
        for path in tokenizer.files:
            files[path.name] = _write(folder / path.name, path.read_bytes())
        manifest = _manifest(config, settings, tokenizer.manifest, files)
        text = json.dumps(manifest, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
        _write(folder / _MANIFEST, text.encode("utf-8"))
    return bundle


def _settle(options: ExportOptions, config: LlamaConfig) -> _Settings:
    """Fill in defaults and check every option; ExportError names the flag, the value and the allowed
    range."""
    kv_dtype = options.kv_dtype or options.dtype
    for flag, value, allowed in (
        ("--quant", options.quant, _QUANTIZATIONS),
        ("--dtype", options.dtype, _DTYPES),
        ("--kv-dtype", kv_dtype, _KV_DTYPES),
        ("--target", options.target, _TARGETS),
    ):
        if value not in allowed:
            raise ExportError(f"{flag}: {value!r} is not one of {', '.join(allowed)}")
    granularity = _kv_granularity(kv_dtype, options.kv_granularity)
    scheme = _quantization(options)
    quantization = {} if scheme is None else dict.fromkeys(config.linear_shapes(), scheme)
    if options.target == "ascend":
        for flag, value in (("--dtype", options.dtype), ("--kv-dtype", kv_dtype)):
            if value == "float32":
                raise ExportError(
                    f"{flag}: {value} is not possible with --target ascend, whose primitives take float16"
                )
    limit = config.max_position_embeddings
    rows = options.max_seq_len if options.max_seq_len is not None else min(limit, _DEFAULT_MAX_SEQ_LEN)
    _check_range("--max-seq-len", rows, 1, limit, "the model's max_position_embeddings")
    chunk = options.prefill_chunk
    if chunk is None:
        chunk = min(_DEFAULT_PREFILL_CHUNK, rows)
        while options.target == "ascend" and rows % chunk:
            chunk -= 1
    _check_range("--prefill-chunk", chunk, 1, rows, "--max-seq-len")
    if options.target == "ascend" and rows % chunk:
        # KVCacheScatterUpdate writes whole chunks, and writing past the cache's end is undefined.
        raise ExportError(f"--prefill-chunk: {chunk} must divide --max-seq-len {rows} with --target ascend")
    _check_range("--batch", options.batch, 1, 1024, "its upper limit")
    return _Settings(
        scheme, quantization, options.dtype, kv_dtype, granularity, options.target, rows, chunk, options.batch
    )


def _kv_granularity(kv_dtype: str, value: str | None) -> str | None:
    if kv_dtype != "int8":
        if value is not None:
            raise ExportError(
                f"--kv-granularity: {value} has no meaning with --kv-dtype {kv_dtype}, only int8"
            )
        return None
    value = value or "per_token"
    if value not in _KV_GRANULARITIES:
        raise ExportError(f"--kv-granularity: {value!r} is not one of {', '.join(_KV_GRANULARITIES)}")
    return value


def _kv_scales(
    config: LlamaConfig, settings: _Settings, given: Mapping[str, NDArray[np.float32]] | None
) -> dict[str, NDArray[Any]]:
    """The parameters of static caches, checked."""
    names = [
        f"model.layers.{i}.self_attn.{kind}_scale"
        for i in range(config.num_hidden_layers if settings.kv_granularity == "per_channel" else 0)
        for kind in ("key", "value")
    ]
    given = given or {}
    if names and not given:
        raise ExportError(
            "--kv-granularity: per_channel needs scales from a calibration; per_token needs none"
        )
    if given.keys() != set(names):
        name = min(given.keys() ^ set(names))
        raise ExportError(
            f"scales of the KV caches: {name} is {'unexpected' if name in given else 'missing'}"
        )
    shape = (config.num_key_value_heads, config.head_dim)
    scales = {name: np.asarray(given[name], np.float32) for name in names}
    for name, scale in scales.items():
        if scale.shape != shape:
            raise ExportError(f"{name}: shape {list(scale.shape)}, expected {list(shape)}")
        if not np.all(np.isfinite(scale) & (scale > 0)):
            raise ExportError(f"{name}: a scale is not a positive number")
    return scales


def _quantization(options: ExportOptions) -> WeightQuantization | None:
    size = options.group_size
    if options.quant != "a16w4":
        if size is not None:
            raise ExportError(f"--group-size: {size} has no meaning with --quant {options.quant}, only a16w4")
        if options.quant == "a8w8-dynamic":
            return WeightQuantization(8, activations="per_token")
        return WeightQuantization(8) if options.quant == "a16w8" else None
    if size is None:
        size = _DEFAULT_GROUP_SIZE
    if size not in _GROUP_SIZES:
        raise ExportError(f"--group-size: {size} is not one of {', '.join(map(str, _GROUP_SIZES))}")
    return WeightQuantization(4, size)


def _check_pairs(
    checkpoint: Path, config: LlamaConfig, quantization: Mapping[str, WeightQuantization]
) -> None:
    """ExportError where an int4 layer has an odd number of output channels, two of which share a byte."""
    for name, (outputs, _) in config.linear_shapes().items():
        if name in quantization and quantization[name].bits == 4 and outputs % 2:
            raise ExportError(
                f"{checkpoint}: {name} has {outputs} outputs, and int4 weights need an even number; use int8"
                " (a16w8)"
            )


def _check_range(flag: str, value: int, low: int, high: int, meaning: str) -> None:
    if not low <= value <= high:
        raise ExportError(f"{flag}: {value} is not in {low} … {high} ({high} is {meaning})")


def _rotary_rows(settings: _Settings) -> int:
    return settings.max_seq_len + settings.prefill_chunk


def _trace(config: LlamaConfig, settings: _Settings, tokens: int, name: str) -> TracedGraph:
    return trace_llama(
        config,
        target=settings.target,
        batch=settings.batch,
        tokens=tokens,
        max_seq_len=settings.max_seq_len,
        rotary_rows=_rotary_rows(settings),
        dtype=settings.dtype,
        kv_dtype=settings.kv_dtype,
        quantization=settings.quantization,
        graph_name=name,
        kv_granularity=settings.kv_granularity,
    )


def _manifest(
    config: LlamaConfig,
    settings: _Settings,
    tokenizer: dict[str, Any] | None,
    files: dict[str, FileRecord],
) -> dict[str, Any]:
    signature = signature_names(config.num_hidden_layers, settings.kv_granularity)
    kv = {"kv_granularity": settings.kv_granularity} if settings.kv_granularity is not None else {}
    return {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "producer": _PRODUCER,
        "target": settings.target,
        "dtype": settings.dtype,
        "kv_dtype": settings.kv_dtype,
        **kv,
        "batch_size": settings.batch,
        "max_seq_len": settings.max_seq_len,
        "prefill_chunk": settings.prefill_chunk,
        "graphs": {"prefill": "prefill.mindir", "decode": "decode.mindir"},
        "inputs": list(signature.inputs),
        "outputs": list(signature.outputs),
        "model": config.to_json(),
        "quantization": _quantization_entry(settings.scheme),
        "tokenizer": tokenizer,
        "files": {name: {"size": record.size, "sha256": record.sha256} for name, record in files.items()},
    }


def _quantization_entry(quantization: WeightQuantization | None) -> dict[str, Any]:
    if quantization is None:
        return {"scheme": "none"}
    is_dynamic = quantization.activations == "per_token"
    entry: dict[str, Any] = {
        "scheme": "a8w8-dynamic" if is_dynamic else f"a16w{quantization.bits}",
        "method": "rtn",
        "weight_bits": quantization.bits,
        "granularity": "per-group" if quantization.group_size else "per-channel",
        "symmetric": True,
    }
    if quantization.bits == 4:
        entry["group_size"] = quantization.group_size
    if is_dynamic:
        entry["activation_bits"] = 8
    return entry


def _write(path: Path, data: bytes) -> FileRecord:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return FileRecord(len(data), hashlib.sha256(data).hexdigest())


def _check_destination(bundle: Path, force: bool) -> None:
    if not os.path.lexists(bundle):
        return
    if not force:
        raise ExportError(f"{bundle}: exists; choose another name, or --force to replace a bundle")
    if bundle.is_symlink() or not bundle.is_dir():
        raise ExportError(f"{bundle}: exists and is not a folder; --force replaces bundles only")
    if any(bundle.iterdir()) and not _is_bundle(bundle):
        raise ExportError(f"{bundle}: exists and holds something else; --force replaces bundles only")


def _is_bundle(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == _FORMAT


def _check_space(parent: Path, needed: int) -> None:
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise ExportError(
            f"{parent}: the bundle needs {needed / 1e6:.0f} MB, but only {free / 1e6:.0f} MB are free"
        )


@contextlib.contextmanager
def _atomic_folder(final: Path, force: bool) -> Iterator[Path]:
    """A new folder beside `final` that takes its place when the block succeeds and vanishes when it does
    not."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".partial", dir=final.parent))
    try:
        content = temporary / "new"
        content.mkdir()  # with the user's umask, which mkdtemp does not follow
        yield content
        for folder, _, _ in os.walk(content):
            _sync_folder(folder)
        _check_destination(final, force)
        if final.exists():
            os.rename(final, temporary / "old")
            try:
                os.rename(content, final)
            except BaseException:
                os.rename(temporary / "old", final)
                raise
        else:
            os.rename(content, final)
        _sync_folder(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync_folder(folder: str | Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
