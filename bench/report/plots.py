"""Draws the results with gnuplot, as SVG files."""

import csv
import statistics
import subprocess

import scores
from results import NATIVE

# Okabe and Ito's colours, which colour-blind people tell apart too, and a point shape each.
STYLES = {
    "ours": "lc rgb '#D55E00' pt 7 lw 2",
    "eigen": "lc rgb '#0072B2' pt 5",
    "openblas": "lc rgb '#009E73' pt 9",
    "naive": "lc rgb '#CC79A7' pt 13",
    "roofline": "lc rgb '#000000' pt 0 dt 2",
}
TITLES = {"ours": "tiedlora", "eigen": "Eigen with care", "openblas": "OpenBLAS", "naive": "plain Eigen"}


def gnuplot(path, size, commands):
    head = f"set terminal svg size {size} font 'sans,12' background 'white'\nset output '{path}'\n"
    head += "set grid lc rgb '#dddddd' lt 1\nset border 3\nset tics nomirror\n"
    subprocess.run(["gnuplot"], input=head + commands, text=True, check=True)


def block(name, points):
    """An inline table of gnuplot's."""
    return f"${name} << EOD\n" + "\n".join(" ".join(f"{number:.5g}" for number in point) for point in points) + "\nEOD\n"


def peers(results, build, path):
    """Every cell's ratio to every peer, one column of points for each, with the median and quartiles over the cells."""
    columns = scores.of_cells(results, build)
    if build not in NATIVE or not columns:
        return False
    colors = {"forward": "#0072B2", "backward": "#D55E00", "forward + backward": "#D55E00"}
    commands, curves, labels = "", ["1 with lines lc rgb '#000000' lw 2 notitle"], []
    for i, score in enumerate(columns):
        # Beside each other by the golden ratio: no two neighbours overlap.
        points = [(i + 0.6 * ((0.618 * k) % 1 - 0.5), value.median) for k, value in enumerate(score.ratios.values())]
        middle = score.over_cells
        box = (i, middle.median, i - 0.33, i + 0.33, middle.q1, middle.q3)
        commands += block(f"cells{i}", points) + block(f"box{i}", [box])
        curves.append(f"$cells{i} with points pt 7 ps 0.35 lc rgb '{colors[score.what]}' notitle")
        curves.append(f"$box{i} with boxxyerror lc rgb '#000000' fs empty notitle")
        curves.append(f"$box{i} using 3:2:(0.66):(0) with vectors nohead lw 3 lc rgb '#000000' notitle")
        name = score.peer.replace("better of careful Eigen and OpenBLAS", "careful Eigen,\\nOpenBLAS")
        labels.append(f"\"{name.replace(' expression', '')}\\n{score.what.replace('forward + ', 'fwd + ')}\" {i}")
    commands += f"""
set logscale y 2
set xrange [-0.6:{len(columns) - 0.4}]
set xtics ({', '.join(labels)}) font ',10' scale 0
set ylabel 'times faster (below 1: slower)'
set bmargin 5
plot {', '.join(curves)}
"""
    gnuplot(path, "1000,460", commands)
    return True


def training(path_of_csv, path):
    """Milliseconds of a training step, with and without an adapter, beside PyTorch with either attention."""
    if not path_of_csv.exists():
        return False
    times = {}
    with path_of_csv.open() as file:
        for row in csv.DictReader(file):
            variant = {"tl6": "TL6 / VeRA", "vera": "TL6 / VeRA", "lora": "LoRA", "none": "without adapter"}[row["variant"]]
            times.setdefault(row["program"], {}).setdefault(variant, []).append(float(row["step_ms"]))
    variants = ["without adapter", "LoRA", "TL6 / VeRA"]
    commands, curves = "set style fill solid 0.8\nset boxwidth 0.22\n", []
    for i, (program, color) in enumerate(zip(times, ("#D55E00", "#0072B2", "#56B4E9"))):
        points = [(k + 0.25 * (i - 1), statistics.median(times[program][variant])) for k, variant in enumerate(variants)]
        title = program if program == "tiedlora" else f"transformers + PEFT, {program}"
        commands += block(f"step{i}", points)
        curves.append(f"$step{i} with boxes lc rgb '{color}' title '{title}'")
    labels = ", ".join(f"'{variant}' {k}" for k, variant in enumerate(variants))
    commands += f"set xrange [-0.6:2.6]\nset yrange [0:*]\nset xtics ({labels}) scale 0\nset key below\n"
    gnuplot(path, "640,380", commands + f"set ylabel 'ms a training step'\nplot {', '.join(curves)}\n")
    return True


def roofline(results, build, path):
    """Every cell of the grid by its arithmetic intensity, under the machine's limits."""
    machine = {row.name: row for row in results.rows("machine", build)}
    rows = results.rows("grid", build)
    if "fma" not in machine or not rows:
        return False
    peak = machine["fma"]["GFLOP_per_s"]
    commands, curves = "", []
    for backward, style in ((False, "lc rgb '#0072B2' pt 6"), (True, "lc rgb '#D55E00' pt 4")):
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
set xlabel 'floating-point operations for each byte that must move'
set ylabel 'GFLOP/s'
plot {', '.join(curves)}
"""
    gnuplot(path, "760,520", commands)
    return True


def growth(results, build, path):
    """Time against r, T and d, forward above backward."""
    rows = [r for r in results.rows("grid", build) if r.d_in == r.d_out]
    panels = [
        ("rank", "r", lambda r: r.d_in == 1024 and r.T == 64),
        ("tokens", "T", lambda r: r.d_in == 1024 and r.r == 8),
        ("width", "d_in", lambda r: r.d_in in (576, 1024, 4096) and r.r == 8 and r.T == 64),
    ]
    commands = "set logscale xy\nset key top left samplen 2\nset multiplot layout 2,3\n"
    for backward in (False, True):
        for label, attribute, chosen in panels:
            here = [r for r in rows if chosen(r) and r.backward == backward]
            if len(here) < 2:
                return False
            fixed = {"rank": "d = 1024, T = 64", "tokens": "d = 1024, r = 8", "width": "r = 8, T = 64"}[label]
            commands += f"set title '{'backward' if backward else 'forward'}, {fixed}'\n"
            commands += f"set xlabel '{label}'\nset ylabel 'µs'\n"
            curves = []
            for contender, style in STYLES.items():
                name = f"{contender}_{label}_{int(backward)}"
                points = sorted((getattr(r, attribute), r[f"us.{contender}"].median) for r in here)
                commands += block(name, points)
                curves.append(f"${name} using 1:2 with linespoints {style} title '{TITLES.get(contender, contender)}'")
            commands += f"plot {', '.join(curves)}\nunset key\n"
    gnuplot(path, "1100,640", commands + "unset multiplot\n")
    return True


def layers(results, build, path):
    """One token through the adapters of many layers, tied and untied."""
    rows = results.rows("layers", build)
    if len({r.layers for r in rows}) < 2:
        return False
    commands, curves = "", []
    for rank, color in ((8, "#0072B2"), (16, "#009E73"), (32, "#D55E00")):
        for kind, style in (("tied", "pt 7 dt 1"), ("untied", "pt 6 dt 2")):
            points = sorted((r.layers, r[f"us.{kind}"].median / r.layers) for r in rows if r.r == rank)
            commands += block(f"{kind}{rank}", points)
            curves.append(f"${kind}{rank} using 1:2 with linespoints lc rgb '{color}' {style} title '{kind}, r = {rank}'")
    commands += "set logscale x 2\nset yrange [0:*]\nset key top left\nset xlabel 'layers of width 4096, T = 1'\n"
    commands += f"set ylabel 'µs a layer'\nplot {', '.join(curves)}\n"
    gnuplot(path, "760,480", commands)
    return True


def draw(results, folder):
    """Draws what there are results for; returns the names of the files."""
    drawn = ["step.svg"] if training(results.folder / "train_step.csv", folder / "step.svg") else []
    for build in results.builds():
        for kind, function in (("peers", peers), ("roofline", roofline), ("growth", growth), ("layers", layers)):
            path = folder / f"{kind}-{build}.svg"
            if function(results, build, path):
                drawn.append(path.name)
    return drawn
