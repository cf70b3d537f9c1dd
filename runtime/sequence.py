"""One prompt while it is being continued: its tokens so far, its text, and whether it is finished."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

import numpy as np

from .backend import Logits, Matcher, Model, Sampler
from .outputs import CompletionOutput, FinishReason, Logprob, Metrics, RequestOutput
from .sampling import SamplingParams
from .stop_strings import StopStrings


class TextDecoder(Protocol):
    """Ids to text, one id at a time (tokenizer.StreamDecoder)."""

    def push(self, token_id: int) -> str: ...

    def flush(self) -> str: ...


class Vocabulary(Protocol):
    """What a sequence asks of a tokenizer."""

    vocab_size: int

    @property
    def stop_token_ids(self) -> tuple[int, ...]: ...

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]: ...

    def stream_decoder(self, skip_special_tokens: bool = True) -> TextDecoder: ...

    def token_text(self, token_id: int) -> str: ...


class Sequence:
    """prompt: the text it came from, or None. tokenizer: None gives ids without text, and no end token.
    index: which of the texts of one prompt it is. matcher: what the text must follow; then the text begins
    anew and owes nothing to the prompt's end."""

    def __init__(
        self,
        model: Model,
        tokenizer: Vocabulary | None,
        prompt: str | None,
        prompt_ids: list[int],
        params: SamplingParams,
        index: int = 0,
        matcher: Matcher | None = None,
    ) -> None:
        self.prompt_ids = prompt_ids
        self.token_ids: list[int] = []
        self.text = ""
        self.finish_reason: FinishReason | None = None
        self._model, self._tokenizer, self._prompt, self._params = model, tokenizer, prompt, params
        self._stop_reason: str | int | None = None
        self._stop_strings = StopStrings(params.stop)
        self._logprobs: list[dict[int, Logprob]] = []
        self._prompt_logprobs: list[dict[int, Logprob] | None] = [None]
        self._index = index
        self._matcher = matcher
        self.cumulative_logprob = 0.0  # of logprobs or a choice among several texts, else 0
        self._weighs = params.logprobs is not None or (params.best_of or params.n) > params.n
        self._sampler: Sampler | None = None

        room = model.info.max_seq_len - len(prompt_ids)
        self._limit = room if params.max_tokens is None else min(room, params.max_tokens)
        self._eos = () if tokenizer is None or params.ignore_eos else tokenizer.stop_token_ids
        vocab_size = model.info.vocab_size
        # Rows of the logits behind the tokenizer's last piece are padding of the weights; no text belongs to
        # them.
        self._never = [] if tokenizer is None else list(range(tokenizer.vocab_size, vocab_size))
        ending = {index for index in (*self._eos, *params.stop_token_ids) if index < vocab_size}
        self._too_early = sorted({*self._never, *ending})

        self._decoder = None if tokenizer is None else tokenizer.stream_decoder()
        if self._decoder is not None and matcher is None:
            # The continuation's first blank, or a character begun in the prompt, depends on the prompt.
            for index in prompt_ids:
                self._decoder.push(index)
        self._bad_words = [] if tokenizer is None else _spellings(tokenizer, params.bad_words)
        self._started = self._first = self._last = 0.0
        self._cached_tokens = 0

    def start(self, cached_tokens: int = 0) -> None:
        """Its prompt is about to be fed, but for the tokens that the session holds already."""
        self._cached_tokens = cached_tokens
        self._started = time.perf_counter()
        params = self._params
        if params.seed is not None and self._index:
            params = replace(params, seed=(params.seed + self._index) % 2**64)
        self._sampler = self._model.new_sampler(params, secrets.randbits(64), self.prompt_ids)

    def advance(self, logits: Logits) -> str:
        """Choose the next token from float32 logits [vocab_size]; returns the text that is now certain."""
        assert self._sampler is not None, "start() comes first"
        self._last = time.perf_counter()
        if not self.token_ids:
            self._first = self._last
        params = self._params
        banned = self._too_early if len(self.token_ids) < params.min_tokens else self._never
        token, logprob = self._draw(logits, [*banned, *self._bad_endings()])
        if logprob is not None:
            self.cumulative_logprob += logprob
            if params.logprobs is not None:
                self._logprobs.append(self._report(logits, token, logprob, params.logprobs))
        self.token_ids.append(token)

        if token in self._eos or token in params.stop_token_ids:
            self._stop_reason = token if token in params.stop_token_ids else None
            return self._finish("stop", "")
        piece = "" if self._decoder is None else self._decoder.push(token)
        delta = self._stop_strings.push(piece, may_stop=len(self.token_ids) > params.min_tokens)
        if self._stop_strings.found is not None:
            self._stop_reason = self._stop_strings.found
            return self._finish("stop", delta)
        if self._matcher is not None and self._matcher.must_end:
            return self._finish("stop", delta)
        if len(self.token_ids) == self._limit:
            return self._finish("length", delta)
        self.text += delta
        return delta

    def output(self) -> RequestOutput:
        """The finished result."""
        assert self.finish_reason is not None
        wanted = self._params.logprobs is not None
        completion = CompletionOutput(
            index=self._index,
            text=self.text,
            token_ids=self.token_ids,
            finish_reason=self.finish_reason,
            stop_reason=self._stop_reason,
            logprobs=self._logprobs if wanted else None,
            cumulative_logprob=self.cumulative_logprob if wanted else None,
        )
        metrics = Metrics(
            prompt_tokens=len(self.prompt_ids),
            prompt_seconds=self._first - self._started,
            decode_tokens=len(self.token_ids) - 1,
            decode_seconds=self._last - self._first,
            cached_tokens=self._cached_tokens,
        )
        prompt_logprobs = None if self._params.prompt_logprobs is None else self._prompt_logprobs
        return RequestOutput(self._prompt, self.prompt_ids, [completion], metrics, prompt_logprobs)

    @property
    def reads_token_by_token(self) -> bool:
        """Whether it wants to see the logits after every token of its prompt."""
        return self._params.prompt_logprobs is not None

    def see_prompt(self, logits: Logits) -> None:
        """The logits after the next token of the prompt, for every token but the last."""
        count = self._params.prompt_logprobs
        assert count is not None
        token = self.prompt_ids[len(self._prompt_logprobs)]
        self._prompt_logprobs.append(self._report(logits, token, _log_softmax(logits, token), count))

    def _draw(self, logits: Logits, banned: list[int]) -> tuple[int, float | None]:
        assert self._sampler is not None
        if not self._params.logit_bias:
            return self._sampler.sample(logits, banned, self._weighs, self._matcher)
        biased = logits.copy()
        for index, bias in self._params.logit_bias:
            biased[index] += bias
        token, _ = self._sampler.sample(biased, banned, False, self._matcher)
        # Reported are the raw logits, as everywhere.
        return token, _log_softmax(logits, token) if self._weighs else None

    def _bad_endings(self) -> list[int]:
        """Ids that would complete a bad word now."""
        written = self.token_ids
        return [ids[-1] for ids in self._bad_words if written[len(written) - len(ids) + 1 :] == ids[:-1]]

    def _finish(self, reason: FinishReason, delta: str) -> str:
        self.finish_reason = reason
        if self._sampler is not None:
            self._sampler.close()
        if self._matcher is not None:
            self._matcher.close()
        if self._stop_strings.found is None:
            tail = "" if self._decoder is None else self._decoder.flush()
            delta += self._stop_strings.push(tail, may_stop=False) + self._stop_strings.flush()
        self.text += delta
        return delta

    def _report(self, logits: Logits, token: int, logprob: float, count: int) -> dict[int, Logprob]:
        top = self._model.top_logprobs(logits, min(count, len(logits))) if count else []
        entries = {
            index: Logprob(value, rank, self._spell(index)) for rank, (index, value) in enumerate(top, 1)
        }
        if token not in entries:
            rank = 1 + int(np.count_nonzero(logits > logits[token]))
            rank += int(np.count_nonzero(logits[:token] == logits[token]))
            entries[token] = Logprob(logprob, rank, self._spell(token))
        return entries

    def _spell(self, token: int) -> str | None:
        if self._tokenizer is None:
            return None
        return self._tokenizer.token_text(token) if token < self._tokenizer.vocab_size else ""


def _log_softmax(logits: Logits, token: int) -> float:
    exact = logits.astype(np.float64)
    top = exact.max()
    return float(exact[token] - top - np.log(np.exp(exact - top).sum()))


def _spellings(tokenizer: Vocabulary, words: Iterable[str]) -> list[list[int]]:
    """Token ids of each word, at the beginning of a word and within one."""
    found: list[list[int]] = []
    for word in words:
        for text in (word, " " + word.lstrip()):
            ids = tokenizer.encode(text, add_special_tokens=False)
            if ids and ids not in found:
                found.append(ids)
    return found
