"""docs/mathematics.md as checks see it: its equations and tables; and a module, its loss and what the page says of it."""

import functools
import pathlib
import random
import re
from fractions import Fraction

from equations.formula import Formula

root = pathlib.Path(__file__).resolve().parents[3]
page = (root / "docs/mathematics.md").read_text(encoding="utf-8")
prose = " ".join(page.split())
equations = {int(number): text for number, text in re.findall(r'<a id="e(\d+)"></a>\n\n\$\$\n(.*)\n\$\$\n', page)}
dice = random.Random(1)


def draw(rows, columns):
    return [[dice.choice((-1, 1)) * dice.randint(1, 40) for _ in range(columns)] for _ in range(rows)]


@functools.cache
def formulas(number):
    """The formulas of an equation: by index, in matrices, and what else it says."""
    return [Formula(part) for part in equations[number].split(r" \tag")[0].split(r"\qquad")]


def define(values, *numbers):
    """Computes what the first formula of each equation defines, and compares the others with it."""
    for number in numbers:
        first, *others = formulas(number)
        first.define(values)
        expect(all(other.holds(values) for other in others), f"the formulas of E{number} agree")


def expect(holds, what):
    if not holds:
        raise AssertionError(what)


def module(n=3, m=4, r=2, T=3, modules=2):
    """A module's operands and the gradient of what it adds to y."""
    return {"sizes": {"i": m, "j": n, "k": r, "t": T, "ℓ": modules}, "s": 2, "c": draw(T, 1), "A": draw(r, n),
            "B": draw(m, r), "u": draw(r, 1), "v": draw(m, 1), "X": draw(n, T), "dY": draw(m, T)}


def forward(values):
    define(values, 3, 4)
    return values["Y"]


def backward(values):
    define(values, 3, 7, 8, 9, 10, 11, 12, 13, 14)
    return values


def inner(a, b):
    return sum(x * y for p, q in zip(a, b) for x, y in zip(p, q))


def slope(f):
    """f'(0), exact for a polynomial of degree six at most."""
    return Fraction(sum(weight * (f(x) - f(-x)) for x, weight in ((1, 45), (2, -9), (3, 1))), 60)


def gradient(loss, values, name):
    """By differences of the loss, element by element."""
    def moved(i, j, by):
        changed = [list(row) for row in values[name]]
        changed[i][j] += by
        return loss(values | {name: changed})
    return [[slope(lambda by: moved(i, j, by)) for j in range(len(row))] for i, row in enumerate(values[name])]


def loss(values):
    return inner(values["dY"], forward(dict(values)))


def expect_gradients(values, names, of=loss):
    for name in names:
        expect(gradient(of, values, name) == values["d" + name], f"d{name} is the derivative of the loss")


def delta(values):
    formulas(1)[1].define(values := dict(values))
    return values["ΔW"]


def table(mark):
    """The rows of a table of the page, without its head, by the mark in front of it."""
    lines = page.split(f"<!-- {mark} -->\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
