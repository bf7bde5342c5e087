"""E28, E29 and E40 to E43: bounds, against values that are rounded as the page says."""

import itertools
import math
from fractions import Fraction

from equations.cost import Loops
from equations.formula import add, multiply, scalar
from equations.page import backward, dice, draw, expect, formulas, inner, loss, module, page, prose

FLOAT, HALF, BFLOAT16 = 24, 11, 8  # significant bits


def rounded(x, bits):
    """To `bits` significant bits, ties to even. Of one sum or product of such values in double that is
    the exact one rounded once, since a double has more than twice the bits of a float and two more."""
    fraction, exponent = math.frexp(x)
    return math.ldexp(round(math.ldexp(fraction, bits)), exponent - bits)


def roundoff(bits):
    return Fraction(1, 2**bits)


def gamma(q, bits):
    return formulas(40)[1].sides[1]({"q": q, "ε": roundoff(bits)}, {})


def real(bits=FLOAT):
    return rounded(dice.uniform(-1, 1), bits)


def merged(w, change, bits):
    return rounded(rounded(w + change, FLOAT), bits)


def rho(bits):
    return roundoff(FLOAT) if bits == FLOAT else (1 + roundoff(FLOAT)) * (1 + roundoff(bits)) - 1


def column(numbers):
    return [[Fraction(number)] for number in numbers]


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
        exact = Fraction(w) + sum(product(s, v, *factors) for factors in zip(b, u, a))
        values = {"sizes": {"i": 1, "j": 1, "k": r}, "^w": Fraction(merged(w, change, bits)), "w'": exact, "ρ": rho(bits),
                  "γ_{r + 4}": gamma(r + 4, FLOAT), "s": Fraction(s), "v": [[Fraction(v)]], "B": [[*map(Fraction, b)]],
                  "u": column(u), "A": column(a)}
        expect(formulas(28)[0].holds(values), "the rounding of a merged element")


def e29():
    restored = 0
    for bits, _ in itertools.product((FLOAT, HALF, BFLOAT16), range(100)):
        w, change = real(bits), rounded(real() * dice.choice((1, 2**-4, 2**-11)), FLOAT)
        back = merged(merged(w, change, bits), -change, bits)
        restored += back == w
        values = {"sizes": {}, "~w": Fraction(back), "w": Fraction(w), "a": Fraction(change), "ρ": rho(bits)}
        expect(formulas(29)[0].holds(values), "merged and unmerged")
        small = rounded(w * dice.uniform(-0.999, 0.999) * float(roundoff(bits)) / 2, FLOAT)
        expect(bits == FLOAT or merged(w, small, bits) == w, "a small change is lost")
    expect(0 < restored < 300, "some elements come back and some do not")
    expect("a 512th" in prose and roundoff(BFLOAT16) / 2 == Fraction(1, 512), "what bfloat16 loses")


def probable(q, bits, lam=8):
    u = 2.0**-bits
    return math.expm1(lam * math.sqrt(q) * u + q * u * u / (1 - u))


def sums(q, bits):
    """A sum of q products of rounded values, rounded on the way; exact; and of magnitudes."""
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
        values = {"sizes": {"i": q}, "^z": computed, "a": column(a), "b": column(b), "γ_q": gamma(q, bits)}
        expect(formulas(40)[0].holds(values), "the rounding of a sum")
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
        values = {"sizes": {}, "^z": Fraction(rounded(float(computed), BFLOAT16)), "z": exact, "¯z": magnitude,
                  "~γ_q": min(Fraction(probable(20, FLOAT)), gamma(20, FLOAT)), "ε'": roundoff(BFLOAT16)}
        expect(formulas(42)[0].holds(values), "summed in float, stored as bfloat16")
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
