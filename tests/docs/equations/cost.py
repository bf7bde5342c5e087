"""E38 and E39: the page's table of costs, against plain loops over counting scalars."""

import itertools

from equations.formula import scalar
from equations.page import expect, formulas, prose, table

class Number:
    """Counts multiplications, and the roundings that a term has passed through."""

    multiplications = 0

    def __init__(self, roundings=0):
        self.roundings = roundings

    def __mul__(self, other):
        Number.multiplications += 1
        return Number(self.roundings + other.roundings + 1)

    def __add__(self, other):
        return Number(max(self.roundings, other.roundings) + 1)


class Operand:
    """A matrix that knows what of it was read and written."""

    def __init__(self, *sizes):
        self.numbers = {at: Number() for at in itertools.product(*map(range, sizes))}
        self.read, self.written = set(), set()

    def __getitem__(self, at):
        self.read.add(at)
        return self.numbers[at]

    def __setitem__(self, at, value):
        self.written.add(at)
        self.numbers[at] = value

    def most_roundings(self):
        return max(value.roundings for value in self.numbers.values())


class Loops:
    """The four calls, as the table of costs has them: E3, E4, E15 with E8, E10 and E12, E13 with E14."""

    def __init__(self, n, m, r, T):
        self.n, self.m, self.r, self.T = map(range, (n, m, r, T))
        self.c = [Number(2)] * T  # s, scale and token_scale
        self.parameters = {"A": Operand(r, n), "B": Operand(m, r), "u": Operand(r, 1), "v": Operand(m, 1)}
        self.activations = {"X": Operand(n, T), "H": Operand(r, T), "dH": Operand(r, T), "Y": Operand(m, T), "dY": Operand(m, T),
                            "dX": Operand(n, T)}
        self.gradients = {"d" + name: Operand(*(size + 1 for size in max(one.numbers))) for name, one in self.parameters.items()}
        self.operands = self.parameters | self.activations | self.gradients

    def dot(self, terms):
        total = Number()
        for a, b in terms:
            total = total + a * b
        return total

    def shrink(self, A, X, H, **_):
        for k, t in itertools.product(self.r, self.T):
            H[k, t] = self.dot((A[k, j], X[j, t]) for j in self.n)

    def expand(self, B, u, v, H, Y, **_):
        for t in self.T:
            coefficients = [self.c[t] * u[k, 0] * H[k, t] for k in self.r]
            for i in self.m:
                Y[i, t] = Y[i, t] + v[i, 0] * self.dot((B[i, k], coefficients[k]) for k in self.r)

    def expand_backward(self, B, u, v, H, dY, dB, du, dv, dH, **_):
        coefficients = {(k, t): self.c[t] * u[k, 0] * H[k, t] for k in self.r for t in self.T}
        for i in self.m:
            total = Number()
            for k in self.r:
                S = self.dot((dY[i, t], coefficients[k, t]) for t in self.T)
                dB[i, k] = dB[i, k] + v[i, 0] * S
                total = total + B[i, k] * S
            dv[i, 0] = dv[i, 0] + total
        e = {(i, t): self.c[t] * dY[i, t] * v[i, 0] for i in self.m for t in self.T}
        for k, t in itertools.product(self.r, self.T):
            d = self.dot((B[i, k], e[i, t]) for i in self.m)
            du[k, 0] = du[k, 0] + H[k, t] * d
            dH[k, t] = u[k, 0] * d

    def shrink_backward(self, A, X, dH, dA, dX, **_):
        for k, j in itertools.product(self.r, self.n):
            dA[k, j] = dA[k, j] + self.dot((dH[k, t], X[j, t]) for t in self.T)
        for j, t in itertools.product(self.n, self.T):
            dX[j, t] = dX[j, t] + self.dot((A[k, j], dH[k, t]) for k in self.r)

    def run(self, call):
        """Multiplications; and how many parameters and activations are read, and how many of all are updated and written."""
        Number.multiplications = 0
        for operand in self.operands.values():
            operand.read, operand.written = set(), set()
        getattr(self, call)(**self.operands)
        only_read = lambda operands: sum(len(o.read - o.written) for o in operands.values())
        return (Number.multiplications, only_read(self.parameters), only_read(self.activations),
                sum(len(o.read & o.written) for o in self.operands.values()),
                sum(len(o.written - o.read) for o in self.operands.values()))


def check_costs():
    sizes = {"n": 5, "m": 7, "r": 3, "T": 4}
    loops = Loops(**sizes)
    rows = table("cost")
    for (name, *cells), call in zip(rows, ("shrink", "expand", "expand_backward", "shrink_backward"), strict=True):
        says = tuple(scalar(cell.strip("$"), sizes) if cell else 0 for cell in cells)
        expect(loops.run(call) == says, f"the cost of {name}: {loops.run(call)}, and not {says}")


def e38():
    numbers = {"n": 4096, "m": 12288, "r": 8, "T": 7}
    first, second = (side(numbers, {}) for side in formulas(38)[0].sides)
    expect(first == second and f"{float(100 * first):.2f} % for LLaMA2-7B" in prose, "the share of the arithmetic")
    check_costs()


def e39():
    first, second = (side({"n": 5, "m": 7, "r": 3, "b": 2}, {}) for side in formulas(39)[0].sides)
    expect(first == second, "operations a byte")
