"""What the tests of structured output share: tokenizers, and texts drawn token by token from a mask."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from mindir_llm.runtime import EngineTokenizer, Grammar

DEMO = Path(__file__).parents[2] / "tools" / "demo_model" / "checkpoint"
# Tokens of these characters alone bring a document closer to its end.
_CLOSING = set(b'"]}')


@cache
def closing_tokens(tokenizer: EngineTokenizer) -> np.ndarray:
    """By id, whether the token closes something, or ends the text."""
    closing = np.zeros(tokenizer.vocab_size + 32, dtype=bool)
    special = set(tokenizer.all_special_ids)
    for index in range(tokenizer.vocab_size):
        content = tokenizer.token_bytes(index)
        closing[index] = index not in special and bool(content) and set(content) <= _CLOSING
    closing[list(tokenizer.stop_token_ids)] = True
    return closing


def random_text(
    tokenizer: EngineTokenizer, grammar: Grammar, rng: np.random.Generator, examples: list[str]
) -> str:
    """A text of the grammar: each token is drawn from those that the mask allows. The longer it is, the more
    often a token is drawn that closes something, so that it comes to an end; where that does not help,
    because chance never writes what must come, it ends as one of the examples does."""
    closing = closing_tokens(tokenizer)
    matcher = grammar.matcher()
    ids: list[int] = []
    while not matcher.must_end:
        allowed = np.flatnonzero(matcher.mask())
        if rng.random() < len(ids) / 60:
            preferred = allowed[closing[allowed]]
            allowed = preferred if len(preferred) else allowed
        if len(ids) > 60 and len(ids) % 20 == 0:
            for example in examples:
                for start in range(len(example)):
                    trial = matcher.copy()
                    ending = example[start:].encode()
                    if trial.accept_text(ending) == len(ending) and trial.can_end:
                        return tokenizer.decode(ids, skip_special_tokens=True) + example[start:]
        index = int(rng.choice(allowed))
        matcher.accept(index)
        if index in tokenizer.stop_token_ids:
            break
        ids.append(index)
        assert len(ids) < 3000, "it does not come to an end"
    return tokenizer.decode(ids, skip_special_tokens=True)


def accepts(grammar: Grammar, text: str) -> bool:
    """Whether the text is one of the grammar's, byte by byte."""
    matcher = grammar.matcher()
    content = text.encode()
    return matcher.accept_text(content) == len(content) and matcher.can_end


def accepts_tokens(tokenizer: EngineTokenizer, grammar: Grammar, text: str) -> bool:
    """Whether it is, token by token as the tokenizer cuts it."""
    matcher = grammar.matcher()
    for index in tokenizer.encode(text, add_special_tokens=False, parse_special=False):
        if not matcher.mask()[index]:
            return False
        matcher.accept(index)
    return matcher.can_end
