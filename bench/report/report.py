"""Writes benchmarks.md, CSV files and plots from what the programs measured.

    python3 bench/report/report.py build/bench/results [--docs docs]

With --docs the page goes to DOCS/benchmarks.md and its data and pictures to DOCS/benchmarks/ as well.
"""

import argparse
import datetime
import pathlib
import re
import shutil

import plots
import verdicts
from results import Results

NAMES = {"gcc": "GCC", "clang19": "Clang 19", "avx2": "AVX2", "sse2": "SSE2"}


def table(head, rows):
    """Markdown; columns after the first are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def machine_section(results):
    context = results.contexts[results.builds()[0]]
    caches = ", ".join(f"L{c['level']} {c['type'].lower()} {c['size'] // 1024} KiB"
                       for c in context["caches"])  # fmt: skip
    lines = [
        f"{cpu_model()}, {context['num_cpus']} cores, {caches}. Measured on {datetime.date.today()}, on one core "
        "pinned, hot data unless it says cold.",
        "",
    ]
    for build in results.builds():
        c = results.contexts[build]
        lines.append(f"- {NAMES[build]}: {c['compiler']}, `{c['flags'].strip()}`, kernels `{c['kernels']}`, "
                     f"{c['rounds']} rounds")  # fmt: skip
    lines.append(f"- Eigen {context['eigen']}; OpenBLAS: {context['openblas']}")
    if results.peers:
        lines.append(f"- PyTorch {results.peers['torch']}, PEFT {results.peers['peft']}")
    head, rows = ["limit"], {}
    for build in results.builds():
        head.append(NAMES[build])
        for row in results.rows("machine", build):
            if row.name == "fma":
                figure = f"{row['GFLOP_per_s']:.0f} GFLOP/s"
            else:
                figure = f"{row['read_GB_per_s']:.0f} / {row['update_GB_per_s']:.0f} GB/s"
            kib = "" if row.name == "fma" else f", {row['KiB']:.0f} KiB: read / update"
            rows.setdefault(row.name + kib, []).append(figure)
    return "\n".join(lines) + "\n\n" + table(head, [[name, *figures] for name, figures in rows.items()])


def verdict_section(results, section):
    rows = []
    for build in [b for b in results.builds() if b in ("gcc", "clang19")]:
        for part in (verdicts.grid_verdicts, verdicts.variant_verdicts, verdicts.memory_verdicts):
            rows += [(NAMES[build], v) for v in part(results, build)]
    rows += [("GCC", v) for v in verdicts.peer_verdicts(results) + verdicts.training_verdicts(section)]
    order = list(dict.fromkeys((v.what, v.target) for _, v in rows))  # both compilers' lines side by side
    rows.sort(key=lambda row: order.index((row[1].what, row[1].target)))
    lines = ["| what | target | build | seen | |", "|---|---|---|---|---|"]
    for build, v in rows:
        stands = v.stands.replace("MISSED", "**MISSED**")
        lines.append(f"| {v.what} | {v.target} | {build} | {v.seen} | {stands} |")
    return "\n".join(lines)


def grid_section(results, group, build):
    """A table for each direction: share of the roofline, and times faster than the better peer."""
    rows = results.rows(group, build)
    tokens = sorted({r.T for r in rows})
    parts = []
    for backward in (False, True):
        cells = {}
        for r in (r for r in rows if r.backward == backward):
            scheme = r.name.split("/")[1]
            label = (scheme, r.d_in, r.d_out, r.r)
            cells.setdefault(label, {})[r.T] = f"{r['x.share'].median:.2f} · {r['x.vs_peer'].median:.2f}×"
        if not cells:
            continue
        head = ["backward" if backward else "forward", "r", *(f"T = {T}" for T in tokens)]
        body = []
        for (scheme, d_in, d_out, rank), of_tokens in sorted(cells.items()):
            shape = str(d_in) if d_in == d_out else f"{d_in} → {d_out}"
            name = shape if scheme == "tl6" else f"{scheme} {shape}"
            body.append([name, rank, *(of_tokens.get(T, "") for T in tokens)])
        parts.append(table(head, body))
    return "\n\n".join(parts)


def ratio_section(results, group, times, ratios):
    """Times and ratios of every row of a group, builds side by side."""
    builds = [b for b in results.builds() if results.rows(group, b)]
    if not builds:
        return ""
    columns = [*(f"{name}, µs" for name in times), *ratios]
    rows = {}
    for row in results.rows(group):
        numbers = [f"{row[f'us.{t}'].median:.4g}" for t in times]
        rows.setdefault(row.name, {})[row.build] = numbers + [row[f"x.{ratio}"] for ratio in ratios]
    blank = [""] * len(columns)
    head = [group, *(f"{NAMES[build]}: {column}" for build in builds for column in columns)]
    return table(head, [[name, *sum((by.get(b, blank) for b in builds), [])] for name, by in rows.items()])


def types_section(results, build):
    kinds = ("bfloat16", "half", "float_bfloat16", "float_half")
    head = [f"types ({NAMES[build]})", "float, µs", *(f"× {kind}" for kind in kinds), "float is bound by"]
    rows = [
        [r.name, f"{r['us.float'].median:.4g}", *(r[f"x.{kind}"] for kind in kinds),
         "memory" if r["memory_bound"] else "arithmetic"]
        for r in results.rows("types", build)
    ]  # fmt: skip
    return table(head, rows) if rows else ""


def batch_section(results, build):
    """A table for each kind of adapters: cost against one adapter, and times faster than a loop over adapters."""
    rows = results.rows("batch", build)
    parts = []
    for kind in ("tenants", "own"):
        cells = {}
        for row in (r for r in rows if r.name.startswith(kind)):
            figure = f"{row['x.vs_one'].median:.2f} · {row['x.vs_loop'].median:.2f}×"
            cells.setdefault((row.d_in, row.r, row.T, row.adapters), {})[row.threads] = (row, figure)
        body = []
        for (d, rank, tokens, adapters), of_threads in sorted(cells.items()):
            row = next(iter(of_threads.values()))[0]
            figures = [of_threads[t][1] if t in of_threads else "" for t in (1, 2)]
            plan = f"{row['us.plan'].median:.2g}"
            body.append([d, rank, tokens, adapters, f"{row['us.batch'].median:.4g}", *figures, plan])
        if body:
            title = "one A and B, own u and v" if kind == "tenants" else "own A, B, u and v"
            head = [f"{title} ({NAMES[build]}): width", "r", "tokens", "adapters", "µs", "one thread", "two threads", "plan, µs"]
            parts.append(table(head, body))
    return "\n\n".join(parts)


def bytes_text(count):
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"


def tenants_section(results):
    """What resident adapters take, from the counts and as measured."""
    rows = results.rows("tenants")[:8]  # the same in every build
    names = {"lora": "LoRA", "tl6": "TL6", "u_and_v": "TL6, A and B shared", "u": "the same without v"}
    lora = {row.r: row["numbers"] for row in rows if row.name.startswith("lora/")}
    head = ["a tenant has", "r", "its numbers", "of LoRA's", "heap", "resident", "measured with", "10,000 take", "shared by all"]
    body = [
        [names[row.name.split("/")[0]], row.r, bytes_text(row["numbers"]), f"{100 * row['numbers'] / lora[row.r]:.3g} %",
         bytes_text(row["heap"]), bytes_text(row["resident"]), f"{row['tenants']:.0f}",
         bytes_text(1e4 * row["heap"]), bytes_text(row["shared"]) if row["shared"] else "–"]
        for row in rows if row.r in lora
    ]  # fmt: skip
    return table(head, body) if body else ""


def peers_section(results):
    """A table for each direction; in each cell how many times faster than eager, and than PEFT's layer."""
    rows = results.rows("peers")
    if not rows:
        return "Not measured in this run."
    parts = []
    for direction in ("forward", "both"):
        cells = {}
        for r in (r for r in rows if r.name.split("/")[1] == direction):
            cells.setdefault((r.name.split("/")[2], r.d_in, r.r), {}).setdefault(r.T, {})[r.peer] = r["x.faster"].median
        tokens = sorted({T for of_tokens in cells.values() for T in of_tokens})
        body = [
            [scheme, d, rank, *(" · ".join(f"{x:.1f}×" for x in of_tokens.get(T, {}).values()) for T in tokens)]
            for (scheme, d, rank), of_tokens in sorted(cells.items())
        ]
        parts.append(table([direction, "d", "r", *(f"T = {T}" for T in tokens)], body))
    return "\n\n".join(parts)


PAGE = """# Benchmarks

Written by `script/bench`, which measures all of it anew; the numbers are in [benchmarks/](benchmarks) as CSV. Ratios
travel to other machines, times do not.

**How.** A cell of the grid is one module, forward (y += …) or backward (dx and the gradients of A, B, u and v
accumulate), at one width, rank r and number of tokens T. All contenders work on the same memory, in one process, in
rounds: in each round everyone runs for some milliseconds. A ratio is taken within a round; a figure is the median over the
rounds with the quartiles in brackets. Times are processor time of the thread, except where two threads work. Before a
cell is measured all contenders' results are compared.
*Roofline*: the longer of floating-point operations over the peak, and a plain loop that reads what must be read and
updates what must be updated, measured on the same buffers in the same rounds. *Plain Eigen* is the formula as an
expression; *Eigen with care* and *OpenBLAS* are matrix products with scratch allocated once and u, v and s folded into
whatever is smaller.

## Targets

{verdicts}

## Machine

{machine}

## Roofline

{roofline_plots}

## Time against rank, tokens and width

{growth_plots}

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

{engine}
"""


def write_page(results, drawn):
    path = results.folder / "train_step.md"
    section = path.read_text() if path.exists() else ""
    engine = results.folder / "engine.md"
    pictures = lambda kind: "\n\n".join(
        f"{NAMES[name[len(kind) + 1:-4]]}: ![{kind}]({name})" for name in drawn if name.startswith(kind)
    )
    grids = [
        f"### {NAMES[build]}{' with cold data' if group == 'cold' else ''}\n\n" + grid_section(results, group, build)
        for group in ("grid", "cold")
        for build in results.builds()
        if results.rows(group, build)
    ]
    both = [b for b in results.builds() if results.rows("types", b)]
    page = PAGE.format(
        verdicts=verdict_section(results, section),
        machine=machine_section(results),
        roofline_plots=pictures("roofline"),
        growth_plots=pictures("growth"),
        grid="\n\n".join(grids),
        halves=ratio_section(results, "halves", (), ("shrink", "expand", "expand_backward", "shrink_backward")),
        distant=ratio_section(results, "distant", (), ("shrink", "expand")),
        types="\n\n".join(types_section(results, b) for b in both),
        widths=ratio_section(results, "widths", ("odd", "round"), ("slower",)),
        threads=ratio_section(results, "threads", ("one", "two"), ("faster",)),
        layers_plots=pictures("layers"),
        layers="\n\n".join(ratio_section(results, g, ("tied", "untied"), ("tied_faster",)) for g in ("layers", "decode")),
        batch="\n\n".join(part for b in results.builds() if (part := batch_section(results, b))),
        tenants=tenants_section(results),
        peers=peers_section(results),
        training=section,
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
    for path in [*results.folder.glob("train_step*.csv"), *results.folder.glob("engine.csv")]:
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
    print(page[page.index("## Targets") : page.index("## Machine")])


if __name__ == "__main__":
    main()
