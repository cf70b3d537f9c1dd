"""Open a checkpoint that is quantized already."""

from __future__ import annotations

from pathlib import Path

from mindir_llm.export.checkpoint import Checkpoint, read_json
from mindir_llm.export.errors import ExportError
from mindir_llm.export.quantized_checkpoints.awq import read_awq
from mindir_llm.export.quantized_checkpoints.gptq import read_gptq
from mindir_llm.export.quantized_checkpoints.linear import QuantizedLinear
from mindir_llm.export.quantized_checkpoints.settings import QuantizationSettings
from mindir_llm.export.quantized_checkpoints.tensors import LinearTensors

__all__ = ["QuantizedCheckpoint", "open_quantized"]

_READERS = {"awq": read_awq, "gptq": read_gptq}
_WEIGHT = ".qweight"


class QuantizedCheckpoint:
    """The quantized linear layers of a checkpoint by module name, read one at a time."""

    def __init__(self, checkpoint: Checkpoint, settings: QuantizationSettings) -> None:
        self.checkpoint = checkpoint
        self.settings = settings
        self.names = tuple(
            sorted(name.removesuffix(_WEIGHT) for name in checkpoint.tensors if name.endswith(_WEIGHT))
        )

    def linear(self, name: str) -> QuantizedLinear:
        """A layer out of `names`; ExportError names the tensor that is missing or does not fit."""
        return _READERS[self.settings.method](LinearTensors(self.checkpoint, name), self.settings)


def open_quantized(folder: str | Path) -> QuantizedCheckpoint | None:
    """A checkpoint whose config.json has a quantization_config; None where it has none.

    ExportError: a kind of quantization that is not supported, or a damaged checkpoint.
    """
    config = Path(folder) / "config.json"
    if not config.is_file():
        raise ExportError(f"{config}: no such file; a Hugging Face checkpoint folder has a config.json")
    fields = read_json(config).get("quantization_config")
    if fields is None:
        return None
    try:
        settings = QuantizationSettings.from_fields(fields)
    except ExportError as error:
        raise ExportError(f"{config}: {error}") from None
    source = QuantizedCheckpoint(Checkpoint.open(folder), settings)
    if not source.names:
        raise ExportError(f"{folder}: config.json has a quantization_config, but no tensor ends in {_WEIGHT}")
    return source
