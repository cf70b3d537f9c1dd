"""What is quantized, and how: a configuration with the field names of MindSpore Golden Stick's PTQConfig.

    preset("a16w4-g32", method="awq", kv_dtype="int8")
    QuantConfig(weight_quant_dtype="int8", act_quant_dtype="int8", outliers_suppression="smooth",
                layer_policies={r".*\\.down_proj": {"act_quant_granularity": "per_token"}})
    from_yaml("quant.yaml")

Any of them answers `policy_for("model.layers.3.mlp.down_proj")`. Nothing is quantized here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mindir_llm.export.errors import ExportError

__all__ = [
    "GROUP_SIZES",
    "KV_DTYPES",
    "METHODS",
    "PRESETS",
    "AlgorithmArgs",
    "LayerPolicy",
    "QuantConfig",
    "QuantConfigError",
    "from_fields",
    "from_yaml",
    "preset",
]


class QuantConfigError(ExportError):
    """A configuration that makes no sense; the message names the field and what it may be."""


_CHOICES: dict[str, tuple[str | None, ...]] = {
    "weight_quant_dtype": (None, "int8", "int4"),
    "act_quant_dtype": (None, "int8"),
    "kvcache_quant_dtype": (None, "int8"),
    "outliers_suppression": (None, "smooth", "outlier_suppression_lite", "awq"),
    "precision_recovery": (None, "gptq"),
    "weight_quant_granularity": ("per_channel", "per_group"),
    "act_quant_granularity": ("per_tensor", "per_token"),
    "kvcache_quant_granularity": ("per_channel", "per_token"),
}
GROUP_SIZES = (0, 32, 64, 128)
# Other spellings of the same: MindSpore's name of int4, and the names of the methods on the command line.
_ALIASES = {"qint4x2": "int4", "smoothquant": "smooth", "osl": "outlier_suppression_lite"}
# Fields of the KV cache, of which there is one kind for the whole network.
_WHOLE_NETWORK = ("kvcache_quant_dtype", "kvcache_quant_granularity", "opname_blacklist", "layer_policies")


def _choice(name: str, value: Any, allowed: tuple[str | None, ...]) -> str | None:
    """A value in our spelling; strings, enumerations with string values and MindSpore's types are taken."""
    spelt = None
    if value is not None:
        spelt = str(getattr(value, "value", value)).lower().replace("-", "_")
        spelt = _ALIASES.get(spelt, spelt)
        if spelt == "none":
            spelt = None
    if spelt not in allowed or isinstance(value, bool):
        raise QuantConfigError(f"{name}: {_word(value)} is not one of {_listed(allowed)}")
    return spelt


def _names(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise QuantConfigError(f"{name}: expected a list of names, found {value!r}")
    names = tuple(value)
    for item in names:
        if not isinstance(item, str) or not item:
            raise QuantConfigError(f"{name}: expected names of layers, found {item!r}")
    return names


def _algorithm_args(values: Any, base: AlgorithmArgs | None = None) -> AlgorithmArgs:
    if isinstance(values, AlgorithmArgs):
        return values
    if not isinstance(values, Mapping):
        raise QuantConfigError(f"algo_args: expected a mapping, found {values!r}")
    try:
        _check_known(values, AlgorithmArgs)
        return replace(base or AlgorithmArgs(), **values)
    except QuantConfigError as error:
        raise QuantConfigError(f"algo_args.{error}") from None


def _check_known(values: Mapping[Any, Any], kind: type, *others: str) -> None:
    known = [*others, *(item.name for item in fields(kind))]
    for name in values:
        if name not in known:
            raise QuantConfigError(f"{name}: unknown field (known: {', '.join(known)})")


def _check_boolean(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise QuantConfigError(f"{name}: {value!r} is not one of true, false")


def _within(part: str, name: str) -> bool:
    """Whether some successive dotted parts of a name are `part`."""
    return f".{part}." in f".{name}."


def _plain(changes: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if changes is None:
        return None
    return {
        name: dict(vars(value)) if isinstance(value, AlgorithmArgs) else value
        for name, value in changes.items()
    }


def _word(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(_word(value) for value in values)


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


@dataclass(frozen=True)
class AlgorithmArgs:
    """Settings of the methods.

    smooth_alpha: SmoothQuant's migration strength, 0 … 1. search_steps: points of the grids that
    OutlierSuppressionLite and AWQ search. awq_clip: AWQ and GPTQ also search where to clip weights.
    damp_percent: GPTQ adds this share of the mean diagonal to the Hessian's. desc_act: GPTQ takes inputs by
    falling diagonal. refine_sweeps: how often coordinate descent goes over the integers and scales that AWQ
    or GPTQ found. compensation: the share of what quantized layers before have changed in a layer's outputs
    that AWQ and GPTQ aim to make up for, 0 … 1; 0 saves running the float network as well. block_size: taken
    for the sake of Golden Stick's files, without effect here: blocks of columns change how fast GPTQ runs,
    not what it finds.
    """

    smooth_alpha: float = 0.5
    search_steps: int = 20
    awq_clip: bool = True
    damp_percent: float = 0.01
    desc_act: bool = False
    block_size: int = 128
    refine_sweeps: int = 2
    compensation: float = 0.5

    def __post_init__(self) -> None:
        for name in ("smooth_alpha", "damp_percent", "compensation"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise QuantConfigError(f"{name}: {value!r} is not a number from 0 to 1")
        for name, least in (("search_steps", 1), ("block_size", 1), ("refine_sweeps", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise QuantConfigError(f"{name}: {value!r} is not an integer of at least {least}")
        for name in ("awq_clip", "desc_act"):
            _check_boolean(name, getattr(self, name))


@dataclass(frozen=True)
class LayerPolicy:
    """The decision for one linear layer.

    bits: of a weight, 8 or 4. group_size: inputs of an output channel that share a scale; 0: all of them.
    symmetric: no zero points. act: None (inputs stay float), 'static' (int8, one calibrated scale) or
    'dynamic' (int8, one scale per token). outliers_suppression, precision_recovery: as in QuantConfig.
    """

    bits: int
    group_size: int
    symmetric: bool
    act: str | None
    outliers_suppression: str | None
    precision_recovery: str | None
    args: AlgorithmArgs

    @property
    def needs_calibration(self) -> bool:
        """Whether the layer's inputs have to be seen first."""
        return self.act == "static" or bool(self.outliers_suppression or self.precision_recovery)

    @property
    def needs_second_moment(self) -> bool:
        """Whether X^T X of the layer's inputs is used."""
        return self.precision_recovery == "gptq" or self.outliers_suppression == "awq"

    @property
    def needs_drift(self) -> bool:
        """Whether it is used how far the layer's inputs are from the float network's."""
        return self.needs_second_moment and self.args.compensation > 0


@dataclass(frozen=True)
class QuantConfig:
    """How a network is quantized; named as in Golden Stick, values in lower case.

    weight_quant_dtype: None, 'int8' or 'int4' (also 'qint4x2'). act_quant_dtype, kvcache_quant_dtype: None or
    'int8'. outliers_suppression: None, 'smooth' (SmoothQuant), 'outlier_suppression_lite' or 'awq'.
    precision_recovery: None or 'gptq'. weight_quant_granularity: 'per_channel' or 'per_group' with group_size
    32, 64 or 128. act_quant_granularity: 'per_tensor' (static) or 'per_token' (dynamic).
    kvcache_quant_granularity: 'per_channel' (static) or 'per_token' (dynamic). weight_symmetric: without zero
    points. opname_blacklist: layers that stay float, by whole parts of their names: 'lm_head',
    'mlp.down_proj', 'model.layers.0'. layer_policies: regular expression for a whole name -> the
    fields that are different there, or None for float; the first that matches counts. 'none' is the same as
    None everywhere.

    QuantConfigError: a value is not among these, or two of them do not go together.
    """

    weight_quant_dtype: str | None = None
    act_quant_dtype: str | None = None
    kvcache_quant_dtype: str | None = None
    outliers_suppression: str | None = None
    precision_recovery: str | None = None
    weight_quant_granularity: str = "per_channel"
    act_quant_granularity: str = "per_tensor"
    kvcache_quant_granularity: str = "per_channel"
    group_size: int = 0
    weight_symmetric: bool = True
    opname_blacklist: tuple[str, ...] = ()
    layer_policies: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    algo_args: AlgorithmArgs = field(default_factory=AlgorithmArgs)

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            object.__setattr__(self, name, _choice(name, getattr(self, name), allowed))
        size = self.group_size
        if isinstance(size, bool) or size not in GROUP_SIZES:
            raise QuantConfigError(f"group_size: {size!r} is not one of {_listed(GROUP_SIZES)}")
        _check_boolean("weight_symmetric", self.weight_symmetric)
        if isinstance(self.algo_args, Mapping):
            object.__setattr__(self, "algo_args", _algorithm_args(self.algo_args))
        elif not isinstance(self.algo_args, AlgorithmArgs):
            raise QuantConfigError(f"algo_args: expected a mapping, found {self.algo_args!r}")
        self._check_together()
        object.__setattr__(self, "opname_blacklist", _names("opname_blacklist", self.opname_blacklist))
        self._settle_policies()

    def _check_together(self) -> None:
        if self.weight_quant_granularity == "per_group" and not self.group_size:
            raise QuantConfigError(
                "group_size: missing, but weight_quant_granularity is per_group (allowed: 32, 64, 128)"
            )
        if self.weight_quant_granularity == "per_channel" and self.group_size:
            raise QuantConfigError(f"group_size: {self.group_size} needs weight_quant_granularity per_group")
        if self.weight_quant_dtype is None:
            for name in ("act_quant_dtype", "outliers_suppression", "precision_recovery"):
                if getattr(self, name) is not None:
                    raise QuantConfigError(
                        f"{name}: {getattr(self, name)} needs weight_quant_dtype int8 or int4"
                    )
        if self.act_quant_dtype is not None:
            # An integer product has one scale per output channel, and no place for zero points.
            for name, allowed in (
                ("weight_quant_dtype", "int8"),
                ("weight_quant_granularity", "per_channel"),
                ("weight_symmetric", True),
            ):
                if getattr(self, name) != allowed:
                    raise QuantConfigError(
                        f"{name}: {_word(getattr(self, name))} does not go with act_quant_dtype"
                        f" {self.act_quant_dtype} (allowed: {_word(allowed)})"
                    )
            if self.outliers_suppression == "awq":
                raise QuantConfigError(
                    "outliers_suppression: awq is for weights alone and does not go with act_quant_dtype"
                    " int8 (allowed: none, smooth, outlier_suppression_lite)"
                )
        elif self.outliers_suppression == "smooth":
            raise QuantConfigError(
                "outliers_suppression: smooth eases the rounding of inputs and needs act_quant_dtype int8"
                " (allowed without: none, outlier_suppression_lite, awq)"
            )

    def _settle_policies(self) -> None:
        if not isinstance(self.layer_policies, Mapping):
            raise QuantConfigError(
                f"layer_policies: expected a mapping of patterns, found {self.layer_policies!r}"
            )
        settled: dict[str, Mapping[str, Any] | None] = {}
        for pattern, changes in self.layer_policies.items():
            where = f"layer_policies[{pattern!r}]"
            if not isinstance(pattern, str):
                raise QuantConfigError(f"{where}: a pattern is a string")
            try:
                re.compile(pattern)
            except re.error as error:
                raise QuantConfigError(f"{where}: not a regular expression: {error}") from None
            if changes is not None:
                if not isinstance(changes, Mapping):
                    raise QuantConfigError(
                        f"{where}: expected a mapping of fields or none, found {changes!r}"
                    )
                for name in changes:
                    if name in _WHOLE_NETWORK:
                        raise QuantConfigError(
                            f"{where}.{name}: applies to the whole network, not to a layer"
                        )
                # Making the changed configuration now tells of its mistakes now.
                changes = dict(changes)
                self._changed(changes, where)
                for name in changes.keys() & _CHOICES.keys():
                    changes[name] = _choice(name, changes[name], _CHOICES[name])
            settled[pattern] = changes
        object.__setattr__(self, "layer_policies", settled)

    def _changed(self, changes: Mapping[str, Any], where: str) -> QuantConfig:
        base = replace(self, opname_blacklist=(), layer_policies={})
        changes = dict(changes)
        try:
            if "algo_args" in changes:
                changes["algo_args"] = _algorithm_args(changes["algo_args"], self.algo_args)
            _check_known(changes, QuantConfig)
            return replace(base, **changes)
        except QuantConfigError as error:
            raise QuantConfigError(f"{where}.{error}") from None

    def policy_for(self, name: str) -> LayerPolicy | None:
        """How the linear layer of this module name ('lm_head', 'model.layers.3.mlp.down_proj') is quantized;
        None where it stays float."""
        if any(_within(part, name) for part in self.opname_blacklist):
            return None
        config = self
        for pattern, changes in self.layer_policies.items():
            if re.fullmatch(pattern, name):
                if changes is None:
                    return None
                config = self._changed(changes, f"layer_policies[{pattern!r}]")
                break
        if config.weight_quant_dtype is None:
            return None
        act = None
        if config.act_quant_dtype is not None:
            act = "dynamic" if config.act_quant_granularity == "per_token" else "static"
        return LayerPolicy(
            bits=int(config.weight_quant_dtype.removeprefix("int")),
            group_size=config.group_size,
            symmetric=config.weight_symmetric,
            act=act,
            outliers_suppression=config.outliers_suppression,
            precision_recovery=config.precision_recovery,
            args=config.algo_args,
        )

    @property
    def kv_cache(self) -> str | None:
        """None (float), 'static' (int8, calibrated scales per channel) or 'dynamic' (int8, one per token)."""
        if self.kvcache_quant_dtype is None:
            return None
        return "dynamic" if self.kvcache_quant_granularity == "per_token" else "static"

    def needs_calibration(self, names: Iterable[str]) -> bool:
        """Whether a network with linear layers of these names has to be run over a text first."""
        policies = [self.policy_for(name) for name in names]
        return self.kv_cache == "static" or any(p is not None and p.needs_calibration for p in policies)

    def needs_second_moment(self, names: Iterable[str]) -> bool:
        """Whether X^T X of any layer's inputs is used."""
        policies = [self.policy_for(name) for name in names]
        return any(policy is not None and policy.needs_second_moment for policy in policies)

    def check_names(self, names: Iterable[str]) -> None:
        """QuantConfigError where an entry of opname_blacklist or layer_policies fits none of the linear
        layers' names: most likely it is misspelt."""
        names = list(names)
        for part in self.opname_blacklist:
            if not any(_within(part, name) for name in names):
                raise QuantConfigError(
                    f"opname_blacklist: {part!r} fits no layer (there are: {_some(names)})"
                )
        for pattern in self.layer_policies:
            if not any(re.fullmatch(pattern, name) for name in names):
                raise QuantConfigError(
                    f"layer_policies[{pattern!r}]: fits no layer (there are: {_some(names)})"
                )

    def to_fields(self) -> dict[str, Any]:
        """Fields that are not at their defaults, for YAML or JSON; from_fields() takes them back."""
        result: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value != getattr(_DEFAULT, item.name):
                if isinstance(value, tuple):
                    value = list(value)
                elif isinstance(value, AlgorithmArgs):
                    value = dict(vars(value))
                elif isinstance(value, Mapping):
                    value = {name: _plain(changes) for name, changes in value.items()}
                result[item.name] = value
        return result


_DEFAULT = QuantConfig()

_INT4 = QuantConfig(weight_quant_dtype="int4", weight_quant_granularity="per_group", group_size=32)
_A8W8 = QuantConfig(weight_quant_dtype="int8", act_quant_dtype="int8")
PRESETS: Mapping[str, QuantConfig] = {
    "none": _DEFAULT,
    "a16w8": QuantConfig(weight_quant_dtype="int8"),
    "a16w4": _INT4,
    "a16w4-g32": _INT4,
    "a16w4-g64": replace(_INT4, group_size=64),
    "a16w4-g128": replace(_INT4, group_size=128),
    "a8w8": _A8W8,
    "a8w8-dynamic": replace(_A8W8, act_quant_granularity="per_token"),
}
"""Values of --quant."""

METHODS: Mapping[str, Mapping[str, str | None]] = {
    "rtn": {"outliers_suppression": None, "precision_recovery": None},
    "smoothquant": {"outliers_suppression": "smooth", "precision_recovery": None},
    "osl": {"outliers_suppression": "outlier_suppression_lite", "precision_recovery": None},
    "awq": {"outliers_suppression": "awq", "precision_recovery": None},
    "gptq": {"outliers_suppression": None, "precision_recovery": "gptq"},
}
"""Values of --method, and the fields they stand for."""

KV_DTYPES = ("int8",)
"""Values of --kv-dtype that quantize; float types are no concern of a QuantConfig."""


def preset(
    name: str,
    *,
    method: str | None = None,
    kv_dtype: str | None = None,
    kv_granularity: str | None = None,
    group_size: int | None = None,
) -> QuantConfig:
    """The configuration that the command line's flags stand for; None leaves a preset's own value.

    kv_dtype: 'int8', or a float type, which quantizes nothing. group_size: 0 for one scale per output
    channel. QuantConfigError names the flag or the field.
    """
    if name not in PRESETS:
        raise QuantConfigError(f"--quant: {name!r} is not one of {_listed(PRESETS)}")
    changes: dict[str, Any] = {}
    if method is not None:
        if method not in METHODS:
            raise QuantConfigError(f"--method: {method!r} is not one of {_listed(METHODS)}")
        changes |= METHODS[method]
    if kv_dtype in KV_DTYPES:
        changes["kvcache_quant_dtype"] = kv_dtype
    if kv_granularity is not None:
        changes["kvcache_quant_granularity"] = kv_granularity
    if group_size is not None:
        changes["group_size"] = group_size
        changes["weight_quant_granularity"] = "per_group" if group_size else "per_channel"
    return replace(PRESETS[name], **changes)


def from_fields(values: Any) -> QuantConfig:
    """A configuration from a mapping of field names, as JSON and YAML have them.

    'preset' may name one of PRESETS, which the other fields change. QuantConfigError names the field.
    """
    if not isinstance(values, Mapping):
        raise QuantConfigError(f"expected a mapping of fields, found {_kind(values)}")
    values = dict(values)
    base = values.pop("preset", "none")
    if not isinstance(base, str) or base not in PRESETS:
        raise QuantConfigError(f"preset: {base!r} is not one of {_listed(PRESETS)}")
    _check_known(values, QuantConfig, "preset")
    return replace(PRESETS[base], **values)


def from_yaml(path: str | Path) -> QuantConfig:
    """A configuration from a YAML file; see from_fields. QuantConfigError names the file and the field, or
    says that PyYAML is missing; OSError: the file cannot be read."""
    try:
        import yaml
    except ModuleNotFoundError:
        raise QuantConfigError(f"{path}: reading it needs PyYAML: pip install 'mindir-llm[export]'") from None

    class Loader(yaml.SafeLoader):
        """SafeLoader that does not quietly take the last of two equal keys."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        raise QuantConfigError(f"{key.value}: given twice (line {key.start_mark.line + 1})")
                    seen.add(key.value)
            result: dict[Any, Any] = super().construct_mapping(node, deep)
            return result

    try:
        text = Path(path).read_text(encoding="utf-8")
        return from_fields(yaml.load(text, Loader))
    except QuantConfigError as error:
        raise QuantConfigError(f"{path}: {error}") from None
    except UnicodeDecodeError as error:
        raise QuantConfigError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from None
    except yaml.YAMLError as error:
        raise QuantConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
