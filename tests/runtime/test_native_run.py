"""The native executable writes what Python writes: same bundle, same options, same seed, same text."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import interrupt_before_the_prompt

from mindir_llm.runtime import LLM, SamplingParams, cli

DEMO = Path(__file__).parents[2] / "tools" / "demo_model" / "checkpoint"
PROMPT = "The fox found a red"

# Untrained weights write any tokens at all: single bytes, half characters, markers.
OPTIONS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"seed": 1},
    {"seed": 2**64 - 1, "temperature": 1.7, "top_k": 40},
    {"seed": 3, "top_p": 0.9, "min_p": 0.01},
    {"seed": 4, "repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": -0.25},
    {"seed": 5, "ignore_eos": True, "max_tokens": None},
    {"seed": 6, "stop_token_ids": (3, 100, 200, 263), "min_tokens": 7},
    {"seed": 7, "stop": ("a", "th", "é"), "min_tokens": 3},
    {"seed": 8, "stop": ("and she",), "temperature": 0.5},
    {"seed": 9, "logit_bias": ((100, 5.5), (101, -100), (302, 4.25)), "temperature": 0.8},
    {"seed": 10, "bad_words": ("the", "a", "she was"), "temperature": 0.3},
    {"temperature": 0.0, "max_tokens": 1},
]


def arguments(options: dict[str, Any]) -> list[str]:
    """As the command line takes them."""
    flags: list[str] = []
    for name, value in options.items():
        flag = "--" + name.replace("_ids", "_id").replace("bad_words", "bad_word").replace("_", "-")
        if value is True:
            flags.append(flag)
            continue
        for one in value if isinstance(value, tuple) else [value]:
            text = (
                "=".join(map(str, one))
                if isinstance(one, tuple)
                else str(one).lower()
                if one is None
                else str(one)
            )
            flags += [flag, text]
    return flags


def run(executable: Path, *words: str | Path, **keywords: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([executable, *map(str, words)], capture_output=True, timeout=60, **keywords)


BUNDLES = [
    ("tiny", {"dtype": "float32", "prefill_chunk": 8}),
    ("tiny", {"quant": "a16w8", "kv_dtype": "int8", "prefill_chunk": 8, "batch": 2}),
    ("demo", {"quant": "a16w4", "prefill_chunk": 8, "max_seq_len": 96}),
    ("demo", {"quant": "a16w8", "target": "ascend", "prefill_chunk": 16, "max_seq_len": 96}),
]


@pytest.mark.parametrize(("which", "choices"), BUNDLES)
def test_text_is_the_same(
    which: str,
    choices: dict[str, Any],
    executable: Path,
    tiny_checkpoint: Path,
    exported: Callable[..., Path],
) -> None:
    bundle = exported(DEMO if which == "demo" else tiny_checkpoint, **choices)
    with LLM(bundle) as llm:
        for options in OPTIONS:
            params = SamplingParams(**{"max_tokens": 40, **options})
            expected = "".join(llm.stream(PROMPT, params))
            found = run(executable, "run", bundle, "-p", PROMPT, "--max-tokens", "40", *arguments(options))
            assert found.returncode == 0, found.stderr
            shown = expected if expected.endswith("\n") else expected + "\n"
            assert found.stdout.decode() == shown, options


def test_exact_and_threads(executable: Path, tiny_checkpoint: Path, exported: Callable[..., Path]) -> None:
    bundle = exported(tiny_checkpoint, quant="a16w8", prefill_chunk=8)
    with LLM(bundle, exact=True) as llm:
        expected = "".join(llm.stream(PROMPT, SamplingParams(seed=1, max_tokens=30)))
    found = run(
        executable, "run", bundle, "-p", PROMPT, "--seed", "1", "--max-tokens=30", "--exact", "--threads", "3"
    )
    assert found.stdout.decode() == expected + "\n"
    pattern = rb"prompt \d+ tokens, [\d.]+ tokens/s; decode \d+ tokens, [\d.]+ tokens/s; 3 threads\n"
    assert re.fullmatch(pattern, found.stderr)


def test_prompts_from_files_and_stdin(executable: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompt"
    file.write_text("The fox é\n\n", encoding="utf-8")
    greedy = ("--temperature", "0", "--max-tokens", "5", "--quiet", "--echo")
    from_file = run(executable, "run", tiny_bundle, "--prompt-file", file, *greedy)
    from_stdin = run(executable, "run", tiny_bundle, "-p-", *greedy, input=file.read_bytes())
    assert from_file.stdout.startswith("The fox é\n".encode()) and from_file.stderr == b""
    assert from_stdin.stdout == from_file.stdout


def test_without_a_seed_runs_differ(executable: Path, tiny_bundle: Path) -> None:
    texts = {run(executable, "run", tiny_bundle, "-p", PROMPT, "--ignore-eos").stdout for _ in range(3)}
    assert len(texts) > 1


def test_chat_prompt(executable: Path, exported: Callable[..., Path], tiny_checkpoint: Path) -> None:
    bundle = exported(DEMO, quant="a16w8", max_seq_len=96, prefill_chunk=8)
    found = run(executable, "run", bundle, "-p", "Tell a story", "--chat", "--temperature", "0")
    assert found.returncode == 2 and b"has no chat template" in found.stderr


WRONG: list[tuple[list[str], str]] = [
    (["run", "nowhere", "-p", "x"], "nowhere/manifest.json"),
    (["run", "x"], "one of the arguments -p/--prompt --prompt-file is required"),
    (["run", "-p", "x"], "the following arguments are required: BUNDLE"),
    (
        ["run", "x", "-p", "a", "--prompt-file", "b"],
        "argument --prompt-file: not allowed with argument -p/--prompt",
    ),
    (["run", "x", "-p", "a", "--temperature", "-1"], "temperature is -1.0, expected a number in [0, ∞)"),
    (["run", "x", "-p", "a", "--temperature", "inf"], "temperature is inf, expected a number in [0, ∞)"),
    (["run", "x", "-p", "a", "--temperature", "nan"], "temperature is nan, expected a number in [0, ∞)"),
    (["run", "x", "-p", "a", "--top-p", "0"], "top_p is 0.0, expected a number in (0, 1]"),
    (["run", "x", "-p", "a", "--top-k", "many"], "argument --top-k: invalid integer value: 'many'"),
    (["run", "x", "-p", "a", "--top-k", "1.5"], "argument --top-k: invalid integer value: '1.5'"),
    (
        ["run", "x", "-p", "a", "--seed", "-1"],
        "seed is -1, expected an integer in [0, 18446744073709551615], or None",
    ),
    (
        ["run", "x", "-p", "a", "--seed", "18446744073709551616"],
        "seed is 18446744073709551616, expected an integer",
    ),
    (
        ["run", "x", "-p", "a", "--max-tokens", "0"],
        "max_tokens is 0, expected an integer in [1, 2147483647], or None",
    ),
    (
        ["run", "x", "-p", "a", "--min-tokens", "9", "--max-tokens", "8"],
        "min_tokens is 9, above max_tokens (8)",
    ),
    (["run", "x", "-p", "a", "--logit-bias", "x=1"], "argument --logit-bias: invalid ID=X value: 'x=1'"),
    (["run", "x", "-p", "a", "--heat", "1"], "unrecognized arguments: --heat 1"),
    (["run", "x", "-p", "a", "--min", "1"], "ambiguous option: --min could match --min-p, --min-tokens"),
    (["run", "x", "-p"], "argument -p/--prompt: expected one argument"),
    (["run", "x", "-p", "a", "--echo=1"], "argument --echo: ignored explicit argument '1'"),
    (["run", "x", "-p", "a\udcff"], "--prompt is not valid UTF-8 (at character 1)"),
    (["run", "x", "--prompt-file", "/nowhere"], "/nowhere: No such file or directory"),
    (["run", "x", "-p", "a", "--threads", "0"], "threads is 0, expected None or an int in [1, 1024]"),
    (["boil"], "invalid choice: 'boil'"),
    ([], "required: COMMAND"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_errors_are_pythons(
    words: list[str], message: str, executable: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(executable, *words)
    error = found.stderr.decode()
    assert (found.returncode, found.stdout) == (2, b"")
    assert error.startswith("mindir-llm: error: ") and error.count("\n") == 1 and message in error
    try:
        code: Any = cli.main(words)
    except SystemExit as stop:
        code = stop.code
    assert code == 2 and message in capsys.readouterr().err


def test_errors_of_the_bundle(executable: Path, tiny_bundle: Path) -> None:
    for words, message in [
        (["--stop-token-id", "330"], "stop_token_ids has 330, outside the vocabulary [0, 330)"),
        (["--logit-bias", "999=1"], "logit_bias has 999, outside the vocabulary [0, 330)"),
    ]:
        found = run(executable, "run", tiny_bundle, "-p", "x", *words)
        assert found.returncode == 2 and message in found.stderr.decode()
    found = run(executable, "run", tiny_bundle, "-p", "xyz " * 99)
    assert (
        found.returncode == 2
        and "max_seq_len of the bundle is 64, so a prompt may have at most 63" in str(found.stderr)
    )


def entries(text: str) -> dict[str, str]:
    """Option → help, of either program's --help."""
    body = text[text.index("\noptions:") : text.rindex("\nexamples:")]
    parts = re.split(r"\n  (?=-)", body)[1:]
    found = {}
    for part in parts:
        part = re.split(r"\n\w", part)[0]
        names, _, help = part.replace("\n", "  ", 1).partition("  ") if "\n" in part else part.partition("  ")
        found[names.strip()] = " ".join(help.split())
    return found


@pytest.mark.parametrize("command", ["run", "chat"])
def test_help_is_pythons(command: str, executable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = run(executable, command, "--help").stdout.decode()
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    theirs = capsys.readouterr().out
    assert entries(ours) == entries(theirs)
    assert ours[ours.rindex("\nexamples:") :].strip() == theirs[theirs.rindex("\nexamples:") :].strip()


def endless(executable: Path, bundle: Path) -> list[str]:
    return [
        str(executable),
        "run",
        str(bundle),
        "-p",
        "The fox",
        "--ignore-eos",
        "--max-tokens",
        "57",
        "--quiet",
    ]


def test_a_reader_that_leaves(executable: Path, tiny_bundle: Path) -> None:
    running = subprocess.Popen(
        endless(executable, tiny_bundle), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert running.stdout is not None and running.stderr is not None
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait() == 141


def test_ctrl_c(executable: Path, tmp_path: Path) -> None:
    assert interrupt_before_the_prompt([executable], tmp_path) == (130, b"")


def test_version(executable: Path) -> None:
    assert re.fullmatch(rb"mindir-llm \d+\.\d+\.\d+\n", run(executable, "--version").stdout)
