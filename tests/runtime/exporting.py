"""The type of the `exported` fixture: export(checkpoint, **ExportOptions) → bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

__all__ = ["Exporter"]

Exporter = Callable[..., Path]
