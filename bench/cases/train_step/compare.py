"""A step of fine-tuning in train_step_bench against the same step in PyTorch, transformers and PEFT.

    .venv/bin/python bench/cases/train_step/compare.py [--quick] [--out build/bench/results]

Processes of both alternate; within a process, steps with and without an adapter take turns. The adapter's share is the
median of (step with - step without) in a process. Writes CSV files and train_step_about.json into OUT, of which bench/report
makes pages; prints the table.
"""

import argparse
import csv
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

import ratio_table
import scaling
from ratio_table import quartiles, row

HERE = pathlib.Path(__file__).resolve().parent
TORCH = [sys.executable, str(HERE / "torch_step.py")]
PROBLEM = {
    "vocabulary": 256,
    "width": 128,
    "layers": 8,
    "heads": 4,
    "kv_heads": 2,
    "feed_forward": 384,
    "rope_base": 10000.0,
    "sequences": 16,
    "length": 128,
    "rank": 8,
    "targets": ["q_proj", "k_proj", "v_proj"],
}
# Adapters that stand for the same idea here and in PEFT, which has nothing nearer to TL6 than VeRA.
PAIRS = [("lora", "lora"), ("tl6", "vera")]
SHARE_TARGET, STEP_TARGET = 3.0, 1.2
MIB = 2**20


def run(command):
    """The JSON object that a program prints last."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def shares(variants, name):
    """Seconds of (step with - step without), round by round."""
    return [with_ - without for with_, without in zip(variants[name]["seconds"], variants["none"]["seconds"])]


def arrays_bytes(variant):
    """Parameters, gradients and AdamW's two moments in float."""
    return 4 * 4 * variant["trained"] + 4 * variant.get("frozen", 0)


class Program:
    """One program's processes: a value of each quantity for each process."""

    def __init__(self, name, command, variants):
        self.name, self.command, self.variants = name, command, variants
        self.step, self.share, self.memory, self.rss = {}, {}, {}, {}

    def add_process(self, rounds):
        result = run([*self.command, "--variants", ",".join(["none", *self.variants]), "--rounds", rounds])["variants"]
        for variant in ["none", *self.variants]:
            self.step.setdefault(variant, []).append(statistics.median(result[variant]["seconds"]))
        for variant in self.variants:
            self.share.setdefault(variant, []).append(statistics.median(shares(result, variant)))
            self.memory[variant] = (
                result[variant]["activation_bytes"]
                - result["none"]["activation_bytes"]
                + arrays_bytes(result[variant])
            )
        self.losses = {variant: result[variant]["loss"] for variant in result}

    def add_peak_rss(self):
        """Each variant in a process of its own."""
        for variant in ["none", *self.variants]:
            peak = run([*self.command, "--variants", variant, "--rounds", 3])["peak_rss_bytes"]
            self.rss.setdefault(variant, []).append(peak)


def verdict(ratios, target):
    low, high = quartiles(ratios)
    if low >= target:
        return "met"
    return "missed" if high < target else "missed in part of the runs"


def better_of(baselines, key):
    """Of PyTorch's attention implementations the one with the lower median of key(baseline), a list of values."""
    return min(baselines, key=lambda baseline: statistics.median(key(baseline)))


def rows(ours, baselines):
    """The rows of the table. Ratios are those of processes that ran one after the other."""
    result = []
    for mine, theirs in PAIRS:
        target = SHARE_TARGET if mine == theirs else None
        label = mine if mine == theirs else f"{mine} against {theirs}"

        def add(what, unit, scale, digits, a, name, b, ratios, goal=None):
            result.append(
                row("speed", f"{label}: {what}", unit, scale, digits, a, name, b, ratios,
                    f"≥ {goal:g}" if goal else "", verdict(ratios, goal) if goal else "")
            )  # fmt: skip

        for what, quantity, goal in [
            ("whole step", lambda c, v: c.step[v], STEP_TARGET if target else None),
            ("adapter's share of the time", lambda c, v: c.share[v], target),
        ]:
            baseline = better_of(baselines, lambda p: quantity(p, theirs))
            a, b = quantity(ours, mine), quantity(baseline, theirs)
            add(what, "ms", 1e-3, 1, a, baseline.name, b, [y / x for x, y in zip(a, b)], goal)
        a, b = ours.memory[mine], min(baseline.memory[theirs] for baseline in baselines)
        add("adapter's share of the memory", "MiB", MIB, 2, a, "", b, [b / a], target)
        added = lambda c, v: [with_ - without for with_, without in zip(c.rss[v], c.rss["none"])]
        baseline = better_of(baselines, lambda p: added(p, theirs))
        add("growth of the process's peak", "MiB", MIB, 1, added(ours, mine), baseline.name, added(baseline, theirs), None)
    baseline = better_of(baselines, lambda p: p.step["none"])
    a, b = ours.step["none"], baseline.step["none"]
    ratios = [y / x for x, y in zip(a, b)]
    result.append(row("speed", "step without adapter", "ms", 1e-3, 1, a, baseline.name, b, ratios))
    return result


def compare(program, folder, arguments):
    """Both programs in turn; returns ours and the baselines."""
    threads = ["--threads", arguments.threads]
    ours = Program("tiedlora", [program, *threads], [mine for mine, _ in PAIRS])
    torch = [*TORCH, "--folder", folder, "--problem", json.dumps(PROBLEM), *threads]
    baselines = [
        Program(f"{attention} attention", [*torch, "--attention", attention], [theirs for _, theirs in PAIRS])
        for attention in ("eager", "sdpa")
    ]
    run([program, "--variants", "none", "--rounds", 0, *threads, "--export", folder])
    for i in range(arguments.alternations):
        for side in [ours, *baselines]:
            side.add_process(arguments.rounds)
            print(f"{i + 1}/{arguments.alternations} {side.name}: " + ", ".join(
                f"{name} {values[-1] * 1e3:.1f} ms" for name, values in side.step.items()), flush=True)  # fmt: skip
    for side in [ours, *baselines]:
        for _ in range(1 if arguments.quick else 3):
            side.add_peak_rss()
        for variant, loss in side.losses.items():  # adapters begin as zero
            if abs(loss - ours.losses["none"]) > 1e-4:
                sys.exit(f"{side.name}, {variant}: the first loss is {loss}, ours {ours.losses['none']}")
    return ours, baselines


def write_csv(path, sides):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["program", "process", "variant", "step_ms", "share_ms", "share_bytes"])
        for side in sides:
            for variant, values in side.step.items():
                for i, seconds in enumerate(values):
                    share = side.share[variant][i] * 1e3 if variant in side.share else ""
                    writer.writerow([side.name, i, variant, seconds * 1e3, share,
                                     side.memory.get(variant, "")])  # fmt: skip


def machine():
    with open("/proc/cpuinfo") as file:
        names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {len(os.sched_getaffinity(0))} cores used"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=pathlib.Path, default="build/bench/bin/train_step_bench")
    parser.add_argument("--out", type=pathlib.Path, default="build/bench/results")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--alternations", type=int, help="processes of each program (5; with --quick 2)")
    parser.add_argument("--rounds", type=int, help="steps of each variant in a process (15; with --quick 5)")
    parser.add_argument("--quick", action="store_true", help="a look in a minute: its spreads mean little")
    arguments = parser.parse_args()
    arguments.alternations = arguments.alternations or (2 if arguments.quick else 5)
    arguments.rounds = arguments.rounds or (5 if arguments.quick else 15)
    arguments.out.mkdir(parents=True, exist_ok=True)
    # As many cores as threads, for both programs.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])

    program = arguments.bench.resolve()
    with tempfile.TemporaryDirectory() as folder:
        ours, baselines = compare(program, folder, arguments)
    write_csv(arguments.out / "train_step.csv", [ours, *baselines])
    table = rows(ours, baselines)
    ratio_table.write(arguments.out / "train_step_table.csv", table)
    scaling.measure(program, arguments.threads, arguments.out, arguments.quick)
    about = run([program, "--variants", "none", "--rounds", 1])
    (arguments.out / "train_step_about.json").write_text(json.dumps({
        "machine": machine(), "compiler": about["compiler"], "kernels": about["kernels"], "threads": arguments.threads,
        "processes": arguments.alternations, "rounds": arguments.rounds, "problem": PROBLEM, **run([*TORCH, "--versions"]),
    }))  # fmt: skip
    print("\n".join(" ".join(cells) for cells in table))


if __name__ == "__main__":
    main()
