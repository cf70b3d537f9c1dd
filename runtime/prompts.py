"""The forms in which a prompt may be given, brought to one."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InvalidArgumentError


@dataclass(frozen=True)
class Prompt:
    """text or ids, never both. `name` is how error messages call it."""

    name: str
    text: str | None
    ids: list[int] | None


def parse_prompts(prompts: Any, vocab_size: int) -> list[Prompt]:
    """A string, {"prompt": text}, {"prompt_token_ids": ids}, or a list of these."""
    if isinstance(prompts, str | Mapping):
        return [_parse("the prompt", prompts, vocab_size)]
    if is_ids(prompts) and len(prompts):
        raise InvalidArgumentError(
            'a list of ints is a prompt of token ids: write {"prompt_token_ids": ids}, or pass '
            "max_new_tokens=… instead of SamplingParams to get ids back"
        )
    if not isinstance(prompts, Sequence):
        raise InvalidArgumentError(
            f"prompts is {type(prompts).__name__}, expected a string, a dict or a list"
        )
    return [_parse(f"prompt {index}", prompt, vocab_size) for index, prompt in enumerate(prompts)]


def parse_id_lists(prompts: Any, vocab_size: int) -> list[Prompt]:
    """A list of token ids, a list of such lists, or a numpy array of one or two dimensions."""
    rows = [prompts] if is_ids(prompts) else prompts
    if isinstance(rows, str | Mapping) or not all(is_ids(row) for row in rows):
        raise InvalidArgumentError(
            "max_new_tokens and its like go with token ids (a list of ints, or several such lists); "
            "for text pass SamplingParams"
        )
    return [
        Prompt(f"prompt {index}", None, check_ids(f"prompt {index}", row, vocab_size))
        for index, row in enumerate(rows)
    ]


def is_ids(value: Any) -> bool:
    """Whether it is one sequence of ints (an empty list counts)."""
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "iu"
    return isinstance(value, list | tuple) and all(isinstance(item, int | np.integer) for item in value)


def check_ids(name: str, ids: Any, vocab_size: int) -> list[int]:
    """Python ints in [0, vocab_size); InvalidArgumentError shows the first that is not."""
    if isinstance(ids, str | Mapping):
        raise InvalidArgumentError(f"{name}: token ids must be a list of ints, not {type(ids).__name__}")
    checked = []
    try:
        for item in ids:
            if isinstance(item, bool):
                raise TypeError
            checked.append(operator.index(item))
    except TypeError:
        raise InvalidArgumentError(f"{name}: token ids must be a list of ints, not {ids!r}") from None
    for item in checked:
        if not 0 <= item < vocab_size:
            raise InvalidArgumentError(f"{name}: token id {item} is outside the vocabulary [0, {vocab_size})")
    return checked


def _parse(name: str, prompt: Any, vocab_size: int) -> Prompt:
    if isinstance(prompt, str):
        return Prompt(name, prompt, None)
    if isinstance(prompt, Mapping):
        if set(prompt) == {"prompt_token_ids"}:
            return Prompt(name, None, check_ids(name, prompt["prompt_token_ids"], vocab_size))
        if set(prompt) == {"prompt"} and isinstance(prompt["prompt"], str):
            return Prompt(name, prompt["prompt"], None)
        keys = ", ".join(map(repr, prompt)) or "nothing"
        raise InvalidArgumentError(
            f'{name}: a dict must hold either "prompt" (a string) or "prompt_token_ids" (ints); it has {keys}'
        )
    raise InvalidArgumentError(f"{name} is {type(prompt).__name__}, expected a string or a dict")
