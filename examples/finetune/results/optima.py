"""The best learning rate of each scheme and rank in sweeps of finetune, beside what recommended_rates says.

    python3 examples/finetune/results/optima.py

sweep.csv is script/sweep's, of the demo's model (width 64, 12 layers). sweep_width192.csv is that of

    finetune --sweep --schemes lora:1,lora:8,lora:64,vera:64,tl5:16 --layers 6 --width 192 --ff 576 --base-steps 1200 --steps 300

A best rate is the vertex of the parabola through the lowest loss and its neighbours, over the logarithm of the rate.
"""

import csv
import math
import pathlib

FILES = {64: "sweep.csv", 192: "sweep_width192.csv"}
MULTIPLE_OF_LORA = {"lora": 1, "tl5": 2}  # what is trained in full or has u and v too has rates of another kind


def recommended(scheme, rank, width):
    """recommended_rates of include/tiedlora/adapter/learning_rates.hpp."""
    return MULTIPLE_OF_LORA[scheme] * 0.012 * rank**-0.4 * (width / 576) ** -0.25


def vertex(points):
    """Where the parabola through the lowest of [(rate, loss)] and its neighbours is lowest; None at an end."""
    points = sorted((math.log(rate), loss) for rate, loss in points)
    i = min(range(len(points)), key=lambda i: points[i][1])
    if i in (0, len(points) - 1):
        return None
    (x0, y0), (x1, y1), (x2, y2) = points[i - 1 : i + 2]
    left, right = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    return math.exp((x0 + x1) / 2 - left * (x2 - x0) / 2 / (right - left))


def main():
    print("| width | scheme | rank | best rate | recommended |\n|---:|---|---:|---:|---:|")
    for width, name in FILES.items():
        points = {}
        with open(pathlib.Path(__file__).parent / name, newline="") as file:
            for row in csv.DictReader(file):
                if row["scheme"] in MULTIPLE_OF_LORA:
                    key = row["scheme"], int(row["rank"])
                    points.setdefault(key, []).append((float(row["learning_rate"]), float(row["select_bits_per_byte"])))
        for (scheme, rank), found in sorted(points.items()):
            best = vertex(found)
            text = f"{best:.4f}" if best else "at the edge"
            print(f"| {width} | `{scheme}` | {rank} | {text} | {recommended(scheme, rank, width):.4f} |")


if __name__ == "__main__":
    main()
