"""A report as HTML. Everything that comes from files or the user is escaped where it enters."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from statistics import fmean

from mindir_llm.export.description import scheme_of
from mindir_llm.export.pipeline.results import LayerError
from mindir_llm.export.report.facts import LINEAR_KINDS, Facts, place_of, sizes
from mindir_llm.export.report.place import GENERATOR
from mindir_llm.export.report.plot import Series, panel, percent, scale_top
from mindir_llm.models.quantization import WeightQuantization

__all__ = ["page"]

_STYLE = """\
:root { color-scheme: light dark; --back: #fff; --text: #1b1f24; --faint: #5b6570; --line: #d5dae0;
  --method: #2067c8; --nearest: #c4501b; }
@media (prefers-color-scheme: dark) { :root { --back: #15181c; --text: #e4e8ec; --faint: #9aa4ae;
  --line: #343b43; --method: #63a4f5; --nearest: #f08a52; } }
body { margin: 2rem auto; max-width: 64rem; padding: 0 1rem; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin-top: 2.2rem; }
p.note, figcaption, caption { color: var(--faint); }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; white-space: nowrap; }
th[scope=row] { white-space: nowrap; }
tr.total td { font-weight: 600; }
pre { padding: .6rem; border: 1px solid var(--line); overflow-x: auto; }
div.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem; }
figure { margin: 0; }
svg { display: block; width: 100%; height: auto; }
svg.key { display: inline; width: 2.6rem; height: .8rem; }
svg .grid { stroke: var(--line); }
svg .tick { fill: var(--faint); font-size: 11px; }
svg polyline, svg path { fill: none; stroke-width: 1.6; }
svg .method { stroke: var(--method); }
svg circle.method { fill: var(--method); }
svg .nearest { stroke: var(--nearest); stroke-dasharray: 4 3; }
svg circle.nearest { fill: var(--back); stroke-dasharray: none; }
"""


def page(facts: Facts) -> str:
    """The whole document."""
    name = escape(facts.checkpoint.name or str(facts.checkpoint))
    body = [
        f"<h1>Export of {name}</h1>",
        _summary(facts),
        "<h2>Model and settings</h2>",
        _settings(facts),
        "<h2>Errors of layers</h2>",
        _errors(facts),
        "<h2>Sizes</h2>",
        _sizes(facts),
        "<h2>What stayed float</h2>",
        _floats(facts),
        "<h2>Warnings</h2>",
        _list(facts.warnings) if facts.warnings else "<p>None.</p>",
        "<h2>Speed</h2>",
        _speed(facts),
        "<h2>Quality of text</h2>",
        _quality(facts),
    ]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            GENERATOR,
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Export of {name}</title>",
            f"<style>\n{_STYLE}</style>\n</head>\n<body>",
            *body,
            "</body>\n</html>\n",
        ]
    )


def _summary(facts: Facts) -> str:
    kinds = sizes(facts)
    before, after = sum(kind.before for kind in kinds), sum(kind.after for kind in kinds)
    text = f"Weights: {_megabytes(before)} in the checkpoint, {_megabytes(after)} in the bundle"
    linear = [kind for kind in kinds if kind.kind in LINEAR_KINDS]
    weights = sum(kind.weights for kind in linear)
    text += f"; {8 * sum(kind.after for kind in linear) / weights:.2f} bits a weight of linear layers"
    quantized = len(facts.settings.quantization)
    return f"<p>{text}. {quantized} of {len(facts.config.linear_shapes())} linear layers are quantized.</p>"


def _settings(facts: Facts) -> str:
    settings, config = facts.settings, facts.config
    heads = f"{config.num_attention_heads} heads, {config.num_key_value_heads} of keys and values"
    rows = [
        ("checkpoint", str(facts.checkpoint)),
        ("bundle", str(facts.bundle)),
        (
            "model",
            f"{config.model_type}: {config.num_hidden_layers} layers, hidden size {config.hidden_size},"
            f" intermediate size {config.intermediate_size}, {heads}, head size {config.head_dim},"
            f" vocabulary {config.vocab_size}" + (", tied embeddings" if config.tie_word_embeddings else ""),
        ),
        ("quantization", _schemes(settings.quantization, settings.methods)),
        ("other weights", settings.dtype),
        (
            "KV cache",
            settings.kv_dtype
            + (f", scales {settings.kv_granularity}" if settings.kv_granularity is not None else ""),
        ),
        ("target", settings.target),
        (
            "shapes",
            f"batch {settings.batch}, max_seq_len {settings.max_seq_len},"
            f" prefill chunk {settings.prefill_chunk}",
        ),
        ("calibration", _calibration(facts)),
    ]
    cells = "\n".join(f'<tr><th scope="row">{name}</th><td>{escape(value)}</td></tr>' for name, value in rows)
    return f'<div class="wide"><table>\n{cells}\n</table></div>'


def _schemes(forms: Mapping[str, WeightQuantization], methods: Mapping[str, str]) -> str:
    kinds = Counter(f"{_scheme(form)}, {methods[name]}" for name, form in forms.items())
    return "; ".join(f"{text} ({count} layers)" for text, count in kinds.most_common()) or "none"


def _scheme(form: WeightQuantization) -> str:
    groups = f" in groups of {form.group_size}" if form.group_size else " per channel"
    order = ", inputs reordered" if form.reordered else ""
    return scheme_of(form) + groups + ("" if form.symmetric else " with zero points") + order


def _calibration(facts: Facts) -> str:
    amount = facts.calibration
    if amount is None:
        return "none"
    return f"{facts.settings.text}: at most {amount.samples} sequences of {amount.length} tokens"


# -- errors


def _errors(facts: Facts) -> str:
    if not facts.settings.quantization:
        return "<p>No layer is quantized.</p>"
    if facts.is_prequantized:
        return "<p>The checkpoint was quantized already: what its integers lost is not known here.</p>"
    return _calibrated(facts) if facts.errors else _rounded(facts)


def _calibrated(facts: Facts) -> str:
    errors = {error.linear: error for error in facts.errors}
    only_nearest = all(method == "rtn" for method in facts.settings.methods.values())
    text = (
        "Relative error of each layer's output on calibration inputs: the root of its squared error over"
        " that of the output itself, as the layer was quantized and as rounding to nearest alone would have"
        " made it. Inputs are those of the network whose earlier layers are quantized already."
    )
    if any(form.activations != "float" for form in facts.settings.quantization.values()):
        text += (
            " Only weights are rounded here: what int8 inputs lose, and what smoothing them gains at the cost"
            " of weights, shows in the perplexity."
        )
    series = [("method", "as quantized", {name: error.output for name, error in errors.items()})]
    if not only_nearest:
        series.insert(0, ("nearest", "round-to-nearest", {n: error.nearest for n, error in errors.items()}))
    head = ["layer", "scheme", "method", "output error", "round-to-nearest", "of that", "weight error"]
    rows = [
        [
            *_named(facts, name),
            percent(error.output),
            percent(error.nearest),
            _ratio(error),
            percent(error.weight),
        ]
        for name, error in errors.items()
    ]
    return "\n".join(
        [f'<p class="note">{text}</p>', *_plots(facts, series), _table(head, rows, text_columns=3)]
    )


def _rounded(facts: Facts) -> str:
    text = (
        "Relative error of each layer's weights: the root of their squared error over that of the weights"
        " themselves. Without a calibration it is not known what that means for outputs."
    )
    series = [("method", "weight error", facts.weight_errors)]
    order = [name for name in facts.config.linear_shapes() if name in facts.weight_errors]
    rows = [[*_named(facts, name), percent(facts.weight_errors[name])] for name in order]
    head = ["layer", "scheme", "method", "weight error"]
    return "\n".join(
        [f'<p class="note">{text}</p>', *_plots(facts, series), _table(head, rows, text_columns=3)]
    )


def _plots(facts: Facts, series: Sequence[tuple[str, str, Mapping[str, float]]]) -> list[str]:
    """A panel and a summary of each kind of layer. series: style, name, error by module."""
    top = scale_top(value for _, _, values in series for value in values.values())
    panels, rows = [], []
    for kind in LINEAR_KINDS:
        own = []
        for style, name, values in series:
            places = {module: place_of(module) for module in values}
            mine = {layer: values[module] for module, (of, layer) in places.items() if of == kind}
            if mine:
                own.append(Series(name, style, mine))
        if not own:
            continue
        layers = 1 if kind == "lm_head" else facts.config.num_hidden_layers
        panels.append(f"<figure><figcaption>{kind}</figcaption>\n{panel(kind, own, layers, top)}</figure>")
        cells = [kind]
        for one in own:
            worst = max(one.values, key=lambda layer: one.values[layer])
            cells += [percent(fmean(one.values.values())), percent(one.values[worst])]
            cells.append(str(worst) if layers > 1 else "–")
        rows.append(cells)
    legend = ", ".join(
        f'<svg class="key" viewBox="0 0 40 12" aria-hidden="true"><path class="{style}" d="M2 6H38"/>'
        f'<circle class="{style}" cx="20" cy="6" r="3"/></svg> {name}'
        for style, name, _ in series
    )
    head = ["kind"]
    for _, name, _ in series:
        head += [f"{name}: mean", "worst", "in layer"]
    return [
        f"<p>{legend}; over layers.</p>",
        '<div class="panels">',
        *panels,
        "</div>",
        "<h3>By kind</h3>",
        _table(head, rows, text_columns=1),
        "<h3>Layer by layer</h3>",
    ]


def _named(facts: Facts, name: str) -> list[str]:
    return [name, _scheme(facts.settings.quantization[name]), facts.settings.methods[name]]


def _ratio(error: LayerError) -> str:
    return f"{error.output / error.nearest:.3f}" if error.nearest else "–"


# -- sizes and the rest


def _sizes(facts: Facts) -> str:
    kinds = sizes(facts)
    rows = []
    for kind in kinds:
        cells = [kind.kind, f"{kind.weights:,}"]
        for nbytes in (kind.before, kind.after):
            cells += [_megabytes(nbytes), _bits(nbytes, kind.weights)] if nbytes else ["–", "–"]
        rows.append(cells)
    before, after = sum(kind.before for kind in kinds), sum(kind.after for kind in kinds)
    rows.append(["all", "", _megabytes(before), "", _megabytes(after), ""])
    head = ["tensors", "weights", "before", "bits a weight", "after", "bits a weight"]
    graphs = sum(size for name, size in facts.files.items() if name.endswith(".mindir"))
    others = sum(size for name, size in facts.files.items() if "/" not in name) - graphs
    note = (
        "Bytes of linear layers include their scales, zero points and biases. Rotary tables, scales of KV"
        " caches and a copy of tied embeddings are not in the checkpoint. The graphs take"
        f" {_megabytes(graphs)}" + (f", the tokenizer {_megabytes(others)}." if others else ".")
    )
    return f'{_table(head, rows, text_columns=1, total=True)}\n<p class="note">{note}</p>'


def _bits(nbytes: int, weights: int) -> str:
    return f"{8 * nbytes / weights:.2f}" if weights else "–"


def _floats(facts: Facts) -> str:
    by_kind: dict[str, list[int]] = {}
    for name in facts.config.linear_shapes():
        if name not in facts.settings.quantization:
            kind, layer = place_of(name)
            by_kind.setdefault(kind, []).append(layer)
    dtype = facts.settings.dtype
    items = [f"token embedding, norms: {dtype}"]
    for kind, layers in by_kind.items():
        where = ""
        if kind != "lm_head":
            every = len(layers) == facts.config.num_hidden_layers
            where = " of all layers" if every else f" of layers {', '.join(map(str, layers))}"
        items.append(f"{kind}{where}: {dtype}")
    return _list(items)


def _speed(facts: Facts) -> str:
    speed, bench = facts.speed, f"mindir-llm bench {shlex.quote(str(facts.bundle))}"
    command = f"<pre>{escape(bench)}</pre>"
    if speed is None:
        return f"<p>Not measured. On the machine that the bundle is for:</p>\n{command}"
    if speed.problem:
        return (
            f"<p>Could not be measured here: {escape(speed.problem)}. On the machine that the bundle is"
            f" for:</p>\n{command}"
        )
    rows = [
        [
            rate.what,
            f"{rate.tokens_per_second:,.1f}",
            "–" if rate.share is None else f"{rate.share:.0%} of {rate.limit}",
            "–" if rate.bytes_read is None else _megabytes(round(rate.bytes_read)),
        ]
        for rate in speed.rates
    ]
    memory = (
        "" if speed.peak_bytes is None else f" and takes {_megabytes(speed.peak_bytes)} of memory at most"
    )
    return "\n".join(
        [
            f"<p>In the engine on the machine of the export ({escape(speed.machine)}); it opens the bundle in"
            f" {speed.load_seconds:.2f} s{memory}.</p>",
            _table(["", "tokens/s", "of the machine's limit", "read for a token"], rows, text_columns=1),
            '<p class="note">Medians of two short repetitions beside whatever else ran there. On the machine'
            " that the bundle is for:</p>",
            command,
        ]
    )


def _quality(facts: Facts) -> str:
    command = f"mindir-llm evaluate {shlex.quote(str(facts.bundle))} --text FILE"
    if not facts.is_prequantized:
        command += f" --reference {shlex.quote(str(facts.checkpoint))}"
    return f"<p>Perplexity, and the distance to the checkpoint:</p>\n<pre>{escape(command)}</pre>"


def _list(items: Iterable[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{escape(item)}</li>" for item in items) + "\n</ul>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int, total: bool = False) -> str:
    """Columns from text_columns on are numbers. total: the last row is a sum."""

    def line(cells: Sequence[str], tag: str, style: str = "") -> str:
        kinds = ["" if column < text_columns else ' class="number"' for column in range(len(cells))]
        inner = "".join(
            f"<{tag}{kind}>{escape(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True)
        )
        return f"<tr{style}>{inner}</tr>"

    last = ' class="total"' if total else ""
    body = [line(row, "td", last if index == len(rows) - 1 else "") for index, row in enumerate(rows)]
    lines = [f"<thead>{line(head, 'th')}</thead>", "<tbody>", *body, "</tbody>"]
    return "\n".join(['<div class="wide"><table>', *lines, "</table></div>"])


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.2f} MB" if nbytes >= 1e6 else f"{nbytes / 1e3:,.1f} kB"
