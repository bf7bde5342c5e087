"""One adapted module, forward and backward in float64 with torch.autograd: forward_backward.golden.

    y = y0 + s v∘(B (u∘h)),   h = A x        a factor that a case lacks is ones

Each case has a prefix, e.g. `tl6.7x5r3T4` (in 7, out 5, rank 3, 4 tokens). Its metas are in, out, rank, tokens, scaling
and trained (the letters of the trained factors); its tensors are

    A (r, in)    B (out, r)    u (r)    v (out)    x (T, in)    y0 (T, out)    dy (T, out)
    h (T, r)     y (T, out)    dA, dB, du, dv: of the trained factors    dx (T, in): the adapter's share alone

The derivatives are those of sum(dy * y). SCHEMES below says what each scheme has and trains.
"""

import itertools

import torch

from golden_file import Dice, GoldenFile

SEED = 40
SHAPES = [(7, 5, 3, 4), (3, 9, 2, 1), (1, 1, 1, 2), (2, 3, 5, 6)]  # in, out, rank, tokens
SCHEMES = {  # factors present and trained, scaling
    "lora": ("AB", "AB", 2.0),
    "vera": ("ABuv", "uv", 1.0),
    "tl6": ("ABuv", "ABuv", 1.5),
    "u_only": ("ABu", "ABu", 0.75),
    "v_only": ("ABv", "Bv", 0.75),
}


def case_name(scheme, shape):
    features_in, features_out, rank, tokens = shape
    return f"{scheme}.{features_in}x{features_out}r{rank}T{tokens}"


def add_case(golden, dice, scheme, shape):
    present, trained, scaling = SCHEMES[scheme]
    features_in, features_out, rank, tokens = shape
    name = case_name(scheme, shape)
    sizes = {"in": features_in, "out": features_out, "rank": rank, "tokens": tokens}
    for key, value in {**sizes, "scaling": scaling, "trained": trained}.items():
        golden.meta(f"{name}.{key}", value)

    def draw(*dims):
        return dice.uniform(dims, -2.0, 2.0, torch.float64)

    shapes = {"A": (rank, features_in), "B": (features_out, rank), "u": (rank,), "v": (features_out,)}
    inputs = {key: draw(*shapes[key]) for key in present}
    inputs |= {"x": draw(tokens, features_in), "y0": draw(tokens, features_out), "dy": draw(tokens, features_out)}
    for key, value in inputs.items():
        golden.add(f"{name}.{key}", value, exact=True)

    leaves = {key: inputs[key].requires_grad_() for key in [*trained, "x"]}
    h = torch.nn.functional.linear(inputs["x"], inputs["A"])
    y = inputs["y0"] + scaling * inputs.get("v", 1) * torch.nn.functional.linear(inputs.get("u", 1) * h, inputs["B"])
    y.backward(inputs["dy"])
    golden.add(f"{name}.h", h)
    golden.add(f"{name}.y", y)
    for key, leaf in leaves.items():
        golden.add(f"{name}.d{key}", leaf.grad)


def files():
    # y is a sum over in, then over rank; a gradient sums over tokens as well: 7 + 9 + 6 terms at most, and the factors.
    golden = GoldenFile("forward_backward.golden", f"One adapted module, float64, seed {SEED}.", operations=32)
    dice = Dice(SEED)
    cases = list(itertools.product(SCHEMES, SHAPES))
    golden.meta("cases", " ".join(case_name(*case) for case in cases))
    for case in cases:
        add_case(golden, dice, *case)
    return [golden]


PACKAGES = (torch,)
