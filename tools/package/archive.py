"""Archives with the same bytes whenever they are made: sorted names, one time, no owner, fixed modes."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from pathlib import Path

__all__ = ["checksums", "epoch", "write_checksums", "write_tar"]


def epoch() -> int:
    """The one time in a package: SOURCE_DATE_EPOCH, or that of the first version."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or 1_767_225_600)


def _files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_symlink() or not path.is_dir())


def checksums(root: Path) -> str:
    """Lines for `sha256sum --check`, of all regular files below a folder but the list itself."""
    lines = []
    for path in _files(root):
        if not path.is_symlink() and path.name != "SHA256SUMS":
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            lines.append(f"{digest.hexdigest()}  {path.relative_to(root).as_posix()}\n")
    return "".join(lines)


def write_checksums(root: Path) -> None:
    (root / "SHA256SUMS").write_text(checksums(root))


def write_tar(root: Path, archive: Path) -> None:
    """A .tar.gz of a folder under its own name."""
    partial = archive.with_name(archive.name + ".partial")
    with (
        partial.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=9, mtime=epoch()) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in [root, *sorted(root.rglob("*"))]:
            name = (Path(root.name) / path.relative_to(root)).as_posix()
            info = tarfile.TarInfo(name)
            info.mtime = epoch()
            content: io.BufferedIOBase | None = None
            if path.is_symlink():
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, os.readlink(path), 0o777
            elif path.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                info.size = path.stat().st_size
                info.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                content = path.open("rb")
            tar.addfile(info, content)
            if content:
                content.close()
    partial.replace(archive)
