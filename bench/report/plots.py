"""Draws the results with gnuplot, as SVG files."""

import statistics
import subprocess

import scores
from results import Value

# Okabe and Ito's colours, which colour-blind people tell apart too; a point shape or a dash each besides.
BLUE, ORANGE, GREEN, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
STYLES = {
    "ours": f"lc rgb '{ORANGE}' pt 7 lw 2",
    "eigen": f"lc rgb '{BLUE}' pt 5",
    "openblas": f"lc rgb '{GREEN}' pt 9",
    "naive": f"lc rgb '{PURPLE}' pt 13",
    "roofline": "lc rgb '#000000' pt 0 dt 2",
}
TITLES = {"ours": "tiedlora", "eigen": "careful Eigen", "openblas": "OpenBLAS", "naive": "plain Eigen"}
ONE = "1 with lines lc rgb '#000000' lw 2 notitle"  # where both are as fast


def gnuplot(path, size, commands):
    head = f"set terminal svg noenhanced size {size} font 'sans,12' background 'white'\nset output '{path}'\n"
    head += "set grid lc rgb '#dddddd' lt 1\nset border 3\nset tics nomirror\n"
    subprocess.run(["gnuplot"], input=head + commands, text=True, check=True)


def block(name, points):
    """An inline table of gnuplot's."""
    return f"${name} << EOD\n" + "\n".join(" ".join(f"{number:.5g}" for number in point) for point in points) + "\nEOD\n"


def baselines(results, path):
    """Every configuration's ratio to every baseline, one column of points for each, with the median and the quartiles."""
    columns = scores.of_modules(results, "gcc")
    if not columns:
        return False
    colors = {"forward": BLUE, "backward": ORANGE, "forward + backward": ORANGE}
    commands, curves, labels = "", [ONE], []
    for i, score in enumerate(columns):
        # Beside each other by the golden ratio: no two neighbours overlap.
        points = [(i + 0.6 * ((0.618 * k) % 1 - 0.5), value.median) for k, value in enumerate(score.ratios.values())]
        middle = score.over_all
        box = (i, middle.median, i - 0.33, i + 0.33, middle.q1, middle.q3)
        commands += block(f"points{i}", points) + block(f"box{i}", [box])
        curves.append(f"$points{i} with points pt 7 ps 0.35 lc rgb '{colors[score.what]}' notitle")
        curves.append(f"$box{i} with boxxyerror lc rgb '#000000' fs empty notitle")
        curves.append(f"$box{i} using 3:2:(0.66):(0) with vectors nohead lw 3 lc rgb '#000000' notitle")
        name = {scores.CAREFUL: "careful Eigen,\\nOpenBLAS", scores.PLAIN: "plain Eigen"}.get(score.baseline, score.baseline)
        labels.append(f"\"{name}\\n{score.what.replace('forward + ', 'fwd + ')}\" {i}")
    commands += f"""
set logscale y 2
set xrange [-0.6:{len(columns) - 0.4}]
set xtics ({', '.join(labels)}) font ',11' scale 0
set ylabel 'times as fast as the baseline'
set bmargin 5
plot {', '.join(curves)}
"""
    gnuplot(path, "1000,460", commands)
    return True


def panels(path, size, titles, curves, setup, ylabel):
    """Panels side by side with one key: `curves(k)` returns the commands and the plots of panel k."""
    commands = f"set multiplot layout 1,{len(titles)}\n{setup}\nset ylabel '{ylabel}'\n"
    for k, title in enumerate(titles):
        blocks, plots = curves(k)
        commands += f"{blocks}set title '{title}'\nplot {', '.join(plots)}\n"
    gnuplot(path, size, commands + "unset multiplot\n")


def eigen(results, path):
    """Times as fast as the better of careful Eigen and OpenBLAS against the number of tokens, by rank: medians over shapes
    and schemes."""
    rows = [row for row in results.rows("grid", "gcc") if row.is_target]
    ranks = [rank for rank in (4, 8, 16, 64) if any(row.r == rank for row in rows)]
    if not rows:
        return False

    def curves(k):
        blocks, plots = "", [ONE]
        for rank, color, point in zip(ranks, (ORANGE, BLUE, GREEN, PURPLE), (7, 5, 9, 13)):
            of_tokens = {}
            for row in rows:
                if row.backward == bool(k) and row.r == rank and row.T in (1, 8, 64, 512):
                    of_tokens.setdefault(row.T, []).append(row["x.vs_peer"].median)
            points = [(tokens, *quartet(values)) for tokens, values in sorted(of_tokens.items())]
            blocks += block(f"r{rank}_{k}", points)
            plots.append(f"$r{rank}_{k} using 1:2:3:4 with yerrorlines lc rgb '{color}' pt {point} title 'r = {rank}'")
        return blocks, plots

    setup = "set logscale x 2\nset logscale y 2\nset xrange [0.8:650]\nset yrange [0.7:4]\nset ytics (0.7, 1, 1.4, 2, 2.8, 4)\n"
    setup += "set xtics (1, 8, 64, 512)\nset xlabel 'tokens T'\nset key top left"
    panels(path, "900,380", ["forward", "backward"], curves, setup, "times as fast as the better of the two")
    return True


def quartet(values):
    """Median, lower and upper quartile."""
    value = Value.of(values)
    return value.median, value.q1, value.q3


def pytorch(results, path):
    """Times as fast as PyTorch eager and PEFT's layer against the number of tokens: medians over widths and schemes."""
    rows = results.rows("pytorch")
    if not rows:
        return False
    styles = [("eager", 8, BLUE, 5), ("eager", 64, SKY, 4), ("peft", 8, ORANGE, 7), ("peft", 64, PURPLE, 6)]

    def curves(k):
        blocks, plots = "", [ONE]
        for name, rank, color, point in styles:
            of_tokens = {}
            for row in rows:
                if row.backward == bool(k) and row.r == rank and row.baseline == name:
                    of_tokens.setdefault(row.T, []).append(row["x.faster"].median)
            points = [(tokens, *quartet(values)) for tokens, values in sorted(of_tokens.items())]
            blocks += block(f"{name}{rank}_{k}", points)
            title = f"{'PyTorch eager' if name == 'eager' else 'PEFT'}, r = {rank}"
            plots.append(f"${name}{rank}_{k} using 1:2:3:4 with yerrorlines lc rgb '{color}' pt {point} title '{title}'")
        return blocks, plots

    setup = "set logscale x 2\nset logscale y 2\nset xrange [0.8:650]\nset yrange [0.8:128]\n"
    setup += "set xtics (1, 64, 512)\nset xlabel 'tokens T'\nset key top right"
    panels(path, "900,380", ["forward", "forward + backward"], curves, setup, "times as fast")
    return True


def bars(columns, labels, ylabel, title):
    """Commands of a chart of grouped bars. `columns`: (title, colour, values)."""
    width = 0.8 / len(columns)
    commands, plots = f"set style fill solid 0.85\nset boxwidth {0.9 * width}\n", []
    for i, (name, color, values) in enumerate(columns):
        points = [(k + width * (i - (len(columns) - 1) / 2), value) for k, value in enumerate(values)]
        tag = f"{title.split()[0]}{i}"
        commands += block(tag, points)
        plots.append(f"${tag} with boxes lc rgb '{color}' title '{name}'")
        plots.append(f"${tag} using 1:2:(sprintf('%.0f', $2)) with labels offset 0,0.6 font ',10' notitle")
    ticks = ", ".join(f'"{label}" {k}' for k, label in enumerate(labels))
    highest = max(value for _, _, values in columns for value in values)
    top = highest * (1.1 + 0.08 * len(columns))  # room for the key
    commands += f"set xrange [-0.6:{len(labels) - 0.4}]\nset yrange [0:{top}]\nset bmargin 4\nset xtics ({ticks}) scale 0\n"
    return commands + f"set title '{title}'\nset ylabel '{ylabel}'\nset key top left\nplot {', '.join(plots)}\n"


def training(results, path):
    """Time and memory of a step at real sizes, compared with PyTorch and PEFT."""
    rows = {row["name"]: row for row in results.tables["train_step_real"]}
    steps = [(name, label) for name, label in (
        ("step, 4×128, one thread", "4×128 tokens,\\none thread"), ("step, 4×128, two threads", "4×128 tokens,\\ntwo threads"),
        ("step, 1×1024, two threads", "1×1024 tokens,\\ntwo threads")) if name in rows]  # fmt: skip
    peaks = {(row["program"], row["tokens"]): row for row in results.tables["train_step_memory"]}
    if not steps or not peaks:
        return False
    time = [[float(rows[name][side]) for name, _ in steps] for side in ("ours", "theirs")]
    commands = "set multiplot layout 1,2\n"
    commands += bars([("tiedlora", ORANGE, time[0]), ("transformers + PEFT", BLUE, time[1])], [label for _, label in steps],
                     "ms", "time of a step, float32")  # fmt: skip
    shapes = list(dict.fromkeys(shape for _, shape in peaks))
    sides = [("tiedlora, float32", ORANGE, "f32"), ("tiedlora, Q4_1 base", PURPLE, "q4_1"),
             ("PyTorch, float32", BLUE, "torch float32"), ("PyTorch, bfloat16", SKY, "torch bfloat16")]  # fmt: skip
    columns = [(title, color, [float(peaks[key, shape]["mib"]) for shape in shapes]) for title, color, key in sides]
    commands += bars(columns, [f"{shape} tokens\\n " for shape in shapes], "MiB", "peak memory of the process")
    gnuplot(path, "1000,400", commands + "unset multiplot\n")
    return True


def toy(results, path):
    """Milliseconds of the toy's training step, with and without an adapter, compared with PyTorch with either attention."""
    if not results.steps:
        return False
    times = {}
    for row in results.steps:
        variant = {"tl6": "TL6 / VeRA", "vera": "TL6 / VeRA", "lora": "LoRA", "none": "without adapter"}[row["variant"]]
        times.setdefault(row["program"], {}).setdefault(variant, []).append(float(row["step_ms"]))
    variants = ["without adapter", "LoRA", "TL6 / VeRA"]
    columns = [
        (program if program == "tiedlora" else f"transformers + PEFT, {program}", color,
         [statistics.median(of[variant]) for variant in variants])
        for (program, of), color in zip(times.items(), (ORANGE, BLUE, SKY))
    ]  # fmt: skip
    gnuplot(path, "760,400", bars(columns, variants, "ms", "time of a training step, toy Llama, two threads"))
    return True


def growth_of_step(results, path):
    """The toy's step and the adapter's share of it against layers, rank and tokens."""
    if not all(results.growth.values()):
        return False
    labels = {"layers": "layers", "rank": "rank", "tokens": "tokens of a step"}
    curves = {
        "ms a step": [("none", "without adapter", BLUE, 5), ("lora", "LoRA", GREEN, 9), ("tl6", "TL6", ORANGE, 7)],
        "ms of the adapter": [("lora share", "LoRA", GREEN, 9), ("tl6 share", "TL6", ORANGE, 7)],
    }
    commands = "set multiplot layout 2,3\nset key top left\nset xrange [0:*]\nset yrange [0:*]\n"
    for what, columns in curves.items():
        for axis, rows in results.growth.items():
            plots = []
            for column, title, color, point in columns:
                tag = f"{axis}_{column.replace(' ', '_')}"
                commands += block(tag, [(row[axis], row[column]) for row in rows])
                plots.append(f"${tag} using 1:2 with linespoints lc rgb '{color}' pt {point} title '{title}'")
            spread = "set key bottom right" if (axis, what) == ("rank", "ms a step") else "set key top left"
            ticks = "set xtics 1000" if axis == "tokens" else "set xtics autofreq"
            commands += f"{spread}\n{ticks}\nset ylabel '{what}'\nset xlabel '{labels[axis]}'\nplot {', '.join(plots)}\n"
    gnuplot(path, "1100,640", commands + "unset multiplot\n")
    return True


def engine(results, path):
    """What an adapter adds to a token, compared with llama.cpp."""
    rows = results.engine
    threads = sorted({key[1] for key in rows})
    if not threads:
        return False
    styles = [("engine", "lora", "examples/engine, LoRA", BLUE, 5), ("engine", "tl6", "examples/engine, TL6", ORANGE, 7),
              ("llama.cpp", "lora", "llama.cpp, LoRA", GREEN, 9)]  # fmt: skip

    def curves(k):
        blocks, plots = "", []
        for program, scheme, title, color, point in styles:
            points = [
                (rank, *(float(row[f"overhead{part}"]) for part in ("", "_low", "_high")))
                for rank in (8, 16, 32) if (row := rows.get((program, threads[k], f"{scheme} {rank}")))
            ]  # fmt: skip
            tag = f"{program[:2]}{scheme}{k}"
            blocks += block(tag, points)
            plots.append(f"${tag} using 1:2:3:4 with yerrorlines lc rgb '{color}' pt {point} title '{title}'")
        return blocks, plots

    setup = "set xlabel 'rank'\nset yrange [0:50]\nset xtics (8, 16, 32)\nset xrange [4:36]\nset key top left"
    titles = [f"{n} thread{'s' * (n > 1)}" for n in threads]
    panels(path, "900,380", titles, curves, setup, "time added to a token, per cent")
    return True


def batch(results, path):
    """Time of a mixed batch over that of one adapter for all tokens, against the number of adapters."""
    rows = [row for row in results.rows("batch", "gcc") if row.d_in == 4096 and row.T == 64]
    if not rows:
        return False
    ranks = {r.r for r in rows}
    styles = [(kind, rank, f"A and B {'shared' if kind == 'tenants' else 'of their own'}, r = {rank}", color, point)
              for kind, rank, color, point in (("tenants", 8, BLUE, 5), ("tenants", 16, GREEN, 9), ("tenants", 32, SKY, 4),
                                               ("own", 8, ORANGE, 7), ("own", 16, "#000000", 13), ("own", 32, PURPLE, 6))
              if rank in ranks and (rank != 16 or ranks == {16})]  # fmt: skip

    def curves(k):
        blocks, plots = "", [ONE]
        for kind, rank, title, color, point in styles:
            here = sorted((r.adapters, r["x.vs_one"].median) for r in rows
                          if r.name.startswith(kind) and r.r == rank and r.threads == k + 1)  # fmt: skip
            blocks += block(f"{kind}{rank}_{k}", here)
            plots.append(f"${kind}{rank}_{k} using 1:2 with linespoints lc rgb '{color}' pt {point} title '{title}'")
        return blocks, plots

    setup = "set logscale xy 2\nset xrange [0.8:80]\nset yrange [0.7:16]\nset xtics (1, 4, 16, 64)\n"
    setup += "set xlabel 'adapters among 64 tokens'\nset key top left"
    panels(path, "900,380", ["one thread", "two threads"], curves, setup, "time over that of one adapter")
    return True


def roofline(results, build, path):
    """Every configuration of the grid by its arithmetic intensity, under the machine's limits."""
    machine = {row.name: row for row in results.rows("machine", build)}
    rows = results.rows("grid", build)
    if "fma" not in machine or not rows:
        return False
    peak = machine["fma"]["GFLOP_per_s"]
    commands, curves = "", []
    for backward, style in ((False, f"lc rgb '{BLUE}' pt 6"), (True, f"lc rgb '{ORANGE}' pt 4")):
        name = "backward" if backward else "forward"
        points = [(r["flops"] / r["bytes"], r["flops"] / r["us.ours"].median / 1e3) for r in rows if r.backward == backward]
        commands += block(name, points)
        curves.append(f"${name} using 1:2 with points {style} ps 0.6 title '{name}'")
    for dash, level in enumerate(("L1", "L2", "L3", "DRAM"), 1):
        if level in machine:
            bandwidth = machine[level]["read_GB_per_s"]
            curves.append(f"x*{bandwidth} < {peak} ? x*{bandwidth} : {peak} with lines dt {dash} lc rgb '#777777' title "
                          f"'{level}, {bandwidth:.0f} GB/s'")  # fmt: skip
    lowest = min(r["flops"] / r["bytes"] for r in rows) / 1.5
    highest = max(r["flops"] / r["bytes"] for r in rows) * 1.5
    commands += f"""
set logscale xy
set xrange [{lowest}:{highest}]
set yrange [1:{1.5 * peak}]
set samples 1000
set key bottom right
set xlabel 'arithmetic intensity, FLOP/byte'
set ylabel 'GFLOP/s'
plot {', '.join(curves)}
"""
    gnuplot(path, "760,520", commands)
    return True


def growth(results, build, path):
    """Time against r, T and d, forward above backward."""
    rows = [r for r in results.rows("grid", build) if r.d_in == r.d_out and "/tl6/" in r.name]
    axes = [
        ("rank r", "r", "d = 1024, T = 64", lambda r: r.d_in == 1024 and r.T == 64),
        ("tokens T", "T", "d = 1024, r = 8", lambda r: r.d_in == 1024 and r.r == 8),
        ("width d", "d_in", "r = 8, T = 64", lambda r: r.d_in in (576, 1024, 4096) and r.r == 8 and r.T == 64),
    ]
    commands = "set logscale xy\nset key bottom right samplen 2\nset multiplot layout 2,3\n"
    for backward in (False, True):
        for label, attribute, fixed, chosen in axes:
            here = [r for r in rows if chosen(r) and r.backward == backward]
            if len(here) < 2:
                return False
            values = sorted({getattr(r, attribute) for r in here})
            ticks = ", ".join(str(value) for value in values if attribute != "r" or value in (1, 4, 16, 64, 256))
            commands += f"set title '{'backward' if backward else 'forward'}, TL6, {fixed}'\nset xlabel '{label}'\n"
            commands += f"set ylabel 'µs'\nset xtics ({ticks})\nset xrange [{values[0] / 1.3}:{values[-1] * 1.3}]\n"
            curves = []
            for name, style in STYLES.items():
                tag = f"{name}_{attribute}_{int(backward)}"
                points = sorted((getattr(r, attribute), r[f"us.{name}"].median) for r in here)
                commands += block(tag, points)
                curves.append(f"${tag} using 1:2 with linespoints {style} title '{TITLES.get(name, name)}'")
            commands += f"plot {', '.join(curves)}\nunset key\n"
    gnuplot(path, "1100,640", commands + "unset multiplot\n")
    return True


def layers(results, build, path):
    """One token through the adapters of many layers, tied and untied."""
    rows = results.rows("layers", build)
    if len({r.layers for r in rows}) < 2:
        return False
    commands, curves = "", []
    for rank, color in ((8, BLUE), (16, GREEN), (32, ORANGE)):
        for kind, style in (("tied", "pt 7 dt 1"), ("untied", "pt 6 dt 2")):
            points = sorted((r.layers, r[f"us.{kind}"].median / r.layers) for r in rows if r.r == rank)
            commands += block(f"{kind}{rank}", points)
            curves.append(f"${kind}{rank} using 1:2 with linespoints lc rgb '{color}' {style} title '{kind}, r = {rank}'")
    commands += "set logscale x 2\nset yrange [0:*]\nset key top left\nset xlabel 'layers of width 4096'\n"
    commands += f"set ylabel 'µs a layer, one token'\nplot {', '.join(curves)}\n"
    gnuplot(path, "760,460", commands)
    return True


def draw(results, folder):
    """Draws what there are results for."""
    drawn = set()
    for name, function in (("baselines", baselines), ("eigen", eigen), ("pytorch", pytorch), ("training", training),
                           ("step", toy), ("train_step_scaling", growth_of_step), ("engine", engine), ("batch", batch)):
        if function(results, folder / f"{name}.svg"):
            drawn.add(f"{name}.svg")
    for build in results.builds():
        for name, function in (("roofline", roofline), ("growth", growth), ("layers", layers)):
            if function(results, build, folder / f"{name}-{build}.svg"):
                drawn.add(f"{name}-{build}.svg")
    for path in folder.glob("*.svg"):  # of an earlier run
        if path.name not in drawn:
            path.unlink()
