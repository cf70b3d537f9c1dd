"""What every tokenizer can do, whatever encodes and decodes: batches and conversations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from .chat_template import render_chat_template
from .errors import TokenizerError


class TextDecoder(Protocol):
    """Ids to text, one id at a time: the parts that come back, put together, are the decoded text."""

    def push(self, token_id: int) -> str: ...

    def flush(self) -> str: ...


class Tokenizer(ABC):
    """Text to ids and back; called like a Hugging Face tokenizer it returns {"input_ids": …}."""

    vocab_size: int
    chat_template: str | None
    bos_token_id: int | None
    eos_token_id: int | None
    stop_token_ids: tuple[int, ...]  # ids that end a generation
    # (template, messages, **variables) → text. On a device the runtime puts the engine's in its place.
    chat_renderer: Callable[..., str] = staticmethod(render_chat_template)

    @property
    @abstractmethod
    def all_special_ids(self) -> list[int]: ...

    def __len__(self) -> int:
        return self.vocab_size

    @abstractmethod
    def spelling(self, token_id: int) -> str:
        """A token as the vocabulary spells it; TokenizerError outside [0, vocab_size)."""

    @abstractmethod
    def token_text(self, token_id: int) -> str:
        """How one token looks on its own, blanks kept; a byte that is no character reads <0xE4>."""

    @abstractmethod
    def encode(self, text: str, add_special_tokens: bool = True, parse_special: bool = True) -> list[int]:
        """Token ids of `text`.

        add_special_tokens: put the begin (and end) token where the model wants them. parse_special: the
        spellings of special tokens (`</s>`) mean those tokens, as in Hugging Face; pass False for text that
        is not trusted.
        """

    @abstractmethod
    def decode(self, token_ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """The text of ids (any iterable of ints, numpy arrays included). Special tokens show unless skipped:
        [1, 306] reads "<s>I"."""

    @abstractmethod
    def stream_decoder(self, skip_special_tokens: bool = True) -> TextDecoder:
        """A decoder to feed id by id; its parts put together equal `decode` of all ids."""

    def __call__(self, text: str | Sequence[str], add_special_tokens: bool = True) -> dict[str, Any]:
        """{"input_ids", "attention_mask"}: lists of ints for one text, lists of such lists for several."""
        if isinstance(text, str):
            ids = self.encode(text, add_special_tokens)
            return {"input_ids": ids, "attention_mask": [1] * len(ids)}
        rows = [self.encode(one, add_special_tokens) for one in text]
        return {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]}

    def apply_chat_template(
        self,
        conversation: Sequence[Mapping[str, Any]],
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        tokenize: bool = True,
        tools: Sequence[Any] | None = None,
        documents: Sequence[Any] | None = None,
        **variables: Any,
    ) -> str | list[int]:
        """The prompt of a conversation [{"role", "content"}, …] as token ids, or as text with tokenize=False.

        Further keywords are variables of the template, but for `now`: the datetime that strftime_now writes
        (None: the current one). No begin token is added: the template writes its own.
        """
        template = chat_template if chat_template is not None else self.chat_template
        if template is None:
            raise TokenizerError("this tokenizer has no chat template; pass chat_template=")
        named: dict[str, Any] = {}
        for name, index in (("bos_token", self.bos_token_id), ("eos_token", self.eos_token_id)):
            if index is not None:
                named[name] = self.spelling(index)
        text = self.chat_renderer(
            template,
            conversation,
            tools=tools,
            documents=documents,
            add_generation_prompt=add_generation_prompt,
            **named,
            **variables,
        )
        return self.encode(text, add_special_tokens=False) if tokenize else text


def utf8(text: str) -> bytes:
    """The text's bytes; TokenizerError where it is not Unicode."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"text is not valid Unicode: lone surrogate {text[error.start]!r} at index {error.start}"
        ) from None
