"""Whatever a bundle's files hold, the engine gives a clear error or a result: no crash, no hang, no overrun.
 Cases run in a worker process (bundle_worker.py). Environment variables pass through, so the same tests run
against a library built with sanitizers: MINDIR_LLM_LIBRARY and LD_PRELOAD, see `make test-asan`.
"""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hostile
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "export"))

from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from mindir_llm.export import ExportOptions, export_bundle

Case = dict[str, Any]

WORKER = Path(__file__).with_name("bundle_worker.py")
BATCH_SECONDS = 600
FLIPS = 3000 if os.environ.get("HYPOTHESIS_PROFILE") == "ci" else 600
# All eight bits, and the ways to turn a byte into its complement or a continued varint into an ended one.
MASKS = (0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFF, 0x7F)


def run_cases(cases: Sequence[Case], folder: Path) -> list[str]:
    """Results in order: "ok", "error TYPE MESSAGE" or "CRASH …"; a crash does not end the list."""
    file = folder / "cases.json"
    file.write_text(json.dumps(cases))
    results: list[str] = []
    while len(results) < len(cases):
        first = len(results)
        try:
            done = subprocess.run(
                [sys.executable, str(WORKER), str(file), str(first)],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=BATCH_SECONDS,
                check=False,
            )
            code, out, err = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired as expired:
            code, err = "timeout", ""
            out = (expired.stdout or b"").decode(errors="replace")
        for line in out.splitlines():
            if line.startswith("done "):
                results.append(line.split(" ", 2)[2])
        if len(results) < len(cases):
            assert "start " in out, f"the worker did not start: {err}"
            results.append(f"CRASH exit code {code}: {err[-1500:]}")
            if sum(result.startswith("CRASH") for result in results) >= 5:
                results += ["CRASH not run, too many crashes"] * (len(cases) - len(results))
    return results


def check(cases: Sequence[Case], folder: Path, *, refused: bool, types: Sequence[str] = ()) -> None:
    """No case may crash, nor blame the engine; where `refused`, none may pass. types: the errors allowed."""
    problems = []
    for case, result in zip(cases, run_cases(cases, folder), strict=True):
        if result == "ok":
            wrong = refused
        elif result.startswith("error "):
            _, kind, message = [*result.split(" ", 2), ""][:3]
            # MindirLLMError itself is a fault of the engine.
            wrong = kind == "MindirLLMError" or not message.strip() or bool(types and kind not in types)
        else:
            wrong = True
        if wrong:
            shown = {key: value for key, value in case.items() if key not in ("kind", "path", "content")}
            problems.append(f"{case.get('name', shown)}: {result}")
    assert not problems, f"{len(problems)} of {len(cases)}:\n" + "\n".join(problems[:20])


@pytest.fixture(scope="module")
def make_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    config = tiny_config(num_hidden_layers=1, hidden_size=40, intermediate_size=72, vocab_size=20)
    folder = tmp_path_factory.mktemp("bad")
    checkpoint = write_checkpoint(folder / "checkpoint", config, random_tensors(config))

    def make(name: str, **options: Any) -> Path:
        bundle = folder / name
        if not bundle.exists():
            export_bundle(checkpoint, bundle, ExportOptions(max_seq_len=16, prefill_chunk=4, **options))
            for file in bundle.rglob("*"):
                file.chmod(0o700 if file.is_dir() else 0o600)
        return bundle

    return make


@pytest.fixture(scope="module", params=["cpu", "cpu-int4", "cpu-kv8", "ascend", "ascend-int4"])
def bundle(request: pytest.FixtureRequest, make_bundle: Callable[..., Path]) -> Path:
    if request.param == "cpu":
        return make_bundle("cpu", dtype="float32")
    if request.param == "cpu-kv8":
        return make_bundle("cpu-kv8", dtype="float16", kv_dtype="int8")
    if request.param == "cpu-int4":
        return make_bundle("cpu-int4", dtype="float16", quant="a16w4", group_size=32)
    if request.param == "ascend-int4":
        return make_bundle("ascend-int4", dtype="float16", target="ascend", quant="a16w4", group_size=32)
    return make_bundle("ascend", dtype="float16", target="ascend", quant="a16w8")


def model_case(bundle: Path, **more: Any) -> Case:
    return {"kind": "model", "path": str(bundle), **more}


def offsets(size: int, count: int = 60) -> list[int]:
    """Lengths to cut a file to: the first few, the last few, and some in between."""
    return sorted(
        {*range(min(8, size)), *range(max(0, size - 8), size), *range(0, size, max(1, size // count))}
    )


def flips(size: int, count: int, seed: int) -> Iterator[list[list[int]]]:
    """Each yields the positions and masks of one damage; mostly one byte, sometimes a few."""
    rng = random.Random(seed)
    for number in range(count):
        yield [
            [rng.randrange(size), MASKS[number % len(MASKS)]]
            for _ in range(1 if number % 5 else rng.randint(2, 6))
        ]


def test_an_intact_bundle_runs(bundle: Path, tmp_path: Path) -> None:
    cases = [
        model_case(bundle, verify_weights=True),
        {"kind": "graph", "path": str(bundle / "decode.mindir")},
        {"kind": "graph", "path": str(bundle / "prefill.mindir")},
    ]
    assert run_cases(cases, tmp_path) == ["ok"] * 3


def test_truncated_files(bundle: Path, tmp_path: Path) -> None:
    cases = []
    for file in sorted(path for path in bundle.rglob("*") if path.is_file()):
        for length in offsets(file.stat().st_size):
            if file.name == "manifest.json" and length == file.stat().st_size - 1:
                continue  # only the last line feed is missing
            cases.append(model_case(bundle, file=str(file), truncate=length))
    check(cases, tmp_path, refused=True, types=["BundleError"])


def test_removed_files(bundle: Path, tmp_path: Path) -> None:
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    cases = [model_case(bundle, file=str(file), remove=True) for file in files]
    for case, result in zip(cases, run_cases(cases, tmp_path), strict=True):
        assert result.startswith("error BundleError"), result
        assert Path(case["file"]).name in result


@pytest.mark.parametrize("graph", ["prefill.mindir", "decode.mindir"])
def test_flipped_graphs_are_found_by_their_hash(bundle: Path, graph: str, tmp_path: Path) -> None:
    file = bundle / graph
    cases = [
        model_case(bundle, file=str(file), flips=edit) for edit in flips(file.stat().st_size, 100, seed=1)
    ]
    check(cases, tmp_path, refused=True, types=["BundleError"])


@pytest.mark.parametrize("graph", ["prefill.mindir", "decode.mindir"])
def test_flipped_graphs_opened_directly(bundle: Path, graph: str, tmp_path: Path) -> None:
    file = bundle / graph
    size = file.stat().st_size
    cases = [
        {"kind": "graph", "path": str(file), "file": str(file), "flips": edit}
        for edit in flips(size, FLIPS, seed=2)
    ]
    cases += [
        {"kind": "graph", "path": str(file), "file": str(file), "truncate": length}
        for length in offsets(size)
    ]
    check(cases, tmp_path, refused=False)


@pytest.mark.parametrize("graph", ["prefill.mindir", "decode.mindir"])
def test_flipped_graphs_with_a_matching_hash(bundle: Path, graph: str, tmp_path: Path) -> None:
    file = bundle / graph
    cases = [
        model_case(bundle, file=str(file), flips=edit, resign=True)
        for edit in flips(file.stat().st_size, FLIPS // 2, seed=3)
    ]
    check(cases, tmp_path, refused=False)


def test_flipped_weights_are_found_when_asked_for(bundle: Path, tmp_path: Path) -> None:
    file = bundle / "weights" / "data_0"
    cases = [
        model_case(bundle, file=str(file), flips=edit, verify_weights=True)
        for edit in flips(file.stat().st_size, 30, seed=4)
    ]
    check(cases, tmp_path, refused=True, types=["BundleError"])


# Fields of the manifest that the engine reads; * stands for every key.
READ = [
    "format",
    "format_version",
    "kv_dtype",
    "batch_size",
    "max_seq_len",
    "prefill_chunk",
    "graphs",
    "graphs.prefill",
    "graphs.decode",
    "inputs",
    "inputs.0",
    "inputs.4",
    "outputs",
    "outputs.0",
    "model",
    "model.vocab_size",
    "model.num_hidden_layers",
    "model.num_key_value_heads",
    "model.head_dim",
    "quantization",
    "quantization.scheme",
    "tokenizer",
    "files",
    "files.decode.mindir",
    "files.decode.mindir.size",
    "files.prefill.mindir.sha256",
    "files.weights/data_0.size",
]
WRONG_TYPES: list[Any] = [None, True, "x", "", 1.5, -1, [], {}, [[]], {"x": 1}]


def field_path(name: str) -> list[str]:
    parts = (
        name.replace("decode.mindir", "decode|mindir").replace("prefill.mindir", "prefill|mindir").split(".")
    )
    return [part.replace("|", ".") for part in parts]


def changed(manifest: dict[str, Any], name: str, change: Callable[[Any, Any], None]) -> str:
    result = copy.deepcopy(manifest)
    *parents, last = field_path(name)
    place: Any = result
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    change(place, int(last) if isinstance(place, list) else last)
    return json.dumps(result)


def put(value: Any) -> Callable[[Any, Any], None]:
    def change(place: Any, key: Any) -> None:
        place[key] = value

    return change


def value_at(manifest: dict[str, Any], name: str) -> Any:
    place: Any = manifest
    for part in field_path(name):
        place = place[int(part)] if isinstance(place, list) else place[part]
    return place


def remove(place: Any, key: Any) -> None:
    del place[key]


def test_wrong_manifest_fields(bundle: Path, tmp_path: Path) -> None:
    file = bundle / "manifest.json"
    manifest = json.loads(file.read_text())
    cases = []

    def add(name: str, content: str) -> None:
        cases.append(model_case(bundle, name=name, file=str(file), content=content))

    granularity = ["kv_granularity"] if manifest["kv_dtype"] == "int8" else []
    for name in READ + granularity:
        add(f"{name} missing", changed(manifest, name, remove))
        old = value_at(manifest, name)
        for wrong in WRONG_TYPES:
            if wrong == old or (old == 1 and wrong is True):
                continue
            add(f"{name}: {wrong!r}", changed(manifest, name, put(wrong)))
        if isinstance(old, int):
            for number in (0, old + 1, old * 1000, 2**31, 2**32 + old, 2**63, 2**64 + old, -(2**63)):
                add(f"{name}: {number}", changed(manifest, name, put(number)))
    for field in ("graphs.prefill", "graphs.decode"):
        for text in (
            "../decode.mindir",
            "/etc/passwd",
            "weights/../../cpu/decode.mindir",
            "manifest.json",
            ".",
        ):
            add(f"{field}: {text}", changed(manifest, field, put(text)))
    for text in ("../x", "/etc/passwd", "a/../../x", "..", "weights/../../x"):
        entry = {"size": 1, "sha256": "0" * 64}
        add(f"files: {text}", changed(manifest, "files", lambda p, k, t=text, e=entry: p[k].update({t: e})))
    add("a digest of another file", changed(manifest, "files.decode.mindir.sha256", put("0" * 64)))
    add(
        "graphs exchanged",
        json.dumps(manifest | {"graphs": {"prefill": "decode.mindir", "decode": "prefill.mindir"}}),
    )
    add("a list", "[]")
    add("not JSON", "{")
    add("two documents", json.dumps(manifest) + "{}")
    add("nested lists", "[" * 100000 + "]" * 100000)
    add("nested objects", '{"a":' * 100000 + "1" + "}" * 100000)
    add("a long number", '{"format_version": ' + "9" * 100000 + "}")
    check(cases, tmp_path, refused=True, types=["BundleError", "UnsupportedError"])


def test_fields_that_the_engine_does_not_read_do_no_harm(bundle: Path, tmp_path: Path) -> None:
    file = bundle / "manifest.json"
    manifest = json.loads(file.read_text())
    others = [
        name
        for name in (*manifest, *(f"model.{key}" for key in manifest["model"]))
        if name not in READ and name != "kv_granularity"
    ]
    cases = []
    for name in others:
        cases.append(model_case(bundle, name=name, file=str(file), content=changed(manifest, name, remove)))
        for wrong in WRONG_TYPES:
            text = changed(manifest, name, put(wrong))
            cases.append(model_case(bundle, name=f"{name}: {wrong!r}", file=str(file), content=text))
    check(cases, tmp_path, refused=False)


def test_an_unknown_version_is_named(bundle: Path, tmp_path: Path) -> None:
    file = bundle / "manifest.json"
    text = changed(json.loads(file.read_text()), "format_version", put(7))
    (result,) = run_cases([model_case(bundle, file=str(file), content=text)], tmp_path)
    assert result.startswith("error BundleError")
    assert "format_version" in result
    assert "7" in result


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """A folder for crafted files, with a weight file and with things outside of it that must not be read."""
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "data").write_bytes(bytes(1008))
    (tmp_path / "secret").write_bytes(bytes(1008))
    (folder / "link").symlink_to(tmp_path / "secret")
    return folder


def test_crafted_graphs_are_refused(workshop: Path, tmp_path: Path) -> None:
    cases = []
    for number, (name, content) in enumerate(hostile.refused()):
        path = workshop / f"{number}.mindir"
        path.write_bytes(content)
        cases.append({"kind": "graph", "path": str(path), "name": name})
    # The worker makes inputs of the declared size; for those it cannot make, opening is all there is to try.
    unopened = {"input of 2^62 bytes", "input of negative size"}
    check([case for case in cases if case["name"] not in unopened], tmp_path, refused=True)
    check([case for case in cases if case["name"] in unopened], tmp_path, refused=False)


def test_unusual_graphs_are_accepted(workshop: Path, tmp_path: Path) -> None:
    for number, (name, content) in enumerate(hostile.accepted()):
        path = workshop / f"{number}.mindir"
        path.write_bytes(content)
        assert run_cases([{"kind": "graph", "path": str(path)}], tmp_path) == ["ok"], name


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    cases = [
        {"kind": kind, "path": path}
        for kind in ("graph", "model")
        for path in ("", str(tmp_path), "/absent", "/dev/null")
    ]
    check(cases, tmp_path, refused=True, types=["BundleError", "InvalidArgumentError"])
