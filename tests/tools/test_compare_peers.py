"""The comparison's own parts, with engines that do not exist."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from mindir_llm.tools.compare_peers.checkpoint import prepare_checkpoint, token_list
from mindir_llm.tools.compare_peers.command import main
from mindir_llm.tools.compare_peers.errors import CompareError
from mindir_llm.tools.compare_peers.peers import Variant, all_peers
from mindir_llm.tools.compare_peers.report import (
    BEGIN,
    END,
    build_report,
    markdown,
    table,
    text,
    write_between_markers,
)
from mindir_llm.tools.compare_peers.runner import (
    Entry,
    Lengths,
    measure_rounds,
    prepare,
    worker_measure,
)
from mindir_llm.tools.compare_peers.site import Environment, Site, run_json

# A worker that reads its request and answers without an engine; its seconds depend on the model's name.
_WORKER = """
import json, sys
request = json.load(sys.stdin)
if request["model"].endswith("broken"):
    print(json.dumps({"error": "ValueError: it is broken"}))
elif request["model"].endswith("fatal"):
    import os
    os.abort()
else:
    print("noise")
    seconds = {"prefill_seconds": 2.0, "decode_short_seconds": 4.0, "decode_long_seconds": 8.0}
    print(json.dumps({"result": {**seconds, "load_seconds": 0.5, "peak_rss": 100, "request": request}}))
"""


class FakePeer:
    """An engine whose set-up, conversion and worker are made up."""

    notes = ("made up",)

    def __init__(
        self, name: str, variants: tuple[Variant, ...], *, ours: bool = False, fails: str | None = None
    ) -> None:
        self.name, self.variants, self.ours, self.fails = name, variants, ours, fails

    def setup(self, site: Site) -> None:
        if self.fails == "setup":
            raise CompareError("no compiler")

    def facts(self, site: Site) -> dict[str, Any]:
        return {"versions": {self.name: "1.2"}, "package_bytes": 5_000_000}

    def convert(self, site: Site, shape: str, checkpoint: Path, variant: Variant) -> Path:
        if self.fails == variant.name:
            raise CompareError("no such weights")
        folder = site.workdir / shape / f"{self.name}-{variant.name}"
        return site.convert(folder, lambda part: (part / "weights").write_bytes(b"x" * 1000) and None)

    def model(self, folder: Path) -> Path:
        return folder / "fatal" if self.fails == "worker" else folder

    def command(self, site: Site) -> list[str]:
        return [sys.executable, str(site.workdir / "worker.py")]

    def variables(self, site: Site) -> dict[str, str]:
        return {}


W4, W8 = Variant("w4", 4), Variant("w8", 8)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "worker.py").write_text(_WORKER)
    return Site(tmp_path, 3)


def _result(prefill: float, decode: float = 1.0, rss: int | None = 100) -> dict[str, Any]:
    return {
        "prefill_seconds": prefill,
        "decode_short_seconds": decode,
        "decode_long_seconds": 2 * decode,
        "load_seconds": 0.25,
        "peak_rss": rss,
    }


def _entries() -> list[Entry]:
    ours = FakePeer("ours", (W4, W8), ours=True)
    theirs = FakePeer("theirs", (W8,))
    return [Entry(ours, W4), Entry(ours, W8), Entry(theirs, W8)]


def _report(entries: list[Entry]) -> dict[str, Any]:
    return build_report(
        entries,
        shape="tiny",
        lengths=Lengths(),
        machine={"cpu": "Some CPU", "threads": 2},
        load_averages=[0.5, 1.5],
        now=datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc),
    )


def test_rounds_take_turns_and_begin_with_another_engine() -> None:
    entries = _entries()
    order: list[str] = []

    def measure(entry: Entry) -> dict[str, Any]:
        order.append(entry.name)
        return _result(1.0)

    saved: list[int] = []
    loads = measure_rounds(entries, 4, measure, after_round=lambda known: saved.append(len(known)))
    assert len(loads) == 4
    assert saved == [1, 2, 3, 4]
    a, b, c = (entry.name for entry in entries)
    assert order == [a, b, c, b, c, a, c, a, b, a, b, c]
    assert [len(entry.rounds) for entry in entries] == [4, 4, 4]


def test_an_engine_that_fails_is_listed_and_left_alone() -> None:
    entries = _entries()
    asked: list[str] = []

    def measure(entry: Entry) -> dict[str, Any]:
        asked.append(entry.name)
        if entry.peer.name == "theirs" and asked.count(entry.name) == 2:
            raise CompareError("out of memory")
        return _result(1.0)

    measure_rounds(entries, 4, measure)
    assert asked.count("theirs w8") == 2
    assert entries[2].reason == "round 2: out of memory"
    assert entries[2].rounds == []
    report = _report(entries)
    line = "theirs w8 was not measured: round 2: out of memory"
    assert line in text(report) and line in markdown(report)
    assert len(table(report)) == 1 + 2


def test_ratios_are_medians_of_rounds_not_ratios_of_medians() -> None:
    entries = _entries()
    # The machine is slow in the second round, for both. Ours takes half, half and a third of their time.
    entries[1].rounds = [_result(1.0), _result(10.0), _result(2.0)]
    entries[2].rounds = [_result(2.0), _result(20.0), _result(6.0)]
    engine = _report(entries)["engines"][2]
    assert engine["ours_relative"]["prefill_tokens_per_second"] == {
        "median": pytest.approx(2.0),
        "low": pytest.approx(2.0),
        "high": pytest.approx(3.0),
    }
    assert engine["summary"]["prefill_tokens_per_second"]["median"] == 512 / 6.0
    assert engine["summary"]["decode_tokens_per_second"]["median"] == 64.0
    assert engine["summary"]["decode_long_tokens_per_second"]["median"] == 32.0


def test_ratios_need_our_weights_of_as_many_bits() -> None:
    entries = [*_entries(), Entry(FakePeer("other", (W4,)), W4)]
    entries[1].rounds = [_result(1.0)]
    entries[3].rounds = [_result(1.0)]
    report = _report(entries)
    assert [engine["ours_relative"] for engine in report["engines"]] == [None] * 4
    assert "other" in markdown(report)
    assert "ours against" not in markdown(report)


def test_what_was_not_measured_is_a_dash() -> None:
    entries = _entries()
    entries[1].rounds = [_result(1.0, rss=None)]
    entries[2].rounds = [_result(2.0, rss=100)]
    report = _report(entries)
    assert report["engines"][1]["summary"]["peak_rss"] is None
    assert report["engines"][2]["ours_relative"]["peak_rss"] is None
    row = table(report)[1]
    assert row[0] == "ours" and row[6] == "–" and row[7] == "–"


def test_prepare_keeps_every_engine_in_the_list(site: Site) -> None:
    peers = [
        FakePeer("good", (W8,)),
        FakePeer("half", (W4, W8), fails="w4"),
        FakePeer("bad", (W4, W8), fails="setup"),
    ]
    entries = prepare(peers, site, "tiny", site.workdir)
    assert {entry.name: entry.reason for entry in entries} == {
        "good w8": None,
        "half w4": "no such weights",
        "half w8": None,
        "bad w4": "no compiler",
        "bad w8": "no compiler",
    }
    assert entries[0].file_bytes == 1000
    assert entries[0].facts["versions"] == {"good": "1.2"}


def test_conversions_are_kept_and_broken_ones_are_not(site: Site) -> None:
    target = site.workdir / "tiny" / "model"
    calls = []

    def fail(part: Path) -> None:
        (part / "half").write_text("")
        raise CompareError("interrupted")

    def make(part: Path) -> None:
        assert list(part.iterdir()) == []
        calls.append(part)

    with pytest.raises(CompareError):
        site.convert(target, fail)
    assert not target.exists()
    for _ in range(2):
        assert site.convert(target, make) == target
    assert len(calls) == 1


def test_an_environment_is_made_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(self: Site, command: list[str], log: str, variables: object = None) -> None:
        commands.append(command)
        self.python(one).parent.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(Site, "run", run)
    one = Environment("one", ("numpy==1",), remove=("scipy",))
    site.ensure(one)
    assert [next(word for word in c if word in ("venv", "install", "uninstall")) for c in commands] == [
        "venv",
        "install",
        "uninstall",
    ]
    commands.clear()
    site.ensure(one)
    assert commands == []
    site.ensure(Environment("one", ("numpy==2",)))
    assert "numpy==2" in commands[-1]


def test_a_failed_command_says_its_last_words(site: Site) -> None:
    script = "import sys; print('first', flush=True); sys.exit('the reason')"
    with pytest.raises(CompareError, match="ended with status 1: the reason"):
        site.run([sys.executable, "-c", script], "log")
    assert "first" in (site.workdir / "logs" / "log.log").read_text()


def test_workers_are_asked_and_believed(site: Site) -> None:
    entry = Entry(FakePeer("good", (W8,)), W8, model=site.workdir / "model")
    lengths = Lengths(prompt=7, decode_steps=5)
    result = worker_measure(site, lengths, 99)(entry)
    assert result["request"] == {
        "model": str(site.workdir / "model"),
        "threads": 3,
        "max_seq_len": 2048,
        "vocab_size": 99,
        "prompt": 7,
        "short_context": 16,
        "long_context": 1024,
        "decode_steps": 5,
    }


def test_workers_that_fail_give_a_reason(site: Site) -> None:
    measure = worker_measure(site, Lengths(), 99)
    entry = Entry(FakePeer("bad", (W8,)), W8, model=site.workdir / "broken")
    with pytest.raises(CompareError, match="ValueError: it is broken"):
        measure(entry)
    entry.model = site.workdir / "fatal"
    with pytest.raises(CompareError, match=r"worker\.py was ended by SIGABRT"):
        measure(entry)
    with pytest.raises(CompareError, match="did not end within 1 s"):
        run_json([sys.executable, "-c", "import time; time.sleep(60)"], None, None, timeout=1.0)
    with pytest.raises(CompareError, match="No such file"):
        run_json(["/absent/python"], None, None)


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The workers' common module, imported as they do."""
    import mindir_llm.tools.compare_peers.peers.base as base

    monkeypatch.syspath_prepend(str(base.WORKERS))
    import harness as module

    yield module
    del sys.modules["harness"]


def test_the_harness_never_repeats_a_prompt(harness: Any) -> None:
    prompts: list[tuple[str, tuple[int, ...]]] = []

    class Engine:
        def prefill(self, ids: list[int]) -> float:
            prompts.append(("prefill", tuple(ids)))
            return 1.0

        def decode(self, ids: list[int], steps: int) -> float:
            prompts.append((f"decode {steps}", tuple(ids)))
            return 2.0

    request = {
        "model": "m",
        "threads": 1,
        "max_seq_len": 64,
        "vocab_size": 50,
        "prompt": 20,
        "short_context": 4,
        "long_context": 30,
        "decode_steps": 9,
    }
    result = harness._measure(request, lambda: lambda *_: Engine())
    assert len({ids[0] for _, ids in prompts}) == len(prompts)
    assert all(3 <= number < 50 for _, ids in prompts for number in ids)
    assert [(what, len(ids)) for what, ids in prompts[2:]] == [
        ("prefill", 20),
        ("decode 9", 4),
        ("decode 9", 30),
    ]
    assert result["prefill_seconds"] == 1.0 and result["decode_long_seconds"] == 2.0


def test_markdown_is_written_between_markers(tmp_path: Path) -> None:
    entries = _entries()
    entries[1].rounds, entries[2].rounds = [_result(1.0)], [_result(2.0)]
    section = markdown(_report(entries), "peers.svg")
    path = tmp_path / "docs" / "performance.md"
    write_between_markers(path, section)
    path.write_text(path.read_text() + "\nAfter.\n")
    write_between_markers(path, "new\n")
    content = path.read_text()
    assert content.count(BEGIN) == content.count(END) == 1
    assert f"{BEGIN}\nnew\n{END}" in content and content.endswith("\nAfter.\n")
    assert "| theirs | w8 | 2.00 × |" in section
    assert "![Speed of the engines](peers.svg)" in section
    assert "Some CPU, 2 threads; 2026-01-02 03:04 UTC" in section
    path.write_text("no markers")
    with pytest.raises(CompareError, match="has no lines"):
        write_between_markers(path, section)
    assert path.read_text() == "no markers"


def test_report_from_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = _entries()
    entries[1].rounds = [_result(1.0)]
    file, document = tmp_path / "results.json", tmp_path / "performance.md"
    file.write_text(json.dumps(_report(entries)))
    assert main(["--from-json", str(file), "--markdown", str(document)]) == 0
    assert "ours w4 was not measured: no rounds" in capsys.readouterr().out
    assert BEGIN in document.read_text()


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from mindir_llm.tools.compare_peers.plot import plot_comparison

    entries = _entries()
    entries[1].rounds, entries[2].rounds = [_result(1.0), _result(1.5)], [_result(2.0), _result(1.8)]
    path = tmp_path / "peers.svg"
    plot_comparison(_report(entries), path)
    once = path.read_bytes()
    plot_comparison(_report(entries), path)
    assert path.read_bytes() == once


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --workdir or --from-json"),
        (["--workdir", "a", "--from-json", "b"], "give --workdir or --from-json"),
        (["--workdir", "a", "--rounds", "0"], "--rounds: 0 is not positive"),
        (["--workdir", "a", "--threads", "-2"], "--threads: -2 is not positive"),
        (["--workdir", "a", "--plot", "x.pdf"], "ends in .png or .svg"),
        (["--from-json", "absent.json"], "absent.json"),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("mindir-llm: error: ") and error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "x"}'])
def test_other_files_are_not_results(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file.json"
    file.write_text(content)
    assert main(["--from-json", str(file)]) == 2
    assert str(file) in capsys.readouterr().err


def test_the_made_up_tokenizer_has_a_piece_for_every_id(tmp_path: Path) -> None:
    folder = prepare_checkpoint("tiny", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert sorted(vocab.values()) == list(range(config["vocab_size"]))
    assert len(set(token_list(32000))) == 32000
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    prepare_checkpoint("tiny", tmp_path)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_tokenizer_loads_in_the_tokenizers_package(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    folder = prepare_checkpoint("tiny", tmp_path)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.decode(tokenizer.encode("Grüße").ids) == "Grüße"


def test_every_requirement_is_pinned() -> None:
    measured: Callable[[Any], bool] = lambda peer: not peer.ours  # noqa: E731
    peers = [peer for peer in all_peers() if measured(peer)]
    assert len(peers) == 5
    for peer in peers:
        for environment in (peer.environment, peer.converter):  # type: ignore[attr-defined]
            assert all("==" in requirement for requirement in environment.requirements)
        assert (Path(peer.command(Site(Path(), 1))[1])).is_file()
