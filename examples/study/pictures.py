"""The pictures of the page, drawn with gnuplot as SVG files."""

import shutil
import subprocess

# Okabe and Ito's colours, which colour-blind people tell apart too, and a point shape each.
COLORS = ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"]
POINTS = [7, 5, 9, 13, 11, 6, 4, 8, 10, 12, 3, 2, 1]  # more than colours, so that no two pairs are alike


def frontier(title, entries, names):
    """What draws `entries`: (curve, label, trainable parameters, Estimate of the share of LoRA r = 8's gain). Those
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
        f"set logscale x\nset title '{title}'\nset xlabel 'trainable parameters'\nset ylabel \"% of LoRA r = 8's gain\"\n"
        + blocks + "plot " + ", \\\n  ".join(drawn) + "\n"
    )  # fmt: skip


def differences(title, rows):
    """What draws `rows`, from the top: (label, {name: Estimate}), a difference of shares for each of the same names. The last of
    these, the one that is tested, is drawn larger."""
    names = list(rows[0][1])
    blocks, drawn = "", []
    for i, name in enumerate(names):
        lines = "\n".join(
            f"{100 * of[name].mean:.3f} {100 * of[name].low:.3f} {100 * of[name].high:.3f} {-row - 0.6 * (i + 1) / len(names):.3f}"
            for row, (_, of) in enumerate(rows)
        )
        blocks += f"$points{i} << EOD\n{lines}\nEOD\n"
        color, size = ("#000000", "ps 1.1 lw 2") if i + 1 == len(names) else (COLORS[i], "ps 0.8")
        drawn.append(f"$points{i} using 1:4:2:3 with xerrorbars lc rgb '{color}' pt {POINTS[i]} {size} title '{name}' noenhanced")
    tics = ", ".join(f"'{label}' {-row - 0.6 * (len(names) + 1) / 2 / len(names):.3f}" for row, (label, _) in enumerate(rows))
    return (
        f"set title '{title}'\nset xrange [*<0:0<*]\nset xlabel \"difference, % points of LoRA r = 8's gain\"\nset yrange [{-len(rows)}:0]\n"
        f"set ytics noenhanced ({tics})\nset arrow from 0,{-len(rows)} to 0,0 nohead lc rgb '#555555'\n"
        + blocks + "plot " + ", \\\n  ".join(drawn) + "\n"
    )  # fmt: skip


def script(path, picture):
    """gnuplot's commands for a file of one of the above."""
    quoted = str(path).replace("'", "''")
    return (
        f"set terminal svg size 860,520 font 'sans,12' background 'white'\nset output '{quoted}'\n"
        "set grid lc rgb '#dddddd' lt 1\nset border 3\nset tics nomirror\nset key outside right top\n" + picture
    )


def draw(path, picture):
    if not shutil.which("gnuplot"):
        raise SystemExit("gnuplot is not installed: run script/bootstrap study")
    done = subprocess.run(["gnuplot"], input=script(path, picture), text=True, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise SystemExit(f"gnuplot could not draw {path}: {done.stderr.strip()}")
