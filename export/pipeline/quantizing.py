"""Run a network over a text and quantize it on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mindir_llm.export.calibrate import CalibrationSettings, Progress, calibrate_text
from mindir_llm.export.checkpoint import Checkpoint
from mindir_llm.export.pipeline.results import QuantizedNetwork
from mindir_llm.export.pipeline.visitor import QuantizingVisitor
from mindir_llm.export.quantize.config import LayerPolicy
from mindir_llm.models.config import LlamaConfig

__all__ = ["quantize_network"]

# Enough to search smoothing factors with, and to measure what a layer loses.
_SAMPLE_ROWS = 512


def quantize_network(
    checkpoint: Checkpoint,
    network: LlamaConfig,
    policies: Mapping[str, LayerPolicy],
    text: Path,
    work: Path,
    *,
    dtype: str,
    settings: CalibrationSettings | None = None,
    progress: Progress | None = None,
) -> QuantizedNetwork:
    """Quantize the linear layers that have a policy, by calibration with a text file or JSONL.

    work: folder for finished layers and hidden states. A run that was stopped continues there, and one that
    is repeated with the same text and policies has nothing to do. The result reads from it. dtype: of stored
    scales and norms. In memory are two matrices of all tokens (or in work, where they are large) and one
    layer. ExportError: the checkpoint, its tokenizer or the text cannot be used; OSError: the disk.
    """
    settings = replace(
        settings or CalibrationSettings(),
        second_moment=any(policy.needs_second_moment for policy in policies.values()),
        drift=any(policy.needs_drift for policy in policies.values()),
        sample_rows=_SAMPLE_ROWS,
        keep_samples=False,
    )
    visitor = QuantizingVisitor(network, policies, checkpoint, dtype)
    calibration = calibrate_text(checkpoint.folder, text, settings, visitor, cache=work, progress=progress)
    return QuantizedNetwork(network, policies, calibration, dtype)
