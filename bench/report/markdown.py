"""How the page writes things."""

NAMES = {"gcc": "GCC", "clang19": "Clang 19", "avx2": "AVX2", "sse2": "SSE2"}


def table(head, rows):
    """Markdown; columns after the first are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])
