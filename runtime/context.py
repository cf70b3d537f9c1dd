"""What of a conversation the model still sees when the context is too small for all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from .errors import CapacityError, InvalidArgumentError

__all__ = ["ContextFull", "Messages", "check_policy", "fit"]

ContextFull = Literal["stop", "drop"]
"""'stop': a conversation that does not fit is an error. 'drop': its oldest turns are left out."""

Messages = Sequence[Mapping[str, Any]]


def check_policy(policy: str) -> None:
    if policy not in get_args(ContextFull):
        raise InvalidArgumentError(f"context_full is {policy!r}, expected 'stop' or 'drop'")


def fit(
    messages: Messages,
    ids_of: Callable[[Messages], list[int]],
    limit: int,
    max_tokens: int | None,
    policy: ContextFull,
    dropped: int = 0,
) -> tuple[list[int], int]:
    """The prompt's ids, and how many messages are left out of it, the system's not counted.

    ids_of: writes messages out. limit: tokens of the context. max_tokens: of the answer. dropped: messages
    that are left out already. With "drop" whole turns go, from one user message to the next, until a quarter
    of the context, or max_tokens if that is less, is free for the answer; the last turn stays. CapacityError
    where that is not enough.
    """
    first = int(bool(messages) and _role(messages[0]) == "system")
    room = max(1, min(max_tokens or limit, limit // 4)) if policy == "drop" else 1
    while True:
        ids = ids_of([*messages[:first], *messages[first + dropped :]])
        if len(ids) + room <= limit:
            return ids, dropped
        following = _after_turn(messages, first, dropped) if policy == "drop" else None
        if following is None:
            if len(ids) < limit:  # the last turn alone, with less room than wished for
                return ids, dropped
            raise CapacityError(
                f"the conversation has {len(ids)} tokens and the bundle's context holds {limit}: start"
                " anew, let the oldest turns be dropped, or export with a larger --max-seq-len"
            )
        dropped = following


def _after_turn(messages: Messages, first: int, dropped: int) -> int | None:
    """How many messages are gone when one turn more is; None where the last turn would go."""
    for index in range(first + dropped + 1, len(messages)):
        if _role(messages[index]) == "user":
            return index - first
    return None


def _role(message: Any) -> Any:
    # What is no message at all is for the template to complain about.
    return message.get("role") if isinstance(message, Mapping) else None
