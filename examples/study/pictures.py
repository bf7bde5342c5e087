"""The frontiers, drawn with gnuplot as SVG files."""

import shutil
import subprocess

# Okabe and Ito's colours, which colour-blind people tell apart too, and a point shape each.
COLORS = ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"]
POINTS = [7, 5, 9, 13, 11, 6, 4, 8]


def family(scheme):
    """What a curve connects: a scheme over its ranks; grouped tying over its groups."""
    return "TL6, groups of layers" if scheme.startswith("grouped") else scheme


def script(path, title, entries):
    """The commands that draw `entries`: (scheme, rank, trainable parameters, Estimate of the share of LoRA r = 8's gain)."""
    families = {}
    for scheme, rank, trained, share in entries:
        families.setdefault(family(scheme), []).append(
            (trained, 100 * share.mean, 100 * share.low, 100 * share.high, rank)
        )
    blocks, curves = "", []
    for i, (name, points) in enumerate(sorted(families.items(), key=lambda item: (item[0] != "lora", item[0]))):
        rows = "\n".join(
            f"{trained} {mean:.3f} {low:.3f} {high:.3f} {rank}" for trained, mean, low, high, rank in sorted(points)
        )
        blocks += f"$points{i} << EOD\n{rows}\nEOD\n"
        color, line = f"lc rgb '{COLORS[i % len(COLORS)]}'", "lw 2" if name == "lora" else "dt 3"
        curves.append(f"$points{i} using 1:2 with lines {color} {line} notitle")
        bars = f"with yerrorbars {color} pt {POINTS[i % len(POINTS)]} ps 0.9"
        curves.append(f"$points{i} using 1:2:3:4 {bars} title '{name}' noenhanced")
        curves.append(f"$points{i} using 1:2:(sprintf(' %d', $5)) with labels left offset 0.4,0.5 font ',9' notitle")
    return (
        f"set terminal svg size 860,520 font 'sans,12' background 'white'\nset output '{path}'\n"
        "set grid lc rgb '#dddddd' lt 1\nset border 3\nset tics nomirror\nset logscale x\nset key outside right top\n"
        f"set title '{title}'\nset xlabel 'trainable parameters'\nset ylabel \"% of LoRA r = 8's gain\"\n"
        + blocks + "plot " + ", \\\n  ".join(curves) + "\n"
    )  # fmt: skip


def draw(path, title, entries):
    if not shutil.which("gnuplot"):
        raise SystemExit("gnuplot is not installed: run script/bootstrap study")
    subprocess.run(["gnuplot"], input=script(path, title, entries), text=True, check=True)
