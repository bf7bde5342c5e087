"""Markdown that several pages of the results share."""

TITLES = {"code": "Code", "docstring": "Docstrings", "translation": "Translation"}


def table(head, rows):
    """Columns after the first hold figures."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def per_cent(share):
    return f"{100 * share.mean:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"


def points(difference):
    """Of shares, in points."""
    return f"{100 * difference.mean:+.1f} ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"


def p_text(p):
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def name_list(names):
    names = list(names)
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def rate_texts(entry, marked=True):
    """Rates of A, B and of u, v; a dash where nothing is trained, a star where the search ended at an edge, two daggers where
    it found none as good as finetune's own."""
    scheme, rates = entry.scheme, entry.rates

    def shown(rate, *axes):
        edge = "" if all(entry.interior.get(axis, True) for axis in axes) else "*"
        mark = "‡" if entry.at_default_rates else edge
        return f"{rate:.2g}" + (mark if marked else "")

    if scheme == "vera":
        return ["–", "–", shown(rates["rate"], "rate")]
    a = "–" if scheme == "lora_fa" else shown(rates["rate"], "rate")
    b = shown(rates.get("b_rate", rates["rate"]), "rate", "b_over_a")
    return [a, b, shown(rates["uv_rate"], "uv_rate") if "uv_rate" in rates else "–"]


def rates_cell(entry, marked=True):
    """The same in one cell."""
    a, b, uv = rate_texts(entry, marked)
    if a == b and uv == "–":
        return f"A, B {a}"
    return ", ".join(f"{name} {rate}" for name, rate in (("A", a), ("B", b), ("u and v", uv)) if rate != "–")
