"""Writes the engine's tables for Python's string methods on Unicode text, from this Python's own data.

    python tools/make_case_tables.py > runtime/engine/text/template_unicode_tables.h

Properties are probed through `str` itself, so that the engine's upper(), lower(), title() and repr agree with
Python's by construction (for the Unicode version that the header names).
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterable

CODE_POINTS = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]


def ranges(points: Iterable[int]) -> list[tuple[int, int, int]]:
    """(first, last, step) with step 1 or 2: alphabets often alternate between cases."""
    found: list[tuple[int, int, int]] = []
    for point in points:
        if found:
            first, last, step = found[-1]
            distance = point - last
            if distance == step or (first == last and distance == 2):
                found[-1] = (first, point, distance)
                continue
        found.append((point, point, 1))
    return found


def packed(first: int, last: int, step: int) -> list[str]:
    """A run as the header's Range, or several where a count does not fit."""
    found = []
    for start in range(first, last + 1, step << 16):
        more = (min(last, start + (step * 0xFFFF)) - start) // step
        found.append(f"{start & 0xFFFF:#x}, {more}, {start >> 16 | (step - 1) << 15:#x}")
    return found


def property_table(name: str, holds: Callable[[str], bool]) -> str:
    runs = ranges(point for point in CODE_POINTS if holds(chr(point)))
    return table("Range", name, [f"{{{row}}}" for run in runs for row in packed(*run)])


def mapping_table(name: str, change: Callable[[str], str], default: Callable[[str], str] = str) -> str:
    """One code point to one, where it is not `default`'s: runs with the same distance."""
    by_distance: dict[int, list[int]] = {}
    for point in CODE_POINTS:
        changed = change(chr(point))
        if len(changed) == 1 and changed != default(chr(point)):
            assert ord(changed) >> 16 == point >> 16
            by_distance.setdefault(ord(changed) - point, []).append(point)
    rows = sorted(
        (first, last, step, distance)
        for distance, points in by_distance.items()
        for first, last, step in ranges(points)
    )
    return table(
        "Mapping",
        name,
        [f"{{{{{run}}}, {d & 0xFFFF:#x}}}" for *row, d in rows for run in packed(row[0], row[1], row[2])],
    )


def expansion_table(name: str, change: Callable[[str], str]) -> str:
    """One code point to two or three."""
    rows = []
    for point in CODE_POINTS:
        changed = change(chr(point))
        if len(changed) > 1:
            parts = [*map(ord, changed), 0][:3]
            assert max(point, *parts) <= 0xFFFF
            rows.append(f"{{{point:#x}, {{{', '.join(f'{part:#x}' for part in parts)}}}}}")
    return table("Expansion", name, rows)


def table(kind: str, name: str, rows: list[str]) -> str:
    body = ""
    line = "   "
    for row in rows:
        if len(line) + len(row) + 2 > 110:
            body += line + "\n"
            line = "   "
        line += f" {row},"
    return f"inline constexpr {kind} {name}[] = {{\n{body}{line}\n}};\n"


def is_cased(char: str) -> bool:
    return char.islower() or char.isupper() or char.istitle()


def is_case_ignorable(char: str) -> bool:
    """A final sigma looks through such characters."""
    return not is_cased(char) and ("a" + char + "Σ").lower()[-1] == "ς"


def main() -> None:
    version = unicodedata.unidata_version
    sys.stdout.write(
        f"""// Unicode {version} as Python's str methods see it. Written by tools/make_case_tables.py.
// clang-format off
#ifndef MINDIR_LLM_TEXT_TEMPLATE_UNICODE_TABLES_H_
#define MINDIR_LLM_TEXT_TEMPLATE_UNICODE_TABLES_H_

#include <cstdint>

namespace mllm::jinja {{

// A code point and `more` others, each 1 or (the top bit of `high`) 2 after the one before.
struct Range {{
  uint16_t low, more, high;
}};
// To the code point at a distance, modulo 2^16: case stays in its plane.
struct Mapping {{
  Range from;
  uint16_t distance;
}};
struct Expansion {{
  uint16_t from;
  uint16_t to[3];  // 0 where there are two only
}};

"""
    )
    tables = [
        mapping_table("kLower", str.lower),
        mapping_table("kUpper", str.upper),
        # Where the title case is not the upper case.
        mapping_table("kTitle", str.title, default=str.upper),
        expansion_table("kLowerExpansions", str.lower),
        expansion_table("kUpperExpansions", str.upper),
        expansion_table("kTitleExpansions", str.title),
        property_table("kIsLower", str.islower),
        property_table("kIsUpper", str.isupper),
        property_table("kIsTitle", _is_title_letter),
        property_table("kIsCaseIgnorable", is_case_ignorable),
        property_table("kIsUnprintable", lambda c: not c.isprintable()),
        # Where isdigit() and isnumeric() do not follow from the category.
        property_table("kIsDigitNotDecimal", lambda c: c.isdigit() and not c.isdecimal()),
        property_table("kIsNumericLetter", lambda c: c.isnumeric() and c.isalpha()),
    ]
    sys.stdout.write("\n".join(tables))
    sys.stdout.write(
        "\n}  // namespace mllm::jinja\n\n#endif  // MINDIR_LLM_TEXT_TEMPLATE_UNICODE_TABLES_H_\n"
    )


def _is_title_letter(char: str) -> bool:
    return unicodedata.category(char) == "Lt"


if __name__ == "__main__":
    main()
