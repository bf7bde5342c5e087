"""A step of fine-tuning at the sizes of SmolLM2-135M in train_step_bench beside PyTorch, transformers and PEFT.

    .venv/bin/python bench/cases/train_step/real_sizes.py [--quick] [--only RACE,…] [--out build/bench/results]

A race is some programs whose processes alternate, each on the same weights and tokens; memory is the peak of a process
that does nothing else. Each race's numbers stay in OUT/train_step_real.json, so that a machine that is quiet for
minutes at a time can do one after the other; the table, OUT/train_step_real.md, is of all that are there.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from compare import MIB, TORCH, machine, spread

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SIZES = {"vocabulary": 49152, "width": 576, "layers": 30, "heads": 9, "kv_heads": 3, "feed_forward": 1536,
         "rope_base": 100000.0, "targets": ALL}  # fmt: skip
SHAPES = {"4×128": (4, 128), "1×1024": (1, 1024)}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}

# race: shape, threads, variants, rank, contenders
RACES = {
    "choices": ("4×128", 2, "lora", 8, ["torch float32", "torch float32 eager", "torch bfloat16", "torch autocast"]),
    "step": ("4×128", 2, "lora", 8, ["f32", "q8_0", "q4_1", "torch float32", "torch autocast"]),
    "avx2": ("4×128", 2, "lora", 8, ["avx2 f32", "avx2 torch float32"]),
    "one thread": ("4×128", 1, "lora", 8, ["f32", "torch float32", "q8_0", "q4_1", "torch autocast", "avx2 f32",
                                          "avx2 torch float32"]),
    "long": ("1×1024", 2, "lora", 8, ["f32", "f32 recompute", "torch float32", "torch float32 checkpoint",
                                      "torch autocast"]),
    "long alone": ("1×1024", 1, "lora", 8, ["f32"]),
    "tl6": ("4×128", 2, "none,tl6", 32, ["f32", "torch float32"]),
    "lora": ("4×128", 2, "none,lora", 32, ["f32", "torch float32"]),
}  # fmt: skip
OURS = ["f32", "q8_0", "q4_1"]
THEIRS = ["torch float32", "torch bfloat16"]
LEAN = {**{name: f"{name} recompute" for name in OURS}, **{name: f"{name} checkpoint" for name in THEIRS}}


class Programs:
    """Commands of the contenders, whose names say what they are."""

    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder

    def ours(self, isa):
        return self.arguments.avx2 if isa else self.arguments.bench

    def export(self):
        for name, (sequences, length) in SHAPES.items():
            (self.folder / name).mkdir()
            run([self.arguments.bench, "--model", "135m", "--sequences", sequences, "--length", length, "--variants",
                 "none", "--warm-up", 1, "--rounds", 0, "--export", self.folder / name])  # fmt: skip

    def measure(self, contender, shape, threads, variants, rank, rounds):
        """The JSON object that the contender prints."""
        sequences, length = SHAPES[shape]
        words = contender.split()
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
    """contender: {variant: median seconds of each process}, shares likewise; and the first losses."""
    shape, threads, variants, rank, contenders = RACES[name]
    result = {contender: {"share": [], "steps": rounds} for contender in contenders}
    for turn in range(alternations):
        for contender in contenders:
            told = programs.measure(contender, shape, threads, variants, rank, rounds)
            seconds = {variant: told["variants"][variant]["seconds"] for variant in variants.split(",")}
            for variant, values in seconds.items():
                result[contender].setdefault(variant, []).append(statistics.median(values))
            result[contender]["loss"] = told["variants"][variants.split(",")[-1]]["loss"]
            if "none" in seconds:
                adapter = variants.split(",")[-1]
                share = [with_ / without - 1 for with_, without in zip(seconds[adapter], seconds["none"])]
                result[contender]["share"].append(statistics.median(share))
            print(f"{name} {turn + 1}/{alternations} {contender}: " + ", ".join(
                f"{variant} {statistics.median(values) * 1e3:.0f} ms" for variant, values in seconds.items()),
                flush=True)  # fmt: skip
    check_losses(name, result)
    return result


def check_losses(name, result):
    """Adapters begin as zero: in float32 all begin with one loss."""
    first = next(iter(result.values()))["loss"]
    for contender, values in result.items():
        exact = "float32" in contender or "f32" in contender
        if abs(values["loss"] - first) > (1e-4 if exact else 0.05):
            sys.exit(f"{name}: the first loss of {contender} is {values['loss']}, not {first}")


def memory(programs):
    """shape: {contender: bytes}, of LoRA with rank 8 on all seven."""
    result = {}
    for shape in SHAPES:
        result[shape] = {}
        for contender in [*OURS, *THEIRS, *LEAN.values()]:
            told = programs.measure(contender, shape, 2, "lora", 8, 1)
            result[shape][contender] = told["peak_rss_bytes"]
            result[shape]["imports"] = told.get("imports_rss_bytes", 0)
            print(f"{shape} {contender}: {told['peak_rss_bytes'] / MIB:.0f} MiB", flush=True)
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


def better(ratios, goal, sign):
    return "met" if all(sign * ratio >= sign * goal for ratio in ratios) else (
        "MISSED" if sign * statistics.median(ratios) < sign * goal else "met, but not in every process")  # fmt: skip


class Table:
    def __init__(self):
        self.lines = ["| | tiedlora | beside it | ratio | target | |", "|---|---|---|---|---|---|"]

    def add(self, what, ours, theirs, ratios, goal=None, sign=1, percent=False):
        ratio = (spread([100 * r for r in ratios]) + " %") if percent else spread(ratios, digits=2)
        bound = "" if goal is None else f"{'≥' if sign > 0 else '≤'} {100 * goal if percent else goal:g}" + (
            " %" if percent else "")  # fmt: skip
        verdict = "" if goal is None else better(ratios, goal, sign)
        self.lines.append(f"| {what} | {ours} | {theirs} | {ratio} | {bound} | {verdict} |")


def ratios_of(numerator, denominator):
    return [a / b for a, b in zip(numerator, denominator)]


def add_times(table, data):
    ms = lambda values: spread(values, 1e-3, 0) + " ms"

    def against(name, mine, theirs, what, goal=None, invert=False, sign=1):
        if name not in data:
            return
        a, b = data[name][mine]["lora"], data[name][theirs]["lora"]
        table.add(what, ms(a), f"{ms(b)}, {theirs}", ratios_of(a, b) if invert else ratios_of(b, a), goal, sign)

    against("step", "f32", "torch float32", "step, 4×128, two threads", 1.3)
    against("avx2", "avx2 f32", "avx2 torch float32", "the same, AVX2", 1.3)
    against("one thread", "f32", "torch float32", "step, 4×128, one thread", 1.3)
    against("one thread", "avx2 f32", "avx2 torch float32", "the same, AVX2", 1.3)
    against("long", "f32", "torch float32", "step, 1×1024, two threads", 1.3)
    against("step", "f32", "torch autocast", "float32 against bfloat16, 4×128")
    against("one thread", "f32", "torch autocast", "float32 against bfloat16, 4×128, one thread")
    against("long", "f32", "torch autocast", "float32 against bfloat16, 1×1024")
    against("long", "f32 recompute", "torch float32 checkpoint", "step computed again, 1×1024")
    against("long", "f32 recompute", "f32", "step computed again over step, 1×1024", invert=True)
    for base in ("q8_0", "q4_1"):
        against("step", base, "f32", f"{base} base over float32 base, 4×128", 1.1, True, -1)
        against("one thread", base, "f32", f"{base} base over float32 base, 4×128, one thread", 1.1, True, -1)
    for one, two, what in [("one thread", "step", "4×128"), ("long alone", "long", "1×1024")]:
        if one in data and two in data:
            a, b = data[two]["f32"]["lora"], data[one]["f32"]["lora"]
            table.add(f"two threads against one, {what}", ms(a), ms(b), ratios_of(b, a), 1.8)
    for name, goal in [("tl6", 0.03), ("lora", None)]:
        for contender in RACES[name][-1] if name in data else []:
            shares = data[name][contender]["share"]
            ours = contender == "f32"
            table.add(f"what {name.upper() if name == 'tl6' else 'LoRA'}, r = 32, adds to a step, "
                      + ("tiedlora" if ours else "PyTorch"),
                      ms(data[name][contender][name]), ms(data[name][contender]["none"]) + " without",
                      shares, goal if ours else None, -1, True)  # fmt: skip


def add_memory(table, peaks):
    mib = lambda value: f"{value / MIB:.0f} MiB"

    def over(what, of, mine, theirs, goal=None):
        table.add(f"peak memory, {what}", mib(of[mine]), f"{mib(of[theirs])}, {theirs}", [of[mine] / of[theirs]], goal, -1)

    for shape, of in peaks.items():
        over(f"{shape}", of, "f32", "torch float32", 0.45)
        for base in ("q8_0", "q4_1"):
            over(f"{base} base, {shape}", of, base, "torch float32", 0.25)
        leanest = min((name for name in of if name.startswith("torch")), key=of.get)
        over(f"the least of either, {shape}", of, min(map(LEAN.get, OURS), key=of.get), leanest)
        over(f"computed again over kept, {shape}", of, LEAN["f32"], "f32", 0.5 if shape == "1×1024" else None)


def memory_table(peaks):
    heads = " | ".join(f"{shape} | layers computed again" for shape in peaks)
    lines = [f"| peak memory, MiB | {heads} |", "|---" + "|---:" * 2 * len(peaks) + "|"]
    for name in [*OURS, *THEIRS]:
        cells = [f"{of[key] / MIB:.0f}" for of in peaks.values() for key in (name, LEAN[name])]
        who = name.replace("torch", "PyTorch,") if name in THEIRS else f"tiedlora, {name.replace('f32', 'float32')}"
        lines.append(f"| {who} | {' | '.join(cells)} |")
    return "\n".join(lines)


def choices(data):
    """What PyTorch's other ways to the same step take."""
    if "choices" not in data:
        return ""
    times = ", ".join(f"{name} {statistics.median(of['lora']):.2f} s" for name, of in data["choices"].items())
    return f"PyTorch's ways to that step, one process each: {times}. "


def extent(data, count):
    """'2 to 3' of count(values) over the contenders of all races."""
    counts = [count(v) for name, of in data.items() if name in RACES and name != "choices" for v in of.values()]
    return " to ".join(str(n) for n in sorted({min(counts), max(counts)})) if counts else "0"


def page(data):
    table = Table()
    add_times(table, data)
    if "memory" in data:
        add_memory(table, data["memory"])
    for threads, told in data.get("products", {}).items():
        table.add(f"base products at 512 tokens, share of the peak, threads: {threads}", "",
                  f"{told['peak'] / 1e9:.0f} GFLOP/s a core", [told["share"]], 0.8)  # fmt: skip
    losses = {}
    for name, result in data.items():
        if name in RACES:
            losses.setdefault(RACES[name][0], {}).update({c: values["loss"] for c, values in result.items()})
    lines = [f"{shape} " + ", ".join(f"{c} {loss:.5f}" for c, loss in of.items()) for shape, of in losses.items()]
    return f"""## A training step at real sizes

The sizes of SmolLM2-135M (width 576, 30 layers, 9 heads, 3 key-value heads, feed-forward 1536, vocabulary 49152) with
random frozen weights; LoRA of rank 8 on all seven modules of a layer unless a row says otherwise; forward, backward and
AdamW. Beside it the same weights and tokens in transformers' LlamaForCausalLM (sdpa attention) with PEFT's LoRA, or
TL6 written out in PyTorch, and PyTorch's fused AdamW; its bfloat16 is autocast's for
times and the whole model's for memory, where each is the better. {choices(data)}q8_0 and q4_1 are weights
that stay in a GGUF file's type, the embedding in Q8_0. The processes of a race alternate,
{extent(data, lambda v: len(v['share'] or v['lora']))} of each, {extent(data, lambda v: v['steps'])} steps in a process after \
one to warm up. Figures are medians over processes with the quartiles in brackets; a ratio is of processes that ran one after the other,
and larger is better but where the target is an upper bound. Memory is the peak of a process that runs that variant alone
with two threads, everything counted: PyTorch's imports alone are {data.get('memory', {}).get('4×128', {}).get('imports', 0) / MIB:.0f} MiB.
AVX2: our program compiled for x86-64-v3, and PyTorch, MKL and both's oneDNN held to AVX2.

First losses: {'; '.join(lines)}.

{data['about']['machine']}; {data['about']['compiler']}, {data['about']['kernels']}; PyTorch {data['about']['torch']}, \
transformers {data['about']['transformers']}, PEFT {data['about']['peft']}.

{chr(10).join(table.lines)}

{memory_table(data["memory"]) if "memory" in data else ""}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=pathlib.Path, default="build/bench/bin/train_step_bench")
    parser.add_argument("--avx2", type=pathlib.Path, default="build/bench/avx2/bin/train_step_bench")
    parser.add_argument("--profile", type=pathlib.Path, default="build/bench/bin/train_step_profile")
    parser.add_argument("--out", type=pathlib.Path, default="build/bench/results")
    parser.add_argument("--only", default=",".join(["memory", "products", *RACES]),
                        help="memory, products and races, with commas between; '': the table anew")  # fmt: skip
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
    text = page(data)
    (arguments.out / "train_step_real.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
