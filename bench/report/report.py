"""Writes benchmarks.md, CSV files and plots from what the programs measured.

    python3 bench/report/report.py build/bench/results [--docs docs]

With --docs the page goes to DOCS/benchmarks.md and its data and pictures to DOCS/benchmarks/ as well.
"""

import argparse
import pathlib
import re
import shutil

import details
import plots
import summary
from markdown import NAMES
from results import Results

PAGE = """# Benchmarks

{opening}

## Won and lost

How many times faster the library is, over all cells (one shape, rank and number of tokens each) that somebody uses: forward
of 1, 8, 64 and 512 tokens, backward of 8 and more, ranks 4 to 64. A cell is won or lost where its quartiles are both more
than 3 % from even. A training step is LoRA against PEFT's, and TL6 against VeRA; a token is one of decoding, by
`examples/engine` (the quartiles of its ratios are the widest that those of both programs allow).

{scores}

What is lost, by how much and why: [limits.md](limits.md).

## Machine

{machine}

## Targets

{verdicts}

## Without a target

Shares of what the machine can do, and the library beside itself; how many times faster, unless it says otherwise.

{information}

## How it is measured

Written by `script/bench`, which measures all of it anew; the numbers are in [benchmarks/](benchmarks) as CSV. Ratios
travel to other machines, times do not.

A cell of the grid is one module, forward (y += …) or backward (dx and the gradients of A, B, u and v
accumulate), at one width, rank r and number of tokens T. All contenders work on the same memory, in one process, in
rounds: in each round everyone runs for some milliseconds. A ratio is taken within a round; a figure is the median over the
rounds with the quartiles in brackets. Times are processor time of the thread, except where two threads work. Before a
cell is measured all contenders' results are compared.
*Roofline*: the longer of floating-point operations over the peak, and a plain loop that reads what must be read and
updates what must be updated, measured on the same buffers in the same rounds. *Plain Eigen* is the formula as an
expression; *Eigen with care* and *OpenBLAS* are matrix products with scratch allocated once and u, v and s folded into
whatever is smaller. OpenBLAS chooses its kernels at run time: those for AVX2 and SSE2 below are compared with its AVX-512.

## Time against rank, tokens and width

{growth_plots}

## Roofline

{limits}

{roofline_plots}

## The grid

Share of the roofline · times faster than the better of Eigen with care and OpenBLAS.

{grid}

## The four halves

Share of the multiply-add peak at which the products of the formula would take as long.

{halves}

### Distant factors

One token through modules of plain LoRA, so many that no cache holds them: time of a plain loop that reads the factor over
that of the half that works with it.

{distant}

## bfloat16 and half

Times faster than float: all numbers narrow, or the activations alone beside float parameters.

{types}

## Widths off the vector multiple

{widths}

## Two threads

{threads}

## Tied against untied

One token through the adapters of many layers of width 4096, the same kernels and calls; `decode` reads base weights of
4 bits each before each module, which displace what the caches held, and counts the adapters' time alone.

{layers_plots}

{layers}

## Many adapters in one batch

One module, forward, tokens dealt out to adapters in turn, so that none has two tokens side by side; one plan, made
beforehand (its time is in the last column; it serves all modules of all layers). In each cell: time over that of one
adapter for all tokens · times faster than a loop over the adapters, one call each on its gathered tokens.

{batch}

### Resident tenants

LLaMA2-7B, 32 layers of a fused qkv, in bfloat16; each tenant in an `AdapterSet`. Heap and resident set are measured in the
process, for as many tenants as the column says.

{tenants}

## PyTorch and PEFT

Times faster than the formula in PyTorch eager · than PEFT's layer, which runs with a base layer that costs nothing and
has no TL6. One thread each; their processes and ours alternate. `both` is forward and backward.

{peers}

{training}

{real}

{engine}
"""


def write_page(results, drawn):
    path = results.folder / "train_step.md"
    section = path.read_text() if path.exists() else ""
    real = results.folder / "train_step_real.md"
    real = real.read_text() if real.exists() else ""
    engine = results.folder / "engine.md"
    pictures = lambda kind: "\n\n".join(
        f"{NAMES[name[len(kind) + 1:-4]]}: ![{kind}]({name})" for name in drawn if name.startswith(kind)
    )
    grids = [
        f"### {NAMES[build]}{' with cold data' if group == 'cold' else ''}\n\n" + details.grid_section(results, group, build)
        for group in ("grid", "cold")
        for build in results.builds()
        if results.rows(group, build)
    ]
    both = [b for b in results.builds() if results.rows("types", b)]
    page = PAGE.format(
        opening=summary.opening(drawn),
        scores=summary.scores_section(results, section),
        machine=summary.machine_section(results),
        verdicts=summary.verdict_section(results, section + real),
        information=summary.information_section(results, section),
        limits=summary.limits_section(results),
        roofline_plots=pictures("roofline"),
        growth_plots=pictures("growth"),
        grid="\n\n".join(grids),
        halves=details.ratio_section(results, "halves", (), ("shrink", "expand", "expand_backward", "shrink_backward")),
        distant=details.ratio_section(results, "distant", (), ("shrink", "expand")),
        types="\n\n".join(details.types_section(results, b) for b in both),
        widths=details.ratio_section(results, "widths", ("odd", "round"), ("slower",)),
        threads=details.ratio_section(results, "threads", ("one", "two"), ("faster",)),
        layers_plots=pictures("layers"),
        layers="\n\n".join(details.ratio_section(results, g, ("tied", "untied"), ("tied_faster",)) for g in ("layers", "decode")),
        batch="\n\n".join(part for b in results.builds() if (part := details.batch_section(results, b))),
        tenants=details.tenants_section(results),
        peers=details.peers_section(results),
        training=section,
        real=real,
        engine=engine.read_text() if engine.exists() else "",
    )
    if results.errors:
        page += "\n## Not measured\n\n" + "\n".join(f"- {error}" for error in results.errors) + "\n"
    (results.folder / "benchmarks.md").write_text(page)
    return page


def publish(results, page, docs):
    """The page with its data and those pictures it shows. Nothing of an earlier run stays."""
    folder = docs / "benchmarks"
    shutil.rmtree(folder, ignore_errors=True)
    results.write_csv(folder)
    for pattern in ("train_step*.csv", "train_step_real.json", "engine.csv"):
        for path in results.folder.glob(pattern):
            shutil.copy(path, folder)
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page):
        shutil.copy(results.folder / name, folder)
    (docs / "benchmarks.md").write_text(re.sub(r"(!\[[^\]]*\]\()([^)]+\))", r"\1benchmarks/\2", page))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("--docs", type=pathlib.Path)
    arguments = parser.parse_args()
    results = Results(arguments.results)
    results.write_csv(arguments.results)
    page = write_page(results, plots.draw(results, arguments.results))
    if arguments.docs:
        publish(results, page, arguments.docs)
    print(page[page.index("## Won and lost") : page.index("## Machine")])
    print(page[page.index("## Targets") : page.index("## How it is measured")])


if __name__ == "__main__":
    main()
