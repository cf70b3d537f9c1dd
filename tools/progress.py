"""A progress bar for commands that take a while."""

from __future__ import annotations

__all__ = ["ProgressBar"]


class ProgressBar:
    """A tqdm progress bar, or none. tqdm comes with the export extra; without it there is just no bar."""

    def __init__(self, show: bool, what: str, unit: str, total: int) -> None:
        self._bar = None
        if show:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._bar = tqdm(desc=what, unit=unit, unit_scale=True, total=total, leave=False, disable=None)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, n: int) -> None:
        """n more units are done."""
        if self._bar is not None:
            self._bar.update(n)
