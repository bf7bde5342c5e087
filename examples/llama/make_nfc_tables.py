#!/usr/bin/env python3
"""Writes nfc_tables.hpp: what Unicode's normal form C needs, from Python's unicodedata. Unicode promises that the form of
a text of assigned characters never changes, so the version matters for new characters only."""

import pathlib
import sys
import unicodedata

CODES = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def hangul(c):
    return 0xAC00 <= c <= 0xD7A3


def rows(items):
    lines, line = [], ""
    for item in items:
        if len(line) + len(item) + 1 > 106:
            lines.append(line)
            line = ""
        line = f"{line} {item}" if line else f"    {item}"
    return "\n".join([*lines, line])


def main():
    pairs, one_way = [], []
    for c in CODES:
        text = unicodedata.decomposition(chr(c))
        if not text or text.startswith("<") or hangul(c):
            continue
        parts = [int(part, 16) for part in text.split()]
        composed = unicodedata.normalize("NFC", "".join(map(chr, parts)))
        item = f"{{{c:#x}, {parts[0]:#x}, {parts[1] if len(parts) > 1 else 0:#x}}},"
        (pairs if composed == chr(c) else one_way).append(item)
    classes, last = [], None
    for c in CODES:
        value = unicodedata.combining(chr(c))
        if value and last and last[1] == c - 1 and last[2] == value:
            last[1] = c
        elif value:
            last = [c, c, value]
            classes.append(last)
    text = f"""// Tables of Unicode's normal form C: written by make_nfc_tables.py from Unicode {unicodedata.unidata_version}; do not edit.
#pragma once

namespace llama {{

/// A character and what it is made of; `second` is 0 where that is one character.
struct Decomposition {{
  char32_t code, first, second;
}};
/// Characters of one combining class; all others have class 0.
struct CombiningRange {{
  char32_t first, last;
  unsigned char value;
}};

// clang-format off
/// Characters that take the place of their parts.
inline constexpr Decomposition compositions[] = {{
{rows(pairs)}
}};
/// Characters that give way to their parts.
inline constexpr Decomposition one_way_decompositions[] = {{
{rows(one_way)}
}};
inline constexpr CombiningRange combining_ranges[] = {{
{rows([f"{{{a:#x}, {b:#x}, {v}}}," for a, b, v in classes])}
}};
// clang-format on

}}  // namespace llama
"""
    (pathlib.Path(sys.argv[0]).parent / "nfc_tables.hpp").write_text(text)


if __name__ == "__main__":
    main()
