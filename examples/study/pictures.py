"""The frontiers, drawn with gnuplot as SVG files."""

import shutil
import subprocess

# Okabe and Ito's colours, which colour-blind people tell apart too, and a point shape each.
STYLES = ["lc rgb '#D55E00' pt 7", "lc rgb '#0072B2' pt 5", "lc rgb '#009E73' pt 9", "lc rgb '#CC79A7' pt 13",
          "lc rgb '#E69F00' pt 11", "lc rgb '#56B4E9' pt 6", "lc rgb '#000000' pt 4", "lc rgb '#999999' pt 8"]  # fmt: skip


def family(scheme):
    """What a curve connects: a scheme over its ranks; grouped tying over its groups."""
    return "TL6, groups of layers" if scheme.startswith("grouped") else scheme


def script(path, title, entries):
    """The commands that draw `entries`: (scheme, rank, trained numbers, Estimate of the share of LoRA r = 8's gain)."""
    families = {}
    for scheme, rank, trained, share in entries:
        families.setdefault(family(scheme), []).append((trained, 100 * share.mean, 100 * share.low, 100 * share.high, rank))
    blocks, curves = "", []
    for i, (name, points) in enumerate(sorted(families.items(), key=lambda item: (item[0] != "lora", item[0]))):
        rows = "\n".join(f"{trained} {mean:.3f} {low:.3f} {high:.3f} {rank}" for trained, mean, low, high, rank in sorted(points))
        blocks += f"$points{i} << EOD\n{rows}\nEOD\n"
        line = "dt 1 lw 2" if name == "lora" else "dt 3"
        curves.append(f"$points{i} using 1:2 with lines {STYLES[i % len(STYLES)]} {line} notitle")
        title_of = name.replace("_", "\\\\_")
        curves.append(f"$points{i} using 1:2:3:4 with yerrorbars {STYLES[i % len(STYLES)]} ps 0.9 title \"{title_of}\"")
        curves.append(f"$points{i} using 1:2:(sprintf(' %d', $5)) with labels left offset 0.4,0.5 font ',9' notitle")
    return (
        f"set terminal svg size 860,520 font 'sans,12' background 'white'\nset output '{path}'\n"
        "set grid lc rgb '#dddddd' lt 1\nset border 3\nset tics nomirror\nset logscale x\nset key outside right top\n"
        f"set title '{title}'\nset xlabel 'trained numbers'\nset ylabel \"% of LoRA r = 8's gain\"\n"
        + blocks + "plot " + ", \\\n  ".join(curves) + "\n"
    )  # fmt: skip


def draw(path, title, entries):
    if not shutil.which("gnuplot"):
        raise SystemExit("gnuplot is not installed: run script/bootstrap study")
    subprocess.run(["gnuplot"], input=script(path, title, entries), text=True, check=True)
