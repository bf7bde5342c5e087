"""What real_sizes.py measures, and the tables that it makes of it."""

import csv
import json
import statistics

import ratio_table
from compare import MIB
from ratio_table import row

# race: shape, threads, variants, rank, programs
RACES = {
    "choices": ("4×128", 2, "lora", 8, ["torch float32", "torch float32 eager", "torch bfloat16", "torch autocast"]),
    "step": ("4×128", 2, "lora", 8, ["f32", "q8_0", "q4_1", "torch float32", "f32 bf16", "torch autocast"]),
    "avx2": ("4×128", 2, "lora", 8, ["avx2 f32", "avx2 torch float32"]),
    "one thread": ("4×128", 1, "lora", 8, ["f32", "torch float32", "q8_0", "q4_1", "f32 bf16", "torch autocast",
                                          "avx2 f32", "avx2 torch float32"]),
    "long": ("1×1024", 2, "lora", 8, ["f32", "f32 recompute", "torch float32", "torch float32 checkpoint",
                                      "f32 bf16", "torch autocast"]),
    "long alone": ("1×1024", 1, "lora", 8, ["f32"]),
    "tl6": ("4×128", 2, "none,tl6", 32, ["f32", "torch float32"]),
    "lora": ("4×128", 2, "none,lora", 32, ["f32", "torch float32"]),
}  # fmt: skip
OURS = ["f32", "q8_0", "q4_1"]
THEIRS = ["torch float32", "torch bfloat16"]
LEAN = {**{name: f"{name} recompute" for name in OURS}, **{name: f"{name} checkpoint" for name in THEIRS}}


def verdict(ratios, goal, sign):
    """`sign`: 1 for a lower bound, -1 for an upper one."""
    return "met" if all(sign * ratio >= sign * goal for ratio in ratios) else (
        "missed" if sign * statistics.median(ratios) < sign * goal else "met, not in every process")  # fmt: skip


def rated(kind, name, unit, scale, ours, baseline, theirs, ratios, goal=None, sign=1, percent=False):
    bound = "" if goal is None else f"{'≥' if sign > 0 else '≤'} {f'{goal:.0%}'.replace('%', ' %') if percent else f'{goal:g}'}"
    stands = "" if goal is None else verdict(ratios, goal, sign)
    cells = row(kind, name, unit, scale, 0, ours, baseline, theirs, ratios, bound, stands)
    if percent:
        at = ratio_table.COLUMNS.index("ratio")
        cells[at : at + 3] = [f"{text} %" for text in ratio_table.numbers([100 * ratio for ratio in ratios], 0)]
    return cells


def ratios_of(numerator, denominator):
    return [a / b for a, b in zip(numerator, denominator)]


def times(data):
    """Rows of what was timed."""
    result = []

    def against(name, mine, theirs, what, goal=None, invert=False, sign=1):
        if name not in data:
            return
        a, b = data[name][mine]["lora"], data[name][theirs]["lora"]
        ratios = ratios_of(a, b) if invert else ratios_of(b, a)
        kind = "speed" if theirs.split()[0] in ("torch", "avx2") else "own"
        result.append(rated(kind, what, "ms", 1e-3, a, theirs, b, ratios, goal, sign))

    against("step", "f32", "torch float32", "step, 4×128, two threads", 1.3)
    against("avx2", "avx2 f32", "avx2 torch float32", "step, 4×128, two threads, AVX2", 1.3)
    against("one thread", "f32", "torch float32", "step, 4×128, one thread", 1.3)
    against("one thread", "avx2 f32", "avx2 torch float32", "step, 4×128, one thread, AVX2", 1.3)
    against("long", "f32", "torch float32", "step, 1×1024, two threads", 1.3)
    for name, what in [("step", "4×128, two threads"), ("one thread", "4×128, one thread"), ("long", "1×1024, two threads")]:
        against(name, "f32 bf16", "torch autocast", f"step, {what}, both in bfloat16")
        against(name, "f32", "torch autocast", f"step, {what}, ours in float32, PyTorch in bfloat16")
    against("long", "f32 recompute", "torch float32 checkpoint", "step, 1×1024, two threads, both with recomputation")
    against("long", "f32 recompute", "f32", "step with recomputation over step without, 1×1024", invert=True)
    for base in ("q8_0", "q4_1"):
        against("step", base, "f32", f"step, {base} base over float32 base, 4×128, two threads", 1.1, True, -1)
        against("one thread", base, "f32", f"step, {base} base over float32 base, 4×128, one thread", 1.1, True, -1)
    for one, two, what in [("one thread", "step", "4×128"), ("long alone", "long", "1×1024")]:
        if one in data and two in data:
            a, b = data[two]["f32"]["lora"], data[one]["f32"]["lora"]
            result.append(rated("own", f"speed-up by a second thread, {what}", "ms", 1e-3, a, "f32, one thread", b,
                                ratios_of(b, a), 1.8))  # fmt: skip
    for name, goal in [("tl6", 0.03), ("lora", None)]:
        for program in RACES[name][-1] if name in data else []:
            with_, without, shares = (data[name][program][key] for key in (name, "none", "share"))
            ours = program == "f32"
            title = f"what {'TL6' if name == 'tl6' else 'LoRA'}, r = 32, adds to a step"
            result.append(rated("own" if ours else "speed", title if ours else f"{title} of PyTorch's", "ms", 1e-3, with_,
                                "without adapter", without, shares, goal if ours else None, -1, True))  # fmt: skip
    return result


def memory(peaks):
    """Rows of peaks of resident memory."""
    result = []

    def over(what, of, mine, theirs, goal=None):
        kind = "memory" if theirs.startswith("torch") else "own"
        result.append(rated(kind, f"peak memory{what}", "MiB", MIB, of[mine], theirs, of[theirs],
                            [of[mine] / of[theirs]], goal, -1))  # fmt: skip

    for shape, of in peaks.items():
        is_short = shape == "4×128"  # what the targets are for
        over(f", float32 base, {shape}", of, "f32", "torch float32", 0.45 if is_short else None)
        for base in ("q8_0", "q4_1"):
            over(f", {base} base, {shape}", of, base, "torch float32", 0.25 if is_short else None)
        leanest = min((name for name in of if name.startswith("torch")), key=of.get)
        over(f", the least on either side, {shape}", of, min(map(LEAN.get, OURS), key=of.get), leanest)
        for base in OURS:
            over(f" with recomputation over without, {base} base, {shape}", of, LEAN[base], base, None if is_short else 0.5)
    return result


def write_memory(path, peaks):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["program", "tokens", "mib", "mib_recomputed"])
        for name in [*OURS, *THEIRS]:
            for shape, of in peaks.items():
                writer.writerow([name, shape, *(f"{of[key] / MIB:.0f}" for key in (name, LEAN[name]))])


def choices(data):
    """What PyTorch's other ways to the same step take."""
    return ", ".join(f"{name} {statistics.median(of['lora']):.2f} s" for name, of in data.get("choices", {}).items())


def extent(data, count):
    """'2 to 3' of count(values) over the programs of all races."""
    counts = [count(v) for name, of in data.items() if name in RACES and name != "choices" for v in of.values()]
    return " to ".join(str(n) for n in sorted({min(counts), max(counts)})) if counts else "0"


def first_losses(data):
    losses = {}
    for name, result in data.items():
        if name in RACES and name != "choices":
            losses.setdefault(RACES[name][0], {}).update({c: values["loss"] for c, values in result.items()})
    return {shape: {name: f"{loss:.5f}" for name, loss in of.items()} for shape, of in losses.items()}


def write(data, out):
    """OUT/train_step_real.csv, train_step_memory.csv, train_step_real_about.json; returns the table's rows."""
    table = times(data)
    if "memory" in data:
        table += memory(data["memory"])
        write_memory(out / "train_step_memory.csv", data["memory"])
    for threads, told in data.get("products", {}).items():
        name = f"products with the base weights, 512 tokens, share of the peak, {threads} thread{'s' * (threads != '1')}"
        table.append(rated("own", name, "GFLOP/s a core", 1e9, None, "peak", told["peak"], [told["share"]], 0.8))
    ratio_table.write(out / "train_step_real.csv", table)
    imports = data.get("memory", {}).get("4×128", {}).get("imports", 0)
    about = {**data["about"], "processes": extent(data, lambda v: len(v["share"] or v["lora"])),
             "steps": extent(data, lambda v: v["steps"]), "imports_mib": f"{imports / MIB:.0f}", "choices": choices(data),
             "first_losses": first_losses(data)}  # fmt: skip
    (out / "train_step_real_about.json").write_text(json.dumps(about, ensure_ascii=False))
    return table
