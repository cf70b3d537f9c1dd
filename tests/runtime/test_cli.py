"""The command line: flags, errors, exit codes, output."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from fake_backend import ByteTokenizer, FakeModel, says
from processes import interrupt_before_the_prompt

from mindir_llm.runtime import LLM, SamplingParams, cli, inspection
from mindir_llm.runtime.sampling import options

COMMAND = [sys.executable, "-m", "mindir_llm.runtime.cli"]


@pytest.fixture
def speaker(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """`run` gets a model that says one thing; returns the list of (prompt, params) it was asked."""
    asked: list[Any] = []

    class Speaker(LLM):
        def stream(self, prompt: Any, sampling_params: SamplingParams | None = None) -> Any:
            asked.append((prompt, sampling_params))
            return super().stream("|", sampling_params)

    def make(bundle: str, threads: int | None = None, **options: Any) -> LLM:
        llm = Speaker.from_backend(FakeModel(says("hé 你")), ByteTokenizer())
        asked.append(threads)
        return llm

    monkeypatch.setattr("mindir_llm.runtime.llm.LLM", make)
    return asked


def test_run_prints_text_then_speed(speaker: list[Any], capsysbinary: Any) -> None:
    arguments = [
        "run",
        "bundle",
        "-p",
        "say",
        "--temperature",
        "0",
        "--threads",
        "3",
        "--stop",
        "x",
        "--stop",
        "y",
    ]
    assert cli.main(arguments) == 0
    captured = capsysbinary.readouterr()
    assert captured.out.decode() == "hé 你\n"
    assert b"prompt 2 tokens, " in captured.err and b"decode 7 tokens, " in captured.err
    assert speaker == [3, ("say", SamplingParams(temperature=0, max_tokens=256, stop=("x", "y")))]


def test_echo_and_quiet(speaker: list[Any], capsysbinary: Any) -> None:
    assert cli.main(["run", "bundle", "-p", "say ", "--echo", "--quiet", "--seed", "1", "--top-k", "1"]) == 0
    captured = capsysbinary.readouterr()
    assert (captured.out.decode(), captured.err) == ("say hé 你\n", b"")


def test_prompt_from_file_and_stdin(
    speaker: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompt").write_text("é\n\n", encoding="utf-8")
    assert cli.main(["run", "bundle", "--prompt-file", str(tmp_path / "prompt"), "--top-k", "1"]) == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("你".encode())))
    assert cli.main(["run", "bundle", "-p", "-", "--top-k", "1"]) == 0
    assert [entry[0] for entry in speaker if isinstance(entry, tuple)] == ["é\n", "你"]


def test_every_sampling_option_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    text = capsys.readouterr().out
    for name in options():
        flag = "--" + name.replace("_", "-").replace("token-ids", "token-id").replace("bad-words", "bad-word")
        assert (f" {flag}" in text) == (name not in ("logprobs", "prompt_logprobs", "n", "best_of")), name
    assert "examples:" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere", "-p", "x"], "nowhere"),
        (["run", "x"], "one of the arguments -p/--prompt --prompt-file is required"),
        (["run", "x", "-p", "a", "--prompt-file", "b"], "not allowed with"),
        (["run", "x", "-p", "a", "--temperature", "-1"], r"temperature is -1.0, expected a number in [0, ∞)"),
        (["run", "x", "-p", "a", "--top-k", "many"], "argument --top-k: invalid integer value: 'many'"),
        (["run", "x", "-p", "a", "--heat", "1"], "unrecognized arguments: --heat 1"),
        (["run", "x", "-p", "a\udcff"], "--prompt is not valid UTF-8 (at character 1)"),
        (["run", "x", "--prompt-file", "/nowhere"], "/nowhere: No such file or directory"),
        (["run", "x", "-p", "a", "--threads", "0"], "threads is 0, expected None or an int in [1, 1024]"),
        (["inspect", "/nowhere.mindir"], "/nowhere.mindir"),
        (["boil"], "invalid choice: 'boil'"),
        ([], "required: COMMAND"),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: Any = cli.main(arguments)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("mindir-llm: error: ") and error.count("\n") == 1
    assert message in error


def test_bad_utf8_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompt").write_bytes(b"abc\xff")
    assert cli.main(["run", "x", "--prompt-file", str(tmp_path / "prompt")]) == 2
    assert "not valid UTF-8: byte 0xff at offset 3" in capsys.readouterr().err


def test_a_command_whose_dependencies_are_missing_fails_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "needs_mindspore.py").write_text("import mindspore_that_is_absent\n")
    (tmp_path / "late.py").write_text(
        "def register(commands):\n"
        "    def run(arguments):\n"
        "        raise ModuleNotFoundError(\"No module named 'mindspore'\", name='mindspore')\n"
        "    commands.add_parser('late', help='x').set_defaults(run=run)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        EntryPoint("early", "needs_mindspore:register", cli.GROUP),
        EntryPoint("late", "late:register", cli.GROUP),
    ]
    monkeypatch.setattr(cli, "entry_points", lambda group: points)
    assert cli.main(["early", "--any", "thing"]) == 2
    assert "this needs mindspore_that_is_absent, which is not installed" in capsys.readouterr().err
    assert cli.main(["late"]) == 2
    assert "which is not installed: pip install 'mindir-llm[export]'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in ("early", "late", "run", "inspect"))


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mindir_llm.runtime.commands._prompt", lambda _: [][0])
    with pytest.raises(IndexError):
        cli.main(["run", "x", "-p", "a"])


# -- the real command, with the engine


def test_inspect(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(tiny_bundle)]) == 0
    text = capsys.readouterr().out
    for expected in (
        "target        cpu, float32",
        "quantization  none",
        "KV cache",
        "key_cache.0 … value_cache.1 (4)",
    ):
        assert expected in text
    assert cli.main(["inspect", str(tiny_bundle), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    layers, caches, heads, rows, width, float32 = 2, 2, 2, 64, 8, 4
    assert report["memory"]["kv_cache"] == layers * caches * heads * rows * width * float32
    assert set(report["graphs"]) == {"prefill", "decode"}
    assert cli.main(["inspect", str(tiny_bundle / "decode.mindir")]) == 0
    assert "operators     " in capsys.readouterr().out


def test_inspect_tells_int8_caches_from_their_scales(
    exported: Callable[..., Path], tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = exported(tiny_checkpoint, dtype="float32", kv_dtype="int8")
    assert cli.main(["inspect", str(bundle)]) == 0
    text = capsys.readouterr().out
    for expected in (
        "KV cache int8 per_token",
        "key_cache.0 … value_cache.1 (4): int8[1, 2, 64, 8]",
        "key_cache_scale.0 … value_cache_scale.1 (4): float32[1, 2, 64, 1]",
        "fused.CacheScale 4",
    ):
        assert expected in text
    assert cli.main(["inspect", str(bundle), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["memory"]["kv_cache"] == 2 * 2 * 2 * 64 * (8 + 4)


@pytest.mark.parametrize(
    ("choices", "line"),
    [
        ({"quant": "a16w8"}, "a16w8 (rtn, int8 weights, one scale per output channel)"),
        ({"quant": "a16w4"}, "a16w4 (rtn, int4 weights, one scale per 32 inputs of an output channel)"),
        ({"quant": "a16w4", "group_size": 0}, "a16w4 (rtn, int4 weights, one scale per output channel)"),
    ],
)
def test_inspect_says_how_weights_are_quantized(
    choices: dict[str, Any],
    line: str,
    tiny_checkpoint: Path,
    exported: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["inspect", str(exported(tiny_checkpoint, prefill_chunk=8, **choices))]) == 0
    assert f"quantization  {line}\n" in capsys.readouterr().out


def test_inspect_lists_layers_that_differ() -> None:
    int8 = {"scheme": "a16w8", "method": "rtn", "weight_bits": 8, "granularity": "per-channel"}
    layers: dict[str, Any] = {f"model.layers.{i}.mlp.down_proj": int8 for i in (0, 1, 2, 10)}
    layers |= {f"model.layers.{i}.self_attn.{part}": None for i in (3, 5) for part in ("q_proj", "k_proj")}
    layers |= {"model.layers.4.mlp.down_proj": None, "lm_head": None}
    assert inspection._exceptions(layers) == [
        "down_proj of layers 0–2, 10: a16w8 (rtn, int8 weights, one scale per output channel)",
        "q_proj, k_proj of layers 3, 5: float",
        "down_proj of layers 4: float",
        "lm_head: float",
    ]
    assert inspection._exceptions({}) == []


def test_inspect_shows_layers_that_differ_below_the_others() -> None:
    report = {
        "path": "bundle",
        "producer": "test",
        "model": {},
        **dict.fromkeys(("target", "dtype", "kv_dtype", "batch_size", "max_seq_len", "prefill_chunk"), "x"),
        "kv_granularity": None,
        "quantization": {"scheme": "a16w8", "layers": {"lm_head": None}},
        "tokenizer": None,
        "files": {},
        "fused": True,
        "memory": {"weights": 1, "kv_cache": 1, "arena": 1},
        "graphs": {},
    }
    text = inspection.as_text(report)
    assert "quantization  a16w8\n              lm_head: float\ntokenizer " in text


def test_version() -> None:
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "mindir-llm" and done.stdout.split()[1][0].isdigit()


def endless(bundle: Path) -> list[str]:
    return [*COMMAND, "run", str(bundle), "-p", "The fox", "--ignore-eos", "--max-tokens", "57", "--quiet"]


def test_a_reader_that_leaves(tiny_bundle: Path) -> None:
    running = subprocess.Popen(endless(tiny_bundle), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None and running.stderr is not None
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait() == 141


def test_ctrl_c(tmp_path: Path) -> None:
    assert interrupt_before_the_prompt(COMMAND, tmp_path) == (130, b"")
