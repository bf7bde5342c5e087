"""A step of fine-tuning in train_step_bench beside the same step in PyTorch, transformers and PEFT.

    .venv/bin/python bench/cases/train_step/compare.py [--quick] [--out build/bench/results]

Processes of both alternate; within a process, steps with and without an adapter take turns. The adapter's share is the
median of (step with - step without) in a process. Writes OUT/train_step.md, .csv, .json and plots; prints the tables.
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

import scaling

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


class Contender:
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


def quartiles(values):
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def spread(values, unit=1.0, digits=1):
    """'median (lower quartile to upper quartile)'"""
    low, high = quartiles(values)
    return f"{statistics.median(values) / unit:.{digits}f} ({low / unit:.{digits}f} to {high / unit:.{digits}f})"


def verdict(ratios, target):
    low, high = quartiles(ratios)
    if low >= target:
        return "met"
    return "MISSED" if high < target else "MISSED in part of the runs"


def better_of(peers, key):
    """Of PyTorch's attention implementations the one with the lower median of key(peer), a list of values."""
    return min(peers, key=lambda peer: statistics.median(key(peer)))


def rows(ours, peers):
    """(what, ours, theirs, ratios, target or None, format) for the table. Ratios are those of processes that ran one
    after the other."""
    result = []
    for mine, theirs in PAIRS:
        target = SHARE_TARGET if mine == theirs else None
        label = mine if mine == theirs else f"{mine} against {theirs}"
        for what, quantity, goal in [
            ("whole step", lambda c, v: c.step[v], STEP_TARGET if target else None),
            ("adapter's share of the time", lambda c, v: c.share[v], target),
        ]:
            peer = better_of(peers, lambda p: quantity(p, theirs))
            a, b = quantity(ours, mine), quantity(peer, theirs)
            ratios = [y / x for x, y in zip(a, b)]
            result.append(
                (f"{label}: {what}", spread(a, 1e-3) + " ms", f"{spread(b, 1e-3)} ms ({peer.name})", ratios, goal)
            )
        peer = min(peers, key=lambda p: p.memory[theirs])
        a, b = ours.memory[mine], peer.memory[theirs]
        result.append(
            (f"{label}: adapter's share of the memory", f"{a / MIB:.2f} MiB", f"{b / MIB:.2f} MiB", [b / a], target)
        )
        added = lambda c, v: [with_ - without for with_, without in zip(c.rss[v], c.rss["none"])]
        peer = better_of(peers, lambda p: added(p, theirs))
        result.append(
            (
                f"{label}: growth of the process's peak",
                spread(added(ours, mine), MIB) + " MiB",
                f"{spread(added(peer, theirs), MIB)} MiB ({peer.name})",
                None,
                None,
            )
        )
    peer = better_of(peers, lambda p: p.step["none"])
    ratios = [y / x for x, y in zip(ours.step["none"], peer.step["none"])]
    result.append(
        ("step without adapter", spread(ours.step["none"], 1e-3) + " ms",
         f"{spread(peer.step['none'], 1e-3)} ms ({peer.name})", ratios, None)
    )  # fmt: skip
    return result


def comparison_table(ours, peers):
    lines = ["| | tiedlora | PyTorch + PEFT | ratio | target | |", "|---|---|---|---|---|---|"]
    for what, mine, theirs, ratios, target in rows(ours, peers):
        ratio = spread(ratios, digits=2) if ratios else ""
        goal = f"≥ {target:g}" if target else ""
        lines.append(f"| {what} | {mine} | {theirs} | {ratio} | {goal} | {verdict(ratios, target) if target else ''} |")
    return "\n".join(lines)


def compare(program, folder, arguments):
    """Both programs in turn; returns the contenders."""
    threads = ["--threads", arguments.threads]
    ours = Contender("tiedlora", [program, *threads], [mine for mine, _ in PAIRS])
    torch = [*TORCH, "--folder", folder, "--problem", json.dumps(PROBLEM), *threads]
    peers = [
        Contender(f"{attention} attention", [*torch, "--attention", attention], [theirs for _, theirs in PAIRS])
        for attention in ("eager", "sdpa")
    ]
    run([program, "--variants", "none", "--rounds", 0, *threads, "--export", folder])
    for i in range(arguments.alternations):
        for contender in [ours, *peers]:
            contender.add_process(arguments.rounds)
            print(f"{i + 1}/{arguments.alternations} {contender.name}: " + ", ".join(
                f"{name} {values[-1] * 1e3:.1f} ms" for name, values in contender.step.items()), flush=True)  # fmt: skip
    for contender in [ours, *peers]:
        for _ in range(1 if arguments.quick else 3):
            contender.add_peak_rss()
        for variant, loss in contender.losses.items():  # adapters begin as zero
            if abs(loss - ours.losses["none"]) > 1e-4:
                sys.exit(f"{contender.name}, {variant}: the first loss is {loss}, ours {ours.losses['none']}")
    return ours, peers


def write_csv(path, contenders):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["program", "process", "variant", "step_ms", "share_ms", "share_bytes"])
        for contender in contenders:
            for variant, values in contender.step.items():
                for i, seconds in enumerate(values):
                    share = contender.share[variant][i] * 1e3 if variant in contender.share else ""
                    writer.writerow([contender.name, i, variant, seconds * 1e3, share,
                                     contender.memory.get(variant, "")])  # fmt: skip


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
        ours, peers = compare(program, folder, arguments)
    write_csv(arguments.out / "train_step.csv", [ours, *peers])
    growth = scaling.measure(program, arguments.threads, arguments.out, arguments.quick)

    about = run([program, "--variants", "none", "--rounds", 1])
    versions = run([*TORCH, "--versions"])
    text = f"""## A training step

A toy Llama (width {PROBLEM['width']}, {PROBLEM['layers']} layers, {PROBLEM['heads']} heads, {PROBLEM['kv_heads']} \
key-value heads, feed-forward {PROBLEM['feed_forward']}, vocabulary {PROBLEM['vocabulary']}) with frozen float weights \
learns {PROBLEM['sequences']}×{PROBLEM['length']} tokens a step; adapters of rank {PROBLEM['rank']} on q, k and v; \
forward, backward and AdamW, {arguments.threads} threads. Beside it the same weights and tokens in transformers' \
LlamaForCausalLM with PEFT's adapters and PyTorch's fused AdamW; in each row the better of its eager and sdpa \
attention. The first losses agree within 1e-4.

The adapter's share is the step minus the step without adapter, in which both programs go backward as far as the \
adapter would: to q, k and v of the lowest layer. Steps with and without take turns in a process; \
{arguments.alternations} processes of each program alternate, {arguments.rounds} rounds each. Numbers are medians over \
processes with the quartiles in brackets; a target counts as met where the lower quartile reaches it. Memory: what \
forward keeps for backward (PyTorch's by saved_tensors_hooks, every storage once), parameters, gradients and both \
moments, less what the step without adapter keeps.

{machine()}; {about['compiler']}, {about['kernels']}; PyTorch {versions['torch']}, transformers \
{versions['transformers']}, PEFT {versions['peft']}.

{comparison_table(ours, peers)}

{growth}
"""
    (arguments.out / "train_step.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
