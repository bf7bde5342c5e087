"""How the cost of a step grows with layers, rank and tokens, by train_step_bench; bench/report fits lines and draws them."""

import csv
import json
import statistics
import subprocess

# (axis, values in full, values in a quick look, the option that sets it)
AXES = [
    ("layers", [2, 4, 8, 12, 16], [2, 8], lambda n: ["--layers", n]),
    ("rank", [1, 2, 4, 8, 16, 32, 64], [8, 64], lambda n: ["--rank", n]),
    ("tokens", [512, 1024, 2048, 3072, 4096], [512, 2048], lambda n: ["--sequences", n // 128]),
]
VARIANTS = ["lora", "tl6"]


def medians(program, threads, options, rounds):
    command = [program, "--threads", threads, "--rounds", rounds, "--variants", ",".join(["none", *VARIANTS]), *options]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    variants = json.loads(done.stdout)["variants"]
    base = variants["none"]["seconds"]
    row = {"none": 1e3 * statistics.median(base)}
    for name in VARIANTS:
        seconds = variants[name]["seconds"]
        row[name] = 1e3 * statistics.median(seconds)
        row[f"{name} share"] = 1e3 * statistics.median(with_ - without for with_, without in zip(seconds, base))
    return row


def measure(program, threads, out, quick):
    """Writes OUT/train_step_AXIS.csv."""
    for name, full, few, options in AXES:
        values = few if quick else full
        table = [(n, medians(program, threads, options(n), 5 if quick else 15)) for n in values]
        with (out / f"train_step_{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([name, *table[0][1]])
            writer.writerows([n, *row.values()] for n, row in table)
        print(f"scaling over {name} done", flush=True)
