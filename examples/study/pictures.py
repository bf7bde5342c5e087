"""The frontiers, drawn with gnuplot as SVG files."""

import shutil
import subprocess

# Okabe and Ito's colours, which colour-blind people tell apart too, and a point shape each.
COLORS = ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"]
POINTS = [7, 5, 9, 13, 11, 6, 4, 8, 10, 12]  # more than colours, so that no two pairs are alike


def script(path, title, entries, names):
    """The commands that draw `entries`: (curve, label, trainable parameters, Estimate of the share of LoRA r = 8's gain). Those
    of one curve whose labels are ranks are connected. `names`: of the curves of all pictures, so that a curve looks alike in
    each. Labels are LoRA's, and those of points above all that are no larger: others would cover each other."""
    curves = {}
    for curve, label, trained, share in entries:
        is_best = all(other is share or size > trained or other.mean < share.mean for _, _, size, other in entries)
        shown = label if curve == "lora" or is_best else ""
        curves.setdefault(curve, []).append((trained, 100 * share.mean, 100 * share.low, 100 * share.high, label, shown))
    blocks, drawn = "", []
    for i, (name, points) in sorted((names.index(name), (name, points)) for name, points in curves.items()):
        rows = "\n".join(
            f'{trained} {mean:.3f} {low:.3f} {high:.3f} "{shown}"' for trained, mean, low, high, _, shown in sorted(points)
        )
        blocks += f"$points{i} << EOD\n{rows}\nEOD\n"
        color, line = f"lc rgb '{COLORS[i % len(COLORS)]}'", "lw 2" if name == "lora" else "dt 3"
        if all(label.isdigit() for *_, label, _ in points):
            drawn.append(f"$points{i} using 1:2 with lines {color} {line} notitle")
        bars = f"with yerrorbars {color} pt {POINTS[i % len(POINTS)]} ps 0.9"
        drawn.append(f"$points{i} using 1:2:3:4 {bars} title '{name}' noenhanced")
        drawn.append(f"$points{i} using 1:2:(' '.strcol(5)) with labels left offset 0.4,0.5 font ',9' noenhanced notitle")
    return (
        f"set terminal svg size 860,520 font 'sans,12' background 'white'\nset output '{path}'\n"
        "set grid lc rgb '#dddddd' lt 1\nset border 3\nset tics nomirror\nset logscale x\nset key outside right top\n"
        f"set title '{title}'\nset xlabel 'trainable parameters'\nset ylabel \"% of LoRA r = 8's gain\"\n"
        + blocks + "plot " + ", \\\n  ".join(drawn) + "\n"
    )  # fmt: skip


def draw(path, title, entries, names):
    if not shutil.which("gnuplot"):
        raise SystemExit("gnuplot is not installed: run script/bootstrap study")
    subprocess.run(["gnuplot"], input=script(path, title, entries, names), text=True, check=True)
