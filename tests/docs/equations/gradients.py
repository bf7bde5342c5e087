"""E1 to E21: forward, backward and factors that modules share, exactly, against differences of the loss."""

import itertools
from fractions import Fraction

from equations.formula import Formula, add, multiply
from equations.page import (backward, define, dice, draw, expect, expect_gradients, formulas, forward, gradient, inner, loss,
                            module, slope)

def e1():
    values = module() | {"W": draw(4, 3)}
    formulas(1)[1].define(values)
    formulas(1)[0].define(values)
    added = forward(values | {"c": [[values["s"]]] * 3})
    base = multiply(values["W"], values["X"])
    expect(multiply(values["W'"], values["X"]) == add(base, added), "W' x is W x and what forward adds")


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
    values = module() | {"Φ": [[Fraction(dice.randint(0, 3) > 0) / (1 - p) for _ in range(3)] for _ in range(3)]}
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
    for formula in [*formulas(21)[:2], Formula(r"v_\ell = Q_\ell^\top v")]:
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
    for formula in [*formulas(21)[2:], Formula(r"\mathrm{d}v = \sum_\ell Q_\ell \mathrm{d}v_\ell")]:
        total = dict(values)
        formula.define(total)
        name = formula.sides[0].name
        expect(gradient(lambda v: chain_loss(v, widths), shared, name[1:]) == total[name], f"{name} of a tied factor")
    values["dθ"] = values["du"]
    formulas(20)[0].define(values)
    expect(gradient(lambda v: chain_loss(v, widths), shared, "u") == values["dθ"], "du of a tied u")


def e20():
    expect_tied_gradients([3, 3])
    expect_tied_gradients([3, 3, 3])


def e21():
    expect_tied_gradients([3, 4, 2])
    expect_tied_gradients([4, 2, 3])
