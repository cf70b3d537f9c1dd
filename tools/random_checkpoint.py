"""Write a Hugging Face checkpoint of random weights with a well-known shape, for memory and speed
measurements.

    python -m mindir_llm.tools.random_checkpoint tinyllama-1.1b DIR

The numbers are meaningless, the sizes are real: bfloat16, sharded, written block by block with little memory.
Where the shape's real vocabulary is needed, put its tokenizer files into DIR afterwards.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHAPES", "tensor_shapes", "write_random_checkpoint"]

_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "torch_dtype": "bfloat16",
}

SHAPES: dict[str, dict[str, Any]] = {
    # Not a known model: the smallest one that every quantizer takes, to try out a measurement.
    "tiny": {
        **_LLAMA,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 1024,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    "tinyllama-1.1b": {
        **_LLAMA,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    "llama-3.2-1b": {
        **_LLAMA,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "tie_word_embeddings": True,
    },
    "llama-2-7b": {
        **_LLAMA,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": False,
    },
}

_SHARD_BYTES = 2_000_000_000
_BLOCK_ITEMS = 1 << 22


def tensor_shapes(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor in a Llama checkpoint with this config.json, in order of use."""
    hidden, width = config["hidden_size"], config["intermediate_size"]
    head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    q, kv = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    attention = {"q_proj": (q, hidden), "k_proj": (kv, hidden), "v_proj": (kv, hidden), "o_proj": (hidden, q)}
    mlp = {"gate_proj": (width, hidden), "up_proj": (width, hidden), "down_proj": (hidden, width)}
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (hidden,)
        for name, shape in attention.items():
            yield f"{prefix}self_attn.{name}.weight", shape
            if config.get("attention_bias"):
                yield f"{prefix}self_attn.{name}.bias", shape[:1]
        yield prefix + "post_attention_layernorm.weight", (hidden,)
        for name, shape in mlp.items():
            yield f"{prefix}mlp.{name}.weight", shape
    yield "model.norm.weight", (hidden,)
    if not config.get("tie_word_embeddings"):
        yield "lm_head.weight", (config["vocab_size"], hidden)


def write_random_checkpoint(
    config: dict[str, Any], folder: Path, *, seed: int = 0, shard_bytes: int = _SHARD_BYTES
) -> None:
    """Write config.json and bfloat16 safetensors shards of at most shard_bytes (or one tensor) with an index.

    Matrices get normal numbers of deviation 0.02 (one random block, shifted from tensor to tensor), vectors
    ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    block = _to_bfloat16((rng.standard_normal(_BLOCK_ITEMS) * 0.02).astype(np.float32))
    shards: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    size = 0
    for name, shape in tensor_shapes(config):
        length = 2 * math.prod(shape)
        if shards[-1] and size + length > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append((name, shape))
        size += length
    weight_map = {}
    for number, tensors in enumerate(shards, 1):
        file_name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        with (folder / file_name).open("wb") as file:
            _write_shard(file, tensors, block, rng)
        weight_map.update({name: file_name for name, _ in tensors})
    total = sum(2 * math.prod(shape) for _, shape in tensor_shapes(config))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _write_shard(
    file: BinaryIO,
    tensors: list[tuple[str, tuple[int, ...]]],
    block: NDArray[np.uint16],
    rng: np.random.Generator,
) -> None:
    header: dict[str, Any] = {}
    end = 0
    for name, shape in tensors:
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for _, shape in tensors:
        items = math.prod(shape)
        if len(shape) == 1:
            file.write(_to_bfloat16(np.ones(items, np.float32)).data)
            continue
        start = int(rng.integers(len(block)))
        while items:
            piece = block[start : start + items]
            file.write(piece.data)
            items -= len(piece)
            start = 0


def _to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Bits of the nearest bfloat16, ties to even."""
    bits = values.view(np.uint32)
    rounded: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write a checkpoint of random weights.")
    parser.add_argument("shape", choices=sorted(SHAPES), help="which model's dimensions")
    parser.add_argument("folder", type=Path, help="folder to write; created if needed")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    write_random_checkpoint(SHAPES[args.shape], args.folder, seed=args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
