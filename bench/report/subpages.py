"""The pages of docs/benchmarks: every figure that docs/benchmarks.md leaves out."""

import details
import scores
import targets
from markdown import NAMES
from markdown import details as folded

BACK = "Part of [Benchmarks](../benchmarks.md), which says how all of it is measured."


ALTS = {"growth": "Time against rank, tokens and width", "roofline": "Roofline", "layers": "Time of a layer, tied and untied"}


def pictures(results, kind):
    shown = [build for build in results.builds() if (results.folder / f"{kind}-{build}.svg").exists()]
    return "\n\n".join(f"{NAMES[build]}: ![{ALTS[kind]}, {NAMES[build]}]({kind}-{build}.svg)" for build in shown)


def all_scores(results):
    """[(build, score)]"""
    found = [(b, score) for b in results.native_builds() for score in scores.of_modules(results, b)]
    found = targets.side_by_side(found, lambda score: (score.baseline, score.what))
    return found + [("gcc", score) for score in scores.of_training(results) + scores.of_engine(results)]


def modules(results):
    grids = [
        folded(f"{NAMES[build]}{', cold data' if group == 'cold' else ''}", details.grid(results, group, build))
        for group in ("grid", "cold") for build in results.builds() if results.rows(group, build)
    ]  # fmt: skip
    grids = "\n\n".join(grids)
    return f"""# One module

{BACK}

## Won, even, lost

A training step is LoRA against PEFT's, and TL6 against VeRA, of the toy; a token is one of decoding by `examples/engine`, whose
ratios have the widest quartiles that those of both programs allow. What is lost, by how much and why:
[limits.md](../limits.md).

{details.scores(all_scores(results))}

## Time against rank, tokens and width

{pictures(results, "growth")}

## Every configuration

Share of the roofline · times as fast as the better of careful Eigen and OpenBLAS. A row without a scheme is TL6. The same
results with quartiles and times: [grid.csv](grid.csv), [cold.csv](cold.csv).

{grids}

## PyTorch and PEFT's layer

Times as fast as the formula in PyTorch eager · as PEFT's layer, which runs with a base layer that costs nothing and has no TL6.
One thread each; their processes and ours alternate ([pytorch.csv](pytorch.csv)).

{details.pytorch(results)}
"""


def machine(results):
    types = "\n\n".join(text for build in results.builds() if (text := details.types(results, build)))
    stages = details.ratios(results, "halves", (), ("shrink", "expand", "expand_backward", "shrink_backward"))
    return f"""# The machine, and the library compared with itself

{BACK}

## Bandwidths and peak

{details.limits(results)}

## Roofline

Every configuration of the grid by its arithmetic intensity.

{pictures(results, "roofline")}

## The four stages

Share of the multiply-add peak at which the products of the formula would take as long ([halves.csv](halves.csv)).

{stages}

### Factors from memory

One token through more modules of plain LoRA than any cache holds: time of a plain loop that reads the factor, divided by that of
the stage that works with it ([distant.csv](distant.csv)).

{details.ratios(results, "distant", (), ("shrink", "expand"))}

## 16-bit types

Times as fast as float: all operands narrow, or the activations alone with float parameters ([types.csv](types.csv)).

{types}

## Widths off the vector multiple

Time at an odd width over that at a round one ([widths.csv](widths.csv)).

{details.ratios(results, "widths", ("odd", "round"), ("slower",))}

## Two threads

([threads.csv](threads.csv))

{details.ratios(results, "threads", ("one", "two"), ("faster",))}
"""


def training(results):
    toy, real = results.about["train_step"], results.about["train_step_real"]
    problem, rows = toy["problem"], results.tables["train_step_real"]
    of = lambda kind: [row for row in rows if row["kind"] == kind]
    losses = "; ".join(f"{shape} tokens: " + ", ".join(f"{name} {loss}" for name, loss in of_shape.items())
                       for shape, of_shape in real["first_losses"].items())  # fmt: skip
    choices = f"PyTorch's ways to that step, one process each: {real['choices']}.\n\n" if real.get("choices") else ""
    notes = "".join(f"{note}\n\n" for note in real.get("notes", []))
    return f"""# A training step

{BACK}

## At real sizes

The sizes of SmolLM2-135M (width 576, 30 layers, 9 heads, 3 key-value heads, feed-forward 1536, vocabulary 49152) with random
frozen weights; LoRA of rank 8 on all seven modules of a layer unless a row says otherwise; forward, backward and AdamW. The
baseline has the same weights and tokens in transformers' LlamaForCausalLM (sdpa attention) with PEFT's LoRA, or TL6 written out
in PyTorch, and PyTorch's fused AdamW; its bfloat16 is autocast's for times and the whole model's for memory, where each is the
better. q8_0 and q4_1 are weights that stay in a GGUF file's type, the embedding in Q8_0. Recomputation keeps each layer's input
and computes the layer again in backward. AVX2: our program compiled for x86-64-v3, and PyTorch, MKL and both's oneDNN held to
AVX2.

The programs' processes alternate, {real["processes"]} of each, {real["steps"]} steps in a process after one to warm up. Figures
are medians over processes with the quartiles in brackets; a ratio is of processes that ran one after the other. Memory is the
peak of a process that runs that variant alone with two threads, everything counted: PyTorch's imports alone are
{real["imports_mib"]} MiB. {real["machine"]}; {real["compiler"]}, `{real["kernels"]}`; PyTorch {real["torch"]}, transformers
{real["transformers"]}, PEFT {real["peft"]}.

![Time and peak memory of a training step](training.svg)

Time: the ratio is theirs over ours, larger is better.

{details.comparison(of("speed"), "transformers + PEFT")}

Memory: the ratio is ours over theirs, smaller is better.

{details.comparison(of("memory"), "transformers + PEFT")}

{details.peaks(results)}

The library compared with itself.

{details.comparison(of("own"), "against")}

{choices}{notes}First losses, where every adapter is still zero; programs in float32 must agree within 1e-4: {losses}.

## A toy

A Llama of width {problem["width"]} ({problem["layers"]} layers, {problem["heads"]} heads, {problem["kv_heads"]} key-value heads,
feed-forward {problem["feed_forward"]}, vocabulary {problem["vocabulary"]}) with frozen float weights learns
{problem["sequences"]}×{problem["length"]} tokens a step; adapters of rank {problem["rank"]} on q, k and v; forward, backward and
AdamW, {toy["threads"]} threads. The baseline has the same weights and tokens in transformers' LlamaForCausalLM with PEFT's
adapters and PyTorch's fused AdamW; each row shows the better of its eager and sdpa attention. The first losses agree within 1e-4.

The adapter's share is the step minus the step without adapter, in which both programs go backward as far as the adapter would:
to q, k and v of the lowest layer. Steps with and without take turns in a process; {toy["processes"]} processes of each program
alternate, {toy["rounds"]} rounds each. Figures are medians over processes with the quartiles in brackets, ratios theirs over
ours; a target counts as met where the lower quartile reaches it. Memory: what forward keeps for backward (PyTorch's by
saved_tensors_hooks, every storage once), parameters, gradients and both moments, less what the step without adapter keeps.
{toy["machine"]}; {toy["compiler"]}, `{toy["kernels"]}`; PyTorch {toy["torch"]}, transformers {toy["transformers"]}, PEFT
{toy["peft"]} ([train_step.csv](train_step.csv)).

![A training step of the toy, compared with PyTorch and PEFT](step.svg)

{details.comparison(results.tables["train_step_table"], "transformers + PEFT")}

### Growth with layers, rank and tokens

![Step time against layers, rank and tokens](train_step_scaling.svg)

Least-squares lines through these points; how far the farthest point lies from its line, as a share of the largest value.

{details.growth(results)}
"""


def serving(results):
    batch = "\n\n".join(folded(NAMES[b], part) for b in results.builds() if (part := details.batch(results, b)))
    layers, decode = (details.ratios(results, group, ("tied", "untied"), ("tied_faster",)) for group in ("layers", "decode"))
    return f"""# Tied factors and many adapters

{BACK}

## Tied against untied

One token through the adapters of many layers of width 4096, the same kernels and calls ([layers.csv](layers.csv)).

{pictures(results, "layers")}

{layers}

The same between base weights of 4 bits each, read before each module, which displace what the caches held; the adapters' time
alone ([decode.csv](decode.csv)).

{decode}

## Mixed batches

One module, forward, tokens dealt out to adapters in turn, so that none has two tokens side by side; one plan, made beforehand
(its time is in the last column; it serves all modules of all layers). In each pair: time over that of one adapter for all
tokens · times as fast as a loop over the adapters, one call each on its gathered tokens ([batch.csv](batch.csv)).

{batch}

## Resident tenants

LLaMA2-7B, 32 layers of a fused qkv, in bfloat16; each tenant in an `AdapterSet`. Heap and resident set are measured in the
process, for as many tenants as the column says ([tenants.csv](tenants.csv)).

{details.tenants(results)}
"""


def every_target(results):
    return f"""# Targets

{BACK}

A figure is a median with its quartiles; where a target lies between these, the verdict says so. Ratios of time are theirs over
ours, ratios of memory ours over theirs. What limits those that were missed: [Missed targets](../benchmarks.md#missed).

{details.verdicts(results)}

## Figures without a target

Shares of what the machine can do, and the library compared with itself; times as fast, unless it says otherwise.

{details.information(results)}
"""


PAGES = {"modules": modules, "machine": machine, "training": training, "serving": serving, "targets": every_target}
