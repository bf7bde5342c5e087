"""The library against PyTorch eager and PEFT's layers, forward and forward + backward, one thread, float32.

    .venv/bin/python bench/baselines/pytorch.py [--program build/bench/gcc/bin/tiedlora_bench] [--out FILE]

OUT is build/bench/results/pytorch.json unless it is named.

Processes of both alternate. Within a process a measurement is the median of some turns; OUT keeps one number for each
process, and a ratio is taken between processes that ran one after the other.

PEFT's layers are its own (LoRA and VeRA); their base layer is replaced by one that returns a tensor that is there
already, so that all sides measure the adapter alone: y += adapter(x), and backward from dy to dx and the gradients of
what is trained, all accumulated.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

WIDTHS, RANKS, TOKENS = (576, 1024, 4096), (8, 64), (1, 64, 512)
SCHEMES = ("lora", "vera", "tl6")
PEFT_SCHEMES = ("lora", "vera")  # PEFT has no TL6


def eager(torch, scheme, factors, scaling):
    """The formula as PyTorch users write it: a function of x and what the base layer gave."""
    linear = torch.nn.functional.linear
    if scheme == "lora":
        return lambda x, y: y + scaling * linear(linear(x, factors["A"]), factors["B"])
    return lambda x, y: y + scaling * factors["v"] * linear(factors["u"] * linear(x, factors["A"]), factors["B"])


def peft_layer(torch, scheme, width, rank, base_output):
    """PEFT's layer and its factors by our names."""
    import peft

    model = torch.nn.ModuleDict({"proj": torch.nn.Linear(width, width, bias=False)})
    model["proj"].requires_grad_(False)
    config = (
        peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=["proj"])
        if scheme == "lora"
        else peft.VeraConfig(r=rank, target_modules=["proj"])
    )
    layer = peft.get_peft_model(model, config).base_model.model["proj"]
    layer.base_layer.forward = lambda x: base_output
    if scheme == "lora":
        factors = {"A": layer.lora_A["default"].weight, "B": layer.lora_B["default"].weight}
    else:
        factors = {"A": layer.vera_A["default"], "B": layer.vera_B["default"]}
        factors |= {"u": layer.vera_lambda_d["default"], "v": layer.vera_lambda_b["default"]}
    return layer, factors


def baselines(torch, width, rank, tokens):
    """(name, forward(), both()) of every baseline; refuses where PEFT and the formula disagree."""
    x, y, dy = (torch.rand(tokens, width) * 2 - 1 for _ in range(3))
    x_trained = x.clone().requires_grad_()
    result = []

    def enter(name, function):
        @torch.inference_mode()
        def forward():
            return function(x)

        def both():
            function(x_trained).backward(dy)

        result.append((name, forward, both))

    for scheme in SCHEMES:
        if scheme in PEFT_SCHEMES:
            layer, factors = peft_layer(torch, scheme, width, rank, y)
            for factor in factors.values():
                torch.nn.init.uniform_(factor, -0.1, 0.1)
        else:
            shapes = {"A": (rank, width), "B": (width, rank), "u": (rank,), "v": (width,)}
            factors = {name: torch.nn.Parameter(torch.rand(shape) * 0.2 - 0.1) for name, shape in shapes.items()}
        formula = eager(torch, scheme, factors, 1.0)
        enter(f"eager/{scheme}", lambda x, formula=formula: formula(x, y))
        if scheme in PEFT_SCHEMES:
            enter(f"peft/{scheme}", layer)
            if not torch.allclose(layer(x), formula(x, y), rtol=1e-4, atol=1e-5):
                sys.exit(f"PEFT's {scheme} and the formula disagree at width {width}, rank {rank}")
    return result


def seconds_per_call(call, turns, turn_seconds):
    call()
    start = time.process_time()
    call()
    calls = max(1, round(turn_seconds / max(time.process_time() - start, 1e-7)))
    times = []
    for _ in range(turns):
        start = time.process_time()
        for _ in range(calls):
            call()
        times.append((time.process_time() - start) / calls)
    return statistics.median(times)


def measure(pattern):
    """One process of PyTorch: prints JSON of microseconds by baseline and configuration."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    times = {}
    for width in WIDTHS:
        for rank in RANKS:
            for tokens in TOKENS:
                configuration = f"{width}x{width}/r:{rank}/T:{tokens}"
                if not re.search(pattern, configuration):
                    continue
                for name, forward, both in baselines(torch, width, rank, tokens):
                    baseline, scheme = name.split("/")
                    for direction, call in (("forward", forward), ("both", both)):
                        times[f"{baseline}/{direction}/{scheme}/{configuration}"] = 1e6 * seconds_per_call(call, 5, 5e-3)
    import peft

    print(json.dumps({"torch": torch.__version__, "peft": peft.__version__, "us": times}))


def run_ours(program, pattern):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "alone.json"
        subprocess.run(
            [program, "--alone", "--filter", pattern, f"--benchmark_out={out}", "--rounds", "5"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        rows = json.loads(out.read_text())["benchmarks"]
    return {re.search("alone/(.*?)/iterations", row["name"])[1]: row["us.ours"] for row in rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, default="build/bench/gcc/bin/tiedlora_bench")
    parser.add_argument("--out", type=pathlib.Path, default="build/bench/results/pytorch.json")
    parser.add_argument("--alternations", type=int, default=5, help="processes of each side")
    parser.add_argument("--filter", default="", help="regular expression of configurations such as 576x576/r:8/T:64")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        return measure(arguments.filter)

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the core that our program takes, for both
    ours, theirs = {}, {}
    for i in range(arguments.alternations):
        for name, us in run_ours(arguments.program.resolve(), arguments.filter).items():
            ours.setdefault(name, []).append(us)
        process = subprocess.run(
            [sys.executable, __file__, "--measure", "--filter", arguments.filter],
            check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        result = json.loads(process.stdout.splitlines()[-1])
        for name, us in result["us"].items():
            theirs.setdefault(name, []).append(us)
        print(f"PyTorch: {i + 1} of {arguments.alternations} alternations", file=sys.stderr)
    rows = [
        {"name": name, "us.ours": ours[name.split("/", 1)[1]], "us.theirs": times} for name, times in theirs.items()
    ]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"torch": result["torch"], "peft": result["peft"], "rows": rows}, indent=1))
    for row in rows:
        mine, other = statistics.median(row["us.ours"]), statistics.median(row["us.theirs"])
        print(f"{row['name']:44} {mine:11.2f} {other:11.2f} us {other / mine:8.2f}x")


if __name__ == "__main__":
    main()
