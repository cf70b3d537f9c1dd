"""Perplexity, KL divergence and top-1 agreement: by hand, and of real bundles."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindir_llm.tools import evaluate as module
from mindir_llm.tools.backends import VerifyError, load_encoder
from mindir_llm.tools.evaluate import compare, cut, evaluate, register
from mindir_llm.tools.perplexity import Subject, open_subject, perplexity, read_texts, reference_scorer
from mindir_llm.tools.reference import ReferenceLlama

DEMO = Path(__file__).resolve().parents[2] / "tools" / "demo_model" / "checkpoint"
STORY = (
    "Once upon a time, there was a happy girl named Rosa. She lived with her uncle.<|endoftext|>A dog ran."
)


def fixed(row: Sequence[float]) -> Callable[[Sequence[int]], NDArray[np.floating]]:
    """A scorer that always expects the same probabilities."""
    return lambda ids: np.tile(np.log(row), (len(ids), 1)) + 7.0


def test_by_hand() -> None:
    p, q = [0.5, 0.25, 0.25], [0.2, 0.6, 0.2]
    sums = compare([[0, 1, 2], [0, 0]], fixed(q), fixed(p))
    assert sums.tokens == 3
    assert sums.nll == pytest.approx(-math.log(0.6) - 2 * math.log(0.2))
    assert sums.reference_nll == pytest.approx(-2 * math.log(0.25) - math.log(0.5))
    kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert sums.kl == pytest.approx(3 * kl) and sums.max_kl == pytest.approx(kl)
    assert sums.agreeing == 0


def test_a_model_agrees_with_itself() -> None:
    sums = compare([[0, 1, 2]], fixed([0.1, 0.7, 0.2]), fixed([0.1, 0.7, 0.2]))
    assert sums.kl == sums.max_kl == 0 and sums.agreeing == 2


def test_without_a_reference_only_likelihoods_are_added() -> None:
    sums = compare([[0, 1]], fixed([0.5, 0.5]), None)
    assert (sums.tokens, sums.kl, sums.agreeing, sums.reference_nll) == (1, 0, 0, 0)
    with pytest.raises(ValueError, match="at least two"):
        compare([[1]], fixed([0.5, 0.5]), None)


def test_texts_are_cut() -> None:
    def encode(text: str) -> list[int]:
        return [0, *map(ord, text)]

    def joined(**options: Any) -> list[str]:
        return ["".join(map(chr, ids[1:])) for ids in cut(["abcdefg", "", "hi"], encode, **options)]

    assert joined(length=4) == ["abc", "hi"]
    assert joined(length=4, pieces=2) == ["abc", "def", "hi"]
    assert joined(length=4, pieces=0) == ["abc", "def", "g", "hi"]
    assert all(ids[0] == 0 for ids in cut(["abcdef"], encode, 3, 0))
    # Without a BOS the first id has nothing before it that would predict it.
    assert list(cut(["a", "bc"], lambda text: list(map(ord, text)), 3)) == [[98, 99]]


def subject(vocab: int, row: Sequence[float] = (0.5, 0.5)) -> Subject:
    return Subject(Path("here"), "made up", vocab, None, lambda progress: fixed(row))


def test_vocabularies_must_be_equal() -> None:
    with pytest.raises(VerifyError, match="--reference: here has a vocabulary of 3, here one of 2"):
        evaluate(subject(2), [[0, 1]], subject(3))
    with pytest.raises(VerifyError, match="no tokens"):
        evaluate(subject(2), [])


def test_a_hopeless_model_has_a_result_too() -> None:
    with np.errstate(divide="ignore"):
        hopeless = Subject(
            Path("h"), "h", 2, None, lambda progress: lambda ids: np.tile([0.0, -1e5], (len(ids), 1))
        )
    result = evaluate(hopeless, [[0, 1]], subject(2))
    assert result.score.perplexity == math.inf
    assert result.comparison is not None and result.comparison.mean_kl == pytest.approx(5e4, rel=1e-3)


@pytest.fixture
def story(tmp_path: Path) -> Path:
    file = tmp_path / "story.txt"
    file.write_text(STORY, encoding="utf-8")
    return file


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers(required=True))
    args = parser.parse_args(["evaluate", *map(str, arguments)])
    code: int = args.run(args)
    return code


def test_float32_is_close_to_float64(story: Path) -> None:
    exact, fast = open_subject(DEMO), open_subject(DEMO, precision="float32")
    ids = list(cut(read_texts(story), load_encoder(DEMO), 64))
    assert fast.scorer(lambda n: None)(ids[0]).dtype == np.float32
    calls: list[int] = []
    result = evaluate(fast, ids, exact, calls.append)
    assert sum(calls) == 2 * result.tokens and result.texts == 2
    assert result.comparison is not None
    assert result.comparison.max_kl < 1e-9 and result.comparison.top1_agreement == 1
    expected = perplexity(reference_scorer(ReferenceLlama(DEMO)), ids)
    assert result.comparison.reference.mean_nll == pytest.approx(expected.mean_nll, rel=1e-12)
    assert result.score.perplexity == pytest.approx(expected.value, rel=1e-5)


def test_command_on_a_checkpoint(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(DEMO, "--text", story, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["comparison"] is None and found["texts"] == 2 and 1 < found["perplexity"] < 100
    assert run(DEMO, "--text", story, "--tokens", 5, "--pieces", 3) == 0
    out = capsys.readouterr().out
    assert "tokens predicted in" in out and "perplexity" in out and "KL" not in out


def test_mistakes_are_named(story: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("--tokens", 1), "--tokens: 1 is below 2"),
        (("--pieces", -1), "--pieces: -1 is below 0"),
    ):
        with pytest.raises(VerifyError, match=message):
            run(DEMO, "--text", story, *arguments)
    with pytest.raises(FileNotFoundError):
        run(DEMO, "--text", "absent.txt")
    (tmp_path / "latin").write_bytes(b"\xe4")
    with pytest.raises(VerifyError, match="latin: not UTF-8"):
        run(DEMO, "--text", tmp_path / "latin")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(VerifyError, match="is a bundle"):
        run(DEMO, "--text", story, "--reference", tmp_path)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mindspore")
    from mindir_llm.export import ExportOptions, export_bundle

    folder = tmp_path_factory.mktemp("evaluate") / "bundle"
    return export_bundle(
        DEMO, folder, ExportOptions(quant="a16w8", max_seq_len=64, prefill_chunk=16, batch=2)
    )


def test_command_on_a_bundle(bundle: Path, story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for mode in ("", "--exact"):
        flags = [mode] if mode else []
        assert run(bundle, "--text", story, "--reference", DEMO, "--json", *flags) == 0
        found[mode] = json.loads(capsys.readouterr().out)
        comparison = found[mode]["comparison"]
        assert 0 < comparison["mean_kl"] < 0.02 and comparison["top1_agreement"] > 0.8
        assert comparison["perplexity_ratio"] == pytest.approx(1, abs=0.02)
        assert comparison["perplexity_ratio"] == pytest.approx(
            found[mode]["perplexity"] / comparison["reference"]["perplexity"]
        )
    assert found[""]["what"].endswith("engine") and found["--exact"]["what"].endswith("engine, exact")
    assert run(bundle, "--text", story, "--reference", DEMO, "--precision", "float32") == 0
    out = capsys.readouterr().out
    for word in ("perplexity of the reference", "ratio", "KL divergence, mean", "top-1 agreement", "float32"):
        assert word in out


def test_the_reference_lends_its_tokenizer(
    bundle: Path, story: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(folder: str) -> Callable[[str], list[int]]:
        if folder == str(bundle):
            raise VerifyError("no tokenizer here")
        return load_encoder(folder)

    monkeypatch.setattr(module, "load_encoder", load)
    assert run(bundle, "--text", story, "--reference", DEMO) == 0
    with pytest.raises(VerifyError, match="no tokenizer here"):
        run(bundle, "--text", story)


def test_golden_perplexity(shared_data: Path, stories: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = json.loads(
        (shared_data / "models" / "stories260K" / "golden_ppl_tinystories_sample.json").read_text()
    )
    assert run(stories, "--text", shared_data / "text" / "tinystories_sample.txt", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tokens"] == golden["tokens"]
    assert found["perplexity"] == pytest.approx(golden["ppl"], rel=1e-6)
