"""Evaluates the formulas of docs/mathematics.md: the little LaTeX that they use, on exact numbers.

Numbers are integers and fractions, matrices lists of rows, vectors matrices of one column, and the operands of modules lists
of those. A name with letters for indices is an element, h_{kt}; without them it is the whole, H; with \\ell or a number it is
that module's. What a name stands for is looked up as it is written first, γ_{r + 4}.
"""

import fractions
import itertools
import math
import re

TOKEN = re.compile(r"""
    (?P<skip>\s+|\\thinspace|\\quad\ .*) | (?P<sign>\\mathrel\{\+\}=|\\le\b|[-+=/(),&]) | (?P<number>\d+) |
    (?P<name>(?:\\mathrm\{d\}\s*|\\(?:delta|Delta|hat|tilde|bar)\s+)*
             (?:[A-Za-z]|\\(?:theta|Phi|alpha|eta|gamma|varepsilon|rho)(?![a-z]))'?) |
    (?P<subscript>_(?:\{[^}]*\}|\\ell|\w)) |
    (?P<command>\^\\top|\\mathrm\{diag\}|\\mathbf\{1\}|\\(?:begin|end)\{bmatrix\}|\\[a-z]+) | (?P<brace>[{}])
""", re.X)
SHORT = {r"\mathrm{d}": "d", r"\delta": "δ", r"\Delta": "Δ", r"\hat": "^", r"\tilde": "~", r"\bar": "¯", r"\theta": "θ",
         r"\Phi": "Φ", r"\alpha": "α", r"\eta": "η", r"\gamma": "γ", r"\varepsilon": "ε", r"\rho": "ρ"}
ONES = object()


def tokens(text):
    at = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match:
            raise SyntaxError(f"cannot read {text[at:]!r}")
        at = match.end()
        if match.lastgroup == "name":
            name = match.group().replace(" ", "")
            for long, short in SHORT.items():
                name = name.replace(long, short)
            yield "name", name
        elif match.lastgroup != "skip":
            yield match.lastgroup, match.group()


def add(a, b):
    return [[x + y for x, y in zip(p, q)] for p, q in zip(a, b)] if isinstance(a, list) else a + b


def multiply(a, b):
    if b is ONES:
        return [[sum(row)] for row in a]
    if not isinstance(a, list):
        return [[a * x for x in row] for row in b] if isinstance(b, list) else a * b
    if not isinstance(b, list):
        return multiply(b, a)
    return [[sum(x * y for x, y in zip(row, column)) for column in zip(*b)] for row in a]


def transpose(a):
    return [list(row) for row in zip(*a)]


def hadamard(a, b):
    return [[x * y for x, y in zip(p, q)] for p, q in zip(a, b)]


def diagonal(a):
    return [[x if i == j else 0 for j in range(len(a))] for i, (x,) in enumerate(a)]


def blocks(rows):
    """A matrix of blocks, in which 0 is as large as the blocks beside and above it."""
    heights = [max(len(b) for b in row if b != 0) for row in rows]
    widths = [max(len(b[0]) for b in column if b != 0) for column in zip(*rows)]
    fill = [[b or [[0] * widths[j]] * heights[i] for j, b in enumerate(row)] for i, row in enumerate(rows)]
    return [sum((b[i] for b in row), []) for row, height in zip(fill, heights) for i in range(height)]


class Parser:
    """Turns tokens into functions of (values, indices)."""

    def __init__(self, text):
        self.tokens = [*tokens(text), ("end", "")]
        self.used, self.bound = set(), set()  # indices

    def next(self, *wanted):
        if wanted and self.tokens[0][1] not in wanted:
            raise SyntaxError(f"{self.tokens[0][1]!r} where {' or '.join(wanted)!r} should be")
        return self.tokens.pop(0)[1]

    def at(self, *texts):
        return self.tokens[0][1] in texts

    def chain(self):
        """The sides of an equation, or of an inequality."""
        sides, self.is_bound = [self.sum()], False
        while self.at("=", r"\mathrel{+}=", r"\le"):
            self.is_bound = self.next() == r"\le"
            sides.append(self.sum())
        if self.at(","):
            self.next()
        self.next("")
        return sides

    def sum(self):
        left = self.hadamard()
        while self.at("+", "-"):
            sign, a, b = 1 if self.next() == "+" else -1, left, self.hadamard()
            left = lambda v, i, a=a, b=b, sign=sign: add(a(v, i), multiply(sign, b(v, i)))
        return left

    def hadamard(self):
        left = self.product()
        while self.at(r"\circ"):
            self.next()
            left = lambda v, i, a=left, b=self.product(): hadamard(a(v, i), b(v, i))
        return left

    def product(self):
        left = self.factor()
        while self.tokens[0][0] in ("name", "number") or self.at(
                "(", "/", r"\sum", r"\frac", r"\sqrt", r"\lceil", r"\lvert", r"\mathrm{diag}", r"\mathbf{1}", r"\begin{bmatrix}"):
            if self.at("/"):
                self.next()
                left = lambda v, i, a=left, b=self.factor(): fractions.Fraction(a(v, i)) / b(v, i)
            else:
                left = lambda v, i, a=left, b=self.factor(): multiply(a(v, i), b(v, i))
        return left

    def factor(self):
        value = self.atom()
        while self.at(r"^\top"):
            self.next()
            value = lambda v, i, a=value: transpose(a(v, i))
        return value

    def group(self, begin, end):
        self.next(begin)
        value = self.sum()
        self.next(end)
        return value

    def atom(self):
        kind, text = self.tokens[0]
        if kind == "number":
            self.next()
            return lambda v, i: int(text)
        if kind == "name":
            return self.name()
        if text == "(":
            return self.group("(", ")")
        if text == r"\lceil":
            return lambda v, i, a=self.group(r"\lceil", r"\rceil"): math.ceil(a(v, i))
        if text == r"\lvert":
            return lambda v, i, a=self.group(r"\lvert", r"\rvert"): abs(a(v, i))
        if text == r"\begin{bmatrix}":
            return self.matrix()
        self.next(r"\sum", r"\sqrt", r"\frac", r"\mathrm{diag}", r"\mathbf{1}")
        if text == r"\mathbf{1}":
            return lambda v, i: ONES
        if text == r"\mathrm{diag}":
            return lambda v, i, a=self.group("(", ")"): diagonal(a(v, i))
        if text == r"\sqrt":
            return lambda v, i, a=self.group("{", "}"): square_root(a(v, i))
        if text == r"\frac":
            return lambda v, i, a=self.group("{", "}"), b=self.group("{", "}"): fractions.Fraction(a(v, i)) / b(v, i)
        over, body = letters_of(self.next()), self.product()
        self.bound |= set(over)

        def total(v, i):
            terms = [body(v, i | dict(zip(over, at))) for at in itertools.product(*(range(v["sizes"][o]) for o in over))]
            result = terms[0]
            for term in terms[1:]:
                result = add(result, term)
            return result
        return total

    def name(self):
        name = self.next()
        subscript = self.next() if self.tokens[0][0] == "subscript" else ""
        letters = letters_of(subscript)
        self.used |= set(letters)

        def value(v, i):
            if name + subscript in v:
                return v[name + subscript]
            result = v[name] if name in v else v[capital(name)]
            for letter in letters:
                result = result[i[letter] if letter in i else int(letter) - 1]
            return result[0] if isinstance(result, list) and len(letters) == 1 and letters[0] in "ijkt" else result
        value.name, value.letters = name, letters
        return value

    def matrix(self):
        self.next(r"\begin{bmatrix}")
        rows = [[self.sum()]]
        while not self.at(r"\end{bmatrix}"):
            if self.next("&", r"\cr") == r"\cr":
                rows.append([])
            rows[-1].append(self.sum())
        self.next(r"\end{bmatrix}")
        return lambda v, i: blocks([[b(v, i) for b in row] for row in rows])


def letters_of(subscript):
    """['k', 't'] of _{kt}, ['ℓ'] of _\\ell."""
    return list(subscript[1:].strip("{}").replace(r"\ell", "ℓ"))


def square_root(x):
    root = fractions.Fraction(math.isqrt(x.numerator), math.isqrt(x.denominator))
    if root**2 != x:
        raise AssertionError(f"the root of {x} is not rational")
    return root


def capital(name):
    """Of which matrix dh is an element: dH."""
    return name[:-1] + name[-1].upper()


def scalar(text, values):
    """A formula of numbers, such as L r (N + M)."""
    parser = Parser(text)
    result = parser.sum()(values, {})
    parser.next("")
    return result


class Formula:
    """One formula of an equation: an assignment, a chain of equal sides or a bound."""

    def __init__(self, text):
        parser = Parser(text)
        self.sides = parser.chain()
        self.is_bound = parser.is_bound
        self.free = sorted((parser.used - parser.bound) & set("ijkt"))

    def define(self, values):
        """Sets what stands on the left to what stands on the right."""
        left, right = self.sides
        sizes = values["sizes"]
        if left.letters and left.letters != ["ℓ"]:
            rows, columns = left.letters[0], left.letters[1:]
            values[capital(left.name) if columns else left.name] = [
                [right(values, {rows: a} | dict(zip(columns, b))) for b in itertools.product(*(range(sizes[c]) for c in columns))]
                for a in range(sizes[rows])]
        elif left.letters:
            values[left.name] = [right(values, {"ℓ": module}) for module in range(sizes["ℓ"])]
        else:
            values[left.name] = right(values, {})

    def holds(self, values):
        """Whether all sides are equal, or in order, for every value of the indices that are free."""
        for at in itertools.product(*(range(values["sizes"][letter]) for letter in self.free)):
            sides = [side(values, dict(zip(self.free, at))) for side in self.sides]
            if not (sides == sorted(sides) if self.is_bound else all(side == sides[0] for side in sides)):
                return False
        return True
