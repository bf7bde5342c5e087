"""Who is faster: for each peer the cells that are won and lost, of those that somebody uses (Row.is_target)."""

import csv
import re

from results import Value

EVEN = 0.03  # a cell is won or lost if its quartiles are both farther from 1 than this, on one side

# (peer, what, group of rows, the ratio's name, which rows)
CONTESTS = [
    ("better of careful Eigen and OpenBLAS", "forward", "grid", "x.vs_peer", lambda r: not r.backward),
    ("better of careful Eigen and OpenBLAS", "backward", "grid", "x.vs_peer", lambda r: r.backward),
    ("plain Eigen expression", "forward", "grid", "x.vs_naive", lambda r: not r.backward),
    ("plain Eigen expression", "backward", "grid", "x.vs_naive", lambda r: r.backward),
    ("PyTorch eager", "forward", "peers", "x.faster", lambda r: r.peer == "eager" and not r.backward),
    ("PyTorch eager", "forward + backward", "peers", "x.faster", lambda r: r.peer == "eager" and r.backward),
    ("PEFT's layer", "forward", "peers", "x.faster", lambda r: r.peer == "peft" and not r.backward),
    ("PEFT's layer", "forward + backward", "peers", "x.faster", lambda r: r.peer == "peft" and r.backward),
]


class Score:
    """Against one peer, at one thing, by one build. `ratios`: {cell: how many times the library is faster}."""

    def __init__(self, peer, what, build, ratios):
        self.peer, self.what, self.build, self.ratios = peer, what, build, ratios
        self.won = sum(value.q1 > 1 + EVEN for value in ratios.values())
        self.lost = sum(value.q3 < 1 - EVEN for value in ratios.values())
        self.over_cells = Value.of([value.median for value in ratios.values()])
        self.worst = min(ratios, key=lambda cell: ratios[cell].median)


def of_cells(results, build):
    scores = []
    for peer, what, group, key, chosen in CONTESTS:
        rows = [row for row in results.rows(group, build) if row.is_target and chosen(row)]
        if rows:
            scores.append(Score(peer, what, build, {row.name: row[key] for row in rows}))
    return scores


def of_training(section):
    """From the table of the section on a training step, whose lines are 'scheme: what', ours, theirs, ratio, …"""
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 6 or not (match := re.fullmatch(r"([\d.]+) \(([\d.]+) to ([\d.]+)\)", cells[3])):
            continue
        middle, low, high = map(float, match.groups())
        scheme, _, what = cells[0].rpartition(": ")
        found.setdefault(what, {})[scheme or what] = Value(low, middle, high)
    return [Score("transformers + PEFT", f"training: {what}", "gcc", ratios) for what, ratios in found.items()]


def of_engine(path):
    """llama.cpp's time over the engine's, for a token and for what LoRA adds to it. The quartiles are the widest that those
    of both programs allow."""
    if not path.exists():
        return []
    with path.open() as file:
        rows = {(row["program"], row["threads"], row["adapter"]): row for row in csv.DictReader(file)}

    def ratio(threads, adapter, column):
        (low, middle, high), (low_, middle_, high_) = (
            [float(rows[program, threads, adapter][column + part]) for part in ("_low", "", "_high")]
            for program in ("llama.cpp", "engine")
        )
        # Overheads are per cent of each program's own token.
        tokens = [float(rows[program, threads, "none"]["ms"]) for program in ("llama.cpp", "engine")]
        scale = tokens[0] / tokens[1] if column == "overhead" else 1
        return Value(scale * low / high_, scale * middle / middle_, scale * high / low_)

    both = [key[1:] for key in rows if key[0] == "llama.cpp" and ("engine", *key[1:]) in rows]
    name = lambda threads, adapter: f"{adapter.replace('lora ', 'r = ')}, {threads} thread{'s' * (threads != '1')}"
    lora = sorted((key for key in both if key[1] != "none"), key=lambda key: (key[0], int(key[1].split()[1])))
    kinds = {
        "a token without adapter": {name(*key): ratio(*key, "ms") for key in both if key[1] == "none"},
        "a token with LoRA": {name(*key): ratio(*key, "ms") for key in lora},
        "what LoRA adds to a token": {name(*key): ratio(*key, "overhead") for key in lora},
    }
    return [Score("llama.cpp", what, "gcc", ratios) for what, ratios in kinds.items() if ratios]
