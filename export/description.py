"""What a bundle's manifest says of quantization."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from mindir_llm.export.quantize.config import LayerPolicy
from mindir_llm.models.quantization import WeightQuantization

__all__ = ["describe", "method_of", "scheme_of"]

_SUPPRESSION = {"smooth": "smoothquant", "outlier_suppression_lite": "osl", "awq": "awq"}


def method_of(policy: LayerPolicy) -> str:
    """'rtn', or the methods that made a layer's integers: 'awq', 'awq+gptq', …"""
    found = [_SUPPRESSION[policy.outliers_suppression]] if policy.outliers_suppression else []
    if policy.precision_recovery:
        found.append(policy.precision_recovery)
    return "+".join(found) or "rtn"


def scheme_of(form: WeightQuantization) -> str:
    """'a16w8', 'a8w8-dynamic', …: of activations and weights the bits."""
    if form.activations == "float":
        return f"a16w{form.bits}"
    return "a8w8-dynamic" if form.activations == "per_token" else "a8w8"


def describe(
    forms: Mapping[str, WeightQuantization], methods: Mapping[str, str], linears: Collection[str]
) -> dict[str, Any]:
    """The manifest's `quantization`.

    forms, methods: by module name; linears: all there are. What most of them have in common is on top;
    `layers` tells of those that differ, null standing for float.
    """
    if not forms:
        return {"scheme": "none"}
    entries = {name: _entry(form, methods[name]) for name, form in forms.items()}
    kinds = Counter((form, methods[name]) for name, form in forms.items())
    (form, method), _ = kinds.most_common(1)[0]
    common = _entry(form, method)
    layers = {name: entries.get(name) for name in linears if entries.get(name) != common}
    return {**common, **({"layers": layers} if layers else {})}


def _entry(form: WeightQuantization, method: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "scheme": scheme_of(form),
        "method": method,
        "weight_bits": form.bits,
        "granularity": "per-group" if form.group_size else "per-channel",
        "symmetric": form.symmetric,
    }
    if form.bits == 4 or form.group_size:
        entry["group_size"] = form.group_size
    if form.reordered:
        entry["reordered_inputs"] = True
    if form.activations != "float":
        entry["activation_bits"] = 8
    if form.activations == "per_tensor":
        entry["activation_granularity"] = "per-tensor"
    return entry
