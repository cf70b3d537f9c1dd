"""A bundle appears whole or not at all, with the same bytes every time."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny_checkpoint import kv_scales, random_tensors, tiny_config, write_checkpoint

from mindir_llm.export import ExportError, ExportOptions, bundle, command, export_bundle, weights
from mindir_llm.export.checkpoint import Checkpoint
from mindir_llm.export.options import settle
from mindir_llm.export.quantize.measure import WeightErrors
from mindir_llm.export.trace import ParameterSpec
from mindir_llm.export.weights import WeightPlan, lay_out, write_weights
from mindir_llm.models.config import LlamaConfig
from mindir_llm.models.quantization import WeightQuantization

OPTIONS = ExportOptions(quant="a16w8", max_seq_len=16, prefill_chunk=4)
TRACED: dict[str, Any] = {}
FLAGS = ["--quant", "a16w8", "--max-seq-len", "16", "--prefill-chunk", "4"]

# A process that exports and waits in the middle of the weights until it is ended.
EXPORT_AND_WAIT = """
import sys, time
from mindir_llm.export import bundle
write = bundle.write_weights
def write_and_wait(*args):
    result = write(*args)
    print("ready", flush=True)
    time.sleep(60)
    return result
bundle.write_weights = write_and_wait
import argparse
from mindir_llm.export import command
parser = argparse.ArgumentParser()
command.register(parser.add_subparsers())
args = parser.parse_args(sys.argv[1:])
sys.exit(args.run(args))
"""

# A process whose files may not grow beyond a limit, as on a full disk.
EXPORT_WITH_LIMIT = """
import resource, sys
from mindir_llm.export import ExportOptions, export_bundle
import mindspore
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    export_bundle(sys.argv[1], sys.argv[2], ExportOptions(max_seq_len=16, prefill_chunk=4))
except OSError as error:
    print("refused:", error.strerror)
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config()
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), config, random_tensors(config))


@pytest.fixture(scope="module")
def reference(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return contents(export_bundle(checkpoint, tmp_path_factory.mktemp("reference") / "bundle", OPTIONS))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def fast_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace only once per set of arguments: these tests are about files."""

    def trace(config: Any, settings: Any, tokens: int, name: str) -> Any:
        key = repr((config, settings, tokens, name))
        if key not in TRACED:
            TRACED[key] = original(config, settings, tokens, name)
        return TRACED[key]

    original = bundle._trace
    monkeypatch.setattr(bundle, "_trace", trace)


def test_same_bytes_in_one_process(checkpoint: Path, reference: dict[str, bytes], tmp_path: Path) -> None:
    export_bundle(checkpoint, tmp_path / "other-options", ExportOptions(max_seq_len=8, prefill_chunk=2))
    assert contents(export_bundle(checkpoint, tmp_path / "again", OPTIONS)) == reference


def test_same_bytes_in_another_process(checkpoint: Path, reference: dict[str, bytes], tmp_path: Path) -> None:
    script = EXPORT_AND_WAIT.replace("bundle.write_weights = write_and_wait", "")
    subprocess.run(
        [sys.executable, "-c", script, "export", str(checkpoint), "there", *FLAGS],
        cwd=tmp_path,
        env=os.environ | {"PYTHONHASHSEED": "7"},
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert contents(tmp_path / "there") == reference


@contextlib.contextmanager
def failing_write(after: int, error: BaseException) -> Iterator[None]:
    """Let the data file fail after so many bytes."""
    original = weights._DataFile.write

    def write(self: Any, data: Any) -> None:
        if self.size + len(memoryview(data)) > after:
            raise error
        original(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights._DataFile, "write", write)
        yield


FULL_DISK = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [FULL_DISK, KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("after", [0, 10000])
@pytest.mark.usefixtures("fast_export")
def test_failure_leaves_nothing(checkpoint: Path, tmp_path: Path, error: BaseException, after: int) -> None:
    with failing_write(after, error), pytest.raises(type(error)):
        export_bundle(checkpoint, tmp_path / "bundle", OPTIONS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["prefill.mindir", "decode.mindir", "manifest.json"])
@pytest.mark.usefixtures("fast_export")
def test_failure_after_the_weights_leaves_nothing(
    checkpoint: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = bundle._write

    def write(path: Path, data: bytes) -> Any:
        if path.name == name:
            raise FULL_DISK
        return original(path, data)

    monkeypatch.setattr(bundle, "_write", write)
    with pytest.raises(OSError, match="No space left"):
        export_bundle(checkpoint, tmp_path / "bundle", OPTIONS)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("fast_export")
def test_a_damaged_tensor_leaves_nothing(tmp_path: Path) -> None:
    """Found only while streaming: it lies in the last layer."""
    tensors = random_tensors(tiny_config())
    tensors["model.layers.1.mlp.down_proj.weight"][3, 4] = np.nan
    write_checkpoint(tmp_path / "checkpoint", tiny_config(), tensors)
    with pytest.raises(ExportError, match=r"model\.layers\.1\.mlp\.down_proj\.weight"):
        export_bundle(tmp_path / "checkpoint", tmp_path / "out" / "bundle", OPTIONS)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.usefixtures("fast_export")
def test_existing_bundle_is_kept_unless_forced(
    checkpoint: Path, reference: dict[str, bytes], tmp_path: Path
) -> None:
    target = tmp_path / "bundle"
    export_bundle(checkpoint, target, ExportOptions(max_seq_len=8, prefill_chunk=2))
    before = contents(target)
    with pytest.raises(ExportError, match=r"bundle: exists.*--force"):
        export_bundle(checkpoint, target, OPTIONS)
    forced = ExportOptions(**{**OPTIONS.__dict__, "force": True})
    with failing_write(10000, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        export_bundle(checkpoint, target, forced)
    assert contents(target) == before
    export_bundle(checkpoint, target, forced)
    assert contents(target) == reference
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_force_never_removes_what_is_not_a_bundle(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.tex").write_text("years of work")
    (tmp_path / "manifest").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "papers")
    forced = ExportOptions(force=True)
    for name in ("papers", "manifest", "link"):
        with pytest.raises(ExportError, match="--force replaces bundles only"):
            export_bundle(checkpoint, tmp_path / name, forced)
    assert (tmp_path / "papers" / "thesis.tex").exists()


def test_too_small_a_disk_is_known_beforehand(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle.shutil, "disk_usage", lambda _path: argparse.Namespace(free=1000))
    monkeypatch.setattr(bundle, "write_weights", lambda *_: pytest.fail("began to write"))
    with pytest.raises(ExportError, match="needs 0 MB, but only 0 MB are free"):
        export_bundle(checkpoint, tmp_path / "bundle", OPTIONS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_nothing(checkpoint: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", EXPORT_AND_WAIT, "export", str(checkpoint), str(tmp_path / "bundle"), *FLAGS],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # What a shell starts in the background is told to ignore Ctrl-C, and hands that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        assert list(tmp_path.iterdir()), "the half-written folder is there"
        process.send_signal(number)
        assert process.wait(30) != 0
    assert not list(tmp_path.iterdir())


def test_file_size_limit_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    script = [sys.executable, "-c", EXPORT_WITH_LIMIT, str(checkpoint), str(tmp_path / "bundle")]
    result = subprocess.run(script, capture_output=True, text=True, timeout=120, check=True)
    assert "refused: File too large" in result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quant": "a4w16"}, "--quant: 'a4w16' is not one of none, a16w8, a16w4"),
        ({"quant": "a16w4", "group_size": 33}, "--group-size: 33 is not one of 0, 32, 64, 128"),
        ({"quant": "a16w4", "group_size": -32}, "--group-size: -32 is not one of"),
        ({"quant": "a8w8", "group_size": 32}, "per_group does not go with act_quant_dtype int8"),
        ({"group_size": 0}, "--group-size: 0 has no meaning with --quant none"),
        ({"dtype": "bfloat16"}, "--dtype: 'bfloat16'"),
        ({"kv_dtype": "int4"}, "--kv-dtype: 'int4' is not one of float16, float32, int8"),
        ({"kv_dtype": "int8", "kv_granularity": "per_head"}, "--kv-granularity: 'per_head' is not one of"),
        (
            {"kv_granularity": "per_token"},
            "--kv-granularity: per_token has no meaning with --kv-dtype float16",
        ),
        (
            {"kv_dtype": "int8", "kv_granularity": "per_channel"},
            "kvcache_quant_granularity per_channel needs a text to calibrate with",
        ),
        ({"target": "gpu"}, "--target: 'gpu'"),
        ({"target": "ascend", "dtype": "float32"}, "--dtype: float32 is not possible with --target ascend"),
        ({"target": "ascend", "kv_dtype": "float32"}, "--kv-dtype: float32 is not possible"),
        ({"target": "ascend", "max_seq_len": 16, "prefill_chunk": 5}, "5 must divide --max-seq-len 16"),
        ({"max_seq_len": 33}, "--max-seq-len: 33 is not in 1 … 32"),
        ({"max_seq_len": 0}, "--max-seq-len: 0"),
        ({"max_seq_len": 16, "prefill_chunk": 17}, "--prefill-chunk: 17 is not in 1 … 16"),
        ({"batch": 0}, "--batch: 0"),
    ],
)
def test_bad_option_is_named(checkpoint: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError) as caught:
        export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(**changes))
    assert message in str(caught.value)


def test_bad_cache_scales_are_named(checkpoint: Path, tmp_path: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    good = kv_scales(config)
    name = "model.layers.1.self_attn.value_scale"
    options = ExportOptions(kv_dtype="int8", kv_granularity="per_channel")
    for scales, message in (
        ({key: value for key, value in good.items() if key != name}, f"{name} is missing"),
        (good | {"x": good[name]}, "x is unexpected"),
        (good | {name: good[name][:, 1:]}, f"{name}: shape"),
        (good | {name: 0 * good[name]}, f"{name}: a scale is not a positive number"),
        (good | {name: good[name] * np.float32(np.inf)}, f"{name}: a scale is not a positive number"),
    ):
        with pytest.raises(ExportError) as caught:
            export_bundle(checkpoint, tmp_path / "bundle", options, kv_scales=scales)
        assert message in str(caught.value)
    with pytest.raises(ExportError, match="is unexpected"):
        export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(kv_dtype="int8"), kv_scales=good)


def test_unsupported_config_is_an_export_error(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, tiny_config(mlp_bias=True), random_tensors(tiny_config()))
    with pytest.raises(ExportError, match=r"config\.json: mlp_bias"):
        export_bundle(tmp_path, tmp_path / "bundle")


def test_streaming_needs_little_memory(tmp_path: Path) -> None:
    """A tensor of 131 MB passes through the quantizer in blocks, measured on the way."""
    save_file({"w.weight": np.ones((16000, 2048), np.float32)}, tmp_path / "model.safetensors")
    specs = [
        ParameterSpec("w.weight", (16000, 2048), "int8"),
        ParameterSpec("w.weight_scale", (16000, 1), "float16"),
    ]
    errors = WeightErrors()
    tracemalloc.start()
    try:
        plan = WeightPlan(Checkpoint.open(tmp_path), specs, {}, {}, errors=errors)
        write_weights(plan, lay_out(plan.parameters), tmp_path / "out")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 110e6
    assert errors.relative()["w"] < 1e-3


@pytest.mark.parametrize("dtype", ["uint8", "qint4x2"])
def test_streaming_int4_needs_little_memory(dtype: str, tmp_path: Path) -> None:
    """Of a tensor of 131 MB the packed form is 16 MB, and all of it is in memory."""
    save_file({"w.weight": np.ones((16000, 2048), np.float32)}, tmp_path / "model.safetensors")
    specs = [
        ParameterSpec("w.weight", (2048, 8000), dtype),
        ParameterSpec("w.weight_scale", (64, 16000), "float16"),
    ]
    errors = WeightErrors()
    tracemalloc.start()
    try:
        forms = {"w": WeightQuantization(4, 32)}
        plan = WeightPlan(Checkpoint.open(tmp_path), specs, {}, {}, forms, errors=errors)
        write_weights(plan, lay_out(plan.parameters), tmp_path / "out")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 110e6
    assert errors.relative()["w"] < 1e-3
    data = (tmp_path / "out" / "weights" / "data_0").read_bytes()
    packed = np.frombuffer(data, np.uint8, 2048 * 8000, 64)
    assert set(packed) == {0xFF if dtype == "uint8" else 0x77}
    scales = np.frombuffer(data, np.float16, 64 * 16000, 64 + packed.size)
    assert set(scales) == {np.float16(1 / 7)}


def test_int4_of_a_tensor_in_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks would have three rows; they get two, so that no pair of channels is torn apart."""
    monkeypatch.setattr("mindir_llm.export.checkpoint._BLOCK_BYTES", 3 * 5 * 4)
    values = np.random.default_rng(0).integers(-7, 8, (14, 5)).astype(np.float32)
    values[:, 0] = 7  # every scale is 1
    values[:, 4] = 7
    save_file({"w.weight": values}, tmp_path / "model.safetensors")
    specs = [ParameterSpec("w.weight", (5, 7), "uint8"), ParameterSpec("w.weight_scale", (2, 14), "float32")]
    plan = WeightPlan(Checkpoint.open(tmp_path), specs, {}, {}, {"w": WeightQuantization(4, 4)})
    (_, weight), (_, scale) = [(spec, [*blocks]) for spec, blocks in plan.values()]
    codes = np.stack([weight[0] % 16, weight[0] // 16], axis=-1).reshape(5, 14)
    np.testing.assert_array_equal(codes - 8.0, values.T)
    np.testing.assert_array_equal(scale[0], np.ones((2, 14)))


@pytest.mark.parametrize("tied", [False, True])
def test_int4_with_an_odd_vocabulary_names_the_layer(tied: bool, tmp_path: Path) -> None:
    config = tiny_config(vocab_size=51, tie_word_embeddings=tied)
    write_checkpoint(tmp_path, config, random_tensors(config))
    with pytest.raises(ExportError) as caught:
        export_bundle(tmp_path, tmp_path / "bundle", ExportOptions(quant="a16w4"))
    assert str(caught.value) == (
        f"{tmp_path}: lm_head has 51 outputs, and int4 weights need an even number; use int8 (a16w8)"
    )
    assert not (tmp_path / "bundle").exists()


def test_int4_weight_that_no_scale_fits_is_named(tmp_path: Path) -> None:
    values = np.ones((4, 6), np.float32)
    values[3, 5] = 1e6
    save_file({"w.weight": values}, tmp_path / "model.safetensors")
    specs = [ParameterSpec("w.weight", (6, 2), "uint8"), ParameterSpec("w.weight_scale", (2, 4), "float16")]
    plan = WeightPlan(Checkpoint.open(tmp_path), specs, {}, {}, {"w": WeightQuantization(4, 4)})
    with pytest.raises(
        ExportError, match=r"tensor w\.weight cannot be quantized: row 3: scale does not fit float16"
    ):
        write_weights(plan, lay_out(plan.parameters), tmp_path / "out")


@pytest.mark.parametrize(
    ("target", "rows", "chunk"), [("cpu", None, 256), ("cpu", 100, 100), ("ascend", 640, 160)]
)
def test_default_prefill_chunk(target: str, rows: int | None, chunk: int) -> None:
    config = LlamaConfig.from_fields(tiny_config(max_position_embeddings=4096))
    settings = settle(ExportOptions(target=target, max_seq_len=rows), config)
    assert settings.prefill_chunk == chunk


def run_in_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_importing_the_command_is_cheap() -> None:
    heavy = "{'mindspore', 'torch', 'sentencepiece', 'safetensors', 'numpy'}"
    code = f"import sys, mindir_llm.export.command; print(sorted({heavy} & set(sys.modules)))"
    assert set(eval(run_in_python(code))) <= {"numpy"}


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    def run(*arguments: str) -> tuple[int, str, str]:
        parser = argparse.ArgumentParser(prog="mindir-llm")
        command.register(parser.add_subparsers())
        args = parser.parse_args(["export", *arguments])
        code = args.run(args)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.usefixtures("fast_export")
def test_command(
    checkpoint: Path, reference: dict[str, bytes], tmp_path: Path, call: Callable[..., Any]
) -> None:
    code, out, err = call(str(checkpoint), str(tmp_path / "bundle"), *FLAGS)
    assert code == 0
    assert "bundle: 0." in out
    assert "mindir-llm: warning:" in err and "no tokenizer.model" in err
    assert contents(tmp_path / "bundle") == reference


def test_help_has_examples(call: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call("--help")
    text = capsys.readouterr().out
    for word in (
        "examples:",
        "--quant",
        "--kv-dtype",
        "--prefill-chunk",
        "--batch",
        "--force",
        "--report",
        "a16w8",
    ):
        assert word in text
    for word in ("--quant a16w4 --group-size 64", "{0,32,64,128}", "--quant a16w4 --report report.html"):
        assert word in text


def test_missing_mindspore_is_one_clear_line(checkpoint: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['mindspore'] = None\n"
        "from mindir_llm.export import ExportError, export_bundle\n"
        "try: export_bundle(*sys.argv[1:])\n"
        "except ExportError as error: print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(checkpoint), str(tmp_path / "bundle")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stdout == "exporting needs MindSpore: pip install 'mindir-llm[export]'\n"
    assert not list(tmp_path.iterdir())
