"""Where a training step's time goes, from train_step_profile; writes docs/profile.md.

    cmake --preset bench && cmake --build --preset bench --target train_step_profile
    python3 bench/cases/train_step/profile_step.py
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess

# (--model, title, sizes, further options, rounds)
MODELS = [
    ("toy", "Toy", "Width 128, 8 layers, 16×128 tokens, rank 8 on q, k, v", [], 20),
    ("135m", "SmolLM2-135M's sizes", "Width 576, 30 layers, vocabulary 49152, 4×128 tokens, rank 8 on q, k, v",
     ["--sequences", "4"], 4),
]  # fmt: skip
VARIANTS = {"none": "without adapter", "lora": "LoRA", "tl6": "TL6"}


def run(program, model, options, rounds, threads):
    command = [program, "--model", model, *options, "--rounds", rounds, "--threads", threads]
    command += ["--variants", ",".join(VARIANTS)]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def table(result, threads):
    """Milliseconds of each thread's time, and its share."""
    variants = result["variants"]
    profiles = {name: variants[name]["profile"] for name in VARIANTS}
    lines = ["| | " + " | ".join(VARIANTS.values()) + " |", "|---|" + "---|" * len(VARIANTS)]
    for part in profiles["none"]:
        if all(profile[part] < 1e-3 * sum(profile.values()) for profile in profiles.values()):
            continue
        cells = [f"{1e3 * p[part] / threads:.2f} ms, {100 * p[part] / sum(p.values()):.1f} %" for p in profiles.values()]
        lines.append(f"| {part} | " + " | ".join(cells) + " |")
    steps = [f"{1e3 * statistics.median(variants[name]['seconds']):.1f} ms" for name in VARIANTS]
    lines.append("| whole step, median | " + " | ".join(steps) + " |")
    return "\n".join(lines)


def adapters_share(profile):
    """Per cent of the threads' time."""
    return 100 * sum(seconds for part, seconds in profile.items() if part.startswith("adapters")) / sum(profile.values())


def machine():
    with open("/proc/cpuinfo") as file:
        names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, default="build/bench/bin/train_step_profile")
    parser.add_argument("--out", type=pathlib.Path, default="docs/profile.md")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", default="toy,135m")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])

    sections = []
    for model, title, sizes, options, rounds in MODELS:
        if model not in arguments.models.split(","):
            continue
        for threads in sorted({1, arguments.threads}):
            result = run(arguments.program.resolve(), model, options, rounds, threads)
            shares = ", ".join(
                f"{adapters_share(result['variants'][name]['profile']):.1f} % with {VARIANTS[name]}" for name in ("lora", "tl6")
            )
            threads_text = "one thread" if threads == 1 else f"{threads} threads"
            sections.append(f"## {title}, {threads_text}: adapters take {shares}\n\n{sizes}.\n\n{table(result, threads)}")
    text = f"""# Where a training step's time goes

One step of examples/llama with frozen float weights: forward, backward, AdamW. The figures are milliseconds per step and shares
of the threads' time, averaged over threads and steps, from a stopwatch in each thread that LLAMA_PROFILE compiles in.

- Without adapter, backward goes as far down as an adapter's would.
- Parts below 0.1 % in every column are omitted.
- With adapters on q, k and v, forward keeps only h, and backward recomputes the norm's output: the difference in the norms' row.
- "Waiting" includes time in which another program held up a thread.

{machine()}, {datetime.date.today()}; {result['compiler']}, {result['kernels']}. `script/bench` makes this page; to make it alone:

    cmake --preset bench && cmake --build --preset bench --target train_step_profile
    python3 bench/cases/train_step/profile_step.py

""" + "\n\n".join(sections) + "\n"
    arguments.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
