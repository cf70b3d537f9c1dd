"""What a generation is asked to do. Each option is declared once: default, range, meaning; the command line
takes its flags from here."""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidArgumentError


@dataclass(frozen=True)
class Option:
    """One sampling option. kind: int, float, bool or str. many: a sequence of them, or a single one. by_id: a
    number of that kind for each of some token ids. is_file: the command line takes the name of a file."""

    kind: type
    help: str
    low: float = -math.inf
    high: float = math.inf
    above_low: bool = False  # the range is open at its low end
    optional: bool = False  # None is allowed
    many: bool = False
    by_id: bool = False
    is_file: bool = False
    is_json: bool = False  # a str that may also be given as the value that it says

    @property
    def range(self) -> str:
        """The allowed values in words, such as "a number in (0, 1]"."""
        noun = {int: "an integer", float: "a number", bool: "True or False", str: "a non-empty string"}[
            self.kind
        ]
        if self.kind in (int, float) and (self.low, self.high) != (-math.inf, math.inf):
            low = f"({self.low:g}" if self.above_low else f"[{self.low:g}"
            high = "∞)" if self.high == math.inf else f"{self.high}]"
            noun += f" in {low}, {high}"
        if self.is_json:
            noun = "a JSON schema: a dict, a bool or its text"
        if self.many:
            noun += ", or several in a list"
        if self.by_id:
            noun = f"{{token id: {noun}}}"
        return noun + (", or None" if self.optional else "")

    def check(self, name: str, value: Any) -> Any:
        """`value` in its canonical form; InvalidArgumentError shows the value and the range."""
        if value is None and self.optional:
            return () if self.many or self.by_id else None
        try:
            if self.is_json and not isinstance(value, str):
                if not isinstance(value, Mapping | bool):
                    raise TypeError
                return json.dumps(value, ensure_ascii=False, allow_nan=False)
            if self.by_id:
                pairs = value.items() if isinstance(value, Mapping) else value
                return tuple(sorted((_token_id(index), self._one(one)) for index, one in pairs))
            if self.many:
                single = isinstance(value, str | numbers.Number)
                return tuple(self._one(one) for one in ([value] if single else value))
            return self._one(value)
        except (TypeError, ValueError):
            raise InvalidArgumentError(f"{name} is {value!r}, expected {self.range}") from None

    def _one(self, value: Any) -> Any:
        if self.kind is bool or isinstance(value, bool):
            if self.kind is not bool or not isinstance(value, bool):
                raise TypeError
            return value
        if self.kind is str:
            if not isinstance(value, str) or not value:
                raise TypeError
            return value
        if self.kind is float and not isinstance(value, numbers.Real):
            raise TypeError
        number = operator.index(value) if self.kind is int else float(value)
        if not self.low <= number <= self.high or (self.above_low and number == self.low):
            raise ValueError
        if number == math.inf:
            raise ValueError
        return number


def _token_id(value: Any) -> int:
    index = operator.index(value)
    if isinstance(value, bool) or not 0 <= index < 2**31:
        raise ValueError
    return index


def _option(default: Any, kind: type, help: str, **limits: Any) -> Any:
    return field(default=default, metadata={"option": Option(kind, help, **limits)})


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How to choose tokens and when to stop. Names and defaults are vLLM's; an unknown name is a TypeError, a
    value outside its range an InvalidArgumentError. Immutable: `dataclasses.replace` makes a changed copy."""

    temperature: float = _option(
        1.0, float, "0 always takes the most probable token; higher is more random", low=0
    )
    top_k: int = _option(
        0, int, "choose among the K most probable tokens; 0 or -1: among all", low=-1, high=2**31 - 1
    )
    top_p: float = _option(
        1.0,
        float,
        "choose among the most probable tokens that together reach this probability",
        low=0,
        high=1,
        above_low=True,
    )
    min_p: float = _option(
        0.0, float, "leave out tokens less probable than this times the most probable one", low=0, high=1
    )
    repetition_penalty: float = _option(
        1.0,
        float,
        "above 1: make tokens of the prompt and of the text so far less probable",
        low=0,
        above_low=True,
    )
    presence_penalty: float = _option(
        0.0, float, "subtracted from the logit of every token generated so far", low=-2, high=2
    )
    frequency_penalty: float = _option(
        0.0, float, "subtracted from a token's logit for each time it was generated", low=-2, high=2
    )
    seed: int | None = _option(
        None, int, "same seed, same text; without one every run differs", low=0, high=2**64 - 1, optional=True
    )
    max_tokens: int | None = _option(
        16,
        int,
        "generate at most N tokens; none: until the context is full",
        low=1,
        high=2**31 - 1,
        optional=True,
    )
    min_tokens: int = _option(0, int, "do not stop before N tokens", low=0, high=2**31 - 1)
    stop: tuple[str, ...] = _option(
        (), str, "end before this text; may be given several times", optional=True, many=True
    )
    stop_token_ids: tuple[int, ...] = _option(
        (),
        int,
        "end at this token id; may be given several times",
        low=0,
        high=2**31 - 1,
        optional=True,
        many=True,
    )
    logit_bias: tuple[tuple[int, float], ...] = _option(
        (),
        float,
        "added to the logit of a token id: {id: bias} in Python, ID=BIAS here; may be given several times",
        low=-100,
        high=100,
        optional=True,
        by_id=True,
    )
    bad_words: tuple[str, ...] = _option(
        (), str, "never write this text; may be given several times", optional=True, many=True
    )
    ignore_eos: bool = _option(False, bool, "do not end at the model's own end tokens")
    logprobs: int | None = _option(
        None,
        int,
        "report the log probability of each token and of the N most probable ones",
        low=0,
        high=2**31 - 1,
        optional=True,
    )

    prompt_logprobs: int | None = _option(
        None,
        int,
        "report the same of each token of the prompt, which is then computed token by token",
        low=0,
        high=2**31 - 1,
        optional=True,
    )
    n: int = _option(
        1,
        int,
        "how many texts to write; with a seed, the later ones take the numbers after it",
        low=1,
        high=128,
    )
    best_of: int | None = _option(
        None, int, "write this many texts and return the n most probable ones", low=1, high=128, optional=True
    )

    json_schema: str | Mapping[str, Any] | bool | None = _option(
        None,
        str,
        "write a JSON document that is valid under this schema",
        optional=True,
        is_file=True,
        is_json=True,
    )
    grammar: str | None = _option(
        None,
        str,
        "write a text that this grammar matches, in GBNF, the notation of llama.cpp",
        optional=True,
        is_file=True,
    )
    json_object: bool = _option(False, bool, "write a JSON object")

    def __post_init__(self) -> None:
        for name, option in options().items():
            object.__setattr__(self, name, option.check(name, getattr(self, name)))
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidArgumentError(
                f"min_tokens is {self.min_tokens}, above max_tokens ({self.max_tokens})"
            )
        structures = [name for name in GRAMMAR_OPTIONS if getattr(self, name)]
        if len(structures) > 1:
            raise InvalidArgumentError(f"{structures[0]} and {structures[1]} are both given; choose one")
        if self.best_of is not None and self.best_of < self.n:
            raise InvalidArgumentError(f"best_of is {self.best_of}, below n ({self.n})")

    @property
    def structure(self) -> tuple[str, str] | None:
        """What the text must follow: the option's name and its value, "" for json_object."""
        for name in GRAMMAR_OPTIONS:
            value = getattr(self, name)
            if value:
                return name, value if isinstance(value, str) else ""
        return None


# In the order of the engine's mllm_grammar_kind.
GRAMMAR_OPTIONS = ("grammar", "json_schema", "json_object")

# What asks for more than one text of one prompt.
_REPORTS = ("logprobs", "prompt_logprobs", "n", "best_of")


def options() -> dict[str, Option]:
    """The option table: SamplingParams' fields by name."""
    return {item.name: item.metadata["option"] for item in dataclasses.fields(SamplingParams)}


def from_generate_keywords(keywords: dict[str, Any]) -> SamplingParams:
    """SamplingParams from the keywords of MindFormers' and Hugging Face's `model.generate`.

    max_new_tokens (None: until the context is full), min_new_tokens, do_sample (False: greedy, as there), and
    every field of SamplingParams except those two's counterparts and what asks for several texts or logprobs.
    """
    given = dict(keywords)
    renamed = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens"}
    allowed = {*renamed, "do_sample", *options()} - {*renamed.values(), *_REPORTS}
    unknown = sorted(set(given) - allowed)
    if unknown:
        raise TypeError(f"generate() has no option {unknown[0]!r}; it takes: {', '.join(sorted(allowed))}")
    do_sample = Option(bool, "").check("do_sample", given.pop("do_sample", False))
    fields = {"max_tokens": None, **{renamed.get(name, name): value for name, value in given.items()}}
    if not do_sample:
        fields["temperature"] = 0.0
    return SamplingParams(**fields)
