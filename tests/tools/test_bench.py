"""`mindir-llm bench` on the demo model, and its arithmetic against counts made another way."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mindir_llm.export import ExportOptions, export_bundle
from mindir_llm.runtime import LLM
from mindir_llm.runtime.machine import MachineSpeed
from mindir_llm.runtime.native_backend import NativeSession
from mindir_llm.tools.bench import BenchError, command, engine, worker
from mindir_llm.tools.bench.accounting import costs, linear_bytes
from mindir_llm.tools.bench.command import main
from mindir_llm.tools.bench.measure import Plan, full_plan, measure, quick_plan, run_profile
from mindir_llm.tools.bench.processes import run_worker
from mindir_llm.tools.bench.report import profile_text, report_text
from mindir_llm.tools.bench.subject import make_bundle, make_checkpoint
from mindir_llm.tools.random_checkpoint import SHAPES, tensor_shapes

CHECKPOINT = Path(__file__).resolve().parents[2] / "tools" / "demo_model" / "checkpoint"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """demo(quant) -> bundle, exported once."""
    made: dict[str, Path] = {}

    def make(quant: str) -> Path:
        if quant not in made:
            folder = tmp_path_factory.mktemp("bench") / quant
            made[quant] = export_bundle(CHECKPOINT, folder, ExportOptions(quant=quant, max_seq_len=160))
        return made[quant]

    return make


def _describe(bundle: Path) -> dict[str, Any]:
    return run_worker({"step": "describe", "bundle": str(bundle), "threads": 1, "exact": False})


def _checkpoint_tensors() -> dict[str, list[int]]:
    """Shapes from the safetensors headers themselves."""
    shapes: dict[str, list[int]] = {}
    for path in CHECKPOINT.glob("*.safetensors"):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        shapes.update({name: one["shape"] for name, one in header.items() if name != "__metadata__"})
    return shapes


@pytest.mark.parametrize("quant", ["none", "a16w8"])
def test_bytes_of_a_token_equal_an_independent_count(demo: Callable[[str], Path], quant: str) -> None:
    facts = _describe(demo(quant))
    cost = costs(facts["manifest"], facts["parameters"])
    config = json.loads((CHECKPOINT / "config.json").read_text())
    tensors = _checkpoint_tensors()
    assert config["tie_word_embeddings"]  # so its table is read once as the head, in the head's type
    item = {"none": 2, "a16w8": 1}[quant]
    matrices = [shape for shape in tensors.values() if len(shape) == 2]
    vectors = [shape for shape in tensors.values() if len(shape) == 1]
    expected = sum(rows * columns * item for rows, columns in matrices) + sum(2 * n for (n,) in vectors)
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    if quant == "a16w8":
        expected += sum(2 * rows for rows, _ in matrices)  # one float16 scale a row
        expected += 2 * config["hidden_size"]  # and one row of the float16 table for the token itself
    expected += 2 * 4 * head_dim  # one row of each rotary table, float32
    assert cost.weight_bytes == expected
    rows = 100
    kv_values = config["num_hidden_layers"] * 2 * config["num_key_value_heads"] * head_dim
    assert cost.decode_bytes(rows) == expected + kv_values * 2 * rows


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_multiplications_of_a_prompt_equal_an_independent_count(shape: str) -> None:
    config = dict(SHAPES[shape])
    config.setdefault("head_dim", config["hidden_size"] // config["num_attention_heads"])
    cost = costs({"model": config, "kv_dtype": "float16"}, [])
    shapes = dict(tensor_shapes(config))
    body = sum(
        one[0] * one[1]
        for name, one in shapes.items()
        if len(one) == 2 and "embed" not in name and "lm_head" not in name
    )
    head = config["hidden_size"] * config["vocab_size"]
    assert cost.prefill_macs(7) == 7 * body + head


def test_bytes_of_int8_caches() -> None:
    model = {
        "hidden_size": 64,
        "intermediate_size": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "num_hidden_layers": 3,
        "vocab_size": 10,
    }
    rows = {
        name: costs({"model": model, **kv}, []).decode_bytes(1)
        for name, kv in {
            "float16": {"kv_dtype": "float16"},
            "channels": {"kv_dtype": "int8", "kv_granularity": "per_channel"},
            "tokens": {"kv_dtype": "int8", "kv_granularity": "per_token"},
        }.items()
    }
    assert rows == {"float16": 3 * 2 * 2 * 32, "channels": 3 * 2 * 32, "tokens": 3 * 2 * (32 + 2 * 4)}


def test_bytes_of_named_linear_operators() -> None:
    parameters = [
        {"name": "a.q_proj.weight", "nbytes": 10},
        {"name": "a.q_proj.weight_scale", "nbytes": 1},
        {"name": "a.k_proj.weight", "nbytes": 100},
    ]
    assert linear_bytes("a.q_proj", parameters) == linear_bytes("a.q_proj.weight", parameters) == 11
    assert linear_bytes("a.q_proj+a.k_proj", parameters) == 111
    assert linear_bytes("a.q", parameters) is None
    assert linear_bytes("", parameters) is None


def test_quick_report(
    demo: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, file = demo("a16w8"), tmp_path / "report.json"
    assert main([str(bundle), "--quick", "--threads", "1", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    report = json.loads(file.read_text())
    assert (report["format"], report["format_version"]) == ("mindir-llm-bench", 1)
    assert report["machine"]["threads"] == 1
    assert [one["tokens"] for one in report["prefill"]] == [32, 128]
    assert [one["context"] for one in report["decode"]] == [16]
    assert "decode at context 256: left out, it does not fit max_seq_len 160" in report["notes"]
    samples = [one["tokens_per_second"] for one in report["prefill"] + report["decode"]]
    samples += [report["load_seconds"], report["first_token"]["seconds"]]
    for sample in samples:
        assert sample["count"] == 2
        assert 0 < sample["low"] <= sample["median"] <= sample["high"]
    facts = _describe(bundle)
    cost = costs(facts["manifest"], facts["parameters"])
    # Eight steps from 16 tokens on attend to 17 … 24.
    assert report["decode"][0]["bytes_per_token"] == sum(map(cost.decode_bytes, range(17, 25))) / 8
    memory = report["memory"]
    assert memory["floor"] == facts["weight_bytes"] + facts["kv_cache_bytes"]
    assert memory["peak"] is None or memory["peak"] >= memory["before_open"] > 0
    assert (
        report["bundle"]["file_bytes"]
        == sum(p.stat().st_size for p in bundle.rglob("*") if p.is_file())
        - (bundle / "manifest.json").stat().st_size
    )
    for text in ("prefill", "decode at", "first token", "load", "peak memory", "left out"):
        assert text in printed


MACHINE = {"read_bandwidth": 20e9, "int8_macs": 500e9, "matrix_macs": 0.0}


def _fake(
    steps: dict[str, Any], requests: list[dict[str, Any]] | None = None
) -> Callable[[dict[str, Any], Callable[[int], None]], dict[str, Any]]:
    def run(request: dict[str, Any], progress: Callable[[int], None]) -> dict[str, Any]:
        if requests is not None:
            requests.append(request)
        result: dict[str, Any] = steps[request["step"]]
        return result

    return run


def _steps(machine: list[dict[str, float]]) -> dict[str, Any]:
    """Of a fake run: one reading of the machine for each of the three repetitions."""
    model = {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "num_hidden_layers": 3,
        "vocab_size": 10,
    }
    manifest = {
        "model": model,
        "producer": "test",
        "target": "cpu",
        "quantization": {"scheme": "a16w8"},
        "dtype": "float16",
        "kv_dtype": "float16",
        "files": {"a": {"size": 1000}},
    }
    return {
        "describe": {
            "manifest": manifest,
            "parameters": [{"name": "lm_head.weight", "dims": [10, 8], "nbytes": 80}],
            "max_seq_len": 64,
            "prefill_chunk": 8,
            "threads": 2,
            "weight_bytes": 80,
            "kv_cache_bytes": 20,
        },
        "memory": {"before_open": 30, "after_open": 40, "peak": 130},
        "load": {"seconds": 0.25},
        "speed": {
            "prefill": [
                {
                    "tokens": 16,
                    "seconds": [2.0, 1.0, 4.0],
                    "peak_macs": [max(one["int8_macs"], one["matrix_macs"]) for one in machine],
                }
            ],
            "decode": [
                {
                    "context": 4,
                    "step_seconds": [[0.5, 0.5], [0.25, 0.25], [1.0, 1.0]],
                    "readable_bytes": [
                        one["read_bandwidth"] * s for one, s in zip(machine, (1.0, 0.5, 2.0), strict=False)
                    ],
                }
            ],
            "first_token": [1.0, 0.25, 0.5],
            "machine": machine,
        },
    }


PLAN = Plan((16,), (4,), 2, 3, 8, 4)


def test_shares_are_taken_within_a_repetition() -> None:
    # The machine halves its speed in the last repetition, and so does the work: the share stays.
    slow = {name: value / 2 for name, value in MACHINE.items()}
    fast = {name: value * 2 for name, value in MACHINE.items()}
    report = measure("b", PLAN, runner=_fake(_steps([MACHINE, fast, slow])))
    cost = costs(_steps([])["describe"]["manifest"], _steps([])["describe"]["parameters"])
    prefill = report["prefill"][0]
    assert prefill["tokens_per_second"] == {"median": 8.0, "low": 4.0, "high": 16.0, "count": 3}
    share = cost.prefill_macs(16) / 2.0 / 500e9
    assert prefill["share_of_peak"]["low"] == pytest.approx(share) == prefill["share_of_peak"]["high"]
    decode = report["decode"][0]
    assert decode["bytes_per_token"] == 80 + 3 * 2 * 4 * 2 * 5.5
    share = decode["bytes_per_token"] * 2.0 / 20e9
    assert decode["share_of_read_bandwidth"]["median"] == pytest.approx(share)
    assert report["first_token"]["decode_steps"]["median"] == 1.0
    assert report["memory"]["floor"] == 100


def test_every_piece_of_work_is_held_against_the_machine_of_its_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 0.0
    fed: list[tuple[int, int]] = []  # (position, tokens)

    class Fake:
        """An engine that takes half a second for whatever it is fed."""

        info = SimpleNamespace(vocab_size=10, max_seq_len=64)
        position = 0

        def feed(self, tokens: Sequence[int]) -> None:
            nonlocal clock
            clock += 0.5
            fed.append((self.position, len(tokens)))
            self.position += len(tokens)

        def rewind(self, position: int) -> None:
            self.position = position

    bandwidths = iter([100.0, 100.0, 100.0, 60.0, 20.0])
    macs = iter([10.0, 20.0, 30.0, 40.0, 50.0])

    def probe(threads: int) -> dict[str, float]:
        assert threads == 2
        return {"read_bandwidth": next(bandwidths), "int8_macs": next(macs), "matrix_macs": 0.0}

    monkeypatch.setattr(worker, "_open", lambda _: Fake())
    monkeypatch.setattr(worker, "machine_speed", probe)
    monkeypatch.setattr(worker, "_progress", lambda _: None)
    monkeypatch.setattr(worker, "time", SimpleNamespace(perf_counter=lambda: clock))
    steps = worker.DECODE_PIECE + 4
    result = worker.speed(
        {"bundle": "b", "threads": 2, "prefill": [8], "contexts": [6], "decode_steps": steps, "repeat": 1}
    )
    assert result["prefill"] == [{"tokens": 8, "seconds": [0.5], "peak_macs": [15.0]}]
    (decode,) = result["decode"]
    assert decode["step_seconds"] == [[0.5] * steps]
    # Two pieces: 8 s between readings of 100 and 60, 2 s between 60 and 20.
    assert decode["readable_bytes"] == [worker.DECODE_PIECE * 0.5 * 80 + 4 * 0.5 * 40]
    assert len(result["machine"]) == 5
    # Each piece begins with a step that does not count: the prompt, the first token, …
    assert fed[5:9] == [(0, 1), (0, 8), (0, 1), (0, 1)]
    # … and decode, whose steps that do count follow the context without a gap.
    at = fed.index((6, 1))
    pieces = [[6, *range(6, 22)], [22, *range(22, 26)]]
    assert fed[at:] == [(position, 1) for piece in pieces for position in piece]


def test_the_matrix_unit_is_the_peak_where_there_is_one() -> None:
    matrix = {**MACHINE, "matrix_macs": 4 * MACHINE["int8_macs"]}
    plain = measure("b", PLAN, runner=_fake(_steps([MACHINE] * 3)))
    report = measure("b", PLAN, runner=_fake(_steps([matrix] * 3)))
    assert report["prefill"][0]["share_of_peak"]["median"] == pytest.approx(
        plain["prefill"][0]["share_of_peak"]["median"] / 4
    )
    assert "2000 in the matrix unit" in report_text(report)


def test_what_was_not_measured_is_not_shown() -> None:
    steps = _steps([MACHINE] * 3)
    steps["memory"] = {"before_open": None, "after_open": None, "peak": None}
    report = measure("b", PLAN, runner=_fake(steps))
    assert report["memory"]["peak"] is None
    assert "peak memory   – resident" in report_text(report)
    # A report of another producer, without readings of the machine: the format allows null.
    report["prefill"][0]["share_of_peak"] = report["decode"][0]["share_of_read_bandwidth"] = None
    report["machine"].update(read_bandwidth=None, int8_macs=None, matrix_macs=None)
    text = report_text(report)
    assert "%" not in text
    assert "peak memory   – resident" in text


def test_threads_of_every_step_are_those_of_the_first() -> None:
    requests: list[dict[str, Any]] = []
    measure("b", PLAN, runner=_fake(_steps([MACHINE] * 3), requests))
    assert requests[0]["threads"] is None
    assert {request["threads"] for request in requests[1:]} == {2}


def test_lengths_that_do_not_fit_are_left_out() -> None:
    plan, notes = full_plan().fitting(600)
    assert plan.prefill == (32, 128, 512)
    assert plan.contexts == (16, 512)
    assert len(notes) == 3
    plan, notes = full_plan().fitting(560)
    assert (plan.memory_prompt, plan.memory_steps) == (496, 64)
    assert notes[-1] == "peak memory: after 496 prompt tokens and 64 decode steps"
    assert full_plan().fitting(2048) == (full_plan(), [])
    with pytest.raises(BenchError, match="too little to measure"):
        quick_plan().fitting(20)


def test_profile_table() -> None:
    linear = [
        {
            "operator": "Linear",
            "name": f"model.layers.{i}.mlp.up_proj",
            "calls": 10,
            "seconds": 0.001,
        }
        for i in range(2)
    ]
    other = [{"operator": "Attention", "name": "attention", "calls": 20, "seconds": 0.006}]
    parameters = [{"name": f"model.layers.{i}.mlp.up_proj.weight", "nbytes": 1_000_000} for i in range(2)]
    text = profile_text(
        {
            "report": {"prefill": [], "decode": linear + other},
            "parameters": parameters,
            "prompt_tokens": 8,
            "decode_steps": 10,
        }
    )
    rows = [line.split() for line in text.splitlines()]
    assert ["Attention", "20", "6.00", "75.0%", "–"] in rows
    assert ["Linear", "model.layers.*.mlp.up_proj", "20", "2.00", "25.0%", "10.0"] in rows
    assert "decode, 10 steps: 8.0 ms in operators" in text


PROFILE = {
    "prefill": [{"operator": "Linear", "name": "lm_head", "calls": 1, "seconds": 0.5}],
    "decode": [{"operator": "Attention", "name": "", "calls": 16, "seconds": 0.25}],
}


def test_profile_command(
    demo: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps = {**_steps([MACHINE]), "profile": PROFILE}
    monkeypatch.setattr(
        command, "run_profile", lambda *args, **kwargs: run_profile(*args, **kwargs, runner=_fake(steps))
    )
    file = tmp_path / "profile.json"
    assert main([str(demo("a16w8")), "--profile", "--json", str(file)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["Linear", "lm_head", "1", "500.00", "100.0%", "0.0"] in rows
    assert ["Attention", "16", "250.00", "100.0%", "–"] in rows
    assert json.loads(file.read_text())["report"] == PROFILE


def test_the_engine_is_asked_for_its_profile(
    demo: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(NativeSession, "profile", lambda _, on: asked.append(on), raising=False)
    monkeypatch.setattr(NativeSession, "profile_report", lambda _: PROFILE, raising=False)
    request = {"bundle": str(demo("a16w8")), "threads": 1, "exact": False, "tokens": 9, "decode_steps": 2}
    assert worker.profile(request) == PROFILE
    assert asked == [True]


def test_exact_is_passed_on(demo: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bool] = []

    def with_exact(bundle: str, threads: int | None, *, exact: bool = False) -> LLM:
        given.append(exact)
        return LLM(bundle, threads)

    monkeypatch.setattr(engine, "LLM", with_exact)
    engine.Engine(str(demo("a16w8")), 1, True, {})
    assert given == [True]


def test_the_probe_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = MachineSpeed(read_bandwidth=3e9, int8_macs=5e11, matrix_macs=0.0)
    asked: list[int] = []
    monkeypatch.setattr(engine.machine, "measure", lambda threads: asked.append(threads) or speed)
    assert engine.machine_speed(3) == {"read_bandwidth": 3e9, "int8_macs": 5e11, "matrix_macs": 0.0}
    assert asked == [3]


def test_checkpoints_are_made_once(tmp_path: Path) -> None:
    folder = make_checkpoint("tiny", tmp_path)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())
    assert make_checkpoint("tiny", tmp_path) == folder
    assert sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("quant", "scheme", "group_size", "symmetric", "activations"),
    [
        ("a16w4-g64-zero", "a16w4", 64, False, None),
        ("a16w8-g32", "a16w8", 32, True, None),
        ("a8w8", "a8w8", 0, True, "per-tensor"),
    ],
)
def test_bundles_of_a_shape_are_of_every_scheme(
    quant: str, scheme: str, group_size: int, symmetric: bool, activations: str | None, tmp_path: Path
) -> None:
    bundle = make_bundle("tiny", quant, tmp_path)
    found = json.loads((bundle / "manifest.json").read_text())["quantization"]
    form = found["scheme"], found.get("group_size", 0), found.get("symmetric", True)
    assert form == (scheme, group_size, symmetric)
    assert found.get("activation_granularity") == activations
    assert make_bundle("tiny", quant, tmp_path) == bundle


def test_lengths_of_a_plan(
    demo: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plans: list[Plan] = []

    def stop(bundle: str, plan: Plan, **_: object) -> None:
        plans.append(plan)
        raise BenchError("enough")

    monkeypatch.setattr(command, "measure", stop)
    assert main([str(demo("a16w8")), "--prefill", "7,9", "--contexts", "5"]) == 2
    assert (plans[0].prefill, plans[0].contexts) == ((7, 9), (5,))
    for wrong in ("0", "3,x", ""):
        with pytest.raises(SystemExit):
            main([str(demo("a16w8")), "--prefill", wrong])
    assert "--prefill" in capsys.readouterr().err


def test_tokenizers(demo: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time, there was a kind fox. " * 50)
    assert main([str(CHECKPOINT), "--tokenizer", str(text), "--repeat", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    tokens = len(LLM(demo("a16w8")).get_tokenizer().encode(text.read_text(), add_special_tokens=False))
    assert lines[0] == f"0.00 MB, {tokens:,} tokens, {2000 / tokens:.2f} bytes each"
    assert [line.split()[0] for line in lines[1:5]] == ["open", "encode", "decode", "stream"]
    assert all(float(line.split()[1]) > 0 for line in lines[2:5])
    assert lines[5] == "one thread, medians of 3 repetitions"
    (tmp_path / "empty.txt").touch()
    for wrong, message in (
        ([str(CHECKPOINT), "--tokenizer", str(tmp_path / "empty.txt")], "has no tokens"),
        ([str(tmp_path), "--tokenizer", str(text)], "tokenizer"),
        (["--shape", "tiny", "--tokenizer", str(text)], "--tokenizer needs a BUNDLE"),
        ([str(CHECKPOINT), "--tokenizer", str(text), "--profile"], "--profile does not go with --tokenizer"),
    ):
        assert main(wrong) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_plot(demo: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from mindir_llm.tools.bench.plot import plot_report

    report = measure("b", PLAN, runner=_fake(_steps([MACHINE] * 3)))
    for name in ("a.svg", "a.png"):
        plot_report(report, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000


def test_reports_are_shown_and_drawn_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    report = measure("b", PLAN, runner=_fake(_steps([MACHINE] * 3)))
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report))
    assert main([str(file), "--plot", str(tmp_path / "a.svg")]) == 0
    assert capsys.readouterr().out == report_text(report) + "\n"
    assert (tmp_path / "a.svg").stat().st_size > 1000
    for text, message in (
        ("{", "no report"),
        ("[]", "no report"),
        (json.dumps({**report, "format_version": 9}), "9, expected 'mindir-llm-bench' 1"),
        (json.dumps({**report, "prefill": 1}), "damaged report"),
    ):
        file.write_text(text)
        assert main([str(file)]) == 2
        error = capsys.readouterr().err
        assert str(file) in error and message in error and error.count("\n") == 1
    assert main([str(file), "--threads", "2"]) == 2
    assert "--threads is for measuring" in capsys.readouterr().err


def test_without_matplotlib_a_plot_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(command, "measure", lambda *_, **__: pytest.fail("measured first"))
    assert main([str(tmp_path), "--plot", str(tmp_path / "a.png")]) == 2
    assert "pip install 'mindir-llm[bench]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a BUNDLE or --shape"),
        (["BUNDLE", "--shape", "tiny"], "give a BUNDLE or --shape"),
        (["BUNDLE", "--quant", "none"], "--quant goes with --shape"),
        (["absent"], "absent: no such folder"),
        (["EMPTY"], "manifest.json"),
        (["BUNDLE", "--threads", "0"], "--threads: 0 is not positive"),
        (["BUNDLE", "--repeat", "-1"], "--repeat: -1 is not positive"),
        (["BUNDLE", "--json", "absent/file.json"], "does not exist"),
        (["BUNDLE", "--plot", "figure.pdf"], "ends in .png or .svg"),
        (["BUNDLE", "--plot", "figure.png", "--profile"], "--profile does not make"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    message: str,
    demo: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"BUNDLE": str(demo("a16w8")), "EMPTY": str(tmp_path)}
    assert main([names.get(argument, argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mindir-llm: error: ") and error.count("\n") == 1
    assert message in error


def test_a_worker_that_dies_is_an_error(demo: Callable[[str], Path]) -> None:
    with pytest.raises(BenchError, match="status 1: KeyError"):
        run_worker({"step": "describe", "bundle": str(demo("a16w8"))})
