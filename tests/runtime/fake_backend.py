"""A model in a few lines of numpy: its logits depend on the slot's whole context, so that a mixed-up slot, a
lost token or a missing rewind changes the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from mindir_llm.runtime import CapacityError, ModelInfo, SamplingParams
from mindir_llm.runtime.backend import Logits
from mindir_llm.tokenizer import Tokenizer

Next = Callable[[list[int]], Logits]


class FakeModel:
    def __init__(
        self, next_logits: Next, vocab_size: int = 259, batch_size: int = 1, max_seq_len: int = 64
    ) -> None:
        self.info = ModelInfo(batch_size, max_seq_len, 8, vocab_size, 1, 1, True, 0, 0)
        self.manifest: dict[str, Any] = {"tokenizer": None}
        self.next_logits = next_logits
        self.sessions: list[FakeSession] = []
        self.open_samplers = 0

    def new_session(self) -> FakeSession:
        self.sessions.append(FakeSession(self))
        return self.sessions[-1]

    def new_sampler(self, params: SamplingParams, seed: int, prompt: Sequence[int]) -> FakeSampler:
        return FakeSampler(self, params, seed if params.seed is None else params.seed)

    def top_logprobs(self, logits: Logits, count: int) -> list[tuple[int, float]]:
        order = np.argsort(-logits, kind="stable")[:count]
        return [(int(index), float(log_softmax(logits)[index])) for index in order]

    def close(self) -> None:
        pass


class FakeSession:
    def __init__(self, model: FakeModel) -> None:
        self.model = model
        self.slots: list[list[int]] = [[] for _ in range(model.info.batch_size)]
        self.feeds: list[list[tuple[int, list[int]]]] = []
        self.closed = False

    def feed(self, segments: Sequence[tuple[int, Sequence[int]]]) -> None:
        assert len({slot for slot, _ in segments}) == len(segments) > 0
        self.feeds.append([(slot, list(ids)) for slot, ids in segments])
        for slot, ids in segments:
            assert len(ids) > 0
            if len(self.slots[slot]) + len(ids) > self.model.info.max_seq_len:
                raise CapacityError("full")
            self.slots[slot] += ids

    def position(self, slot: int) -> int:
        return len(self.slots[slot])

    def save(self, slot: int) -> bytes:
        return bytes(self.slots[slot])

    def restore(self, slot: int, saved: bytes) -> None:
        self.slots[slot] = list(saved)

    def rewind(self, slot: int, position: int) -> None:
        assert position <= len(self.slots[slot])
        del self.slots[slot][position:]

    def logits(self, slot: int) -> Logits:
        return self.model.next_logits(self.slots[slot])

    def close(self) -> None:
        self.closed = True


class FakeSampler:
    def __init__(self, model: FakeModel, params: SamplingParams, seed: int) -> None:
        self.model, self.greedy = model, params.temperature == 0
        self.random = np.random.default_rng(seed)
        model.open_samplers += 1

    def sample(
        self, logits: Logits, banned: Sequence[int], with_logprob: bool, matcher: None = None
    ) -> tuple[int, float | None]:
        allowed = logits.copy()
        allowed[list(banned)] = -np.inf
        if self.greedy:
            token = int(np.argmax(allowed))
        else:
            token = int(self.random.choice(len(logits), p=np.exp(log_softmax(allowed))))
        return token, float(log_softmax(logits)[token]) if with_logprob else None

    def close(self) -> None:
        self.model.open_samplers -= 1


def log_softmax(logits: Logits) -> np.ndarray[Any, np.dtype[np.float64]]:
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


class ByteTokenizer(Tokenizer):
    """Ids 3 + byte; 1 begins, 2 ends. Decoding is the real StreamDecoder's."""

    vocab_size = 259
    stop_token_ids = (2,)
    bos_token_id, eos_token_id = 1, 2
    all_special_ids = [0, 1, 2]  # noqa: RUF012
    chat_template = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}{{ '|' }}{% endfor %}"
    strips_first_space = False
    strips_all_first_spaces = False

    def piece(self, token_id: int) -> Any:
        from mindir_llm.tokenizer.stream_decoder import Piece, PieceKind

        if token_id < 3:
            return Piece(PieceKind.SPECIAL, ("<unk>", "<s>", "</s>")[token_id])
        return Piece(PieceKind.BYTE, f"<0x{token_id - 3:02X}>", token_id - 3)

    def token_text(self, token_id: int) -> str:
        return self.piece(token_id).text

    def spelling(self, token_id: int) -> str:
        return self.piece(token_id).text

    def encode(self, text: str, add_special_tokens: bool = True, parse_special: bool = True) -> list[int]:
        return [1] * add_special_tokens + [3 + byte for byte in text.encode()]

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        return bytes(index - 3 for index in ids if index >= 3).decode("utf-8", "replace")

    def stream_decoder(self, skip_special_tokens: bool = True) -> Any:
        from mindir_llm.tokenizer import StreamDecoder

        return StreamDecoder(self, skip_special_tokens)


def says(text: str, vocab_size: int = 259) -> Next:
    """Continues any prompt with `text` and then ends."""
    script = [3 + byte for byte in text.encode()] + [2]

    def next_logits(context: list[int]) -> Logits:
        # The prompt of these tests ends with "|", which no script contains.
        done = len(context) - 1 - max(i for i, index in enumerate(context) if index == 3 + ord("|"))
        logits = np.zeros(vocab_size, np.float32)
        logits[script[min(done, len(script) - 1)]] = 10
        return logits

    return next_logits


def hashed(vocab_size: int = 259) -> Next:
    """Random logits that depend on every token of the context."""

    def next_logits(context: list[int]) -> Logits:
        return np.random.default_rng([7, *context]).normal(0, 3, vocab_size).astype(np.float32)

    return next_logits
