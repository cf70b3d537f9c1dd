"""What a configuration means for each linear layer of a network."""

from __future__ import annotations

from collections.abc import Mapping

from mindir_llm.export.quantize.config import LayerPolicy, QuantConfig
from mindir_llm.export.quantize.scheme import WeightScheme
from mindir_llm.models.config import LlamaConfig
from mindir_llm.models.quantization import WeightQuantization

__all__ = ["decide", "stored_form", "stored_forms", "weight_scheme"]

_ACTIVATIONS = {None: "float", "static": "per_tensor", "dynamic": "per_token"}


def decide(config: QuantConfig, network: LlamaConfig) -> dict[str, LayerPolicy]:
    """Module name -> policy of every linear layer that is quantized, in the network's order.

    QuantConfigError: a pattern or a name of the configuration fits no layer.
    """
    names = list(network.linear_shapes())
    config.check_names(names)
    policies = {name: config.policy_for(name) for name in names}
    return {name: policy for name, policy in policies.items() if policy is not None}


def stored_form(policy: LayerPolicy) -> WeightQuantization:
    """What the graphs need to know of a policy."""
    return WeightQuantization(policy.bits, policy.group_size, policy.symmetric, _ACTIVATIONS[policy.act])


def stored_forms(policies: Mapping[str, LayerPolicy]) -> dict[str, WeightQuantization]:
    return {name: stored_form(policy) for name, policy in policies.items()}


def weight_scheme(policy: LayerPolicy, dtype: str) -> WeightScheme:
    """dtype: of scales, 'float16' or 'float32'; products of integers have float32 scales in any case."""
    scale_dtype = dtype if policy.act is None else "float32"
    return WeightScheme(policy.bits, policy.group_size, policy.symmetric, scale_dtype)
