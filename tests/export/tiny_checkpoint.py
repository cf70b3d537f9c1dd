"""Small random checkpoints in Hugging Face layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mindir_llm.tools.random_checkpoint import tensor_shapes

Tensors = dict[str, NDArray[Any]]


def tiny_config(**changes: Any) -> dict[str, Any]:
    """A grouped-query Llama of two layers; `changes` replace or add fields."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": 32,
        "intermediate_size": 44,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 50,
        "max_position_embeddings": 32,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "eos_token_id": 2,
    }
    return config | changes


def random_tensors(config: dict[str, Any], seed: int = 0) -> Tensors:
    """float32 tensors large enough for logits of order one."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in tensor_shapes(config):
        values = rng.standard_normal(shape) * (0.2 if len(shape) == 2 else 0.1)
        tensors[name] = (values + (1 if "norm" in name else 0)).astype(np.float32)
    return tensors


def kv_scales(config: dict[str, Any]) -> Tensors:
    """Scales of int8 caches by channel; the largest keys and values of random_tensors saturate."""
    rng = np.random.default_rng(3)
    dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    names = [
        f"model.layers.{i}.self_attn.{kind}_scale"
        for i in range(config["num_hidden_layers"])
        for kind in ("key", "value")
    ]
    shape = (config["num_key_value_heads"], dim)
    return {name: rng.uniform(0.01, 0.03, shape).astype(np.float32) for name in names}


def write_checkpoint(folder: Path, config: dict[str, Any], tensors: Tensors, shards: int = 1) -> Path:
    """Write config.json and safetensors: model.safetensors, or `shards` files with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    weight_map = {}
    for number in range(shards):
        part = {name: tensors[name] for name in sorted(tensors)[number::shards]}
        file_name = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        save_file(part, folder / file_name)
        weight_map.update(dict.fromkeys(part, file_name))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder
