#!/usr/bin/env python3
"""Writes unicode_ranges.hpp: which code points are letters and numbers for the regular expressions of the package
tokenizers, whose Unicode is a few years old; what was assigned later is neither to models trained with it."""

import pathlib
import sys

import tokenizers
from tokenizers import Regex, pre_tokenizers

END = 0x110000
CODES = [c for c in range(END) if not 0xD800 <= c < 0xE000]
STOP = "\x01"  # between the characters: neither a letter nor a number


def members(pattern):
    split = pre_tokenizers.Split(Regex(pattern), "isolated", False)
    found = set()
    for begin in range(0, len(CODES), 4096):
        text = "".join(chr(c) + STOP for c in CODES[begin : begin + 4096] if chr(c) != STOP)
        found.update(ord(word) for word, _ in split.pre_tokenize_str(text) if len(word) == 1 and word != STOP)
    return found


def ranges(pattern):
    inside, found, first = members(pattern), [], None
    for c in range(END + 1):
        if c in inside and first is None:
            first = c
        if c not in inside and first is not None:
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
    text = f"""// Which code points are letters and numbers: written by make_unicode_ranges.py with tokenizers {tokenizers.__version__};
// do not edit.
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
