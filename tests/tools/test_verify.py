"""`mindir-llm verify`: engine, stock MindSpore and float64 numpy agree on bundles of every kind."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mindir_llm.tools.backends import BundleFolder, EngineBackend
from mindir_llm.tools.verify import Pair, register, verify_bundle

BundleMaker = Callable[..., tuple[Path, Path]]

pytestmark = pytest.mark.filterwarnings("ignore:.*no tokenizer.model")

SIZES = {"max_seq_len": 32, "prefill_chunk": 8}


def run_command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    args = parser.parse_args(["verify", *arguments])
    code: int = args.run(args)
    return code


def pairs_by_name(pairs: tuple[Pair, ...]) -> dict[tuple[str, str], Pair]:
    return {(pair.left, pair.right): pair for pair in pairs}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"tie_word_embeddings": True, "num_key_value_heads": 4},
        {"attention_bias": True, "head_dim": 12, "num_key_value_heads": 1},
    ],
    ids=["gqa", "tied-mha", "bias-mqa-head_dim"],
)
def test_float32_is_within_1e_4_of_mindspore_and_numpy(
    tiny_bundle: BundleMaker, config: dict[str, object]
) -> None:
    checkpoint, bundle = tiny_bundle(config, dtype="float32", **SIZES)
    report = verify_bundle(BundleFolder.open(bundle), checkpoint)
    pairs = pairs_by_name(report.pairs)
    assert set(pairs) == {("engine", "MindSpore"), ("engine", "numpy"), ("MindSpore", "numpy")}
    for pair in pairs.values():
        assert pair.decode is not None
        assert max(pair.prefill.max_abs, pair.decode.max_abs) <= 1e-4
        assert pair.prefill.top1_agreement == pair.decode.top1_agreement == 1
    assert report.passed


@pytest.mark.parametrize("target", ["cpu", "ascend"])
@pytest.mark.parametrize("quant", ["none", "a16w8", "a16w4"])
def test_float16(tiny_bundle: BundleMaker, target: str, quant: str) -> None:
    checkpoint, bundle = tiny_bundle(dtype="float16", quant=quant, target=target, **SIZES)
    report = verify_bundle(BundleFolder.open(bundle), checkpoint)
    names = {name for pair in report.pairs for name in (pair.left, pair.right)}
    assert ("MindSpore" in names) == (target == "cpu")
    assert bool(report.notes) == (target == "ascend")
    assert report.passed, report.to_json()


@pytest.mark.parametrize(
    "options",
    [
        {"quant": "a16w8", "dtype": "float16"},
        {"quant": "a16w4", "dtype": "float16"},
        {"quant": "a16w4", "dtype": "float16", "group_size": 64},
        {"quant": "a16w4", "dtype": "float32", "group_size": 0},
    ],
    ids=["a16w8", "a16w4", "a16w4-64", "a16w4-channel"],
)
def test_float32_cache_leaves_only_the_order_of_additions(
    tiny_bundle: BundleMaker, options: dict[str, object]
) -> None:
    """The reference knows of the stored numbers from its own quantizer, MindSpore and the engine from the
    bundle's bytes. Widths of 72 and 116 leave short last groups."""
    config = {"hidden_size": 72, "intermediate_size": 116, "head_dim": 16, "tie_word_embeddings": True}
    checkpoint, bundle = tiny_bundle(config, kv_dtype="float32", **options, **SIZES)
    report = verify_bundle(BundleFolder.open(bundle), checkpoint)
    pairs = pairs_by_name(report.pairs)
    for names in (
        ("engine", "MindSpore"),
        ("engine", "numpy, rounded as stored"),
        ("MindSpore", "numpy, rounded as stored"),
    ):
        assert pairs[names].limit == 1e-4
        assert pairs[names].passed, pairs[names]


@pytest.mark.parametrize("target", ["cpu", "ascend"])
@pytest.mark.parametrize("granularity", ["per_channel", "per_token"])
def test_int8_caches(tiny_bundle: BundleMaker, target: str, granularity: str) -> None:
    """Engine, MindSpore and the reference round the same numbers; one that lies beside the middle of two
    integers may fall either way, but few do."""
    dtype = "float32" if target == "cpu" else "float16"
    checkpoint, bundle = tiny_bundle(
        dtype=dtype, target=target, kv_dtype="int8", kv_granularity=granularity, batch=2, **SIZES
    )
    report = verify_bundle(BundleFolder.open(bundle), checkpoint)
    assert report.kv_dtype == f"int8 {granularity}"
    pairs = pairs_by_name(report.pairs)
    names = {("engine", "numpy"), ("engine", "numpy, rounded as stored")}
    if target == "cpu":
        names |= {("engine", "MindSpore"), ("MindSpore", "numpy"), ("MindSpore", "numpy, rounded as stored")}
    assert set(pairs) == names
    assert report.passed, report.to_json()
    assert pairs["engine", "numpy, rounded as stored"].prefill.mean_abs < 1e-4
    assert pairs["engine", "numpy"].prefill.mean_abs > 1e-3, "rounding a cache leaves a trace"


def test_batch_of_three(tiny_bundle: BundleMaker) -> None:
    checkpoint, bundle = tiny_bundle(dtype="float32", batch=3, **SIZES)
    assert verify_bundle(BundleFolder.open(bundle), checkpoint).passed


@pytest.mark.parametrize("granularity", ["per_channel", "per_token"])
def test_int8_caches_of_both_targets_are_the_same(tiny_bundle: BundleMaker, granularity: str) -> None:
    options = {"dtype": "float16", "kv_dtype": "int8", "kv_granularity": granularity, **SIZES}
    ids = np.random.default_rng(0).integers(0, 50, (1, 28), dtype=np.int32)
    steps = [8, 8, 4] + [1] * 8
    cpu, ascend = (
        EngineBackend(BundleFolder.open(tiny_bundle(target=target, **options)[1])).logits(ids, steps)
        for target in ("cpu", "ascend")
    )
    np.testing.assert_array_equal(cpu, ascend)


@pytest.mark.parametrize("quant", ["none", "a16w8"])
def test_ascend_logits_equal_cpu_logits_up_to_float16_rounding(
    stories_bundle: Callable[[str, str, str], Path], shared_data: Path, quant: str
) -> None:
    """The bound: one float16 unit (2^-10, relative) of the largest logit of the step.

    Both bundles store the same float16 weights and caches, and the engine holds the ascend graph's float16
    activations in float32. So what remains is that a cached key or value beside the middle between two
    float16 numbers may be rounded to either, and that only where the float32 value before it differs in its
    last bits. Results that were float16 themselves, as on an NPU, could not differ by less than this unit.
    """
    ids = np.random.default_rng(0).integers(3, 512, (1, 144), dtype=np.int32)
    steps = [64, 64] + [1] * 16
    cpu, ascend = (
        EngineBackend(BundleFolder.open(stories_bundle(target, quant, "float16"))).logits(ids, steps)
        for target in ("cpu", "ascend")
    )
    unit = 2.0**-10 * np.abs(cpu).max(axis=-1, keepdims=True)
    assert np.all(np.abs(cpu - ascend) <= unit)
    np.testing.assert_array_equal(cpu.argmax(-1), ascend.argmax(-1))


def test_stories260k_float32(stories_bundle: Callable[[str, str, str], Path], stories: Path) -> None:
    report = verify_bundle(BundleFolder.open(stories_bundle("cpu", "none", "float32")), stories)
    assert {pair.limit for pair in report.pairs} == {1e-4}
    assert report.passed


@pytest.fixture(scope="module")
def made(tiny_bundle: BundleMaker) -> tuple[Path, Path]:
    return tiny_bundle(dtype="float32", **SIZES)


class TestCommand:
    def test_from_another_working_directory(
        self,
        made: tuple[Path, Path],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        checkpoint, bundle = made
        monkeypatch.chdir(tmp_path)
        assert run_command(str(bundle), "--checkpoint", str(checkpoint)) == 0
        out = capsys.readouterr().out
        assert "engine | MindSpore" in out
        assert "MindSpore | numpy" in out
        assert out.endswith("verified\n")

    def test_json(self, made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
        _, bundle = made
        assert run_command(str(bundle), "--json", "--tokens", "5", "--decode-steps", "0") == 0
        report = json.loads(capsys.readouterr().out)
        assert report["passed"] is True
        assert report["prompt_tokens"] == 5
        (pair,) = report["pairs"]
        assert pair["decode"] is None
        assert pair["prefill"]["max_abs"] < 1e-4

    def test_out_of_tolerance_is_exit_code_1(
        self, made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        checkpoint, bundle = made
        assert run_command(str(bundle), "--checkpoint", str(checkpoint), "--tolerance", "1e-12") == 1
        assert "TOO FAR APART" in capsys.readouterr().out

    def test_another_checkpoint_is_found_out(
        self, made: tuple[Path, Path], tiny_bundle: BundleMaker, capsys: pytest.CaptureFixture[str]
    ) -> None:
        _, bundle = made
        other, _ = tiny_bundle({"rms_norm_eps": 0.3}, dtype="float32", **SIZES)
        assert run_command(str(bundle), "--checkpoint", str(other)) == 1
        assert "NOT verified" in capsys.readouterr().out

    def test_damaged_file_is_exit_code_1(
        self, made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bundle = tmp_path / "bundle"
        shutil.copytree(made[1], bundle)
        weights = bundle / "weights" / "data_0"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.chmod(0o600)
        weights.write_bytes(data)
        assert run_command(str(bundle)) == 1
        assert "damaged: weights/data_0: sha256" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--tokens", "0"], "--tokens: 0"),
            (["--tokens", "17"], "--tokens: 17"),
            (["--decode-steps", "32"], "--decode-steps: 32"),
            (["--no-mindspore"], "nothing to compare"),
            (["--prompt", "x"], "no tokenizer"),
            (["--checkpoint", "absent"], "absent"),
        ],
    )
    def test_user_errors_are_one_line_and_exit_code_2(
        self,
        made: tuple[Path, Path],
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        message: str,
    ) -> None:
        assert run_command(str(made[1]), *arguments) == 2
        err = capsys.readouterr().err
        assert err.startswith("mindir-llm: error: ")
        assert message in err
        assert err.count("\n") == 1

    def test_no_bundle(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_command(str(tmp_path)) == 2
        assert "manifest.json" in capsys.readouterr().err
