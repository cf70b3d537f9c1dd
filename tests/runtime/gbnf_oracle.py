"""Random grammars, and what they match, found out in the plainest way: sets of ends, part by part."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

# ("text", str) ("chars", negated, ranges) ("sequence", parts) ("choice", parts) ("repeat", part, least, most)
# ("rule", number)
Expression = tuple[Any, ...]
RANGES = [("a", "a"), ("b", "b"), ("a", "c"), ("x", "z"), ("é", "ü"), ("日", "本"), (" ", "~"), ("😀", "😎")]
LETTERS = "abcxz éü日😀~"


@dataclass
class RandomGrammar:
    rules: list[Expression] = field(default_factory=list)

    @property
    def text(self) -> str:
        names = ["root", *(f"rule-{number}" for number in range(1, len(self.rules)))]
        return "".join(f"{name} ::= {written(rule)}\n" for name, rule in zip(names, self.rules, strict=True))


def written(expression: Expression) -> str:
    """In GBNF."""
    kind, *rest = expression
    if kind == "text":
        return '"' + "".join(f"\\x{ord(c):02x}" if c == "b" else c for c in rest[0]) + '"'
    if kind == "chars":
        negated, ranges = rest
        return (
            "["
            + "^" * negated
            + "".join(f"{low}-{high}" if low != high else low for low, high in ranges)
            + "]"
        )
    if kind == "any":
        return "."
    if kind == "sequence":
        return "(" + " ".join(map(written, rest[0])) + ")"
    if kind == "choice":
        return "(" + " | ".join(map(written, rest[0])) + ")"
    if kind == "rule":
        return "root" if rest[0] == 0 else f"rule-{rest[0]}"
    part, least, most = rest
    sign = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((least, most))
    if sign is None:
        sign = f"{{{least}}}" if least == most else f"{{{least},{'' if most is None else most}}}"
    return written(part) + sign


def _expressions(number: int, count: int) -> st.SearchStrategy[Expression]:
    """Parts of rule `number` of `count`. A rule refers to later ones, or to any behind a character."""
    texts = st.text("ab x", min_size=1, max_size=3).map(lambda text: ("text", text))
    ranges = st.lists(st.sampled_from(RANGES), min_size=1, max_size=2)
    chars = st.tuples(st.just("chars"), st.booleans(), ranges)
    leaves = st.one_of(texts, chars, st.just(("any",)), st.just(("text", "")))
    if number + 1 < count:
        leaves |= st.integers(number + 1, count - 1).map(lambda other: ("rule", other))
    behind = st.tuples(texts, st.integers(0, count - 1)).map(
        lambda both: ("sequence", [both[0], ("rule", both[1])])
    )
    leaves |= behind
    limits = st.sampled_from([(0, None), (1, None), (0, 1), (2, 3), (3, 3), (0, 5), (4, None), (1, 70)])

    def grow(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        lists = st.lists(inner, min_size=1, max_size=3)
        return st.one_of(
            lists.map(lambda parts: ("sequence", parts)),
            lists.map(lambda parts: ("choice", parts)),
            st.tuples(inner, limits).map(lambda both: ("repeat", both[0], *both[1])),
        )

    return st.recursive(leaves, grow, max_leaves=5)


@st.composite
def grammars(draw: st.DrawFn) -> RandomGrammar:
    """Every rule has an alternative without further rules, so that each can come to an end."""
    count = draw(st.integers(1, 3))
    return RandomGrammar(
        [
            ("choice", [draw(_expressions(number, count)), ("text", draw(st.sampled_from("abx")))])
            for number in range(count)
        ]
    )


class Oracle:
    """What a grammar says about one text."""

    def __init__(self, grammar: RandomGrammar, text: str) -> None:
        self._rules, self._text = grammar.rules, text
        self._known: dict[tuple[int, int], tuple[frozenset[int], bool]] = {}

    def begins(self) -> tuple[bool, bool]:
        """Whether it is one of the grammar's texts, and whether it is the beginning of one."""
        ends, is_open = self._match(("rule", 0), 0)
        return len(self._text) in ends, is_open or len(self._text) in ends

    def _match(self, expression: Expression, start: int) -> tuple[frozenset[int], bool]:
        """Where it may end, and whether the text may end within it."""
        key = (id(expression), start)
        if expression[0] == "rule":
            return self._match(self._rules[expression[1]], start)
        if key not in self._known:
            self._known[key] = self._new_match(expression, start)
        return self._known[key]

    def _new_match(self, expression: Expression, start: int) -> tuple[frozenset[int], bool]:
        kind, *rest = expression
        text = self._text
        if kind == "text":
            available = text[start : start + len(rest[0])]
            if available == rest[0]:
                return frozenset([start + len(rest[0])]), False
            return frozenset(), rest[0].startswith(available)
        if kind in ("chars", "any"):
            if start == len(text):
                return frozenset(), True
            inside = kind == "any" or rest[0] != any(low <= text[start] <= high for low, high in rest[1])
            return frozenset([start + 1] if inside else []), False
        if kind == "choice":
            found = [self._match(part, start) for part in rest[0]]
            return frozenset().union(*(ends for ends, _ in found)), any(is_open for _, is_open in found)
        parts = rest[0] if kind == "sequence" else None
        least, most = (len(parts), len(parts)) if parts is not None else rest[1:]
        places, is_open = {start}, False
        ends = {start} if least == 0 else set()
        seen: set[tuple[int, int]] = set()
        rounds = 0
        # Beyond the least number of rounds only new places matter.
        while places and (most is None or rounds < most):
            part = parts[rounds] if parts is not None else rest[0]
            following = set()
            for place in places:
                more, within = self._match(part, place)
                following |= more
                is_open |= within
            rounds += 1
            if rounds >= least:
                if most is None:
                    following -= ends if rounds > least else set()
                ends |= following
            elif (min(following, default=0), rounds) in seen:
                break
            places = following
        return frozenset(ends), is_open
