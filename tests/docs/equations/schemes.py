"""E22 to E27: the counts of schemes, from the ties in the page's table, and the same adapter in other forms."""

from fractions import Fraction

from equations.formula import scalar
from equations.page import delta, draw, expect, formulas, module, prose, table

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
    expect(len(rows) == 11, "a row for each scheme")
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
        expect(percent is None or f"{float(100 * ratio):.1f}" == percent and f"{percent} %" in prose, f"{percent} %")


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
