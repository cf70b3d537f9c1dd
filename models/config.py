"""What a checkpoint's config.json says about a Llama-family network, checked field by field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ConfigError", "Llama3Scaling", "LlamaConfig"]


class ConfigError(RuntimeError):
    """A config.json that this version cannot turn into a network; the message names the field."""


# Fields that change neither the network nor its numbers at inference. Any other unknown field is refused by
# name: a field we do not know may be one that changes the mathematics, and then every answer would be quietly
# wrong.
_HARMLESS = frozenset(
    """
    _attn_implementation _attn_implementation_autoset _commit_hash _flash_attn_2_enabled
    _name_or_path architectures attention_dropout auto_map bad_words_ids begin_suppress_tokens
    bos_token_id chunk_size_feed_forward cross_attention_hidden_size decoder_start_token_id
    diversity_penalty do_sample dtype early_stopping embd_pdrop encoder_no_repeat_ngram_size
    eos_token_id exponential_decay_length_penalty finetuning_task forced_bos_token_id
    forced_eos_token_id id2label initializer_range is_encoder_decoder keys_to_ignore_at_inference
    label2id length_penalty max_length max_window_layers min_length model_max_length
    no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions
    output_hidden_states output_scores pad_token_id prefix problem_type remove_invalid_values
    repetition_penalty resid_pdrop return_dict return_dict_in_generate sep_token_id suppress_tokens
    task_specific_params temperature tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p
    torch_dtype torchscript transformers_version typical_p unsloth_fixed unsloth_version
    use_bfloat16 use_cache
    """.split()  # noqa: SIM905
)

# Fields that are accepted only with values that leave the plain Llama network as it is.
_ONLY: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu", "swish"),
    "mlp_bias": (False, None),
    "pretraining_tp": (1, None),
    "quantization_config": (None,),
    "compression_config": (None,),
    "sliding_window": (None,),
    "use_sliding_window": (False, None),
    "partial_rotary_factor": (1, 1.0, None),
    "rope_interleaved": (False, None),
    "layer_types": (None,),
    "add_cross_attention": (False, None),
    "is_decoder": (False, True, None),
    "pruned_heads": ({}, None),
}

_READ = frozenset(
    """
    model_type hidden_size intermediate_size num_hidden_layers num_attention_heads
    num_key_value_heads head_dim vocab_size rms_norm_eps rope_theta rope_scaling rope_parameters
    tie_word_embeddings attention_bias max_position_embeddings
    """.split()  # noqa: SIM905
)

_LLAMA3_KEYS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


@dataclass(frozen=True)
class Llama3Scaling:
    """Frequency scaling of Llama 3.1 and later; wavelengths are compared with the original context length."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def to_json(self) -> dict[str, Any]:
        """The `rope_scaling` object of config.json that gives this scaling."""
        return {"rope_type": "llama3", **{key: getattr(self, key) for key in _LLAMA3_KEYS}}


@dataclass(frozen=True)
class LlamaConfig:
    """Dimensions and constants of one Llama-family network.

    Linear layers are q: hidden -> heads*head_dim, k and v: hidden -> kv_heads*head_dim, o: heads*head_dim ->
    hidden, gate and up: hidden -> intermediate, down: intermediate -> hidden, lm_head: hidden -> vocab.
    """

    model_type: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: Llama3Scaling | None
    tie_word_embeddings: bool
    attention_bias: bool
    max_position_embeddings: int

    @classmethod
    def from_file(cls, path: str | Path) -> LlamaConfig:
        """Read a Hugging Face config.json; ConfigError names the file and the field that is not supported."""
        path = Path(path)
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(
                f"{path}: no such file; a Hugging Face checkpoint folder has a config.json"
            ) from None
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ConfigError(f"{path}: not valid JSON: {error}") from None
        if not isinstance(fields, dict):
            raise ConfigError(f"{path}: expected a JSON object, found {type(fields).__name__}")
        try:
            return cls.from_fields(fields)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> LlamaConfig:
        """Check the fields of a config.json; ConfigError names the first one that is not supported."""
        model_type = fields.get("model_type")
        if model_type not in ("llama", "mistral"):
            raise ConfigError(f"model_type: {model_type!r} is not supported (supported: 'llama', 'mistral')")
        for name, value in fields.items():
            if name in _ONLY:
                if not _is_one_of(value, _ONLY[name]):
                    raise ConfigError(f"{name}: {_short(value)} is not supported{_allowed(_ONLY[name])}")
            elif name not in _READ and name not in _HARMLESS:
                raise ConfigError(
                    f"{name}: unknown field with value {_short(value)}; it may change the network,"
                    " so it is refused (delete it from config.json if it does not)"
                )
        if "hidden_act" not in fields:
            raise ConfigError("hidden_act: missing")
        if model_type == "mistral" and "sliding_window" not in fields:
            # An absent field means transformers' default of 4096, not full attention.
            raise ConfigError(
                "sliding_window: missing, which means a window of 4096; set it to null for full attention"
            )

        hidden = _integer(fields, "hidden_size")
        heads = _integer(fields, "num_attention_heads")
        # The defaults are those transformers applies when the field is absent.
        kv_heads = _integer(fields, "num_key_value_heads", heads if model_type == "llama" else 8)
        if heads % kv_heads:
            raise ConfigError(f"num_key_value_heads: {kv_heads} does not divide num_attention_heads {heads}")
        if fields.get("head_dim") is None and hidden % heads:
            raise ConfigError(
                f"head_dim: missing, and hidden_size {hidden} is not a multiple of {heads} heads"
            )
        head_dim = _integer(fields, "head_dim", hidden // heads)
        if head_dim % 2:
            raise ConfigError(f"head_dim: {head_dim} is odd; rotary embedding needs an even number")
        rope_theta, rope_scaling = _rope(fields)
        return cls(
            model_type=model_type,
            hidden_size=hidden,
            intermediate_size=_integer(fields, "intermediate_size"),
            num_hidden_layers=_integer(fields, "num_hidden_layers"),
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=head_dim,
            vocab_size=_integer(fields, "vocab_size"),
            rms_norm_eps=_number(fields, "rms_norm_eps"),
            rope_theta=rope_theta,
            rope_scaling=rope_scaling,
            tie_word_embeddings=_boolean(fields, "tie_word_embeddings"),
            attention_bias=_boolean(fields, "attention_bias"),
            max_position_embeddings=_integer(fields, "max_position_embeddings"),
        )

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """Module name of each linear layer -> (outputs, inputs), in the network's order."""
        q_width, kv_width = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        parts = {
            "self_attn.q_proj": (q_width, self.hidden_size),
            "self_attn.k_proj": (kv_width, self.hidden_size),
            "self_attn.v_proj": (kv_width, self.hidden_size),
            "self_attn.o_proj": (self.hidden_size, q_width),
            "mlp.gate_proj": (self.intermediate_size, self.hidden_size),
            "mlp.up_proj": (self.intermediate_size, self.hidden_size),
            "mlp.down_proj": (self.hidden_size, self.intermediate_size),
        }
        layers = range(self.num_hidden_layers)
        shapes = {f"model.layers.{i}.{part}": shape for i in layers for part, shape in parts.items()}
        return shapes | {"lm_head": (self.vocab_size, self.hidden_size)}

    def to_json(self) -> dict[str, Any]:
        """The `model` object of a bundle's manifest."""
        return {
            **self.__dict__,
            "rope_scaling": None if self.rope_scaling is None else self.rope_scaling.to_json(),
        }


def _is_one_of(value: Any, allowed: tuple[Any, ...]) -> bool:
    # `True == 1` in Python, so booleans are compared with booleans only.
    return any(value == known and isinstance(value, bool) == isinstance(known, bool) for known in allowed)


def _allowed(values: tuple[Any, ...]) -> str:
    return f" (supported: {', '.join(sorted({json.dumps(value) for value in values}))})"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _integer(fields: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = fields.get(name)
    if value is None:
        if default is None:
            raise ConfigError(f"{name}: missing")
        value = default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise ConfigError(f"{name}: expected an integer from 1 to {2**31 - 1}, found {_short(value)}")
    return value


def _number(fields: Mapping[str, Any], name: str, where: str = "") -> float:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        found = "missing" if value is None else f"expected a positive number, found {_short(value)}"
        raise ConfigError(f"{where}{name}: {found}")
    return float(value)


def _boolean(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise ConfigError(f"{name}: expected true or false, found {_short(value)}")
    return value


def _rope(fields: Mapping[str, Any]) -> tuple[float, Llama3Scaling | None]:
    """Base and scaling from `rope_theta` + `rope_scaling`, or from `rope_parameters`, which holds both
    (transformers 5)."""
    name = "rope_parameters" if fields.get("rope_parameters") is not None else "rope_scaling"
    if name == "rope_parameters" and fields.get("rope_scaling") is not None:
        raise ConfigError("rope_scaling: given together with rope_parameters; keep one of them")
    scaling = fields.get(name)
    if scaling is not None and not isinstance(scaling, dict):
        raise ConfigError(f"{name}: expected an object or null, found {_short(scaling)}")
    scaling = dict(scaling or {})
    theta = 10000.0
    if fields.get("rope_theta") is not None:
        theta = _number(fields, "rope_theta")
    if "rope_theta" in scaling:
        inner = _number(scaling, "rope_theta", f"{name}.")
        if fields.get("rope_theta") is not None and inner != theta:
            raise ConfigError(f"{name}.rope_theta: {inner} contradicts rope_theta {theta}")
        theta = inner
        del scaling["rope_theta"]
    kinds = {scaling.pop(key) for key in ("rope_type", "type") if scaling.get(key) is not None}
    if len(kinds) > 1:
        raise ConfigError(f"{name}: rope_type and type differ: {sorted(map(str, kinds))}")
    kind = kinds.pop() if kinds else "default"
    if kind not in ("default", "llama3"):
        raise ConfigError(f"{name}: type {kind!r} is not supported (supported: 'default', 'llama3')")
    expected = _LLAMA3_KEYS if kind == "llama3" else ()
    if scaling.get("partial_rotary_factor") in (1, 1.0):
        del scaling["partial_rotary_factor"]
    for key, value in scaling.items():
        if key not in expected:
            raise ConfigError(f"{name}.{key}: {_short(value)} is not supported with type {kind!r}")
    if kind == "default":
        return theta, None
    numbers = {key: _number(scaling, key, f"{name}.") for key in _LLAMA3_KEYS}
    if numbers["low_freq_factor"] >= numbers["high_freq_factor"]:
        raise ConfigError(f"{name}: low_freq_factor must be below high_freq_factor")
    original = int(numbers.pop("original_max_position_embeddings"))
    return theta, Llama3Scaling(original_max_position_embeddings=original, **numbers)
