"""What this machine can do at best, measured by the engine: the roofline that speeds are compared with."""

from __future__ import annotations

from ctypes import byref
from dataclasses import dataclass

from . import _native
from .graph import check_threads

__all__ = ["MachineSpeed", "measure"]


@dataclass(frozen=True)
class MachineSpeed:
    """Of all threads together. read_bandwidth: bytes per second from memory. int8_macs, matrix_macs: int8
    multiply-accumulates per second of the vector units and of the matrix unit (0.0 where there is none)."""

    read_bandwidth: float
    int8_macs: float
    matrix_macs: float


def measure(threads: int | None = None) -> MachineSpeed:
    """Measure for about a second, with 512 MiB of memory. threads: None takes one per physical core."""
    speed = _native.MachineSpeed()
    _native.library().mllm_measure_machine(check_threads(threads), byref(speed))
    return MachineSpeed(speed.read_bandwidth, speed.int8_macs, speed.matrix_macs)
