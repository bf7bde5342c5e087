#!/usr/bin/env python3
"""Writes unicode_ranges.hpp: which code points are letters and numbers, from the package regex."""

import pathlib
import sys

import regex


def ranges(pattern):
    found, first = [], None
    for c in range(0x110000 + 1):
        inside = c < 0x110000 and not 0xD800 <= c < 0xE000 and regex.match(pattern, chr(c)) is not None
        if inside and first is None:
            first = c
        if not inside and first is not None:
            found.append((first, c - 1))
            first = None
    return found


def table(name, comment, pattern):
    lines, line = [], ""
    items = [f"{{{first:#x}, {last:#x}}}," for first, last in ranges(pattern)]
    for item in items:
        if len(line) + len(item) + 1 > 106:
            lines.append(line)
            line = ""
        line = f"{line} {item}" if line else f"    {item}"
    lines.append(line)
    body = "\n".join(lines)
    return f"/// {comment}\ninline constexpr CodeRange {name}[] = {{\n{body}\n}};\n"


def main():
    letters = table("letter_ranges", "Unicode's L: letters of every kind.", r"\p{L}")
    numbers = table("number_ranges", "Unicode's N: digits and other numerals.", r"\p{N}")
    text = f"""// Which code points are letters and numbers: written by make_unicode_ranges.py with regex {regex.__version__}; do not edit.
#pragma once

namespace llama {{

/// First and last code point.
struct CodeRange {{
  char32_t first, last;
}};

// clang-format off
{letters}
{numbers}// clang-format on

}}  // namespace llama
"""
    (pathlib.Path(sys.argv[0]).parent / "unicode_ranges.hpp").write_text(text)


if __name__ == "__main__":
    main()
