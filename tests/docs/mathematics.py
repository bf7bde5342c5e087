"""Checks every equation of docs/mathematics.md, and that what cites them cites one that is there.

    python3 tests/docs/mathematics.py

What is a definition on the page is computed from the page's own LaTeX (formula.py), in rational arithmetic; gradients are
compared with differences of the loss, exactly. What is a bound or an estimate is compared with numbers that are rounded as
the page says. Counts and costs are read from the page's tables and counted.
"""

import functools
import itertools
import math
import pathlib
import random
import re
import sys
from fractions import Fraction

from formula import Formula, add, diagonal, multiply, scalar, transpose

root = pathlib.Path(__file__).resolve().parents[2]
page = (root / "docs/mathematics.md").read_text(encoding="utf-8")
equations = {int(number): text for number, text in re.findall(r'<a id="e(\d+)"></a>\n\n\$\$\n(.*)\n\$\$\n', page)}
dice = random.Random(1)


def draw(rows, columns):
    return [[dice.choice((-1, 1)) * dice.randint(1, 40) for _ in range(columns)] for _ in range(rows)]


@functools.cache
def formulas(number):
    """The formulas of an equation: by index, in matrices, and what else it says."""
    return [Formula(part) for part in re.split(r"\\qquad", re.sub(r"\\tag.*", "", equations[number]))]


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


# Forward and backward.

def e1():
    values = module() | {"W": draw(4, 3)}
    formulas(1)[1].define(values)
    formulas(1)[0].define(values)
    added = forward(values | {"c": [[values["s"]]] * 3})
    expect(multiply(values["W'"], values["X"]) == add(multiply(values["W"], values["X"]), added), "W' x is W x and what forward adds")


def e2():
    values = module()
    define(values, 2)
    expect(values["Y"] == forward(dict(values)), "shrink and expand are the product")


def e3():
    define(module(), 3)


def e4():
    forward(module())


def e5():
    values = module()
    define(values, 3)
    values |= {"δ" + name: draw(len(values[name]), len(values[name][0])) for name in ("A", "B", "u", "v", "X")}
    define(values, 6, 5)
    along = lambda by: {name: add(values[name], multiply(by, values["δ" + name])) for name in ("A", "B", "u", "v", "X")}
    for i, t in itertools.product(range(4), range(3)):
        expect(values["δY"][i][t] == slope(lambda by: forward(values | along(by))[i][t]), "the variation of y")


e6 = e5


def e7():
    backward(module())


e8 = e7


def e9():
    expect_gradients(backward(module()), "ABuvX")


e10 = e11 = e13 = e14 = e9


def e12():
    values = backward(module())

    def loss_of_h(values):
        define(values := dict(values), 4)
        return inner(values["dY"], values["Y"])
    expect_gradients(values, "H", loss_of_h)


def e15():
    values = backward(module())
    S, *others = formulas(15)
    S.define(values)
    expect(all(other.holds(values) for other in others), "one sum gives dB and dv")


def e16():
    values = backward(module())
    expect(all(formula.holds(values) for formula in formulas(16)), "factor times gradient is the same for all")


def e17():
    p = Fraction(1, 4)
    values = module() | {"\\Phi": [[Fraction(dice.randint(0, 3) > 0) / (1 - p) for _ in range(3)] for _ in range(3)]}
    H, dA, dX = formulas(17)

    def masked_loss(values):
        H.define(values := dict(values))
        define(values, 4)
        return inner(values["dY"], values["Y"])
    H.define(values)
    define(values, 7, 8, 9, 10, 11, 12)
    dA.define(values), dX.define(values)
    expect_gradients(values, "ABuvX", masked_loss)


# Modules that share.

def readers(shared_A):
    """Two modules with one x."""
    first = module()
    second = module() | {"X": first["X"]} | ({"A": first["A"]} if shared_A else {})
    return [backward(first), backward(second)]


def sum_of_losses(modules, **shared):
    return sum(loss(one | shared) for one in modules)


def e18():
    modules = readers(shared_A=False)
    values = modules[0] | {"A": [one["A"] for one in modules], "dH": [one["dH"] for one in modules]}
    formulas(18)[0].define(values)
    expect(values["dX"] == gradient(lambda v: sum_of_losses(modules, X=v["X"]), modules[0], "X"), "dX of modules with one x")


def e19():
    modules = readers(shared_A=True)
    values = modules[0] | {"dH": [one["dH"] for one in modules]}
    expect(modules[0]["H"] == modules[1]["H"], "modules that share A and x share h")
    for formula in formulas(19):
        formula.define(values)
    expect(values["dX"] == gradient(lambda v: sum_of_losses(modules, X=v["X"]), modules[0], "X"), "dX through a shared A")
    expect(values["dA"] == gradient(lambda v: sum_of_losses(modules, A=v["A"]), modules[0], "A"), "dA of a shared A")


def identity(size, columns):
    return [[int(i == j) for j in range(columns)] for i in range(size)]


def chain(shared, widths):
    """Modules one after the other, the output of each the input of the next; all take their part of A, B and v."""
    values = dict(shared) | {"P": [identity(len(shared["A"][0]), n) for n in widths[:-1]],
                             "Q": [identity(len(shared["B"]), m) for m in widths[1:]],
                             "sizes": {"ℓ": len(widths) - 1, "k": 2, "t": 3}}
    parts = {}
    for formula in formulas(21)[:3]:
        formula.define(own := dict(values))
        parts[formula.sides[0].name] = own[formula.sides[0].name]
    modules, x = [], shared["X"]
    for l, (n, m) in enumerate(itertools.pairwise(widths)):
        one = {"sizes": {"i": m, "j": n, "k": 2, "t": 3}, "s": 1, "c": shared["c"], "u": shared["u"], "X": x,
               "A": parts["A"][l], "B": parts["B"][l], "v": parts["v"][l]}
        x = forward(one)
        modules.append(one)
    return values, modules


def chain_loss(shared, widths):
    return inner(shared["dY"], chain(shared, widths)[1][-1]["Y"])


def expect_tied_gradients(widths):
    shared = {"A": draw(2, max(widths[:-1])), "B": draw(max(widths[1:]), 2), "v": draw(max(widths[1:]), 1), "u": draw(2, 1),
              "c": draw(3, 1), "X": draw(widths[0], 3), "dY": draw(widths[-1], 3)}
    values, modules = chain(shared, widths)
    dy = shared["dY"]
    for one in reversed(modules):  # a tied gradient is final after the last of them
        one["dY"] = dy
        dy = backward(one)["dX"]
    for name in ("A", "B", "v", "u"):
        values["d" + name] = [one["d" + name] for one in modules]
    for formula in formulas(21)[3:]:
        total = dict(values)
        formula.define(total)
        name = formula.sides[0].name
        expect(gradient(lambda v: chain_loss(v, widths), shared, name[1:]) == total[name], f"{name} of a tied factor")
    values["d\\theta"] = values["du"]
    formulas(20)[0].define(values)
    expect(gradient(lambda v: chain_loss(v, widths), shared, "u") == values["d\\theta"], "du of a tied u")


def e20():
    expect_tied_gradients([3, 3])
    expect_tied_gradients([3, 3, 3])


def e21():
    expect_tied_gradients([3, 4, 2])
    expect_tied_gradients([4, 2, 3])


# Schemes and their counts.

def table(mark):
    """The rows of a table of the page, without its head, by the mark in front of it."""
    lines = page.split(f"<!-- {mark} -->\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def layers_of(modules, layers):
    return [(layer, kind, x, n, m) for layer in range(layers) for kind, x, n, m in modules]


def count(ties, modules, r):
    """E22: the size of each group of modules that share a factor, added up over the trained factors."""
    total = 0
    for factor, tie in zip("ABuv", ties):
        if tie == "–" or tie.endswith("frozen"):
            continue
        over, _, across = tie.replace("own", "layer × module").partition(" × ")
        layers = {"layer": 1, "all": len(modules)}.get(over) or int(over.removesuffix(" layers"))
        groups = {}
        for layer, kind, x, n, m in modules:
            label = {"module": kind, "kind": kind, "input": x, "model": 0}[across]
            groups.setdefault((layer // layers, label), []).append({"A": r * n, "B": r * m, "u": r, "v": m}[factor])
        total += sum(max(group) for group in groups.values())
    return total


FUSED = [("qkv", "x", 4096, 12288)]
APART = [("q", "x", 4096, 4096), ("k", "x", 4096, 4096), ("v", "x", 4096, 4096)]
UNEQUAL = [("q", "x", 6, 6), ("k", "x", 6, 2), ("v", "x", 6, 2), ("down", "y", 16, 6)]


def e22():
    rows = table("schemes")
    expect(len(rows) == 10, "a row for each scheme")
    for name, *ties, formula, fused, apart in rows:
        printed = {id(FUSED): int(fused.replace(",", "")), id(APART): int(apart.replace(",", ""))}
        for layer, L, r in (FUSED, 32, 8), (APART, 32, 8), (FUSED, 30, 2), (UNEQUAL, 6, 3):
            N_x = sum({x: n for _, x, n, _ in layer}.values())
            sums = {"L": L, "r": r, "K": len(layer), "I": len({x for _, x, _, _ in layer}), "N": sum(n for _, _, n, _ in layer),
                    "N_x": N_x, "M": sum(m for *_, m in layer)}
            counted = count(ties, layers_of(layer, L), r)
            formula_says = scalar(formula.strip("$"), sums)
            expect(formula_says == counted, f"{name}: the formula gives {formula_says}, the ties {counted}")
            if (L, r) == (32, 8):
                expect(printed[id(layer)] == counted, f"{name}: {counted}, and not {printed[id(layer)]}")


def e23():
    counts = {name: ties for name, *ties, _, _, _ in table("schemes")}
    for L, n, r, percent in (32, 4096, 8, "12.5"), (32, 4096, 32, "5.5"), (24, 2048, 128, None):
        numbers = {"L": L, "n": n, "m": 3 * n, "r": r}
        modules = layers_of([("qkv", "x", n, 3 * n)], L)
        ratio = Fraction(count(counts["`tl6`"], modules, r), count(counts["`lora_fused`"], modules, r))
        for side in formulas(23)[0].sides:
            expect(side(numbers, {}) == ratio, f"the ratio at rank {r}")
        expect(percent is None or f"{float(100 * ratio):.1f}" == percent and f"{percent} %" in page, f"{percent} %")


# Other forms of the same function.

def delta(values):
    formulas(1)[1].define(values := dict(values))
    return values["ΔW"]


def as_lora(values):
    formulas(24)[0].define(values := dict(values))
    return values


def e24():
    values = as_lora(module())
    expect(formulas(24)[1].holds(values | {"ΔW": delta(values)}), "C A is the same matrix")


def two(**shared):
    modules = [as_lora(module(m=4) | shared), as_lora(module(m=2) | shared)]
    values = {name: [one[name] for one in modules] for name in ("A", "B", "C", "v")}
    return modules, values | {"sizes": {}, "s": modules[0]["s"], "ΔW": [delta(one) for one in modules]}


def e25():
    modules = [as_lora(module()), as_lora(module(r=3))]
    values = {name: [one[name] for one in modules] for name in ("A", "C")}
    values |= {"sizes": {}, "w": [Fraction(2, 3), Fraction(-1, 5)], "ΔW": [delta(one) for one in modules]}
    expect(formulas(25)[0].holds(values), "a sum of two adapters")


def e26():
    shared = {"A": draw(2, 3), "u": draw(2, 1)}
    expect(formulas(26)[0].holds(two(**shared)[1] | shared), "fused, with A, u and s in common")


def e27():
    expect(formulas(27)[0].holds(two()[1]), "fused, with nothing in common")


FLOAT, HALF, BFLOAT16 = 24, 11, 8  # significant bits


def rounded(x, bits):
    """To so many significant bits, to even where two are as near. Of one sum or product of such numbers in double that is
    the exact one rounded once, since a double has more than twice the bits of a float and two more."""
    fraction, exponent = math.frexp(x)
    return math.ldexp(round(math.ldexp(fraction, bits)), exponent - bits)


def roundoff(bits):
    return Fraction(1, 2**bits)


def gamma(q, bits):
    return q * roundoff(bits) / (1 - q * roundoff(bits))


def real(bits=FLOAT):
    return rounded(dice.uniform(-1, 1), bits)


def merged(w, change, bits):
    return rounded(rounded(w + change, FLOAT), bits)


def rho(bits):
    return roundoff(FLOAT) if bits == FLOAT else (1 + roundoff(FLOAT)) * (1 + roundoff(bits)) - 1


def product(*numbers):
    return math.prod(map(Fraction, numbers))


def e28():
    r = 5
    for bits, _ in itertools.product((FLOAT, HALF, BFLOAT16), range(100)):
        a, b, u = ([real() for _ in range(r)] for _ in range(3))
        s, v, w = real(), real(), real(bits)
        total = 0.0
        for k in range(r):
            total = rounded(total + rounded(rounded(b[k] * u[k], FLOAT) * a[k], FLOAT), FLOAT)
        change = rounded(rounded(s * v, FLOAT) * total, FLOAT)
        terms = [product(s, v, *factors) for factors in zip(b, u, a)]
        exact = Fraction(w) + sum(terms)
        error = abs(Fraction(merged(w, change, bits)) - exact)
        bound = rho(bits) * abs(exact) + (1 + rho(bits)) * gamma(r + 4, FLOAT) * sum(map(abs, terms))
        expect(error <= bound, "the rounding of a merged element")


def e29():
    restored = 0
    for bits, _ in itertools.product((FLOAT, HALF, BFLOAT16), range(100)):
        w, change = real(bits), rounded(real() * dice.choice((1, 2**-4, 2**-11)), FLOAT)
        back = merged(merged(w, change, bits), -change, bits)
        restored += back == w
        error = abs(Fraction(back) - Fraction(w))
        expect(error <= rho(bits) * abs(w) + rho(bits) * (1 + rho(bits)) * abs(Fraction(w) + Fraction(change)), "merged and unmerged")
        small = rounded(w * dice.uniform(-0.999, 0.999) * float(roundoff(bits)) / 2, FLOAT)
        expect(bits == FLOAT or merged(w, small, bits) == w, "a small change is lost")
    expect(0 < restored < 300, "some elements come back and some do not")
    expect("a 512th" in page and roundoff(BFLOAT16) / 2 == Fraction(1, 512), "what bfloat16 loses")


# Scaling, start and rates.

def e30():
    expect(all(name in equations[30] for name in (r"\frac{\alpha}{r} \quad \text{(LoRA)}", r"\frac{\alpha}{\sqrt{r}} \quad \text{(rsLoRA)}")),
           "LoRA's and rsLoRA's scaling")


def plain_lora(**sizes):
    """u and v ones, c the scaling, B zero: dB and h at the start."""
    values = module(**sizes)
    r, m, T = (values["sizes"][letter] for letter in "kit")
    values |= {"u": [[1]] * r, "v": [[1]] * m, "c": [[values["s"]]] * T, "B": [[0] * r] * m}
    return backward(values)


def e31():
    values, rate = plain_lora(), Fraction(1, 7)
    s, x = values["s"], draw(3, 1)
    B = multiply(-rate, values["dB"])
    learned = [[-rate * s * sum(dy * h for dy, h in zip(values["dY"][i], values["H"][k])) for k in range(2)] for i in range(4)]
    expect(B == learned, "B after one step")
    h = multiply(values["A"], x)
    says = [[-rate * s**2 * sum(values["dY"][i][t] * sum(values["H"][k][t] * h[k][0] for k in range(2)) for t in range(3))]
            for i in range(4)]
    expect(multiply(s, multiply(B, h)) == says, "the output after one step")
    # The mean over all A of elements ±ω, which are independent, with mean zero and variance ω².
    omega, r, n = Fraction(2, 3), 2, 3
    x1, x2 = draw(n, 1), draw(n, 1)
    mean = Fraction(0)
    for signs in itertools.product((-omega, omega), repeat=r * n):
        A = [list(signs[k * n : k * n + n]) for k in range(r)]
        mean += inner(multiply(A, x1), multiply(A, x2)) / 2 ** (r * n)
    expect(mean == r * omega**2 * inner(x1, x2), "the mean of the inner product")


def sign(x):
    return (x > 0) - (x < 0)


def e32():
    values, rate = plain_lora(T=1), Fraction(1, 7)
    s, h = values["s"], values["H"]
    B = [[-rate * sign(g) for g in row] for row in values["dB"]]  # E35's first step, with ε = 0
    for i in range(4):
        expect(s * multiply(B, h)[i][0] == -rate * s * sign(values["dY"][i][0]) * sum(abs(row[0]) for row in h), "Adam's first step")


def e33():
    values = backward(module() | {"B": [[0] * 2] * 4})
    *zero, dB = formulas(33)
    values["ΔW"] = delta(values)
    for formula in zero:
        name = formula.sides[0].name
        expect(formula.sides[1](values, {}) == 0 and not any(any(row) for row in values[name]), f"{name} is zero where B is")
    expect(dB.holds(values) and all(any(row) for row in values["dB"]), "dB is not")
    for first, second in itertools.combinations("ABuv", 2):
        both = module()
        both |= {name: multiply(0, both[name]) for name in (first, second)}
        backward(both)
        expect(not any(any(row) for name in "ABuv" for row in both["d" + name]), f"{first} and {second} zero: no gradient")


def e34():
    for gain, fan_in in (math.sqrt(1 / 3), 4096), (math.sqrt(2), 8):
        bound = gain * math.sqrt(3 / fan_in)
        variance = bound**2 / 3  # of a uniform number
        expect(math.isclose(variance, gain**2 / fan_in), "the variance of a uniform start")
    expect(math.isclose(math.sqrt(1 / 3) * math.sqrt(3 / 4096), 1 / math.sqrt(4096)), "PEFT's bound")
    expect(math.isclose(math.sqrt(2) * math.sqrt(3 / 8), math.sqrt(6 / 8)), "VeRA's bound")
    x = [dice.gauss(0, 1) for _ in range(50)]
    h = [sum(dice.uniform(-1, 1) / math.sqrt(50) * value for value in x) for _ in range(4000)]
    mean_square = sum(value**2 for value in x) / 50
    expect(abs(sum(value**2 for value in h) / 4000 / (mean_square / 3) - 1) < 5 * math.sqrt(2 / 4000), "the size of h")


def adamw(theta, g, mu, nu, tau, rate=1e-3, decay=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8):
    mu, nu = beta1 * mu + (1 - beta1) * g, beta2 * nu + (1 - beta2) * g**2
    step = mu / (1 - beta1**tau) / (math.sqrt(nu / (1 - beta2**tau)) + epsilon)
    return (1 - rate * decay) * theta - rate * step, mu, nu


def e35():
    # torch.optim.AdamW's numbers.
    lines = (root / "tests/golden/adamw.golden").read_text().splitlines()
    metas = dict(line.split(" ", 2)[1:] for line in lines if line.startswith("meta"))
    tensors = {}
    for line in lines:
        if line.startswith("tensor"):
            tensors[line.split()[1]] = numbers = []
        elif line[:1] not in "#m":
            numbers += map(float, line.split())
    for case in "defaults", "no_decay", "large_rate", "betas_epsilon":
        rate, decay, beta1, beta2, epsilon = (float(metas[f"{case}.{name}"]) for name in
                                              ("learning_rate", "weight_decay", "beta1", "beta2", "epsilon"))
        state = [(theta, 0.0, 0.0) for theta in tensors["initial"]]
        size = len(state)
        for step in range(10):
            gradients = tensors["gradients"][step * size :]
            state = [adamw(theta, g, mu, nu, step + 1, rate, decay, beta1, beta2, epsilon)
                     for (theta, mu, nu), g in zip(state, gradients)]
            after = tensors[f"{case}.f64.parameters"][step * size :]
            # Ten roundings a step of numbers of at most 2, and then their sum.
            expect(all(abs(theta - given) < 10 * (step + 1) * 2**-52 for (theta, *_), given in zip(state, after)), f"AdamW, {case}")
    for g in 1e-4, 1.0, -1e4:
        expect(math.isclose(adamw(0.0, g, 0.0, 0.0, 1, rate=1e-3)[0], -1e-3 * sign(g), rel_tol=2e-4), "the first step is the rate")


def e36():
    ones = {"u": [[1]] * 2, "v": [[1]] * 4}
    values, rate = backward(module(T=1) | ones), Fraction(1, 7)
    step = {name: [[-rate * sign(g) for g in row] for row in values["d" + name]] for name in "AB"}
    for name, x, rows in ("B", "H", 4), ("A", "X", 2):
        for i in range(rows):
            expect(abs(multiply(step[name], values[x])[i][0]) == rate * sum(abs(row[0]) for row in values[x]), f"the step of {name}")


def e37():
    says = re.findall(r"(\d+)(?: times)? at (?:a width of )?(\d+)", page.split('id="e37"')[1].split("*Measured")[0])
    expect(len(says) == 3, "three examples")
    for times, width in says:
        expect(round(math.sqrt(3 * int(width))) == int(times), f"{times} at {width}")
    rates = [line.split(",") for line in (root / "examples/finetune/results/best_rates.csv").read_text().splitlines()[1:]]
    best = {(scheme, int(rank)): (float(rate), float(multiple)) for _, scheme, rank, rate, multiple, *_ in rates}
    expect(round(best["tl6", 16][1]) == 32 and round(best["vera", 16][0] / best["lora", 16][0], 2) == 10, "rates of u and v")
    expect([f"{best[key][0]:.2g}" for key in (("lora", 1), ("lora", 2), ("lora", 16), ("tl5", 16))] ==
           ["0.018", "0.018", "0.0056", "0.01"], "rates of A and B")


# Cost and rounding, of plain loops over numbers that count.

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
        """Multiplications; and numbers of parameters and activations that are read, of all that are updated and written."""
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
    expect(first == second and f"{float(100 * first):.2f} % for LLaMA2-7B" in page, "the share of the arithmetic")
    check_costs()


def e39():
    first, second = (side({"n": 5, "m": 7, "r": 3, "b": 2}, {}) for side in formulas(39)[0].sides)
    expect(first == second, "operations a byte")


def probable(q, bits, lam=8):
    u = 2.0**-bits
    return math.expm1(lam * math.sqrt(q) * u + q * u * u / (1 - u))


def sums(q, bits):
    """A sum of q products of rounded numbers, rounded on the way; exact; and of magnitudes."""
    a, b = ([real(bits) for _ in range(q)] for _ in range(2))
    terms = [rounded(x * y, bits) for x, y in zip(a, b)]
    if dice.random() < 0.5:  # one after the other, else in pairs
        total = terms[0]
        for term in terms[1:]:
            total = rounded(total + term, bits)
    else:
        while len(terms) > 1:
            terms = [rounded(sum(pair), bits) for pair in itertools.zip_longest(terms[::2], terms[1::2], fillvalue=0.0)]
        total = terms[0]
    exact = [product(x, y) for x, y in zip(a, b)]
    return Fraction(total), sum(exact), sum(map(abs, exact)), a, b


def e40():
    for bits, q, _ in itertools.product((FLOAT, HALF, BFLOAT16), (1, 4, 33), range(20)):
        computed, exact, magnitude, a, b = sums(q, bits)
        expect(abs(computed - exact) <= gamma(q, bits) * magnitude, "the rounding of a sum")
        expect(magnitude**2 <= sum(product(x, x) for x in a) * sum(product(x, x) for x in b), "Cauchy and Schwarz")


def e41():
    for q, _ in itertools.product((4, 33, 100), range(20)):
        computed, exact, magnitude, *_ = sums(q, HALF)
        expect(abs(computed - exact) <= probable(q, HALF) * magnitude, "the rounding of a sum of random numbers")
    expect(probable(4096, FLOAT) < gamma(4096, FLOAT) / 7, "of a long sum it is smaller")
    expect(2 * math.exp(-(8**2) / 2) < 1e-13, "the chance of more")


def e42():
    for _ in range(100):
        computed, exact, magnitude, *_ = sums(20, FLOAT)
        bound = min(probable(20, FLOAT), float(gamma(20, FLOAT))) * float(magnitude)
        error = abs(Fraction(rounded(float(computed), BFLOAT16)) - exact)
        expect(error <= bound + 2.0**-BFLOAT16 * (abs(float(exact)) + bound), "summed in float, stored as bfloat16")
    names, _, lengths = (line.strip("|") for line in page.split("| result | ")[1].split("\n\n")[0].splitlines())
    calls = {"H": ["shrink"], "Y": ["expand"], "Y of forward": ["shrink", "expand"], "dA": ["shrink_backward"],
             "dX": ["shrink_backward"], "dA of backward": ["expand_backward", "shrink_backward"],
             "dX of backward": ["expand_backward", "shrink_backward"]}
    sizes = {"n": 5, "m": 7, "r": 3, "T": 4}
    for name, length in zip(names.split("|"), lengths.split("|")[1:], strict=True):
        name = name.strip()
        loops = Loops(**sizes)
        for call in calls.get(name, ["expand_backward"]):
            loops.run(call)
        says = scalar(length.strip(" $"), sizes)
        seen = loops.operands[name.split()[0]].most_roundings()
        expect(says <= seen <= says + 16, f"the length of {name}: {seen} roundings, the page says {says} and 16")


def e43():
    values = backward(module())
    for name, step in itertools.product("ABuvX", (Fraction(1, 1000), Fraction(3))):
        along = draw(len(values[name]), len(values[name][0]))
        above, below = (loss(values | {name: add(values[name], multiply(sign * step, along))}) for sign in (1, -1))
        expect((above - below) / (2 * step) == inner(along, values["d" + name]), f"the difference along {name}")


# The page itself, and who cites it.

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
    checks = {f"E{number}": globals().get(f"e{number}") for number in equations}
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
