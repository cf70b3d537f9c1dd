"""The native executable's `inspect` and `bench`: the Python commands' reports, and grammars in `run`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mindir_llm.runtime import LLM, Graph, SamplingParams, cli

DEMO = Path(__file__).parents[2] / "tools" / "demo_model" / "checkpoint"


def run(executable: Path, *words: str | int | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([executable, *map(str, words)], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "choices",
    [
        {"dtype": "float32", "prefill_chunk": 8},
        {"quant": "a16w4", "prefill_chunk": 8},
        {"quant": "a16w8", "kv_dtype": "int8", "prefill_chunk": 8},
        {"quant": "a16w8", "target": "ascend", "prefill_chunk": 8},
    ],
)
def test_inspect_is_pythons(
    choices: dict[str, Any],
    executable: Path,
    tiny_checkpoint: Path,
    exported: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = exported(tiny_checkpoint, **choices)
    for words in ([str(bundle)], [str(bundle), "--json"], [str(bundle / "prefill.mindir")]):
        assert cli.main(["inspect", *words]) == 0
        assert run(executable, "inspect", *words).stdout == capsys.readouterr().out


def test_inspect_shows_layers_that_differ(
    executable: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A manifest with every kind of entry; what it says of layers is shown, not checked."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for path in tiny_bundle.iterdir():
        if path.name != "manifest.json":
            (bundle / path.name).symlink_to(path)
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    int8 = {"scheme": "a16w8", "method": "rtn", "weight_bits": 8, "granularity": "per-channel"}
    layers: dict[str, Any] = {f"model.layers.{i}.mlp.down_proj": int8 for i in (0, 1, 2, 10)}
    layers |= {f"model.layers.{i}.self_attn.{part}": None for i in (3, 5) for part in ("q_proj", "k_proj")}
    manifest["quantization"]["layers"] = {**layers, "model.layers.4.mlp.down_proj": None, "lm_head": None}
    manifest["model"]["rope_scaling"] = {"factor": 8.0, "rope_type": "llama3", "list": [1, "a", None, True]}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert cli.main(["inspect", str(bundle)]) == 0
    expected = capsys.readouterr().out
    assert "down_proj of layers 0–2, 10: a16w8" in expected and "'rope_type': 'llama3'" in expected
    assert run(executable, "inspect", bundle).stdout == expected


def test_what_cannot_be_inspected(executable: Path, tmp_path: Path) -> None:
    (tmp_path / "x.mindir").write_bytes(b"nonsense")
    for path in (tmp_path, tmp_path / "x.mindir", tmp_path / "none"):
        found = run(executable, "inspect", path)
        assert found.returncode == 2 and found.stdout == ""
        assert found.stderr.startswith("mindir-llm: error: ") and str(path) in found.stderr


def parameters(bundle: Path) -> Any:
    with Graph(bundle / "decode.mindir", threads=1) as graph:
        return graph.describe()["parameters"]


def test_bench(
    executable: Path,
    tiny_checkpoint: Path,
    exported: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its report is what Python's tables are made from, and its tables are those."""
    from mindir_llm.tools.bench import command
    from mindir_llm.tools.bench.accounting import costs
    from mindir_llm.tools.bench.report import report_text

    bundle = exported(tiny_checkpoint, quant="a16w8", kv_dtype="int8", prefill_chunk=8)
    file = tmp_path / "report.json"
    words = ["--quick", "--repeat", "3", "--prefill", "8,60,99", "--contexts", "16", "--threads", "1"]
    found = run(executable, "bench", bundle, *words, "--json", file)
    assert (found.returncode, found.stderr) == (0, "")
    report = json.loads(file.read_text())
    assert found.stdout == report_text(report) + "\n"
    assert [one["tokens"] for one in report["prefill"]] == [8, 60]
    assert report["notes"][0] == "prefill of 99: left out, it does not fit max_seq_len 64"
    cost = costs(json.loads((bundle / "manifest.json").read_text()), parameters(bundle))
    assert report["decode"][0]["bytes_per_token"] == cost.decode_bytes(16 + 4.5)
    assert [one["macs"] for one in report["prefill"]] == [cost.prefill_macs(8), cost.prefill_macs(60)]
    assert command.main([str(file)]) == 0
    assert capsys.readouterr().out == found.stdout
    memory, load = report["memory"], report["load_seconds"]
    assert 0 < memory["before_open"] < memory["after_open"] <= memory["peak"] < 1e9
    assert load["count"] == 3 and 0 < load["low"] <= load["median"] <= load["high"] < 60


def test_profile(executable: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    from mindir_llm.tools.bench.report import profile_text

    file = tmp_path / "profile.json"
    found = run(executable, "bench", tiny_bundle, "--profile", "--quick", "--json", file)
    profile = {"report": json.loads(file.read_text()), "parameters": parameters(tiny_bundle)}
    assert found.stdout == profile_text({**profile, "prompt_tokens": 48, "decode_steps": 16}) + "\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bench", "nowhere"], "nowhere/manifest.json"),
        (["bench", "x", "--repeat", "0"], "repeat is 0, expected"),
        (["bench", "x", "--prefill", "8,0"], "--prefill: 8,0: lengths are positive"),
        (["bench", "x", "--contexts", "a"], "--contexts: a: lengths are positive"),
        (["bench", "x", "--json", "/nowhere/y"], "/nowhere/y: No such file or directory"),
        (["bench", "x", "--plot", "y.svg"], "--plot is an option of the Python command only: it exports"),
        (["bench", "--shape=tiny"], "--shape is an option of the Python command only"),
    ],
)
def test_mistakes(words: list[str], message: str, executable: Path) -> None:
    found = run(executable, *words)
    assert found.returncode == 2 and message in found.stderr and found.stderr.count("\n") == 1


def test_structured_output(
    executable: Path, exported: Callable[..., Path], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    bundle = exported(tiny_checkpoint, dtype="float32", prefill_chunk=8)
    schema = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 99}}, "required": ["a"]}
    (tmp_path / "schema").write_text(json.dumps(schema))
    (tmp_path / "grammar").write_text('root ::= ("yes" | "no") "!"')
    with LLM(bundle) as llm:
        for words, option in [
            (["--json-schema", tmp_path / "schema"], {"json_schema": schema}),
            (["--grammar", tmp_path / "grammar"], {"grammar": (tmp_path / "grammar").read_text()}),
            (["--json-object", "--ignore-eos"], {"json_object": True, "ignore_eos": True}),
        ]:
            for seed in (1, 2):
                found = run(
                    executable, "run", bundle, "-p", "The fox", "--seed", seed, "--max-tokens", 40, *words
                )
                params = SamplingParams(seed=seed, max_tokens=40, **option)  # type: ignore[arg-type]
                assert found.stdout == "".join(llm.stream("The fox", params)) + "\n", found.stderr
    both = ["--json-object", "--grammar", tmp_path / "grammar"]
    found = run(executable, "run", bundle, "-p", "x", *both)
    assert found.returncode == 2 and "grammar and json_object are both given; choose one" in found.stderr
    (tmp_path / "grammar").write_text("root ::= nothing")
    found = run(executable, "run", bundle, "-p", "x", "--grammar", tmp_path / "grammar")
    assert found.returncode == 2 and "nothing" in found.stderr
