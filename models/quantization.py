"""How linear weights are quantized: what the exporter, the cells and the weight streams agree on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WeightQuantization"]

_ACTIVATIONS = ("float", "per_token")


@dataclass(frozen=True)
class WeightQuantization:
    """Symmetric integer weights of linear layers: value = integer * scale.

    bits: 8 (one scale per output channel) or 4. group_size: inputs that share a scale of an output channel; 0
    means all inputs. The last group of a channel is shorter where its size does not divide the inputs.
    activations: 'float', or 'per_token': inputs are rounded to int8 too, each token by its own scale, a 127th
    of its largest magnitude (8 bits only).
    """

    bits: int
    group_size: int = 0
    activations: str = "float"

    def __post_init__(self) -> None:
        if self.bits not in (4, 8) or self.group_size < 0 or (self.bits == 8 and self.group_size):
            raise ValueError(f"no such quantization: {self}")
        if self.activations not in _ACTIVATIONS or (self.activations != "float" and self.bits != 8):
            raise ValueError(f"no such quantization: {self}")

    def groups(self, in_features: int) -> int:
        """Scales per output channel of a layer with this many inputs."""
        return -(-in_features // self.group_size) if self.group_size else 1
