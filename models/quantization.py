"""How linear weights are quantized: what the exporter, the cells and the weight streams agree on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WeightQuantization"]

_ACTIVATIONS = ("float", "per_token", "per_tensor")


@dataclass(frozen=True)
class WeightQuantization:
    """Integer weights of one linear layer: value = (integer - zero) * scale.

    bits: 8 or 4. group_size: inputs that share a scale of an output channel; 0 means all inputs. The last
    group of a channel is shorter where its size does not divide the inputs. symmetric: without zero points,
    all are 0. activations: 'float', or inputs are rounded to int8 too (with symmetric weights of 8 bits and
    one scale per channel only): 'per_token', each token by its own scale, a 127th of its largest magnitude,
    or 'per_tensor', all of them on one calibrated grid. reordered: inputs are multiplied in an order of the
    layer's own, in which those that share a scale follow each other; only where there are groups.
    """

    bits: int
    group_size: int = 0
    symmetric: bool = True
    activations: str = "float"
    reordered: bool = False

    def __post_init__(self) -> None:
        if self.bits not in (4, 8) or self.group_size < 0 or self.activations not in _ACTIVATIONS:
            raise ValueError(f"no such quantization: {self}")
        if self.activations != "float" and (self.bits != 8 or self.group_size or not self.symmetric):
            raise ValueError(f"no such quantization: {self}")
        if self.reordered and not self.group_size:
            raise ValueError(f"no such quantization: {self}")

    def is_by_input(self, in_features: int) -> bool:
        """Whether the weight of a layer with this many inputs is stored [in, out] rather than [out, in]: in
        the one order in which every backend finds the scales of groups, and the pairs of 4 bits."""
        return self.bits == 4 or self.groups(in_features) > 1

    def groups(self, in_features: int) -> int:
        """Scales per output channel of a layer with this many inputs."""
        return -(-in_features // self.group_size) if self.group_size else 1
