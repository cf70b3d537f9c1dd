"""Quantize each linear layer as a calibration comes to it, with what the calibration knows of its inputs.

Factors that a method divides inputs by are folded within the layer, and weights handed back to the
calibration are those of the undivided inputs, so that errors of quantized layers reach the layers behind
and nothing else changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.calibrate import InputStatistics, Site
from mindir_llm.export.checkpoint import Checkpoint
from mindir_llm.export.errors import ExportError
from mindir_llm.export.pipeline.folding import Fold, fold_of
from mindir_llm.export.pipeline.policies import weight_scheme
from mindir_llm.export.quantize.activation import ActivationGrid, static_grid
from mindir_llm.export.quantize.awq import search_scales
from mindir_llm.export.quantize.clip import search_clip
from mindir_llm.export.quantize.compensate import compensate, correct, correction_of
from mindir_llm.export.quantize.config import AlgorithmArgs, LayerPolicy
from mindir_llm.export.quantize.factor import HessianFactor
from mindir_llm.export.quantize.gptq import gptq
from mindir_llm.export.quantize.measure import relative_output_error, scale_hessian
from mindir_llm.export.quantize.osl import search_smoothing
from mindir_llm.export.quantize.refine import refine
from mindir_llm.export.quantize.rtn import round_to_nearest
from mindir_llm.export.quantize.scaling import channel_maxima, scale_inputs, untied
from mindir_llm.export.quantize.scheme import Floats, QuantizedWeight, join_rows
from mindir_llm.export.quantize.smoothquant import smoothing_factors
from mindir_llm.models.config import LlamaConfig

__all__ = ["QuantizingVisitor"]

_VERSION = 3
# Of float16: below it precision is lost.
_LEAST_NORMAL = 2.0**-14
# Rows that are quantized at once. They do not know of each other, and temporaries are ten times as large.
_ROWS = 2048
# The authors of AWQ do not clip these: their products, not they themselves, decide on attention.
_NOT_CLIPPED = ("q_proj", "k_proj")

Arrays = dict[str, NDArray[Any]]


class _Inputs:
    """What is known of some layers' inputs after they have been divided by factors. hessian, drift: of large
    layers they are the largest of all matrices, hence are divided in place and shared."""

    def __init__(self, statistics: InputStatistics, factors: NDArray[np.float64], outputs: int) -> None:
        """outputs: of all these layers."""
        self.factors = factors
        self._outputs = outputs
        self.hessian: Floats | None = statistics.second_moment
        # None as well before the first layer that loses anything.
        drift = statistics.drift
        self.drift: Floats | None = drift if drift is not None and np.any(drift) else None
        self.sample: Floats | None = statistics.sample
        self._factor: tuple[tuple[float, bool], HessianFactor] | None = None
        self._correction: tuple[float, Floats] | None = None
        if np.any(factors != 1):
            for matrix in (self.hessian, self.drift):
                if matrix is not None:
                    scale_hessian(matrix, factors)
            if self.sample is not None:
                self.sample = self.sample / factors.astype(self.sample.dtype)

    def factor(self, args: AlgorithmArgs) -> HessianFactor:
        """Of the Hessian; that of the layer before, where it was made with the same settings."""
        assert self.hessian is not None
        settings = (args.damp_percent, args.desc_act)
        if self._factor is None or self._factor[0] != settings:
            self._factor = None  # its memory is needed first
            self._factor = (settings, HessianFactor(self.hessian, *settings))
        return self._factor[1]

    def correction(self, args: AlgorithmArgs) -> Floats | None:
        """What compensates for what the layers before have lost, in float32, where that is less work than to
        solve for each output."""
        assert self.hessian is not None and self.drift is not None
        if self._outputs < len(self.hessian):
            return None
        if self._correction is None or self._correction[0] != args.damp_percent:
            found = correction_of(
                self.hessian, self.drift, damping=args.damp_percent, factor=self.factor(args)
            )
            self._correction = (args.damp_percent, found.astype(np.float32))
        return self._correction[1]

    def error(self, weight: Floats, approximation: Floats) -> float:
        """Relative error of a layer's output on these inputs, or on their sample where that is less work."""
        if self.hessian is not None and (self.sample is None or len(self.sample) >= len(self.hessian)):
            return relative_output_error(weight, approximation, hessian=self.hessian)
        return relative_output_error(weight, approximation, inputs=self.sample)


class QuantizingVisitor:
    """A Visitor of a calibration. What it saves of a layer, by name:

    integers/LINEAR, scale/LINEAR, zero/LINEAR: a QuantizedWeight. inputs/LINEAR: scale and zero of a static
    grid of its inputs. divided/MODULE [out]: what the outputs of a norm or linear layer are divided by
    (quantized weights are so already); multiplied/LINEAR [in]: what weights of its inputs have been
    multiplied with. errors/LINEAR: relative output error, that of round-to-nearest, and relative error of the
    weights.
    """

    def __init__(
        self,
        network: LlamaConfig,
        policies: Mapping[str, LayerPolicy],
        checkpoint: Checkpoint,
        dtype: str,
    ) -> None:
        """policies: by module name; others stay float. dtype: of stored scales and norms."""
        self._network = network
        self._policies = dict(policies)
        self._checkpoint = checkpoint
        self._dtype = dtype
        self._saved: Arrays = {}
        described = {name: asdict(policy) for name, policy in self._policies.items()}
        self.key = json.dumps(["quantize", _VERSION, dtype, described])

    def visit(self, site: Site) -> Mapping[str, Floats] | None:
        mine = {name: self._policies[name] for name in site.linears if name in self._policies}
        if not mine:
            return None
        features = next(iter(site.linears.values())).shape[1]
        factors = np.ones(features)
        fold = fold_of(site.linears, self._network)
        if method := self._suppression(mine):
            found = self._search(method, site, mine, fold)
            factors = self._bounded(found, fold)
        divides = bool(np.any(factors != 1))
        if divides:
            self._fold(fold, factors)
        inputs = _Inputs(site.statistics, factors, sum(len(site.linears[name]) for name in mine))
        effective = {}
        for name, weight in site.linears.items():
            if divides:
                self._saved[f"multiplied/{name}"] = factors
            if name not in mine:
                continue
            scaled = scale_inputs(weight, factors) if divides else weight
            quantized = self._quantize(name, scaled, mine[name], inputs)
            if mine[name].act == "static":
                grid = _grid(site.statistics, factors)
                self._saved[f"inputs/{name}"] = np.array([grid.scale, grid.zero], np.float64)
            restored = quantized.dequantize(weight.dtype)
            if divides:
                restored /= factors.astype(weight.dtype)
            effective[name] = restored
        return effective

    def save(self, layer: int) -> Arrays:
        saved, self._saved = self._saved, {}
        return saved

    def restore(self, layer: int, saved: Mapping[str, NDArray[Any]]) -> None:
        """Layers do not know of each other."""

    # -- factors

    def _suppression(self, policies: Mapping[str, LayerPolicy]) -> str | None:
        """The method that finds factors for layers of the same inputs; ExportError if they disagree."""
        asking = {name: policy for name, policy in policies.items() if policy.outliers_suppression}
        if not asking:
            return None
        kinds = {
            (p.outliers_suppression, p.bits, p.group_size, p.symmetric, p.act, p.args.smooth_alpha)
            for p in asking.values()
        }
        if len(kinds) > 1:
            raise ExportError(
                f"{' and '.join(asking)} read the same inputs, so they need the same outliers_suppression and"
                " types; correct layer_policies"
            )
        return next(iter(asking.values())).outliers_suppression

    def _search(
        self, method: str, site: Site, policies: Mapping[str, LayerPolicy], fold: Fold
    ) -> NDArray[np.float64]:
        statistics = site.statistics
        asking = {name: policy for name, policy in policies.items() if policy.outliers_suppression}
        weights = [site.linears[name] for name in asking]
        policy = next(iter(asking.values()))
        scheme = weight_scheme(policy, self._dtype)
        # What is cheaper: a row of the sample costs as much as a row of the Hessian.
        sample, hessian = statistics.sample, statistics.second_moment
        if sample is not None and (hessian is None or len(sample) < len(hessian)):
            hessian = None
        else:
            sample = None
        if method == "smooth":
            return smoothing_factors(
                statistics.max_abs, channel_maxima(weights), policy.args.smooth_alpha, fold.ties
            )
        if method == "awq":
            search = search_scales(
                weights,
                statistics.mean_abs,
                scheme,
                hessian=hessian,
                inputs=sample,
                grid=policy.args.search_steps,
                ties=fold.ties,
            )
            return search.factors
        activations = {None: None, "static": "static-asymmetric", "dynamic": "dynamic"}[policy.act]
        steps = policy.args.search_steps
        found = search_smoothing(
            weights,
            statistics.max_abs,
            scheme,
            activations=activations,
            hessian=None if activations else hessian,
            inputs=statistics.sample if activations else sample,
            input_range=(statistics.channel_min, statistics.channel_max),
            alphas=[step / steps for step in range(steps + 1)],
            ties=fold.ties,
        )
        return found.factors

    def _bounded(self, factors: NDArray[np.float64], fold: Fold) -> NDArray[np.float64]:
        """Factors that leave what they are folded into in the range where float16 is precise."""
        if self._dtype == "float32":
            return factors
        if fold.is_norm:
            (weight,) = self._checkpoint.blocks(f"{fold.module}.weight", np.float32)
            stored = np.abs(weight).astype(np.float64)
        elif (scale := self._saved.get(f"scale/{fold.module}")) is not None and scale.dtype == np.float16:
            stored = scale.min(axis=1).astype(np.float64)
            stored = stored if fold.ties is None else stored[fold.ties]
        else:
            return factors
        most = np.maximum(stored / _LEAST_NORMAL, 1)
        return np.minimum(factors, most)

    def _fold(self, fold: Fold, factors: NDArray[np.float64]) -> None:
        divisor = factors if fold.ties is None else untied(factors, fold.ties)
        self._saved[f"divided/{fold.module}"] = divisor
        scale = self._saved.get(f"scale/{fold.module}")
        if scale is not None:
            # A row's integers stay as they are when all of it is divided.
            self._saved[f"scale/{fold.module}"] = (scale / divisor[:, None]).astype(scale.dtype)

    # -- weights

    def _quantize(self, name: str, weight: Floats, policy: LayerPolicy, inputs: _Inputs) -> QuantizedWeight:
        """Quantize scaled weights and note the result."""
        parts = []
        try:
            aim = self._aim(weight, policy, inputs)
            for start in range(0, len(weight), _ROWS):
                parts.append(self._quantize_rows(name, aim[start : start + _ROWS], policy, inputs))
        except ValueError as error:
            raise ExportError(f"{name}: cannot be quantized: {error}") from None
        quantized = join_rows([part for part, _ in parts])
        nearest = np.concatenate([part for _, part in parts])
        self._saved[f"integers/{name}"] = quantized.integers
        self._saved[f"scale/{name}"] = quantized.scale
        if quantized.zero is not None:
            self._saved[f"zero/{name}"] = quantized.zero
        restored = quantized.dequantize(weight.dtype)
        size = float(np.linalg.norm(weight))
        self._saved[f"errors/{name}"] = np.array(
            [
                inputs.error(aim, restored),
                inputs.error(aim, nearest),
                float(np.linalg.norm(weight - restored)) / size if size else 0.0,
            ]
        )
        return quantized

    def _aim(self, weight: Floats, policy: LayerPolicy, inputs: _Inputs) -> Floats:
        """What to come close to: weights that also make up for what the layers before have lost."""
        if not policy.needs_drift or inputs.hessian is None or inputs.drift is None:
            return weight
        args = policy.args
        correction = inputs.correction(args)
        if correction is not None:
            return correct(weight, correction, share=args.compensation)
        return compensate(
            weight,
            inputs.hessian,
            inputs.drift,
            share=args.compensation,
            damping=args.damp_percent,
            factor=inputs.factor(args),
        )

    def _quantize_rows(
        self, name: str, weight: Floats, policy: LayerPolicy, inputs: _Inputs
    ) -> tuple[QuantizedWeight, Floats]:
        """Some rows quantized, and what round-to-nearest alone would make of the undivided weights."""
        scheme = weight_scheme(policy, self._dtype)
        factors = inputs.factors.astype(weight.dtype)
        nearest = round_to_nearest(weight / factors, scheme).dequantize(weight.dtype) * factors
        clip = None
        if policy.needs_second_moment and policy.args.awq_clip and not name.endswith(_NOT_CLIPPED):
            assert inputs.hessian is not None
            clip = search_clip(weight, inputs.hessian, scheme)
        if policy.precision_recovery == "gptq":
            assert inputs.hessian is not None
            quantized = gptq(
                weight,
                inputs.hessian,
                scheme,
                desc_act=policy.args.desc_act,
                damping=policy.args.damp_percent,
                clip=clip,
                factor=inputs.factor(policy.args),
            )
        else:
            quantized = round_to_nearest(weight, scheme, clip)
        if policy.args.refine_sweeps and policy.needs_second_moment:
            assert inputs.hessian is not None
            quantized = refine(weight, inputs.hessian, quantized, sweeps=policy.args.refine_sweeps)
        return quantized, nearest


def _grid(statistics: InputStatistics, factors: NDArray[np.float64]) -> ActivationGrid:
    low, high = statistics.channel_min / factors, statistics.channel_max / factors
    return static_grid(float(low.min()), float(high.max()), symmetric=False)
