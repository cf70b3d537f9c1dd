"""`--report`: a page of one file with the right numbers, escaped, written only when an export succeeds."""

from __future__ import annotations

import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from mindir_llm.export import ExportError, ExportOptions, bundle, export_bundle
from mindir_llm.export.checkpoint import Checkpoint
from mindir_llm.export.pipeline.policies import decide
from mindir_llm.export.pipeline.quantizing import quantize_network
from mindir_llm.export.quantize.config import from_fields
from mindir_llm.export.quantize.measure import WeightErrors
from mindir_llm.export.report import Speed, measure_speed
from mindir_llm.export.report import speed as speed_module
from mindir_llm.export.report.plot import Series, panel, scale_top
from mindir_llm.export.report.speed import speed_of
from mindir_llm.models.config import LlamaConfig
from mindir_llm.runtime import cli

sys.path.insert(0, str(Path(__file__).parent / "pipeline"))
from pipelines import held, make_checkpoint, write_token_ids
from test_prequantized import write_quantized

SHORT: dict[str, Any] = {"max_seq_len": 8, "prefill_chunk": 4}
FLAGS = ["--max-seq-len", "8", "--prefill-chunk", "4"]
VOID = {"meta"}


class Page(HTMLParser):
    """Tables as rows of cells, texts of everything, tags; unclosed and unopened tags are errors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.tables: list[list[list[str]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def table(self, first: str) -> dict[str, list[str]]:
        """Rows of the table whose first cell is this, by their own first cells."""
        (found,) = [table for table in self.tables if table[0][0] == first]
        return {row[0]: row[1:] for row in found}


def number(cell: str) -> float:
    return float(cell.removesuffix(" %")) / 100


def relative(weight: NDArray[Any], approximation: NDArray[Any]) -> float:
    difference = weight.astype(np.float64) - approximation
    return float(np.linalg.norm(difference) / np.linalg.norm(weight.astype(np.float64)))


def restored(parameters: dict[str, NDArray[Any]], name: str) -> NDArray[np.float64]:
    """[out, in] of a bundle of target cpu: int8 per channel, or int4 in groups of 32."""
    values, scale = parameters[f"{name}.weight"], parameters[f"{name}.weight_scale"].astype(np.float64)
    if values.dtype == np.int8:
        return values * scale.reshape(-1, 1)
    integers = np.stack([values & 15, values >> 4], -1).reshape(len(values), -1) - 8.0
    return (integers * np.repeat(scale, 32, axis=0)[: len(values)]).T


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("report") / "model", tie_word_embeddings=True)[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"preset": "a16w8"},
        {"preset": "a16w4", "opname_blacklist": ["lm_head", "layers.1.self_attn.q_proj"]},
        {"preset": "a8w8-dynamic"},
    ],
)
def test_weight_errors_are_those_of_the_bundle(fields: dict[str, Any], made: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    options = ExportOptions(config=from_fields(fields), report=report, **SHORT)
    parameters = held(export_bundle(made, tmp_path / "bundle", options))
    page = Page(report.read_text("utf-8"))
    rows = page.table("layer")
    assert rows.pop("layer") == ["scheme", "method", "weight error"]
    config = LlamaConfig.from_file(made / "config.json")
    quantized = [name for name in config.linear_shapes() if f"{name}.weight_scale" in parameters]
    assert list(rows) == quantized and len(quantized) >= 13
    source = Checkpoint.open(made)
    for name, cells in rows.items():
        tensor = "model.embed_tokens.weight" if name == "lm_head" else f"{name}.weight"
        weight = np.concatenate(list(source.blocks(tensor, np.float32)))
        assert number(cells[2]) == pytest.approx(relative(weight, restored(parameters, name)), rel=1e-3), name
    worst = max((number(cells[2]), name) for name, cells in rows.items() if "down_proj" in name)
    summary = page.table("kind")["down_proj"]
    assert number(summary[1]) == worst[0] and f"layers.{summary[2]}." in worst[1]
    if "opname_blacklist" in fields:
        assert "q_proj of layers 1: float16" in page.texts and "lm_head: float16" in page.texts
    assert page.seen.count("figure") == (7 if "opname_blacklist" in fields else 8)


def test_weight_errors_of_blocks_add_up() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((12, 5)).astype(np.float32)
    other = weight + rng.standard_normal((12, 5)).astype(np.float32) / 10
    errors = WeightErrors()
    for rows in (slice(0, 5), slice(5, 6), slice(6, 12)):
        errors.add("w", weight[rows], other[rows])
    errors.add("zero", 0 * weight, 0 * weight)
    errors.add("lost", 0 * weight, other)
    found = errors.relative()
    assert found["w"] == pytest.approx(relative(weight, other), rel=1e-6)
    assert (found["zero"], found["lost"]) == (0, np.inf)


def test_calibrated_errors_beside_round_to_nearest(made: Path, tmp_path: Path) -> None:
    """The page has what the calibration measured; weight errors are also those of an independent look."""
    text = write_token_ids(tmp_path / "ids.jsonl", sequences=12)
    fields = {"preset": "a16w4", "precision_recovery": "gptq"}
    config, report = from_fields(fields), tmp_path / "report.html"
    options = ExportOptions(
        config=config, calibration=text, work_dir=tmp_path / "work", report=report, **SHORT
    )
    parameters = held(export_bundle(made, tmp_path / "bundle", options))
    network = LlamaConfig.from_file(made / "config.json")
    source = Checkpoint.open(made)
    results = quantize_network(
        source, network, decide(config, network), text, tmp_path / "work", dtype="float16"
    )
    page = Page(report.read_text("utf-8"))
    rows = page.table("layer")
    head = rows.pop("layer")
    assert head[2:] == ["output error", "round-to-nearest", "of that", "weight error"]
    assert list(rows) == list(network.linear_shapes())
    for error in results.errors():
        cells = rows[error.linear]
        assert cells[1] == "gptq"
        assert [number(cells[2]), number(cells[3])] == pytest.approx([error.output, error.nearest], rel=1e-3)
        assert float(cells[4]) == pytest.approx(error.output / error.nearest, abs=1e-3)
        tensor = "model.embed_tokens.weight" if error.linear == "lm_head" else f"{error.linear}.weight"
        weight = np.concatenate(list(source.blocks(tensor, np.float32)))
        assert number(cells[5]) == pytest.approx(
            relative(weight, restored(parameters, error.linear)), rel=1e-3
        )
    # Not a copy of one another: GPTQ trades weights for outputs.
    assert all(number(cells[2]) < number(cells[3]) for cells in rows.values())
    assert page.seen.count("polyline") == 14  # of two layers, seven kinds
    assert any(f"{text}: at most 128 sequences of 512 tokens" in part for part in page.texts)


def test_sizes_are_those_of_the_files(made: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    options = ExportOptions(quant="a16w8", kv_dtype="int8", report=report, **SHORT)
    export_bundle(made, tmp_path / "bundle", options)
    rows = Page(report.read_text("utf-8")).table("tensors")
    # Two layers of 44 x 32 weights in float32; int8 and a float16 scale for each of 44 channels.
    assert rows["up_proj"] == ["2,816", "11.3 kB", "32.00", "3.0 kB", f"{8 + 16 / 32:.2f}"]
    assert rows["token embedding"] == ["1,600", "6.4 kB", "32.00", "3.2 kB", "16.00"]
    assert rows["lm_head"] == ["1,600", "–", "–", "1.7 kB", "8.50"]  # tied
    assert rows["norms"][0] == str(5 * 32)
    parameters = held(tmp_path / "bundle")
    assert rows["all"][3] == f"{sum(values.nbytes for values in parameters.values()) / 1e3:,.1f} kB"


def test_names_of_files_are_escaped(tmp_path: Path) -> None:
    name = """<img src=x onerror="alert(1)">&amp;'$(x)"""
    config = tiny_config(num_hidden_layers=1)
    checkpoint = write_checkpoint(tmp_path / name, config, random_tensors(config))
    report = tmp_path / "report.html"
    folder = tmp_path / os.fsdecode(b"<script>\xff")
    export_bundle(checkpoint, folder, ExportOptions(report=report, **SHORT))
    text = report.read_text("utf-8")
    page = Page(text)
    assert not {"img", "script", "link", "iframe"} & set(page.seen)
    assert not {"src", "href", "onerror", "style"} & {name for name, _ in page.attributes}
    assert f"Export of {name}" in page.texts
    assert any("no tokenizer.model" in part and str(checkpoint) in part for part in page.texts)
    assert "url(" not in text and "@import" not in text and "://" not in text


def test_a_quantized_checkpoint_has_no_errors_to_show(tmp_path: Path) -> None:
    write_quantized(tmp_path / "model", "gptq", 0, symmetric=True, scattered=False)
    report = tmp_path / "report.html"
    export_bundle(tmp_path / "model", tmp_path / "bundle", ExportOptions(report=report, **SHORT))
    page = Page(report.read_text("utf-8"))
    assert any("was quantized already" in part for part in page.texts)
    assert "lm_head: float16" in page.texts and "svg" not in page.seen
    assert not any("--reference" in part for part in page.texts)
    assert float(page.table("tensors")["q_proj"][4]) == pytest.approx(4 + 16 / 64, abs=0.01)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("missing/report.html", "cannot be written: No such file or directory"),
        ("a-file/report.html", "cannot be written: Not a directory"),
        ("x" * 300, "cannot be written: File name too long"),
        ("folder", "exists and is not a file"),
        ("link", "exists and is not a file"),
        ("a-file", "exists and is something else than a report"),
        ("bundle/report.html", "lies inside the bundle"),
        ("bundle", "lies inside the bundle"),
    ],
)
def test_a_bad_place_is_refused_before_the_work_begins(
    place: str, message: str, made: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "_trace", lambda *_: pytest.fail("began to work"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "a-file").write_text("years of work")
    (tmp_path / "link").symlink_to(tmp_path / "a-file")
    before = sorted(tmp_path.iterdir())
    arguments = ["export", str(made), str(tmp_path / "bundle"), "--report", str(tmp_path / place), "--force"]
    assert cli.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mindir-llm: error: --report: ") and message in line and place in line
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "a-file").read_text() == "years of work"


def test_a_report_is_replaced_by_force_only(made: Path, tmp_path: Path, capsys: Any) -> None:
    report = tmp_path / "report.html"
    arguments = ["export", str(made), str(tmp_path / "bundle"), *FLAGS, "--report", str(report)]
    assert cli.main(arguments) == 0
    assert f"{report}: report" in capsys.readouterr().out
    assert report.stat().st_mode & 0o777 == 0o666 & ~_umask()
    first = report.read_text("utf-8")
    assert "No layer is quantized" in first
    again = [argument.replace("bundle", "other") for argument in arguments]
    assert cli.main(again) == 2
    assert "report.html: exists; choose another name, or --force" in capsys.readouterr().err
    assert report.read_text("utf-8") == first and not (tmp_path / "other").exists()
    assert cli.main([*again, "--force"]) == 0
    assert report.read_text("utf-8") == first.replace(str(tmp_path / "bundle"), str(tmp_path / "other"))
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "other", "report.html"}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_failed_export_leaves_no_report(tmp_path: Path) -> None:
    config = tiny_config(num_hidden_layers=1)
    tensors = random_tensors(config)
    tensors["lm_head.weight"][3, 4] = np.nan
    checkpoint = write_checkpoint(tmp_path / "model", config, tensors)
    with pytest.raises(ExportError, match="not finite"):
        export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(report=tmp_path / "r.html", **SHORT))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_disk_that_fills_up_is_told_of_the_report(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mindir_llm.export.report.place.os.replace", full)
    with pytest.raises(
        ExportError, match=r"r\.html: the bundle is complete, but its report .* No space left"
    ):
        export_bundle(made, tmp_path / "bundle", ExportOptions(report=tmp_path / "r.html", **SHORT))
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_panel_is_true_to_scale() -> None:
    top = scale_top([0.031, 0.17, np.inf])
    assert top == pytest.approx(0.2)
    picture = panel("x", [Series("s", "method", {0: 0.0, 1: 0.2, 3: 0.05, 4: np.inf})], 5, top)

    found = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', picture)
    (x0, y0), (x1, y1), (x3, y3), (x4, y4) = [(float(x), float(y)) for x, y in found]
    assert x1 - x0 == pytest.approx((x4 - x0) / 4, abs=0.1) and x3 - x0 == pytest.approx(
        3 * (x1 - x0), abs=0.2
    )
    assert y0 - y3 == pytest.approx((y0 - y1) / 4, abs=0.1) and y4 == y1 < y0
    assert picture.count("<polyline") == 2  # layer 2 stays float: a gap
    assert "∞" in picture
    assert scale_top([]) > 0 and scale_top([0.0]) > 0 and scale_top([5e-9]) == pytest.approx(6e-9)


BENCH: dict[str, Any] = {
    "machine": {"cpu": "Some <CPU>", "threads": 2},
    "prefill": [{"tokens": 32, "tokens_per_second": {"median": 1234.5}, "share_of_peak": {"median": 0.641}}],
    "decode": [
        {
            "context": 16,
            "tokens_per_second": {"median": 47.38},
            "share_of_read_bandwidth": None,
            "bytes_per_token": 582_000_000.0,
        }
    ],
    "load_seconds": {"median": 0.346},
    "memory": {"peak": None},
}


def test_speed_is_what_the_bench_found(made: Path, tmp_path: Path) -> None:
    found = tmp_path / "report.html"
    options = ExportOptions(report=found, **SHORT)
    measured: list[Path] = []

    def measure(folder: Path) -> Speed:
        assert (folder / "manifest.json").exists(), "it can be opened"
        measured.append(folder)
        return speed_of(BENCH)

    export_bundle(made, tmp_path / "bundle", options, measure=measure)
    page = Page(found.read_text())
    assert measured == [tmp_path / "bundle"]
    assert page.table("")["prefill of 32 tokens"] == ["1,234.5", "64% of multiply peak", "–"]
    assert page.table("")["decode after 16 tokens"] == ["47.4", "–", "582.00 MB"]
    assert any("(Some <CPU>, 2 threads); it opens the bundle in 0.35 s." in text for text in page.texts)


def test_speed_of_a_bundle_in_the_engine(made: Path, tmp_path: Path) -> None:
    large = export_bundle(made, tmp_path / "large", ExportOptions(max_seq_len=32, prefill_chunk=16))
    speed = measure_speed(large)
    assert speed.problem == ""
    assert [rate.what for rate in speed.rates] == ["prefill of 32 tokens", "decode after 16 tokens"]
    assert all(rate.tokens_per_second > 0 for rate in speed.rates)
    small = export_bundle(made, tmp_path / "small", ExportOptions(**SHORT))
    assert "too little to measure" in measure_speed(small).problem


def test_nothing_is_measured_where_memory_is_short(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed_module, "_available_memory", lambda: 900_000_000)
    report = tmp_path / "report.html"
    export_bundle(
        made, tmp_path / "bundle", ExportOptions(report=report, **SHORT), measure=speed_module.measure_speed
    )
    assert "takes 1.1 GB of memory, and 0.9 GB are free here. On the machine" in report.read_text()
