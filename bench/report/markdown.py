"""How the pages write things."""

import re
import textwrap

NAMES = {"gcc": "GCC", "clang19": "Clang 19", "avx2": "AVX2", "sse2": "SSE2"}


def table(head, rows, text_columns=1):
    """Markdown; columns after the first `text_columns` are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---" * text_columns + "|" + "---:|" * (len(head) - text_columns)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def details(summary, body):
    """Folded away until a reader asks for it."""
    return f"<details>\n<summary>{summary}</summary>\n\n{body}\n\n</details>"


def thread_count(count):
    return f"{count} thread{'s' * (count != 1)}"


def wrapped(text):
    """The same page with its prose and lists in lines of 128 characters."""
    fill = lambda words, indent: textwrap.fill(
        " ".join(words.split()), 128, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    parts = []
    for part in text.split("\n\n"):
        if part.startswith("- "):
            part = "\n".join(fill(f"- {item}", "  ") for item in re.split(r"(?:^|\n)- ", part)[1:])
        elif not part.startswith(("|", "#", "<", "![")):
            part = fill(part, "")
        parts.append(part.strip("\n"))
    return "\n\n".join(part for part in parts if part) + "\n"
