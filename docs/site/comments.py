"""Doxygen's filter: prints a header with its comments as Doxygen understands them. Code is left alone but for the inline namespaces
of instruction sets, which are not part of a name.

    python3 docs/site/comments.py FILE
"""

import re
import sys


def literal(text):
    """< outside of code font is less-than, not HTML."""
    return "".join(p if i % 2 else p.replace("<", r"\<") for i, p in enumerate(re.split(r"(`[^`]*`)", text)))


def cpp(lines):
    lines = [re.sub(r"^(inline namespace TIEDLORA_ISA \{|\}  // namespace TIEDLORA_ISA)$", "", line) for line in lines]
    previous = ""  # the comment's line above
    for i, line in enumerate(lines):
        match = re.match(r"(.*?///<?)(.*)$", line)
        if not match:
            previous = ""
            continue
        opening, text = match.groups()
        indented = text.startswith("   ") and not text.lstrip().startswith("- ")
        following = lines[i + 1].lstrip() if i + 1 < len(lines) else ""
        if indented and (previous == "display" or not previous.lstrip().startswith("- ")):
            # Further in: set apart as it stands.
            first, last = previous != "display", not following.startswith("///   ")
            lines[i] = opening + (" <pre>" if first else "") + literal(text[3:]) + ("</pre>" if last else "")
            previous = "" if last else "display"
        else:
            lines[i] = opening + literal(text)
            previous = previous if indented else text
    return lines


def c(lines):
    """/* … */ is documentation, beside a declaration that of the declaration; headlines are none."""
    for i, line in enumerate(lines):
        line = "" if line.startswith("/* ----") else re.sub(r"^/\*$", "/** @file", line) if i == 0 else line
        line = re.sub(r"^( *)/\* ", r"\1/** ", line)
        line = re.sub(r"([;,{]|\w) +/\* ", r"\1 /**< ", line)
        lines[i] = literal(line) if re.match(r" *(/\*\*| \* )", line) else line
    return lines


with open(sys.argv[1]) as file:
    source = file.read().splitlines()
print("\n".join(c(source) if sys.argv[1].endswith(".h") else cpp(source)))
