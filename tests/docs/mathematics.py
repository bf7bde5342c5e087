"""Checks every equation of docs/mathematics.md, and that what cites them cites one that is there.

    python3 tests/docs/mathematics.py

What is a definition on the page is computed from the page's own LaTeX, in integers and fractions; gradients are compared
with differences of the loss, exactly. What is a bound or an estimate is compared with values that are rounded as the page
says. Counts and costs are read from the page's tables and counted.
"""

import re
import sys

from equations import cost, gradients, rounding, schemes, training
from equations.page import equations, expect, page, root


def check_numbering():
    tags = [int(number) for number in re.findall(r"\\tag\{E(\d+)\}", page)]
    expect(tags == [*equations] == [*range(1, len(tags) + 1)], "equations are numbered in order, each with its anchor")
    for number, text in equations.items():
        expect(text.endswith(rf" \tag{{E{number}}}"), f"E{number} has the anchor of another")


def check_citations():
    cited = {int(number) for number in re.findall(r"\bE(\d+)\b", page)}
    for path in sorted(root.glob("include/**/*.hpp")):
        text = re.sub(r"\n\s*///?", "", path.read_text(encoding="utf-8"))
        for citation in re.findall(r"docs/mathematics\.md(.{16})", text):
            expect(re.match(r", E\d", citation), f"{path.name} cites an equation: {citation!r}")
        for citation in re.findall(r"docs/mathematics\.md((?:(?:,| and| to) E\d+)*)", text):
            cited |= {int(number) for number in re.findall(r"E(\d+)", citation)}
    expect(cited <= set(equations), f"what is cited is on the page: {sorted(cited - set(equations))}")


def main():
    checks = {f"E{number}": None for number in equations}
    for part in gradients, schemes, training, cost, rounding:
        checks |= {name.upper(): check for name, check in vars(part).items() if re.fullmatch(r"e\d+", name)}
    checks |= {"numbering": check_numbering, "citations": check_citations}
    faults = 0
    for name, check in checks.items():
        try:
            expect(check, "has no check")
            check()
        except (AssertionError, SyntaxError, KeyError) as error:
            faults += 1
            print(f"{name}: {type(error).__name__}: {error}")
    print(f"{faults} of {len(checks)} checks fail" if faults else f"{len(equations)} equations hold")
    sys.exit(faults > 0)


main()
