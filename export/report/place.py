"""Where a report goes: checked before an export, written whole or not at all after it."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from mindir_llm.export.errors import ExportError

__all__ = ["GENERATOR", "check_place", "write_page"]

GENERATOR = '<meta name="generator" content="mindir-llm export --report">'
# By when GENERATOR has come in a page.
_HEAD_BYTES = 1000


def check_place(path: Path, bundle: Path, force: bool) -> None:
    """ExportError unless a report can be written there: not inside the bundle, in a folder that takes new
    files, not over something else than a report, and over that only by force."""
    if _is_within(path, bundle):
        raise ExportError(f"--report: {path}: lies inside the bundle {bundle}; choose a place beside it")
    try:
        with contextlib.suppress(FileNotFoundError):
            mode = os.lstat(path).st_mode
            if not stat.S_ISREG(mode):
                raise ExportError(f"--report: {path}: exists and is not a file; choose another name")
            if not _is_report(path):
                raise ExportError(
                    f"--report: {path}: exists and is something else than a report; choose another name"
                )
            if not force:
                raise ExportError(f"--report: {path}: exists; choose another name, or --force to replace it")
        with _new_file_beside(path):
            pass
    except OSError as error:
        raise ExportError(f"--report: {path}: cannot be written: {error.strerror or error}") from None


def write_page(path: Path, text: str) -> None:
    """Write a page beside its place and rename it there. ExportError: it cannot be written."""
    try:
        with _new_file_beside(path) as temporary:
            with temporary.open("wb") as file:
                # Names of files may have bytes that are not UTF-8.
                file.write(text.encode("utf-8", "replace"))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ExportError(
            f"{path}: the bundle is complete, but its report cannot be written: {error.strerror or error}"
        ) from None


@contextlib.contextmanager
def _new_file_beside(path: Path) -> Iterator[Path]:
    """An empty file, with the user's umask, that vanishes unless it has been renamed."""
    temporary = path.parent / f".report.{secrets.token_hex(8)}.partial"
    temporary.open("xb").close()
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _is_within(path: Path, folder: Path) -> bool:
    real, outer = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    return real == outer or outer in real.parents


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        return GENERATOR.encode() in file.read(_HEAD_BYTES)
