"""Writes the engine's Unicode tables: categories, white space, and what canonical composition (NFC) needs.

    pip install unicodedata2==16.0.0
    python tools/make_unicode_tables.py runtime/engine/text/unicode_tables.inc

Texts must be cut as they were for a model's training, so the tables follow the libraries inside of Hugging
Face's tokenizers: Unicode 16 for categories (its regular expressions), Unicode 9 for NFC (its normalizer).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import unicodedata2 as unicodedata

# Properties stand in blocks of code points, numbers of blocks in pages; of equal ones there is only one.
BLOCK, PAGE = 16, 32
# The order of text/unicode.h.
CATEGORIES = "LuLlLtLmLoMnMcMeNdNlNoPcPdPsPePiPfPoSmScSkSoZsZlZpCcCfCsCoCn"
# The property White_Space, which is not str.isspace.
SPACES = {
    *range(9, 14),
    0x20,
    0x85,
    0xA0,
    0x1680,
    *range(0x2000, 0x200B),
    0x2028,
    0x2029,
    0x202F,
    0x205F,
    0x3000,
}
# Combining and composed characters that Unicode has taken up since version 9.
NEWER_THAN_9 = (
    "7FD 897-89F 8CA-8D3 9FE C3C D3B-D3C EBA 1715 1ABF-1ACE 1DF6-1DFA A82C 105C9 105E4 10D24-10D27 "
    "10D69-10D6D 10EAB-10EAC 10EFD-10EFF 10F46-10F50 10F82-10F85 11070 1133B 11383 11385 1138E 11391 "
    "113C5 113C7-113C8 113CE-113D0 1145E 11839-1183A 11938 1193D-1193E 11943 119E0 11A34 11A47 11A99 "
    "11D42 11D44-11D45 11D97 11F41-11F42 16121-16128 1612F 16D68-16D6A 16FF0-16FF1 1E08F 1E130-1E136 "
    "1E2AE 1E2EC-1E2EF 1E4EC-1E4EF 1E5EE-1E5EF "
)
SPACE_BIT, UNSTABLE_BIT = 32, 64


def newer() -> set[int]:
    """The code points of NEWER_THAN_9."""
    found: set[int] = set()
    for entry in NEWER_THAN_9.split():
        first, _, last = entry.partition("-")
        found.update(range(int(first, 16), int(last or first, 16) + 1))
    return found


UNKNOWN = newer()
HANGUL = range(0xAC00, 0xAC00 + 11172)


def combining_class(code: int) -> int:
    return 0 if code in UNKNOWN else unicodedata.combining(chr(code))


def decompositions() -> dict[int, tuple[int, int]]:
    """One step of canonical decomposition: two characters, or one and 0. Hangul is left to arithmetic."""
    found = {}
    for code in range(0x110000):
        parts = unicodedata.decomposition(chr(code)).split()
        if parts and not parts[0].startswith("<") and code not in HANGUL and code not in UNKNOWN:
            first, *second = (int(part, 16) for part in parts)
            found[code] = (first, second[0] if second else 0)
    return found


def compositions(decomposed: dict[int, tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Pairs that compose; those excluded from composition do not survive NFC."""
    return {
        pair: code
        for code, pair in decomposed.items()
        if pair[1] and unicodedata.normalize("NFC", chr(code)) == chr(code)
    }


def properties(composed: dict[tuple[int, int], int]) -> bytes:
    """A byte for every code point: its category, SPACE_BIT, and UNSTABLE_BIT where NFC may change a text that
    has the character."""
    seconds = {second for _, second in composed} | set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    table = bytearray()
    for code in range(0x110000):
        character = chr(code)
        value = CATEGORIES.index(unicodedata.category(character)) // 2
        value |= SPACE_BIT if code in SPACES else 0
        surrogate = 0xD800 <= code < 0xE000
        if (
            combining_class(code)
            or code in seconds
            or (
                not surrogate and code not in UNKNOWN and unicodedata.normalize("NFC", character) != character
            )
        ):
            value |= UNSTABLE_BIT
        table.append(value)
    return bytes(table)


def rows(values: Iterable[str]) -> str:
    """Values with commas, in lines of at most 120 characters."""
    lines, line = [], ""
    for value in values:
        if len(line) + len(value) > 118:
            lines.append(line)
            line = ""
        line += value + ","
    return "\n".join([*lines, line])


def shared(values: list[int], size: int) -> tuple[list[int], list[int]]:
    """Values cut into runs of `size`: the number of each run, and the different runs one after another."""
    runs: dict[tuple[int, ...], int] = {}
    numbers = [runs.setdefault(tuple(values[i : i + size]), len(runs)) for i in range(0, len(values), size)]
    return numbers, [value for run in runs for value in run]


def combining_runs() -> list[int]:
    """Runs of one combining class: 17 bits of the first code point, 7 of the count, 8 of the class."""
    runs: list[tuple[int, int, int]] = []
    for code in range(0x110000):
        number = combining_class(code)
        if not number:
            continue
        first, count, last = runs[-1] if runs else (0, 0, 0)
        if (code, number) == (first + count, last):
            runs[-1] = (first, count + 1, last)
        else:
            runs.append((code, 1, number))
    assert all(first < 1 << 17 and count < 1 << 7 for first, count, _ in runs)
    return [first << 15 | count << 8 | number for first, count, number in runs]


def main() -> None:
    decomposed = decompositions()
    composed = compositions(decomposed)
    blocks, values = shared(list(properties(composed)), BLOCK)
    pages, numbers = shared(blocks, PAGE)
    order = sorted(decomposed)
    assert all(max(code, *decomposed[code]) < 1 << 18 for code in order) and max(pages) < 256
    parts = [(code, *decomposed[code]) for code in order]
    version = unicodedata.unidata_version
    text = f"""// Written by tools/make_unicode_tables.py from Unicode {version}; do not edit.
constexpr uint32_t kBlock = {BLOCK}, kPage = {PAGE};
constexpr uint8_t kPages[] = {{
{rows(map(str, pages))}
}};
constexpr uint16_t kBlocks[] = {{
{rows(map(str, numbers))}
}};
constexpr uint8_t kProperties[] = {{
{rows(map(str, values))}
}};
constexpr uint16_t kDecompositions[][3] = {{
{rows(f"{{{a & 0xFFFF},{b & 0xFFFF},{c & 0xFFFF}}}" for a, b, c in parts)}
}};
constexpr uint8_t kDecompositionsHigh[] = {{
{rows(str(a >> 16 | b >> 16 << 2 | c >> 16 << 4) for a, b, c in parts)}
}};
constexpr uint16_t kCompositions[] = {{
{rows(str(order.index(composed[pair])) for pair in sorted(composed))}
}};
constexpr uint32_t kCombiningClasses[] = {{
{rows(map(str, combining_runs()))}
}};
"""
    Path(sys.argv[1]).write_text(text)


if __name__ == "__main__":
    main()
