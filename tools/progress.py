"""A progress bar for work that takes longer than a moment."""

from __future__ import annotations

__all__ = ["Bar"]


class Bar:
    """A tqdm progress bar on stderr, or none. tqdm comes with the export extra; without it there is just no
    bar. total: None where it is not known yet."""

    def __init__(self, show: bool, what: str, unit: str, total: int | None) -> None:
        self._bar = None
        if show:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._bar = tqdm(desc=what, unit=unit, unit_scale=True, total=total, leave=False, disable=None)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, n: int, total: int | None = None) -> None:
        """n more units are done; total: what is known of all of them by now."""
        if self._bar is not None:
            if total is not None:
                self._bar.total = total
            self._bar.update(n)
