"""What real_sizes.py measures, and the page that it makes of it."""

import statistics

from compare import MIB, spread

# race: shape, threads, variants, rank, contenders
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
    for name, what in [("step", "4×128"), ("one thread", "4×128, one thread"), ("long", "1×1024")]:
        against(name, "f32 bf16", "torch autocast", f"both in bfloat16, {what}")
        against(name, "f32", "torch autocast", f"float32 against bfloat16, {what}")
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
        is_short = shape == "4×128"  # what the targets are for
        over(f"{shape}", of, "f32", "torch float32", 0.45 if is_short else None)
        for base in ("q8_0", "q4_1"):
            over(f"{base} base, {shape}", of, base, "torch float32", 0.25 if is_short else None)
        leanest = min((name for name in of if name.startswith("torch")), key=of.get)
        over(f"the least of either, {shape}", of, min(map(LEAN.get, OURS), key=of.get), leanest)
        for base in OURS:
            over(f"computed again over kept, {base} base, {shape}", of, LEAN[base], base, None if is_short else 0.5)


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
