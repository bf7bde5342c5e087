"""A step of fine-tuning at the sizes of SmolLM2-135M in train_step_bench against PyTorch, transformers and PEFT.

    .venv/bin/python bench/cases/train_step/real_sizes.py [--quick] [--only RACE,…] [--out build/bench/results]

A race is some programs whose processes alternate, each on the same weights and tokens; memory is the peak of a process
that does nothing else. Each race's results stay in OUT/train_step_real.json, so that a machine that is quiet for
minutes at a time can do one after the other; the tables, OUT/train_step_real.csv and train_step_memory.csv, are of all that
are there. bench/report makes a page of them.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from compare import MIB, TORCH, machine
from real_table import LEAN, OURS, RACES, THEIRS, write

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SIZES = {"vocabulary": 49152, "width": 576, "layers": 30, "heads": 9, "kv_heads": 3, "feed_forward": 1536,
         "rope_base": 100000.0, "targets": ALL}  # fmt: skip
SHAPES = {"4×128": (4, 128), "1×1024": (1, 1024)}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


class Programs:
    """Commands of the programs, whose names say what they are."""

    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder

    def ours(self, isa):
        return self.arguments.avx2 if isa else self.arguments.bench

    def export(self):
        for name, (sequences, length) in SHAPES.items():
            (self.folder / name).mkdir()
            run([self.arguments.bench, "--model", "135m", "--sequences", sequences, "--length", length, "--variants",
                 "none", "--warm-up", 1, "--rounds", 0, "--export", self.folder / name])  # fmt: skip

    def measure(self, side, shape, threads, variants, rank, rounds):
        """The JSON object that the program prints."""
        sequences, length = SHAPES[shape]
        words = side.split()
        env = AVX2 if words[0] == "avx2" else {}
        words = words[1:] if env else words
        common = ["--threads", threads, "--variants", variants, "--rounds", rounds, "--warm-up", 1]
        if words[0] == "torch":
            problem = {**SIZES, "sequences": sequences, "length": length, "rank": rank}
            command = [*TORCH, "--folder", self.folder / shape, "--problem", json.dumps(problem), "--no-saved"]
            command += ["--precision", words[1], "--attention", "eager" if "eager" in words else "sdpa"]
            command += ["--checkpoint"] if "checkpoint" in words else []
        else:
            command = [self.ours(env), "--model", "135m", "--base", words[0], "--targets", "all", "--rank", rank]
            command += ["--sequences", sequences, "--length", length]
            command += ["--recompute"] if "recompute" in words else []
            command += ["--products", "bf16"] if "bf16" in words else []
        return run([*command, *common], env, threads)


def run(command, env=None, threads=2):
    """On as many cores as there are threads."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          env={**os.environ, **(env or {})},
                          preexec_fn=lambda: os.sched_setaffinity(0, cores))  # fmt: skip
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def race(programs, name, alternations, rounds):
    """program: {variant: median seconds of each process}, shares likewise; and the first losses."""
    shape, threads, variants, rank, sides = RACES[name]
    result = {side: {"share": [], "steps": rounds} for side in sides}
    for turn in range(alternations):
        for side in sides:
            told = programs.measure(side, shape, threads, variants, rank, rounds)
            seconds = {variant: told["variants"][variant]["seconds"] for variant in variants.split(",")}
            for variant, values in seconds.items():
                result[side].setdefault(variant, []).append(statistics.median(values))
            result[side]["loss"] = told["variants"][variants.split(",")[-1]]["loss"]
            if "none" in seconds:
                adapter = variants.split(",")[-1]
                share = [with_ / without - 1 for with_, without in zip(seconds[adapter], seconds["none"])]
                result[side]["share"].append(statistics.median(share))
            print(f"{name} {turn + 1}/{alternations} {side}: " + ", ".join(
                f"{variant} {statistics.median(values) * 1e3:.0f} ms" for variant, values in seconds.items()),
                flush=True)  # fmt: skip
    check_losses(name, result)
    return result


def check_losses(name, result):
    """Adapters begin as zero: in float32 all begin with one loss."""
    first = next(iter(result.values()))["loss"]
    for side, values in result.items():
        exact = "float32" in side or side in ("f32", "avx2 f32", "f32 recompute")
        if abs(values["loss"] - first) > (1e-4 if exact else 0.05):
            sys.exit(f"{name}: the first loss of {side} is {values['loss']}, not {first}")


def memory(programs):
    """shape: {program: bytes}, of LoRA with rank 8 on all seven."""
    result = {}
    for shape in SHAPES:
        result[shape] = {}
        for side in [*OURS, *THEIRS, *LEAN.values()]:
            told = programs.measure(side, shape, 2, "lora", 8, 1)
            result[shape][side] = told["peak_rss_bytes"]
            result[shape]["imports"] = told.get("imports_rss_bytes", 0)
            print(f"{shape} {side}: {told['peak_rss_bytes'] / MIB:.0f} MiB", flush=True)
    return result


def products(programs, rounds):
    """threads: share of the multiply-add peak that the products with the base weights reach, of each process."""
    width, kv, feed_forward, layers = 576, 192, 1536, SIZES["layers"]
    qkv = (width + 2 * kv) * width
    layer = qkv + width * width + 3 * feed_forward * width
    flops = 2 * 512 * (2 * layers * layer - qkv)  # backward stops at the lowest layer's q, k and v
    result = {}
    for threads in (1, 2):
        told = run([programs.arguments.profile, "--model", "135m", "--targets", "all", "--sequences", 4, "--length",
                    128, "--threads", threads, "--variants", "lora", "--rounds", rounds], None, threads)  # fmt: skip
        profile = told["variants"]["lora"]["profile"]
        seconds = sum(value for part, value in profile.items() if part.startswith("products with the base weights"))
        result[str(threads)] = {"share": flops / seconds / told["peak_flops"], "peak": told["peak_flops"],
                                "profile": profile}  # fmt: skip
        print(f"products, {threads} threads: {result[str(threads)]['share']:.2f} of {told['peak_flops'] / 1e9:.0f} GFLOP/s")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=pathlib.Path, default="build/bench/bin/train_step_bench")
    parser.add_argument("--avx2", type=pathlib.Path, default="build/bench/avx2/bin/train_step_bench")
    parser.add_argument("--profile", type=pathlib.Path, default="build/bench/bin/train_step_profile")
    parser.add_argument("--out", type=pathlib.Path, default="build/bench/results")
    parser.add_argument("--only", default=",".join(["memory", "products", *RACES]),
                        help="memory, products and races, with commas between; '': only the tables again")  # fmt: skip
    parser.add_argument("--alternations", type=int, help="processes of each program (3; with --quick 1)")
    parser.add_argument("--rounds", type=int, help="steps in a process (3; with --quick 1)")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    alternations = arguments.alternations or (1 if arguments.quick else 3)
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = arguments.out / "train_step_real.json"
    data = json.loads(results.read_text()) if results.exists() else {}

    with tempfile.TemporaryDirectory() as folder:
        programs = Programs(arguments, pathlib.Path(folder))
        names = [name for name in arguments.only.split(",") if name]
        if names:
            programs.export()
        about = run([arguments.bench, "--variants", "none", "--rounds", 1])
        data["about"] = {
            "machine": machine(), "compiler": about["compiler"], "kernels": about["kernels"],
            **run([*TORCH, "--versions"]),
        }  # fmt: skip
        for name in names:
            if name == "memory":
                data[name] = memory(programs)
            elif name == "products":
                data[name] = products(programs, rounds)
            else:
                data[name] = race(programs, name, 1 if name == "choices" else alternations, rounds)
            results.write_text(json.dumps(data, indent=1))
    print("\n".join(" ".join(cells) for cells in write(data, arguments.out)))


if __name__ == "__main__":
    main()
