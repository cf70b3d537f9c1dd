"""Opens and runs damaged files, one after the other, in a process of its own, so that a crash is seen as one.

    python bundle_worker.py CASES.json FIRST
 CASES.json is a list of cases. A case copies `source` (a bundle folder or a .mindir file) nowhere: it applies
its edits to the file in place, tries it and restores it. For each case a line is printed, "start N" before
and "done N RESULT" after; RESULT is "ok" or "error TYPE MESSAGE". A case that takes longer than SECONDS ends
the process.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import json
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mindir_llm.runtime import Graph
from mindir_llm.runtime.errors import MindirLLMError
from mindir_llm.runtime.native_backend import NativeModel

SECONDS = 60
MEMORY = 8 << 30
LARGEST_INPUT = 1 << 24


def main(path: str, first: int) -> None:
    # Sanitizers reserve terabytes of address space for themselves.
    if "asan" not in os.environ.get("LD_PRELOAD", ""):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    cases = json.loads(Path(path).read_text())
    for number in range(first, len(cases)):
        print(f"start {number}", flush=True)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        result = attempt(cases[number])
        faulthandler.cancel_dump_traceback_later()
        print(f"done {number} {result}", flush=True)


def attempt(case: dict[str, Any]) -> str:
    try:
        with edited(case):
            if case["kind"] == "graph":
                run_graph(case["path"])
            else:
                run_model(case["path"], case.get("verify_weights", False))
    except MindirLLMError as error:
        return f"error {type(error).__name__} {error}"
    return "ok"


@contextlib.contextmanager
def edited(case: dict[str, Any]) -> Iterator[None]:
    """Apply the case's edit to its file; undo it afterwards."""
    if "file" not in case:
        yield
        return
    file = Path(case["file"])
    manifest = file.parent / "manifest.json"
    original, original_manifest = file.read_bytes(), manifest.read_bytes() if manifest.is_file() else b""
    try:
        if case.get("remove"):
            file.unlink()
        else:
            data = bytearray(original[: case.get("truncate", len(original))])
            for position, mask in case.get("flips", []):
                data[position] ^= mask
            if "content" in case:
                data = bytearray(case["content"].encode())
            file.write_bytes(data)
        if case.get("resign"):
            fields = json.loads(original_manifest)
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            fields["files"][file.name] = {"size": file.stat().st_size, "sha256": digest}
            manifest.write_text(json.dumps(fields))
        yield
    finally:
        file.write_bytes(original)
        if case.get("resign"):
            manifest.write_bytes(original_manifest)


def run_graph(path: str) -> None:
    with Graph(path, threads=1) as graph:
        graph.describe()
        arrays = []
        for info in graph.inputs:
            shape = tuple(1 if size == -1 else size for size in info.shape)
            if any(size < 0 for size in shape) or int(np.prod(shape, dtype=object)) > LARGEST_INPUT:
                return
            if info.dtype in ("bfloat16", "qint4x2"):
                return
            arrays.append(np.zeros(shape, info.dtype))
        for value in graph.run(arrays).values():
            assert all(size >= 0 for size in value.shape)


def run_model(path: str, verify_weights: bool) -> None:
    model = NativeModel(path, threads=1, verify_weights=verify_weights)
    session = model.new_session()
    try:
        for ids in ([1, 2, 3], [4]):
            session.feed([(slot, ids) for slot in range(model.info.batch_size)])
            assert session.logits(0).shape == (model.info.vocab_size,)
    finally:
        session.close()
        model.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
