"""Runs an appliance in a root with nothing else in it, read-only and as an unprivileged user.

python -m mindir_llm.tools.package.empty_root dist/demo-linux-x86_64.tar.gz
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mindir_llm.tools.package.errors import PackageError

__all__ = ["main", "run_in_empty_root"]

NOBODY = 65534


def run_in_empty_root(root: Path, command: Sequence[str]) -> str:
    """What a command writes whose whole file system is `root`."""
    _make_read_only(root)
    if os.geteuid() == 0:

        def enter() -> None:
            os.chroot(root)
            os.chdir("/")
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)

        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=enter, env={})
    else:
        if shutil.which("unshare") is None:
            raise PackageError("unshare is missing: apt-get install util-linux")
        inside = ["unshare", "--user", f"--root={root}", "--wd=/", *command]
        done = subprocess.run(inside, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    if done.returncode:
        raise PackageError(f"{command[0]} in an empty root: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _make_read_only(root: Path) -> None:
    for path in [*root.rglob("*"), root]:
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444)


def main(arguments: Sequence[str] | None = None) -> int:
    (archive,) = sys.argv[1:] if arguments is None else arguments
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        with tarfile.open(archive) as tar:
            tar.extractall(folder)
        (root,) = folder.iterdir()
        words = ["/mindir-llm", "run", "/bundle", "-p", "Once upon a time", "--max-tokens", "20"]
        text = run_in_empty_root(root, [*words, "--temperature", "0", "--quiet"])
        if not text.strip():
            raise PackageError("no text came out")
        print(f"in an empty root: {text.strip()}")
    except PackageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
