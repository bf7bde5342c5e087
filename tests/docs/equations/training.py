"""E30 to E37: scaling, start, and what one step of an optimiser does."""

import itertools
import math
import re
import subprocess
import sys
from fractions import Fraction

from equations.formula import multiply
from equations.page import backward, delta, dice, draw, expect, formulas, inner, module, prose, root

def e30():
    lora, rslora, tied = (formula.sides[1] for formula in formulas(30))
    for r in 1, 4, 64:
        values = {"α": 16, "r": r}
        expect(rslora(values, {}) ** 2 * r == 16**2, "with rsLoRA's scaling E31 does not depend on the rank")
        expect(lora(values, {}) * r == 16, "with LoRA's E32 does not")
        expect(tied(values, {}) == lora({"α": r, "r": r}, {}), "Tied-LoRA's is LoRA's with α = r")


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
    size = sum(abs(row[0]) for row in h)
    expect(multiply(s, multiply(B, h)) == [[-rate * s * sign(dy) * size] for (dy,) in values["dY"]], "Adam's first step")


def e33():
    values = backward(module() | {"B": [[0] * 2] * 4})
    *zero, dB = formulas(33)
    formulas(15)[0].define(values)
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
    # torch.optim.AdamW's results.
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
            # Ten roundings a step on either side.
            bound = 2 * 10 * (step + 1) * 2**-53 * max(map(abs, after[:size]))
            expect(all(abs(theta - given) < bound for (theta, *_), given in zip(state, after)), f"AdamW, {case}")
    for g in 1e-4, 1.0, -1e4:
        theta, *_ = adamw(0.0, g, 0.0, 0.0, 1, rate=1e-3)
        expect(math.isclose(theta, -1e-3 * sign(g), rel_tol=2e-4), "the first step is the rate")


def e36():
    ones = {"u": [[1]] * 2, "v": [[1]] * 4}
    values, rate = backward(module(T=1) | ones), Fraction(1, 7)
    step = {name: [[-rate * sign(g) for g in row] for row in values["d" + name]] for name in "AB"}
    for name, x in ("B", "H"), ("A", "X"):
        size = rate * sum(abs(row[0]) for row in values[x])
        expect(all(abs(moved) == size for (moved,) in multiply(step[name], values[x])), f"the step of {name}")


def e37():
    expect(formulas(37)[0].holds({"η": Fraction(1, 7), "n": 12, "sizes": {}}), "the relative step")
    says = re.findall(r"(\d+)(?: times)? at (?:a width of )?(\d+)", prose.split('id="e37"')[1].split("*Measured")[0])
    expect(len(says) == 3, "three examples")
    for times, width in says:
        expect(round(math.sqrt(3 * int(width))) == int(times), f"{times} at {width}")
    rates = [line.split(",") for line in (root / "examples/finetune/results/best_rates.csv").read_text().splitlines()[1:]]
    best = {(scheme, int(rank)): (float(rate), float(multiple)) for _, scheme, rank, rate, multiple, *_ in rates}
    expect(round(best["tl6", 16][1]) == 32 and round(best["vera", 16][0] / best["lora", 16][0], 2) == 10, "rates of u and v")
    expect([f"{best[key][0]:.2g}" for key in (("lora", 16), ("tl5", 16))] == ["0.0056", "0.01"], "rates of A and B")
    optima = subprocess.run([sys.executable, "-B", root / "examples/finetune/results/optima.py"], capture_output=True, text=True)
    expect(optima.stdout and optima.stdout in (root / "docs/choosing.md").read_text(), "the table of optima.py in choosing.md")
