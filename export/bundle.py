"""Checkpoint in, bundle out: trace both graphs, stream the weights, write the manifest, rename into place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.calibrate import CalibrationSettings
from mindir_llm.export.calibrate import Progress as CalibrationProgress
from mindir_llm.export.checkpoint import Checkpoint
from mindir_llm.export.description import describe
from mindir_llm.export.errors import ExportError
from mindir_llm.export.options import ExportOptions, Settings, settle
from mindir_llm.export.pipeline.prequantized import open_prequantized
from mindir_llm.export.pipeline.quantizing import quantize_network
from mindir_llm.export.pipeline.results import LayerError
from mindir_llm.export.quantize.measure import WeightErrors
from mindir_llm.export.report import Facts, Speed, check_place, page, write_page
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


def export_bundle(
    checkpoint: str | Path,
    bundle: str | Path,
    options: ExportOptions | None = None,
    progress: Progress | None = None,
    kv_scales: Mapping[str, NDArray[np.float32]] | None = None,
    calibration_progress: CalibrationProgress | None = None,
    measure: Callable[[Path], Speed] | None = None,
) -> Path:
    """Export a Hugging Face checkpoint folder to a bundle folder and return the bundle's path.

    The bundle appears complete or not at all: it is written beside its place and renamed. progress is called
    with bytes of weights written and in total, calibration_progress with steps done, steps in total, and what
    is being done. kv_scales: of int8 caches with scales per channel, by parameter, where they are not to be
    calibrated: 'model.layers.{i}.self_attn.key_scale' and '….value_scale', positive float32 [KV heads,
    head_dim]. A checkpoint that is quantized already (AWQ, GPTQ, Golden Stick) keeps its integers. A report,
    if the options ask for one, is written after the bundle, with the speed that `measure` finds of it.
    ExportError: an unsupported model or option, a damaged checkpoint, or an existing bundle without `force`;
    OSError: the disk.
    """
    checkpoint, bundle = Path(checkpoint), Path(os.path.abspath(bundle))
    options = options or ExportOptions()
    _check_destination(bundle, options.force)
    report = None if options.report is None else Path(options.report)
    if report is not None:
        check_place(report, bundle, options.force)
    source = Checkpoint.open(checkpoint)
    prequantized = open_prequantized(checkpoint, options.dtype)
    if prequantized is not None:
        config = prequantized.network
    else:
        try:
            config = LlamaConfig.from_file(checkpoint / "config.json")
        except ConfigError as error:
            raise ExportError(str(error)) from None
    settings = settle(options, config, prequantized, has_kv_scales=kv_scales is not None)
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
    computed["rotary.cos"], computed["rotary.sin"] = rotary_tables(config, settings.rotary_rows)
    tied_to = {"lm_head.weight": _EMBEDDING} if config.tie_word_embeddings else {}
    weight_errors = WeightErrors()
    errors: list[LayerError] = []
    # Before a calibration, which takes long: whether all tensors are there, and fit.
    plan = WeightPlan(
        source,
        parameters,
        computed,
        tied_to,
        settings.quantization,
        prequantized,
        settings.target,
        None if report is None else weight_errors,
    )
    places = lay_out(plan.parameters)

    bundle.parent.mkdir(parents=True, exist_ok=True)
    _check_space(bundle.parent, sum(place.length for place in places.values()))
    with contextlib.ExitStack() as stack:
        if settings.text is not None:
            work = stack.enter_context(_work_folder(options.work_dir, bundle))
            layers = quantize_network(
                source,
                config,
                settings.policies,
                settings.text,
                work,
                dtype=settings.dtype,
                settings=options.calibration_settings,
                progress=calibration_progress,
            )
            if settings.kv_granularity == "per_channel" and kv_scales is None:
                computed |= layers.kv_scales()
            plan = WeightPlan(
                source, parameters, computed, tied_to, settings.quantization, layers, settings.target
            )
            errors = layers.errors()
        folder = stack.enter_context(_atomic_folder(bundle, options.force))
        files = write_weights(plan, places, folder, progress)
        for name, graph in graphs.items():
            files[f"{name}.mindir"] = _write(folder / f"{name}.mindir", graph.serialize(places))
        for path in tokenizer.files:
            files[path.name] = _write(folder / path.name, path.read_bytes())
        manifest = _manifest(config, settings, tokenizer.manifest, files)
        text = json.dumps(manifest, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
        _write(folder / _MANIFEST, text.encode("utf-8"))
    if report is not None:
        facts = Facts(
            checkpoint,
            bundle,
            config,
            settings,
            None if settings.text is None else options.calibration_settings or CalibrationSettings(),
            source.tensors,
            plan.parameters,
            {name: record.size for name, record in files.items()},
            errors,
            weight_errors.relative(),
            is_prequantized=prequantized is not None,
            warnings=[*tokenizer.warnings, *([] if prequantized is None else prequantized.warnings)],
            speed=None if measure is None else measure(bundle),
        )
        write_page(report, page(facts))
    return bundle


@contextlib.contextmanager
def _work_folder(given: str | Path | None, bundle: Path) -> Iterator[Path]:
    """The folder for a calibration's results: the user's, which stays, or one beside the bundle."""
    if given is not None:
        yield Path(given)
        return
    with tempfile.TemporaryDirectory(
        prefix=f".{bundle.name}.", suffix=".calibration", dir=bundle.parent
    ) as folder:
        yield Path(folder)


def _kv_scales(
    config: LlamaConfig, settings: Settings, given: Mapping[str, NDArray[np.float32]] | None
) -> dict[str, NDArray[Any]]:
    """The parameters of static caches, checked; ones where a calibration is to find them."""
    names = [
        f"model.layers.{i}.self_attn.{kind}_scale"
        for i in range(config.num_hidden_layers if settings.kv_granularity == "per_channel" else 0)
        for kind in ("key", "value")
    ]
    shape = (config.num_key_value_heads, config.head_dim)
    if given is None:
        return {name: np.ones(shape, np.float32) for name in names}
    if given.keys() != set(names):
        name = min(given.keys() ^ set(names))
        raise ExportError(
            f"scales of the KV caches: {name} is {'unexpected' if name in given else 'missing'}"
        )
    scales = {name: np.asarray(given[name], np.float32) for name in names}
    for name, scale in scales.items():
        if scale.shape != shape:
            raise ExportError(f"{name}: shape {list(scale.shape)}, expected {list(shape)}")
        if not np.all(np.isfinite(scale) & (scale > 0)):
            raise ExportError(f"{name}: a scale is not a positive number")
    return scales


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


def _trace(config: LlamaConfig, settings: Settings, tokens: int, name: str) -> TracedGraph:
    return trace_llama(
        config,
        target=settings.target,
        batch=settings.batch,
        tokens=tokens,
        max_seq_len=settings.max_seq_len,
        rotary_rows=settings.rotary_rows,
        dtype=settings.dtype,
        kv_dtype=settings.kv_dtype,
        quantization=settings.quantization,
        graph_name=name,
        kv_granularity=settings.kv_granularity,
    )


def _manifest(
    config: LlamaConfig,
    settings: Settings,
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
        "quantization": describe(settings.quantization, settings.methods, config.linear_shapes()),
        "tokenizer": tokenizer,
        "files": {name: {"size": record.size, "sha256": record.sha256} for name, record in files.items()},
    }


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
