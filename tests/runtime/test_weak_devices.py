"""Caps on memory that hold, cores and priority, read-only storage: both programs, as users run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mindir_llm.runtime import LLM, CapacityError, InvalidArgumentError, OutOfMemoryError, SamplingParams, cli
from mindir_llm.runtime.resources import parse_size

DEMO = Path(__file__).parents[2] / "tools" / "demo_model" / "checkpoint"
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
PROMPT = "Once upon a time there was a little girl. "
NOBODY = 65534

# Name → export options. The last is TinyLlama's shape made small, with random weights.
BUNDLES: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32"},
    "a16w8": {"quant": "a16w8"},
    "a16w4": {"quant": "a16w4"},
    "int8 cache": {"dtype": "float32", "kv_dtype": "int8"},
    "8 slots": {"dtype": "float32", "batch": 8},
    "random a16w4": {"quant": "a16w4"},
}


@pytest.fixture(scope="module")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

    config = tiny_config(
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        vocab_size=8000,
        max_position_embeddings=2048,
        bos_token_id=1,
    )
    folder = write_checkpoint(tmp_path_factory.mktemp("random"), config, random_tensors(config))
    shutil.copy(tiny_checkpoint / "tokenizer.model", folder)
    return folder


@pytest.fixture
def bundle_of(random_checkpoint: Path, exported: Callable[..., Path]) -> Callable[[str], Path]:
    def get(name: str) -> Path:
        checkpoint = random_checkpoint if name.startswith("random") else DEMO
        return exported(checkpoint, max_seq_len=512, prefill_chunk=256, **BUNDLES[name])

    return get


def run(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(word) for word in words], capture_output=True, timeout=120, **options)


def peak_of(process: int) -> int:
    """Bytes of physical memory that a process has had at most; that of its fork is not counted in."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def least(message: str) -> int:
    """What a refusal says is needed."""
    found = re.search(r"needs (\d+)\.(\d) MB at least", message)
    assert found is not None, message
    return (int(found[1]) * 10 + int(found[2])) * 100_000


def talk(executable: Path, bundle: Path, cap: int, folder: Path) -> tuple[int, str, str]:
    """Peak memory, text and what is said on stderr of a chat that fills its context."""
    (folder / "template").write_text(TEMPLATE)
    (folder / "question").write_text(PROMPT * 9 + "\n")
    command = [executable, "chat", bundle, "--max-memory", cap, "--chat-template", folder / "template"]
    command += ["--stats", "--temperature", "0", "--ignore-eos", "--context-full", "drop"]
    with subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdin and running.stdout and running.stderr
        said = running.stderr.readline()
        for prompt in (PROMPT, PROMPT * 3):
            running.stdin.write(prompt + "\n")
            running.stdin.flush()
            line = running.stderr.readline()
            while line and " tok/s" not in line and "tokens" not in line:
                line = running.stderr.readline()
            assert line, said
        peak = peak_of(running.pid)
        text, _ = running.communicate()
    assert running.returncode == 0
    return peak, text, said


# Caps near what is needed: with AddressSanitizer that differs by megabytes from run to run.
measures_memory = pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer takes memory of its own"
)


@measures_memory
@pytest.mark.parametrize("name", BUNDLES)
def test_the_cap_is_kept(
    name: str, executable: Path, bundle_of: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle = bundle_of(name)
    refused = run(executable, "run", bundle, "-p", "x", "--max-memory", "1000")
    assert refused.returncode == 2 and b"max_memory is 1000 bytes" in refused.stderr
    lowest = least(refused.stderr.decode())
    generous, _, said = talk(executable, bundle, 1 << 32, tmp_path)
    assert "context 512 of 512, prefill chunk 256 of 256" in said
    predicted = int(float(said.split("at most ")[1].split(" MB")[0]) * 1e6)
    assert 0.5 * predicted < generous <= predicted  # honest, and no fantasy
    contexts = []
    # The program itself differs by some pages from run to run.
    for cap in (lowest + 1_000_000, max(lowest + 1_000_000, (lowest + predicted) // 2)):
        peak, text, said = talk(executable, bundle, cap, tmp_path)
        assert peak <= cap, said
        assert text.startswith("") and "of 512, prefill chunk" in said
        contexts.append(int(said.split("context ")[1].split()[0]))
    assert 64 <= contexts[0] <= contexts[1] <= 512


@measures_memory
def test_a_shorter_context_writes_the_same(executable: Path, bundle_of: Callable[[str], Path]) -> None:
    for name in ("a16w4", "int8 cache"):
        bundle = bundle_of(name)
        command = ["run", bundle, "-p", PROMPT * 4, "--temperature", "0", "--max-tokens", "12", "--quiet"]
        refused = run(executable, *command, "--max-memory", "1000")
        cap = least(refused.stderr.decode()) + 1_000_000
        limited = run(executable, *command, "--max-memory", str(cap))
        assert limited.returncode == 0, limited.stderr
        assert limited.stderr == b""  # --quiet
        assert limited.stdout == run(executable, *command).stdout


@measures_memory
def test_the_context_is_full_where_the_cap_ends_it(
    executable: Path, bundle_of: Callable[[str], Path]
) -> None:
    bundle = bundle_of("8 slots")
    cap = least(run(executable, "run", bundle, "-p", "x", "--max-memory", "1").stderr.decode())
    words = ["run", bundle, "-p", PROMPT * 30, "--max-memory", str(cap + 1_000_000)]
    found = run(executable, *words)
    assert found.returncode == 2
    last = found.stderr.decode().splitlines()[-1]
    assert re.search(
        r"tokens; max_memory leaves a context of \d+ of the bundle's 512, so a prompt may have at most \d+: "
        r"shorten it, or allow more memory$",
        last,
    )


@measures_memory
def test_python_keeps_the_cap_too(bundle_of: Callable[[str], Path]) -> None:
    bundle = bundle_of("random a16w4")
    program = """
import sys
from mindir_llm.runtime import LLM, OutOfMemoryError, SamplingParams
bundle, extra = sys.argv[1], int(sys.argv[2])
import re
try:
    LLM(bundle, max_memory=1)
except OutOfMemoryError as error:
    needed = re.search(r"needs (\\d+)\\.(\\d) MB", str(error))
cap = (int(needed[1]) * 10 + int(needed[2])) * 100_000 + extra
with LLM(bundle, max_memory=cap) as llm:
    llm.generate(["Once upon a time " * 4], SamplingParams(temperature=0, max_tokens=40, ignore_eos=True))
    context, text = llm.info.max_seq_len, llm.memory_text
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
print(cap, peak, context, text, sep="|")
"""
    done = run(sys.executable, "-c", program, bundle, "1500000")
    assert done.returncode == 0, done.stderr.decode()
    cap, peak, context, text = done.stdout.decode().strip().split("|")
    assert int(peak) <= int(cap), text
    assert 64 <= int(context) <= 512 and f"context {context} of 512" in text


def test_python_says_what_it_was_allowed(bundle_of: Callable[[str], Path]) -> None:
    bundle = bundle_of("float32")
    with pytest.raises(OutOfMemoryError, match="max_memory is 1000000 bytes, but it needs"):
        LLM(bundle, max_memory="1M")
    # What this process holds already counts: gigabytes after a suite under AddressSanitizer, which keeps what
    # was freed.
    with LLM(bundle, max_memory="64G", cores="0", priority="normal") as llm:
        assert llm.info.max_seq_len == 512 and "context 512 of 512" in llm.memory_text
    os.sched_setaffinity(0, range(os.cpu_count() or 1))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("1", 1),
        ("512M", 512_000_000),
        ("512m", 512_000_000),
        ("512MB", 512_000_000),
        ("1.5Gi", 3 << 29),
        ("64KiB", 1 << 16),
        ("0.5k", 500),
        ("12B", 12),
    ],
)
def test_sizes(size: str, expected: int, executable: Path, tiny_bundle: Path) -> None:
    assert parse_size(size) == expected
    found = run(executable, "run", tiny_bundle, "-p", "x", "--max-memory", size)
    if expected < 1_000_000:
        assert f"max_memory is {expected} bytes" in found.stderr.decode()
    else:
        assert found.returncode == 0 and b"memory: at most" in found.stderr


HOSTILE_SIZES = [
    "0",
    "-1",
    "",
    "12Q",
    "M",
    "1.2.3M",
    "1e9",
    "0.1",
    "9999999999G",
    "1 M",
    "1Mib ",
    "0x10",
    "K1",
]


@pytest.mark.parametrize(
    "words",
    [
        *(["--max-memory", size] for size in HOSTILE_SIZES if size != "-1"),
        ["--max-memory=-1"],
        *(["--cores", cores] for cores in ("", "a", "3-1", "0,", "0-", "1-2-3", "99999999999", "1023")),
        ["--priority", "urgent"],
    ],
)
def test_what_both_programs_refuse(
    words: list[str], executable: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", str(tiny_bundle), "-p", "x", *words]
    found = run(executable, *command)
    assert found.returncode == 2 and found.stdout == b"" and found.stderr.count(b"\n") == 1
    try:
        code: Any = cli.main(command)
    except SystemExit as stop:
        code = stop.code
    ours, theirs = found.stderr.decode(), capsys.readouterr().err
    assert code == 2
    # argparse has its own way to say which command's --help it means.
    assert ours.partition(" (see ")[0] == theirs.partition(" (see ")[0]


def test_python_checks_its_own_values(tiny_bundle: Path) -> None:
    for wrong in (0, -1, 2**63, True, 1.5, "12Q"):
        with pytest.raises(InvalidArgumentError, match="max_memory is"):
            LLM(tiny_bundle, max_memory=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="priority is 'urgent', expected one of low, normal, high"):
        LLM(tiny_bundle, priority="urgent")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="cores is 3, expected a string"):
        LLM(tiny_bundle, cores=3)  # type: ignore[arg-type]
    with LLM(tiny_bundle) as llm, pytest.raises(CapacityError, match="max_seq_len of the bundle is 64"):
        llm.generate({"prompt_token_ids": [1] * 64}, SamplingParams())


def test_threads_follow_cores_and_affinity(executable: Path, tiny_bundle: Path) -> None:
    words = [executable, "run", tiny_bundle, "-p", "x", "--max-tokens", "2"]
    core = min(os.sched_getaffinity(0))
    for found in (
        run(*words, "--cores", str(core)),
        run(*words, preexec_fn=lambda: os.sched_setaffinity(0, [core])),
    ):
        assert found.returncode == 0 and found.stderr.endswith(b"; 1 threads\n")


def test_a_denied_priority_is_an_error(executable: Path, tiny_bundle: Path, public: Path) -> None:
    words = [public / "mindir-llm", "run", public / "bundle", "-p", "x", "--max-tokens", "2"]
    denied = run(*words, "--priority", "high", **unprivileged())
    assert denied.returncode == 2 and re.search(
        rb"priority is 'high': a nice value of -\d+ is not allowed here \(.*\); it takes root", denied.stderr
    )
    assert run(*words, "--priority", "low", **unprivileged()).returncode == 0


def unprivileged() -> dict[str, Any]:
    """How to start a process that may write nowhere and raise nothing, with an ordinary priority at most."""

    def lower() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, max(0, os.getpriority(os.PRIO_PROCESS, 0)))

    options: dict[str, Any] = {"env": {"TMPDIR": "/nowhere"}, "cwd": "/", "preexec_fn": lower}
    return options | {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else options


@pytest.fixture
def public(executable: Path, tiny_bundle: Path) -> Iterator[Path]:
    """Executable and bundle in a folder that everybody may read and nobody may write."""
    folder = Path(tempfile.mkdtemp())
    shutil.copy(executable, folder / "mindir-llm")
    shutil.copytree(tiny_bundle, folder / "bundle")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() or path.name == "mindir-llm" else 0o444)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_file_system_is_enough(public: Path, executable: Path) -> None:
    words = ["run", public / "bundle", "-p", "Once", "--max-tokens", "8", "--temperature", "0", "--quiet"]
    expected = run(executable, *words).stdout
    found = run(public / "mindir-llm", *words, **unprivileged())
    assert (found.returncode, found.stderr, found.stdout) == (0, b"", expected)
    program = "import sys; from mindir_llm.runtime import cli; sys.exit(cli.main())"
    options = unprivileged()
    if not all(path.stat().st_mode & 0o001 for path in Path(os.path.realpath(sys.executable)).parents):
        # This Python is root's alone; it still finds nowhere to write.
        options = {"env": options["env"], "cwd": "/"}
    # A library with sanitizers needs its runtime before anything else.
    for name in ("MINDIR_LLM_LIBRARY", "LD_PRELOAD", "ASAN_OPTIONS"):
        if name in os.environ:
            options["env"] = {**options["env"], name: os.environ[name]}
    found = run(sys.executable, "-B", "-c", program, *words, **options)
    assert (found.returncode, found.stderr, found.stdout) == (0, b"", expected)
    assert sorted(path.name for path in public.iterdir()) == ["bundle", "mindir-llm"]
