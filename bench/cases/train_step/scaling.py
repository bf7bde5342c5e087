"""How the cost of a step grows with layers, rank and tokens: runs train_step_bench, draws the plot, fits lines."""

import csv
import json
import statistics
import subprocess

# (axis, label, values in full, values in a quick look, the option that sets it)
AXES = [
    ("layers", "layers", [2, 4, 8, 12, 16], [2, 8], lambda n: ["--layers", n]),
    ("rank", "rank", [1, 2, 4, 8, 16, 32, 64], [8, 64], lambda n: ["--rank", n]),
    ("tokens", "tokens of a step", [512, 1024, 2048, 3072, 4096], [512, 2048], lambda n: ["--sequences", n // 128]),
]
VARIANTS = ["lora", "tl6"]


def medians(program, threads, options, rounds):
    command = [program, "--threads", threads, "--rounds", rounds, "--variants", ",".join(["none", *VARIANTS]), *options]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    variants = json.loads(done.stdout)["variants"]
    base = variants["none"]["seconds"]
    row = {"none": 1e3 * statistics.median(base)}
    for name in VARIANTS:
        seconds = variants[name]["seconds"]
        row[name] = 1e3 * statistics.median(seconds)
        row[f"{name} share"] = 1e3 * statistics.median(with_ - without for with_, without in zip(seconds, base))
    return row


def fit(xs, ys):
    """Least squares y = a + b x: a, b and the largest |y - a - b x| as a share of the largest y."""
    mean_x, mean_y = statistics.fmean(xs), statistics.fmean(ys)
    b = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys)) / sum((x - mean_x) ** 2 for x in xs)
    a = mean_y - b * mean_x
    return a, b, max(abs(y - a - b * x) for x, y in zip(xs, ys)) / max(ys)


def plot(out, tables):
    """OUT/train_step_scaling.svg and .png by gnuplot: whole steps above, the adapters' shares below."""
    script = ["set key top left", "set grid", "set xrange [0:*]", "set yrange [0:*]"]
    for row, (what, columns) in enumerate(
        [("ms a step", ["none", *VARIANTS]), ("ms of the adapter", [f"{name} share" for name in VARIANTS])]
    ):
        for name, label, *_ in AXES:
            file = out / f"train_step_{name}.csv"
            curves = ", ".join(
                f"'{file}' using 1:{2 + list(tables[name][0][1]).index(column)} with linespoints pt 7 "
                f"title '{column.removesuffix(' share').replace('none', 'without adapter')}'"
                for column in columns
            )
            script += [f"set ylabel '{what}'", f"set xlabel '{label}'", f"plot {curves}"]
    body = "\n".join(script)
    for terminal, suffix in [("svg size 1200,720 background 'white'", "svg"), ("pngcairo size 1200,720", "png")]:
        commands = f"set datafile separator ','\nset terminal {terminal}\nset output '{out}/train_step_scaling.{suffix}'\n"
        commands += f"set multiplot layout 2,3\n{body}\nunset multiplot\n"
        subprocess.run(["gnuplot"], input=commands, text=True, check=True)


def measure(program, threads, out, quick):
    """Writes OUT/train_step_AXIS.csv and the plot; returns the Markdown section."""
    tables = {}
    for name, _, full, few, options in AXES:
        values = few if quick else full
        tables[name] = [(n, medians(program, threads, options(n), 5 if quick else 15)) for n in values]
        with (out / f"train_step_{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([name, *tables[name][0][1]])
            writer.writerows([n, *row.values()] for n, row in tables[name])
        print(f"scaling over {name} done", flush=True)
    plot(out, tables)

    lines = ["### Growth", "", "![Step time against layers, rank and tokens](train_step_scaling.svg)", ""]
    lines += ["Least squares lines through these points; how far the farthest point lies from its line, as a share of the "
              "largest value.", "", "| over | of | line, ms | farthest |", "|---|---|---|---|"]  # fmt: skip
    for name, *_ in AXES:
        for column in tables[name][0][1]:
            if name == "rank" and column == "none":
                continue
            xs, ys = [n for n, _ in tables[name]], [row[column] for _, row in tables[name]]
            a, b, off = fit(xs, ys)
            what = "step without adapter" if column == "none" else column if "share" in column else f"{column} step"
            lines.append(f"| {name} | {what} | {a:.2f} + {b:.4g}·{name} | {100 * off:.0f} % |")
    return "\n".join(lines)
