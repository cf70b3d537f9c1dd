"""How linear weights are quantized: what the exporter, the cells and the weight streams agree on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WeightQuantization"]


@dataclass(frozen=True)
class WeightQuantization:
    """Symmetric integer weights of linear layers: value = integer * scale.

    bits: 8 (one scale per output channel) or 4. group_size: inputs that share a scale of an output channel; 0
    means all inputs. The last group of a channel is shorter where its size does not divide the inputs.
    """

    bits: int
    group_size: int = 0

    def __post_init__(self) -> None:
        if self.bits not in (4, 8) or self.group_size < 0 or (self.bits == 8 and self.group_size):
            raise ValueError(f"no such quantization: {self}")

    def groups(self, in_features: int) -> int:
        """Scales per output channel of a layer with this many inputs."""
        return -(-in_features // self.group_size) if self.group_size else 1
