"""A conversation with a model: what was said, what of it still fits, and the next answer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .context import ContextFull, fit
from .errors import InvalidArgumentError
from .llm import LLM
from .outputs import RequestOutput
from .sampling import SamplingParams


class Conversation:
    """messages: [{"role", "content"}, …], a system message first where there is one.

    context_full: what happens when the conversation no longer fits, as for LLM.chat: "stop" is a
    CapacityError, "drop" leaves the oldest turns out of what the model sees. chat_template and
    template_variables: as for LLM.chat, too.
    """

    def __init__(
        self,
        llm: LLM,
        params: SamplingParams,
        *,
        system: str | None = None,
        context_full: ContextFull = "stop",
        **template_options: Any,
    ) -> None:
        self._llm, self._params, self._context_full = llm, params, context_full
        self._template_options = template_options
        self.messages: list[dict[str, Any]] = []
        self.output: RequestOutput | None = None  # of the last answer; None where it was stopped early
        self.dropped = 0  # messages, the system's not counted, that the model no longer sees
        self.set_system(system)

    def reset(self) -> None:
        """Forget everything but the system message."""
        self.messages = [one for one in self.messages[:1] if one["role"] == "system"]
        self.output, self.dropped = None, 0

    def set_system(self, text: str | None) -> None:
        """Put another system message in front; None or "" takes it away."""
        if self.messages and self.messages[0]["role"] == "system":
            del self.messages[0]
        if text:
            self.messages.insert(0, {"role": "system", "content": text})

    def ask(self, text: str) -> Iterator[str]:
        """The answer's pieces as they come. Whoever stops early keeps what was said until then."""
        self.messages.append({"role": "user", "content": text})
        self.output = None
        answer: list[str] = []
        try:
            stream = self._llm.stream({"prompt_token_ids": self._prompt()}, self._params)
            for piece in stream:
                answer.append(piece)
                yield piece
            self.output = stream.output
        except GeneratorExit:
            stream.close()
            self._remember(answer)
            raise
        except BaseException:
            self.messages.pop()
            raise
        self._remember(answer)

    def is_full(self) -> bool:
        """Whether the last answer ended for want of room."""
        if self.output is None:
            return False
        used = len(self.output.prompt_token_ids) + len(self.output.outputs[0].token_ids)
        return self.output.outputs[0].finish_reason == "length" and used >= self._llm.info.max_seq_len

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the messages as JSON."""
        Path(path).write_text(
            json.dumps(self.messages, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on where a saved conversation ended; its system message replaces the present one."""
        try:
            messages = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise InvalidArgumentError(f"{path}: not a saved conversation: {error}") from None
        if not isinstance(messages, list) or not all(
            isinstance(one, dict) and isinstance(one.get("role"), str) and "content" in one
            for one in messages
        ):
            raise InvalidArgumentError(
                f'{path}: not a saved conversation: expected a list of {{"role": …, "content": …}}'
            )
        self.messages, self.output, self.dropped = messages, None, 0

    def _remember(self, answer: list[str]) -> None:
        self.messages.append({"role": "assistant", "content": "".join(answer)})

    def _prompt(self) -> list[int]:
        """The ids that the model is to continue."""
        ids, self.dropped = fit(
            self.messages,
            lambda visible: self._llm.chat_prompt(visible, **self._template_options),
            self._llm.info.max_seq_len,
            self._params.max_tokens,
            self._context_full,
            self.dropped,
        )
        return ids
