"""torch.optim.AdamW over 16 parameters and 10 steps, in float64 and float32: adamw.golden.

`gradients` (steps, 16) serves every case. Element 3 never gets a gradient, element 5 large ones, element 7 tiny
ones; row 4 is small and row 6 zero throughout. `initial` (16) are the first parameters. A case C has

    C.group_sizes, C.learning_rate, C.weight_decay      metas with one number per parameter group, groups in order
    C.beta1, C.beta2, C.epsilon, C.max_norm              metas; max_norm 0: no clipping
    C.f64.parameters, C.f64.first_moment, C.f64.second_moment    (steps, 16), after each step; likewise f32
    C.f64.norm                                           (steps) the norm before clipping, where max_norm is not 0

clip_grad_norm_ multiplies the gradients of all groups by min(1, max_norm / (norm + 1e-6)).
"""

import torch

from golden_file import Dice, GoldenFile

SEED = 60
SIZE, STEPS = 16, 10
CASES = {
    "defaults": {},
    "no_decay": {"weight_decay": [0.0]},
    "large_rate": {"learning_rate": [0.25], "weight_decay": [0.5]},
    "betas_epsilon": {"beta1": 0.5, "beta2": 0.75, "epsilon": 1e-3},
    "groups": {"group_sizes": [10, 6], "learning_rate": [5e-3, 0.15], "weight_decay": [0.1, 0.0]},
    "clipped": {"group_sizes": [10, 6], "learning_rate": [1e-2, 1e-2], "weight_decay": [0.01, 0.0], "max_norm": 1.0},
}
DEFAULTS = {
    "group_sizes": [SIZE],
    "learning_rate": [1e-3],
    "weight_decay": [0.01],
    "beta1": 0.9,
    "beta2": 0.999,
    "epsilon": 1e-8,
    "max_norm": 0.0,
}


def make_gradients():
    gradients = Dice(SEED).uniform((STEPS, SIZE), -1.0, 1.0, torch.float64)
    gradients[:, 3] = 0
    gradients[:, 5] *= 64
    gradients[:, 7] /= 2**20
    gradients[4] /= 256
    gradients[6] = 0
    assert (gradients.float() == gradients).all()
    return gradients


def run(case, initial, gradients, dtype):
    sizes, max_norm = case["group_sizes"], case["max_norm"]
    parameters = [torch.nn.Parameter(part.clone()) for part in initial.to(dtype).split(sizes)]
    optimizer = torch.optim.AdamW(
        [
            {"params": [parameter], "lr": rate, "weight_decay": decay}
            for parameter, rate, decay in zip(parameters, case["learning_rate"], case["weight_decay"], strict=True)
        ],
        betas=(case["beta1"], case["beta2"]),
        eps=case["epsilon"],
    )
    history = {"parameters": [], "first_moment": [], "second_moment": [], "norm": []}
    for gradient in gradients.to(dtype):
        for parameter, part in zip(parameters, gradient.split(sizes)):
            parameter.grad = part.clone()
        if max_norm:
            history["norm"].append(torch.nn.utils.clip_grad_norm_(parameters, max_norm))
        optimizer.step()
        states = [optimizer.state[parameter] for parameter in parameters]
        # cat copies: the optimiser updates its tensors in place.
        history["parameters"].append(torch.cat([parameter.detach() for parameter in parameters]))
        history["first_moment"].append(torch.cat([state["exp_avg"] for state in states]))
        history["second_moment"].append(torch.cat([state["exp_avg_sq"] for state in states]))
    return {name: torch.stack(values).numpy() for name, values in history.items() if values}


def files():
    golden = GoldenFile("adamw.golden", f"torch.optim.AdamW, seed {SEED}.", operations=10 * STEPS)
    initial = Dice(SEED + 1).uniform((SIZE,), -2.0, 2.0, torch.float64)
    gradients = make_gradients()
    golden.meta("cases", " ".join(CASES))
    golden.add("initial", initial, exact=True)
    golden.add("gradients", gradients, exact=True)
    for name, changes in CASES.items():
        case = DEFAULTS | changes
        for key, value in case.items():
            golden.meta(f"{name}.{key}", " ".join(map(str, value)) if isinstance(value, list) else value)
        for dtype, label in ((torch.float64, "f64"), (torch.float32, "f32")):
            for key, values in run(case, initial, gradients, dtype).items():
                golden.add(f"{name}.{label}.{key}", values)
    norms = golden.tensors["clipped.f64.norm"]
    assert (norms > case["max_norm"]).sum() == 8 and 0 < norms[4] < case["max_norm"] and norms[6] == 0, norms
    return [golden]


PACKAGES = (torch,)
