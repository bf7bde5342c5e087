"""docs/benchmarks.md: what a minute's reader takes away, how it was measured, then a result a section, then what was missed.
Every figure, those in headings too, comes from docs/benchmarks."""

import statistics

import details
import scores
import targets
from markdown import NAMES, table
from markdown import details as folded
from results import words

TOKENS = (1, 8, 64, 512)


class Page:
    """The page's parts; `results` is what they are made of."""

    def __init__(self, results):
        self.results = results
        self.scores = scores.of_modules(results, "gcc")
        self.real = {row["name"]: row for row in results.tables["train_step_real"]}
        self.engine = {score.what: score for score in scores.of_engine(results)}
        self.layers = {row.r: row for row in results.rows("layers", "gcc") if row.layers == 32}

    def median(self, baseline, what):
        return f"{scores.find(self.scores, baseline, what).over_all.median:.2f}"

    def real_ratio(self, name):
        return self.real[name]["ratio"]

    def write(self):
        parts = [self.summary(), self.method(), self.eigen(), self.pytorch(), self.training(), self.decoding(), self.tying(),
                 self.batches(), self.roofline(), self.itself(), self.memory(), self.missed(), self.everything()]  # fmt: skip
        return "# Benchmarks\n\n" + "\n\n".join(parts) + "\n"

    def summary(self):
        about, build = self.results.about, self.results.about["builds"]["gcc"]
        one, two = (self.real_ratio(f"step, 4×128, {threads}") for threads in ("one thread", "two threads"))
        peak = self.real_ratio("peak memory, float32 base, 4×128")
        rows = [
            ["the better of [careful Eigen and OpenBLAS](#eigen)", "one module: forward; backward",
             f"{self.median(scores.CAREFUL, 'forward')}; {self.median(scores.CAREFUL, 'backward')}"],
            ["[PyTorch eager](#pytorch)", "one module: forward; forward + backward",
             f"{self.median(scores.EAGER, 'forward')}; {self.median(scores.EAGER, 'forward + backward')}"],
            ["[transformers + PEFT](#a-training-step)", "a LoRA step at the sizes of SmolLM2-135M: one thread; two",
             f"{one}; {two}, in {peak} of the memory"],
            ["[llama.cpp](#in-an-engine)", "decoding a token with LoRA on every linear layer",
             f"{self.engine['a token with LoRA'].figure.median:.2f}"],
            ["[the same adapters untied](#tying)", "a token through 32 layers of width 4096, r = 32",
             f"{self.layers[32]['x.tied_faster'].median:.2f}"],
        ]  # fmt: skip
        return f"""{table(["compared with", "what", "times as fast"], rows, 2)}

Medians, in float32 except for llama.cpp's Q4_1; {about["machine"]["cpu"]}, {build["compiler"].replace("GNU", "GCC")} with AVX-512,
one thread unless it says two; decoding in one and two. What is slower than a baseline is in [limits.md](limits.md), what fell short of a target in
[Missed targets](#missed).

![How many times as fast as each baseline, every configuration](benchmarks/baselines.svg)

Each point is one configuration; boxes are medians and quartiles. Above 1 the library is faster."""

    def method(self):
        results, about = self.results, self.results.about
        machine, baselines = about["machine"], about["baselines"]
        lines = [f"- {machine['cpu']}, {machine['cores']} cores, {machine['caches']}; measured on {machine['date']}"]
        for build in results.builds():
            b = about["builds"][build]
            lines.append(f"- {NAMES[build]}: {b['compiler']}, `{b['flags'].strip()}`, kernels `{b['kernels']}`, "
                         f"{b['rounds']} rounds")  # fmt: skip
        lines.append(f"- Eigen {baselines['eigen']}; {baselines['openblas']}")
        if "torch" in baselines:
            lines.append(f"- PyTorch {baselines['torch']}, PEFT {baselines['peft']}")
        notes = "".join(f"{note}\n\n" for note in about["notes"])
        skipped = about["not_measured"]
        skipped = "\n\n" + folded("Not measured", "\n".join(f"- {one}" for one in skipped)) if skipped else ""
        return f"""## What was measured, and how

A **configuration** is one module at one width, scheme, rank r and number of tokens T: forward (y += …) or backward (dx and the
gradients of A, B, u and v accumulate). The library and its baselines take turns on the same memory in one process, pinned to
one core, with hot data unless it says cold; their results are compared before anything is timed. A ratio is taken within a
round. Figures are medians over the rounds, with the quartiles in brackets; times are processor time of the thread, except
where two threads work. Ratios travel to other machines, times do not.

Medians are over the configurations in common use: forward of 1, 8, 64 and 512 tokens, backward of 8 and more, ranks
4 to 64. One is won or lost where both quartiles are more than 3 % from even.

- **Plain Eigen**: the formula as one expression.
- **Careful Eigen, OpenBLAS**: matrix products with scratch allocated once, and u, v and s folded into the smallest operand.
  OpenBLAS picks its kernels at run time: even against the builds for AVX2 and SSE2 it runs its AVX-512 ones.
- **PyTorch eager, PEFT's layer**: the formula, and PEFT's own module over a base layer that costs nothing; their processes
  and ours alternate.
- **Roofline**: the longer of the operations at the multiply-add peak, and a plain loop that reads and updates what must be
  read and updated, timed on the same buffers in the same rounds.

{notes}{folded("Machine, compilers, versions", chr(10).join(lines))}{skipped}"""

    def eigen(self):
        body = []
        for build in self.results.native_builds():
            found = scores.of_modules(self.results, build)
            for what in ("forward", "backward"):
                score = scores.find(found, scores.CAREFUL, what)
                of_tokens = [[v.median for name, v in score.ratios.items() if name.endswith(f"T:{T}")] for T in TOKENS]
                medians = [f"{statistics.median(values):.2f}" if values else "–" for values in of_tokens]
                body.append([f"{what}, {NAMES[build]}", *medians, f"{score.won} / {score.even} / {score.lost}",
                             f"{score.ratios[score.worst].median:.2f}, {words(score.worst)}"])  # fmt: skip
        head = ["median", *(f"T = {T}" for T in TOKENS), "won / even / lost", "worst"]
        forward, backward = (self.median(scores.CAREFUL, what) for what in ("forward", "backward"))
        plain, plain_backward = (self.median(scores.PLAIN, what) for what in ("forward", "backward"))
        return f"""<a id="eigen"></a>

## {forward} times as fast as Eigen and OpenBLAS forward, {backward} backward, {body[0][1]} at one token

![Times as fast as the better of careful Eigen and OpenBLAS, by tokens and rank](benchmarks/eigen.svg)

{table(head, body)}

Against the better of the two in each configuration. The gain is largest at low ranks and many tokens, where the library has
kernels of its own for few rows. One token is two matrix-vector products, which every BLAS does well: both sides read the factors
once, and little is left to gain. Against the plain expression the medians are {plain} and {plain_backward}.
[Every configuration](benchmarks/modules.md)."""

    def pytorch(self):
        body = []
        for name, title in (("eager", "PyTorch eager"), ("peft", "PEFT's layer")):
            for backward, what in ((False, "forward"), (True, "forward + backward")):
                for rank in (8, 64):
                    rows = [r for r in self.results.rows("pytorch")
                            if r.baseline == name and r.backward == backward and r.r == rank]  # fmt: skip
                    of_tokens = [[r["x.faster"].median for r in rows if r.T == T] for T in (1, 64, 512)]
                    body.append([title, what, rank, *(f"{statistics.median(values):.1f}" for values in of_tokens)])
        forward, both = (self.median(scores.EAGER, what) for what in ("forward", "forward + backward"))
        return f"""<a id="pytorch"></a>

## {forward} times as fast as PyTorch forward, {both} forward and backward

![Times as fast as PyTorch eager and PEFT's layer, by tokens and rank](benchmarks/pytorch.svg)

{table(["median", "", "r", "T = 1", "T = 64", "T = 512"], body, 2)}

With few tokens the cost of a call decides; at rank 64 both sides multiply near the processor's peak. Over all configurations
PEFT's layer takes {self.median(scores.PEFT, "forward")} times as long forward and {self.median(scores.PEFT, "forward + backward")} forward
and backward. [By width and scheme](benchmarks/modules.md#pytorch-and-pefts-layer)."""

    def training(self):
        names = ["step, 4×128, one thread", "step, 4×128, one thread, AVX2", "step, 4×128, two threads",
                 "step, 4×128, two threads, AVX2", "step, 1×1024, two threads", "step, 4×128, two threads, both in bfloat16",
                 "step, 4×128, two threads, ours in float32, PyTorch in bfloat16",
                 "step, 1×1024, two threads, both with recomputation"]  # fmt: skip
        memory = [f"peak memory, {of}, 4×128" for of in ("float32 base", "q4_1 base", "the least on either side")]
        body = [[name, *(details.side(self.real[name], side) for side in ("ours", "theirs")), self.real_ratio(name)]
                for name in [*names, *memory] if name in self.real]  # fmt: skip
        toy = {row["name"]: row for row in self.results.tables["train_step_table"]}
        share = toy["lora: adapter's share of the time"]["ratio"]
        one, one_avx2, two, two_avx2, least = map(self.real_ratio, (*names[:4], memory[0]))
        return f"""<a id="a-training-step"></a><a id="a-training-step-at-real-sizes"></a>

## A LoRA training step: {one} to {two} times as fast as PEFT ({one_avx2} to {two_avx2} with AVX2), in {least} of the memory

![Time and peak memory of a training step, compared with transformers and PEFT](benchmarks/training.svg)

{table(["", "tiedlora", "transformers + PEFT", "ratio"], body)}

SmolLM2-135M's sizes, LoRA of rank 8 on all seven modules of a layer; forward, backward and AdamW. Ratios of times are theirs
over ours, ratios of memory ours over theirs. In a toy of width 128 the adapter's own share of the step is {share} times as
fast as PEFT's. [All rows, the toy, and growth with layers, rank and tokens](benchmarks/training.md)."""

    def decoding(self):
        whats = ("a token without adapter", "a token with LoRA", "what LoRA adds to a token")
        bare, lora, added = (self.engine[what] for what in whats)
        about, rows = self.results.about["engine"], self.results.engine
        overhead = lambda threads, adapter: float(rows["engine", threads, adapter]["overhead"])
        tl6 = statistics.median(overhead(n, f"tl6 {r}") / overhead(n, f"lora {r}") for n in (1, 2) for r in (8, 16, 32))
        return f"""<a id="in-an-engine"></a>

## Decoding with LoRA: {lora.figure.median:.2f} times as fast as llama.cpp

![What an adapter adds to the time of a token](benchmarks/engine.svg)

{details.engine(self.results)}

SmolLM2-135M (Q4_1), an adapter on all seven linear layers. The first row of a block is a token without adapter, the others what
the adapter adds to it, each program over itself in the same round; {about["rounds"]} rounds of {about["tokens"]} tokens
({about["machine"]}, kernels `{about["kernels"]}`). Without adapter `examples/engine` is {bare.figure.median:.2f} times as fast.
Decoding is bound by memory: a LoRA of rank 32 in float is 39 MB beside the model's 96 MB, all read for every token, while the A
and B of a tied adapter stay in cache: in the median TL6 adds {tl6:.2f} of what LoRA adds. What LoRA adds,
in milliseconds, is {added.figure.median:.2f} times as much in llama.cpp in the median, and {added.ratios[added.worst].median:.2f} times at {added.worst}."""

    def tying(self):
        body = []
        for rank in (8, 16, 32):
            rows = [r for r in self.results.rows("layers", "gcc") if r.r == rank and r.layers in (1, 8, 32, 64)]
            decode = [r for r in self.results.rows("decode", "gcc") if r.r == rank and r.layers == 32]
            body.append([rank, *(f"{r['x.tied_faster'].median:.2f}" for r in rows + decode)])
        high, low = (f"{self.layers[rank]['x.tied_faster'].median:.2f}" for rank in (32, 8))
        return f"""<a id="tying"></a>

## Tying: {high} times as fast as untied over 32 layers at rank 32, {low} at rank 8

![Time of a layer, tied and untied, against the number of layers](benchmarks/layers-gcc.svg)

{table(["r", "1 layer", "8 layers", "32 layers", "64 layers", "32 layers, between base weights"], body)}

One token through layers of width 4096, the same kernels on both sides: tied factors stay in cache, untied ones come from
memory once they outgrow the L3. The last column reads base weights of 4 bits each before every module, which displaces what the
caches held, and counts the adapters' time alone. [Both compilers](benchmarks/serving.md)."""

    def batches(self):
        rows = {(r.name.split("/")[0], r.r, r.adapters, r.threads): r for r in self.results.rows("batch", "gcc")
                if r.d_in == 4096 and r.T == 64}  # fmt: skip
        counts = (1, 4, 16, 64)
        ranks = [rank for rank in (8, 32) if ("tenants", rank, 1, 1) in rows] or [16]  # --full has more ranks
        pair = lambda row: f"{row['x.vs_one'].median:.2f} · {row['x.vs_loop'].median:.2f}×"
        body = [
            ["shared" if kind == "tenants" else "own", rank, *(pair(rows[kind, rank, n, 1]) for n in counts)]
            for kind in ("tenants", "own") for rank in ranks
        ]  # fmt: skip
        tenants = {row.name: row for row in self.results.rows("tenants", "gcc")}
        kinds = {"lora": "with LoRA", "tl6": "with TL6", "u": "where only u is a tenant's own"}
        held = ", ".join(f"{details.bytes_text(1e4 * tenants[f'{key}/r:8']['heap'])} {title}" for key, title in kinds.items())
        shared = rows["tenants", ranks[0], 64, 1]["x.vs_one"].median
        return f"""<a id="batches"></a>

## Mixed batches: 64 tenants that share A and B take {shared:.2f} of one adapter's time

![Time of a mixed batch over that of one adapter](benchmarks/batch.svg)

{table(["A and B", "r", *(f"{n} adapter{'s' * (n > 1)}" for n in counts)], body)}

One module of width 4096, forward of 64 tokens dealt out to the adapters in turn, one thread: time over that of one adapter for
all tokens · times as fast as a loop over the adapters, one call each on its gathered tokens. With A and B of their own the
batch costs what the loop costs. 10,000 tenants of LLaMA2-7B, rank 8, bfloat16, take {held}.
[Widths, ranks, two threads, memory](benchmarks/serving.md#mixed-batches)."""

    def roofline(self):
        grid = [r for r in self.results.rows("grid", "gcc") if r.is_target]
        share = {back: targets.of_median([r for r in grid if r.backward == back], "x.share") for back in (False, True)}
        stages = ("shrink", "expand", "expand_backward", "shrink_backward")
        body = []
        for rank in (4, 8, 16, 64):
            rows = [r for r in self.results.rows("halves", "gcc") if r.r == rank]
            body.append([rank, *(f"{statistics.median(r[f'x.{stage}'].median for r in rows):.2f}" for stage in stages)])
        return f"""<a id="roofline"></a>

## {share[False].median:.2f} of the roofline forward, {share[True].median:.2f} backward

![Roofline](benchmarks/roofline-gcc.svg)

{table(["r", *stages], body)}

The heading has medians over configurations. The table has the four stages alone, of 64 tokens, as a share of the multiply-add
peak: medians over widths 576, 1024 and 4096. [Bandwidths, stages, factors from memory, other builds](benchmarks/machine.md)."""

    def itself(self):
        results, body = self.results, []

        def add(what, group, key, chosen):
            cells = []
            for build in results.native_builds():
                rows = [row for row in results.rows(group, build) if chosen(row)]
                worst = (max if key == "x.slower" else min)(rows, key=lambda row: row[key].median)
                cells += [f"{targets.of_median(rows, key).median:.2f}", f"{worst[key].median:.2f}"]
            body.append([what, *cells])

        bound = lambda r: r["memory_bound"] and r.is_target
        add("bfloat16 over float, where float is bound by memory", "types", "x.bfloat16", bound)
        add("half over float, likewise", "types", "x.half", bound)
        add("bfloat16 activations with float parameters, likewise", "types", "x.float_bfloat16", bound)
        add("a second thread, T ≥ 64", "threads", "x.faster", lambda r: r.T >= 64)
        add("a second thread, forward, T = 1", "threads", "x.faster", lambda r: r.T == 1 and not r.backward)
        add("time at width 577, 1023 over 592, 1024, T ≥ 8", "widths", "x.slower", lambda r: r.T >= 8 and r.r >= 4)
        types, threads = body[0][1], body[3][1]
        head = ["", *(f"{NAMES[build]}: {what}" for build in results.native_builds() for what in ("median", "worst"))]
        return f"""<a id="itself"></a>

## 16-bit parameters: {types} times as fast where float is bound by memory; a second thread: {threads} times as fast

{table(head, body)}

Times as fast; the last row is a ratio of times. bfloat16 and half are widened on load: slower than float while
everything is in the L2. On one token two threads share a few microseconds of work and meet at a barrier between the stages.
[Every row](benchmarks/machine.md#16-bit-types)."""

    def memory(self):
        found = {v.key: v for v in targets.memory_verdicts(self.results, "gcc")}
        calls, kept = found["allocations"], found["kept"]
        title = "No allocation in a hot call, r × T values kept for backward"
        if calls.is_missed or kept.is_missed:
            title = "Allocations in a hot call, and what backward keeps"
        return f"""<a id="memory"></a>

## {title}

Allocations by `operator new` and by `malloc`: {calls.seen}. Kept for backward besides x: {kept.seen}
([allocations.csv](benchmarks/allocations.csv), [kept.csv](benchmarks/kept.csv))."""

    def limits(self):
        """{a target's key: (what limits it, the command that shows it)}"""
        real = lambda name, side: float(self.real[name][side])
        avx2, wide = "step, 4×128, one thread, AVX2", "step, 4×128, one thread"
        grid = [r for r in self.results.rows("grid", "gcc") if r.r == 8 and r.T == 512 and r.d_in == r.d_out
                and r.d_in in (576, 1024, 4096)]  # fmt: skip
        shares = [r["x.share"].median for r in grid]
        pytorch, steps = ".venv/bin/python bench/baselines/pytorch.py", ".venv/bin/python bench/cases/train_step/real_sizes.py"
        return {
            "never slower: forward": (
                "one token without u and v is two matrix-vector products: both sides read the factors once, what is left is the "
                "call; Clang's loops are slower than GCC's",
                "script/bench --filter '^grid/forward/.*/T:1$' --full"),
            "median": ("at high ranks and many tokens all three run at the multiply-add peak",
                       "script/bench --filter '^grid/' --full"),
            "PyTorch r = 8": (f"the kernels are at {min(shares):.2f} to {max(shares):.2f} of the roofline there",
                              f"{pytorch} --filter '/r:8/T:512$'"),
            "PyTorch r = 64": ("both sides run at the multiply-add peak (PyTorch's products are oneMKL's)",
                               f"{pytorch} --filter '/r:64/'"),
            "what LoRA adds to a token": (
                "39 MB of factors from memory for every token; llama.cpp's calls take longer and overlap more of it",
                ".venv/bin/python bench/cases/engine/compare.py --program build/bench/gcc/bin/engine_bench"),
            avx2: (f"AVX2 takes {real(avx2, 'ours') / real(wide, 'ours'):.2f} of our time with AVX-512, "
                   f"{real(avx2, 'theirs') / real(wide, 'theirs'):.2f} of PyTorch's", f"{steps} --only 'one thread'"),
            "peak memory with recomputation over without, f32 base, 1×1024": ("513 MiB are the weights", f"{steps} --only memory"),
            "what TL6, r = 32, adds to a step": ("its products are 9 % as many operations as the base's", f"{steps} --only tl6"),
        }  # fmt: skip

    def missed(self):
        limits, found = self.limits(), {}
        for build, verdict in targets.every(self.results):
            found.setdefault((verdict.key, verdict.what, verdict.target), []).append((build, verdict))
        body = []
        for (key, what, target), pairs in found.items():
            if any(verdict.is_missed for _, verdict in pairs):
                one = len(pairs) == 1
                seen = "; ".join(v.seen if one else f"{NAMES[b]}: {v.seen}" for b, v in pairs)
                why, command = limits.get(key, ("–", "script/bench --full"))
                body.append([what.removeprefix("the "), target, seen, why, f"`{command}`"])
        count = sum(len(pairs) > 0 for pairs in found.values())
        return f"""<a id="missed"></a>

## Missed targets: {len(body)} of {count}

{table(["what", "target", "measured", "what limits it", "command"], body, 5)}

Targets are ratios to what somebody would use instead; shares of the roofline have none. A target on many configurations is
missed where one misses it. [All targets](benchmarks/targets.md), [known gaps and their reasons](limits.md)."""

    def everything(self):
        return """## All figures

| page | what |
|---|---|
| [modules.md](benchmarks/modules.md) | one module: wins and losses, growth with rank, tokens and width, every configuration, PyTorch and PEFT |
| [machine.md](benchmarks/machine.md) | bandwidths and roofline, the four stages, factors from memory, 16-bit types, odd widths, two threads |
| [training.md](benchmarks/training.md) | a training step: the toy, growth, real sizes |
| [serving.md](benchmarks/serving.md) | tied against untied, mixed batches, resident tenants |
| [targets.md](benchmarks/targets.md) | every target with what was measured, and figures without one |

The results are the CSV files of [benchmarks/](benchmarks); [about.json](benchmarks/about.json) has the machine and the
versions. `script/bench --full` repeats all measurements; `python3 bench/report/report.py --from docs/benchmarks` makes these
pages and pictures from the committed results."""
