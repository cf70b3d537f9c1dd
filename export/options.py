"""What a user asks an export for, and what that means for the model at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mindir_llm.export.calibrate import CalibrationSettings
from mindir_llm.export.description import method_of
from mindir_llm.export.errors import ExportError
from mindir_llm.export.pipeline.policies import decide, stored_forms
from mindir_llm.export.pipeline.prequantized import PrequantizedNetwork
from mindir_llm.export.quantize.config import GROUP_SIZES, LayerPolicy, QuantConfig, preset
from mindir_llm.models.config import LlamaConfig
from mindir_llm.models.quantization import WeightQuantization

__all__ = ["ExportOptions", "Settings", "settle"]

_DEFAULT_MAX_SEQ_LEN = 2048
# A chunk reads all weights once, so a large one costs little more time than a small one; its padded rows cost
# nothing in the engine.
_DEFAULT_PREFILL_CHUNK = 256
_TARGETS = ("cpu", "ascend")
_DTYPES = ("float16", "float32")
_KV_DTYPES = (*_DTYPES, "int8")
_KV_GRANULARITIES = ("per_channel", "per_token")


@dataclass(frozen=True)
class ExportOptions:
    """What to export. None means a default that depends on the model.

    quant: one of PRESETS: 'none', 'a16w8' (int8 weights, one scale per output channel), 'a16w4' (int4
    weights, one scale per 32 inputs of an output channel), 'a8w8-dynamic' (int8 weights, and the inputs of
    linear layers rounded to int8 with one scale per token), … group_size: 32, 64, 128, or 0 for one scale per
    output channel. method: one of METHODS; default round-to-nearest. config: instead of these three, every
    detail (see QuantConfig). calibration: text file or JSONL to run the network on, where the method needs
    that; calibration_settings: how much of it. work_dir: keeps what calibration found, so that an export that
    was stopped continues. dtype: 'float16' or 'float32' of weights that are not quantized, and of scales.
    kv_dtype: of the KV caches, also 'int8'; default dtype. kv_granularity: of int8 caches: 'per_channel',
    with calibrated scales, or 'per_token', where each row of a head gets its scale as it comes; default
    per_token. target: operators, 'cpu' or 'ascend'. max_seq_len: rows of the static caches; default the
    model's own limit, at most 2048. prefill_chunk: tokens per prefill call; default 256. batch: sequences per
    call. force: replace an existing bundle, and an existing report. report: HTML page to write about the
    export.
    """

    quant: str = "none"
    group_size: int | None = None
    method: str | None = None
    config: QuantConfig | None = None
    calibration: str | Path | None = None
    calibration_settings: CalibrationSettings | None = None
    work_dir: str | Path | None = None
    dtype: str = "float16"
    kv_dtype: str | None = None
    kv_granularity: str | None = None
    target: str = "cpu"
    max_seq_len: int | None = None
    prefill_chunk: int | None = None
    batch: int = 1
    force: bool = False
    report: str | Path | None = None


@dataclass(frozen=True)
class Settings:
    """Options with every default filled in and checked against the model.

    policies: of layers that are to be quantized; quantization, methods: what quantized layers become, also in
    checkpoints that are quantized already. text: to calibrate with, None where nothing needs it.
    """

    policies: Mapping[str, LayerPolicy]
    quantization: Mapping[str, WeightQuantization]
    methods: Mapping[str, str]
    text: Path | None
    dtype: str
    kv_dtype: str
    kv_granularity: str | None
    target: str
    max_seq_len: int
    prefill_chunk: int
    batch: int

    @property
    def rotary_rows(self) -> int:
        return self.max_seq_len + self.prefill_chunk


def settle(
    options: ExportOptions,
    config: LlamaConfig,
    prequantized: PrequantizedNetwork | None = None,
    has_kv_scales: bool = False,
) -> Settings:
    """Fill in defaults and check every option; ExportError names the flag, the value and the allowed range.

    prequantized: the checkpoint where it is of integers. has_kv_scales: scales of static caches are known.
    """
    quant = _config(options)
    kv_dtype = options.kv_dtype or ("int8" if quant.kv_cache else options.dtype)
    for flag, value, allowed in (
        ("--dtype", options.dtype, _DTYPES),
        ("--kv-dtype", kv_dtype, _KV_DTYPES),
        ("--target", options.target, _TARGETS),
    ):
        if value not in allowed:
            raise ExportError(f"{flag}: {value!r} is not one of {', '.join(allowed)}")
    granularity = _kv_granularity(kv_dtype, options.kv_granularity, quant)
    policies = decide(quant, config)
    quantization = stored_forms(policies)
    methods = {name: method_of(policy) for name, policy in policies.items()}
    needs = _needs_text(policies)
    if granularity == "per_channel" and not has_kv_scales:
        needs.append("kvcache_quant_granularity per_channel")
    if prequantized is not None:
        folder = prequantized.checkpoint.folder
        if policies:
            raise ExportError(
                f"{folder}: is quantized already ({prequantized.method}); leave out --quant and the like"
            )
        if needs:
            raise ExportError(
                f"{folder}: is quantized already, and only float checkpoints can be calibrated with; use"
                " --kv-granularity per_token"
            )
        quantization = prequantized.forms
        methods = dict.fromkeys(quantization, prequantized.method)
    if needs and options.calibration is None:
        raise ExportError(
            f"{needs[0]} needs a text to calibrate with: --calibration FILE, UTF-8 text or JSONL of the kind"
            " that the model is to read (100 kB will do)"
        )
    if not needs and options.calibration is not None:
        raise ExportError(
            f"--calibration: {options.calibration}: nothing needs it; leave it out, or choose another"
            " --method than rtn"
        )
    if options.calibration is None:
        for flag, given in (
            ("--work-dir", options.work_dir is not None),
            ("--calibration-samples, --calibration-length", options.calibration_settings is not None),
        ):
            if given:
                raise ExportError(f"{flag}: nothing is calibrated without --calibration FILE; leave it out")
    _check_ascend(options, kv_dtype)
    rows, chunk = _lengths(options, config)
    _check_range("--batch", options.batch, 1, 1024, "its upper limit")
    return Settings(
        policies,
        quantization,
        methods,
        None if options.calibration is None else Path(options.calibration),
        options.dtype,
        kv_dtype,
        granularity,
        options.target,
        rows,
        chunk,
        options.batch,
    )


def _config(options: ExportOptions) -> QuantConfig:
    """The configuration that the options stand for; QuantConfigError names the flag or field."""
    size = options.group_size
    if size is not None:
        if options.quant == "none":
            raise ExportError(f"--group-size: {size} has no meaning with --quant none")
        if size not in GROUP_SIZES:
            raise ExportError(f"--group-size: {size} is not one of {', '.join(map(str, GROUP_SIZES))}")
    if options.config is None:
        return preset(options.quant, method=options.method, group_size=options.group_size)
    for flag, value in (
        ("--quant", options.quant if options.quant != "none" else None),
        ("--method", options.method),
        ("--group-size", size),
    ):
        if value is not None:
            raise ExportError(f"{flag}: {value} is for the configuration to say; leave one of them out")
    return options.config


def _needs_text(policies: Mapping[str, LayerPolicy]) -> list[str]:
    """Settings that cannot do without calibration."""
    found = []
    for policy in policies.values():
        if policy.outliers_suppression:
            found.append(f"outliers_suppression {policy.outliers_suppression}")
        elif policy.precision_recovery:
            found.append(f"precision_recovery {policy.precision_recovery}")
        elif policy.needs_calibration:
            found.append("act_quant_granularity per_tensor")
    return found


def _kv_granularity(kv_dtype: str, value: str | None, config: QuantConfig) -> str | None:
    if kv_dtype != "int8":
        if value is not None:
            raise ExportError(
                f"--kv-granularity: {value} has no meaning with --kv-dtype {kv_dtype}, only int8"
            )
        return None
    if value is None:
        value = config.kvcache_quant_granularity if config.kv_cache else "per_token"
    if value not in _KV_GRANULARITIES:
        raise ExportError(f"--kv-granularity: {value!r} is not one of {', '.join(_KV_GRANULARITIES)}")
    return value


def _check_ascend(options: ExportOptions, kv_dtype: str) -> None:
    if options.target != "ascend":
        return
    for flag, value in (("--dtype", options.dtype), ("--kv-dtype", kv_dtype)):
        if value == "float32":
            raise ExportError(
                f"{flag}: {value} is not possible with --target ascend, whose primitives take float16"
            )


def _lengths(options: ExportOptions, config: LlamaConfig) -> tuple[int, int]:
    """Rows of the caches, and tokens of a prefill call."""
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
    return rows, chunk


def _check_range(flag: str, value: int, low: int, high: int, meaning: str) -> None:
    if not low <= value <= high:
        raise ExportError(f"{flag}: {value} is not in {low} … {high} ({high} is {meaning})")
