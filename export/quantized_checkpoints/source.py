"""Open a checkpoint that is quantized already."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from mindir_llm.export.checkpoint import Checkpoint, read_json
from mindir_llm.export.errors import ExportError
from mindir_llm.export.quantized_checkpoints.awq import read_awq
from mindir_llm.export.quantized_checkpoints.golden_stick import (
    DESCRIPTION,
    read_description,
    read_golden_stick,
)
from mindir_llm.export.quantized_checkpoints.gptq import read_gptq
from mindir_llm.export.quantized_checkpoints.linear import QuantizedLinear
from mindir_llm.export.quantized_checkpoints.settings import QuantizationSettings
from mindir_llm.export.quantized_checkpoints.tensors import LinearTensors
from mindir_llm.models.config import ConfigError, LlamaConfig

__all__ = ["QuantizedCheckpoint", "open_quantized"]

_WEIGHT = ".qweight"


class QuantizedCheckpoint:
    """The quantized linear layers of a checkpoint by module name, read one at a time.

    method: 'awq', 'gptq' or 'golden-stick'. Tensors of other layers are read from `checkpoint`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        method: str,
        names: Iterable[str],
        reader: Callable[[LinearTensors], QuantizedLinear],
    ) -> None:
        self.checkpoint = checkpoint
        self.method = method
        self.names = tuple(sorted(names))
        self._reader = reader

    def linear(self, name: str) -> QuantizedLinear:
        """A layer out of `names`; ExportError names the tensor that is missing or does not fit."""
        return self._reader(LinearTensors(self.checkpoint, name))

    def config(self) -> LlamaConfig:
        """What config.json says of the network, quantization aside; ExportError: what is not supported."""
        path = self.checkpoint.folder / "config.json"
        fields = read_json(path)
        fields.pop("quantization_config", None)
        try:
            return LlamaConfig.from_fields(fields)
        except ConfigError as error:
            raise ExportError(f"{path}: {error}") from None


def open_quantized(folder: str | Path) -> QuantizedCheckpoint | None:
    """A checkpoint whose config.json has a quantization_config, or with a description of Golden Stick's; None
    where it has neither.

    ExportError: a kind of quantization that is not supported, or a damaged checkpoint.
    """
    folder = Path(folder)
    config = folder / "config.json"
    if not config.is_file():
        raise ExportError(f"{config}: no such file; a Hugging Face checkpoint folder has a config.json")
    if (folder / DESCRIPTION).is_file():
        types = read_description(folder)
        if not types:
            return None
        reader = partial(read_golden_stick, types=types)
        return QuantizedCheckpoint(Checkpoint.open(folder), "golden-stick", types, reader)
    fields = read_json(config).get("quantization_config")
    if fields is None:
        return None
    try:
        settings = QuantizationSettings.from_fields(fields)
    except ExportError as error:
        raise ExportError(f"{config}: {error}") from None
    checkpoint = Checkpoint.open(folder)
    names = [name.removesuffix(_WEIGHT) for name in checkpoint.tensors if name.endswith(_WEIGHT)]
    if not names:
        raise ExportError(f"{folder}: config.json has a quantization_config, but no tensor ends in {_WEIGHT}")
    read = {"awq": read_awq, "gptq": read_gptq}[settings.method]
    return QuantizedCheckpoint(checkpoint, settings.method, names, partial(read, settings=settings))
