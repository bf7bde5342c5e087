"""Each target beside what was seen, and figures that have none. A figure is a median with its quartiles; where a target lies
between these, the verdict says so. Nothing here is a best run.

Targets are ratios to what somebody would use instead: they travel to other machines. Shares of the roofline do not (another
processor gives two loads a cycle, or a third cache five times slower), so they are shown and nothing is asked of them.
"""

import re
import statistics

import scores
from results import Value


def standing(value, target):
    """'met', 'MISSED', or which of them within the spread."""
    if value.q1 >= target:
        return "met"
    if value.q3 < target:
        return "MISSED"
    return "met, within the spread" if value.median >= target else "MISSED, within the spread"


class Verdict:
    """One line: what, the target in words, what was seen, how it stands."""

    def __init__(self, what, target, seen, stands):
        self.what, self.target, self.seen, self.stands = what, target, seen, stands


def of_median(rows, key):
    """The median over cells, of their quartiles likewise."""
    values = [row[key] for row in rows]
    return Value(*(statistics.median(getattr(value, part) for value in values) for part in ("q1", "median", "q3")))


ORDER = ("met", "met, within the spread", "MISSED, within the spread", "MISSED")


def all_of(rows, key, what, target):
    """The worst figure of all cells, and the worst standing of any."""
    if not rows:
        return []
    row = min(rows, key=lambda row: row[key].median)
    stands = [standing(row[key], target) for row in rows]
    seen = str(row[key])
    if len(rows) > 1:
        missed = sum(one.startswith("MISSED") for one in stands)
        seen = f"worst {seen} at {row.name}; {missed or 'none'} of {len(rows)} cells miss it"
    everywhere = " everywhere" if len(rows) > 1 else ""
    return [Verdict(what, f"≥ {target:g}{everywhere}", seen, max(stands, key=ORDER.index))]


def median_of(rows, key, what, target):
    if not rows:
        return []
    value = of_median(rows, key)
    return [Verdict(what, f"median ≥ {target:g}", str(value), standing(value, target))]


def never_slower(score):
    """Against any peer, beyond the spread; a cell at 4096, T = 512 is where other programs disturb most."""
    large = lambda cell: "4096x" in cell and cell.endswith("T:512")
    below = [cell for cell, value in score.ratios.items() if value.q3 < (0.9 if large(cell) else 0.97)]
    seen = f"{len(below)} of {len(score.ratios)} cells below; least {score.ratios[score.worst]} at {score.worst}"
    target = "never below 0.97 beyond the spread"
    if any(large(cell) for cell in score.ratios):
        target += " (0.9 at 4096, T = 512)"
    return Verdict(f"{score.peer}, {score.what}", target, seen, "MISSED" if below else "met")


def peer_verdicts(results, build):
    """Eigen and OpenBLAS in every build; PyTorch and PEFT beside GCC's."""
    plain = "plain Eigen expression"  # whom the careful one beats: shown, no target
    found = [never_slower(score) for score in scores.of_cells(results, build) if score.peer != plain]
    grid = [row for row in results.rows("grid", build) if row.is_target]
    found += median_of(grid, "x.vs_peer", "better of careful Eigen and OpenBLAS, forward and backward", 1.3)
    both = [r for r in results.rows("peers", build) if r.is_target and r.backward and r.peer == "eager"]
    what = "PyTorch eager, forward + backward"
    found += all_of([r for r in both if r.r == 8 and r.T == 512], "x.faster", f"{what}, r = 8, T = 512", 8)
    return found + all_of([r for r in both if r.r == 64], "x.faster", f"{what}, r = 64", 2)


def memory_verdicts(results, build):
    found = []
    rows = results.rows("kept", build)
    if rows:
        more = [r for r in rows if r["kept_bytes"] > r["r_T_floats"]]
        seen = f"{len(rows) - len(more)} of {len(rows)} shapes keep exactly that"
        found.append(Verdict("kept for backward beside x", "r × T numbers", seen, "MISSED" if more else "met"))
    rows = results.rows("allocations", build)
    if rows:
        calls = [(k, v) for r in rows for k, v in r.columns.items() if not k.startswith("control")]
        controls = [v for r in rows for k, v in r.columns.items() if k.startswith("control")]
        total = int(sum(v for _, v in calls))
        stands = "met" if total == 0 and min(controls) > 0 else "MISSED"
        seen = f"{total} in {len(calls)} counts (the control, one std::vector, counts {int(min(controls))})"
        found.append(Verdict("allocations in a hot call, by operator new and by malloc", "0", seen, stands))
    return found


def training_verdicts(section):
    """The rows of the training step's table that have a target."""
    found = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[4].startswith(("≥", "≤")):
            found.append(Verdict(f"training step, {cells[0]}", cells[4], cells[3], cells[5]))
    return found


def engine_verdicts(path):
    return [never_slower(score) for score in scores.of_engine(path)]


def information(results, build, section):
    """[(what, seen)]: figures without a target, from the machine's limits and from the library beside itself."""
    found = []

    def add(what, rows, key, highest_is_worst=False):
        if rows:
            extreme = (max if highest_is_worst else min)(rows, key=lambda row: row[key].median)
            at = f"; worst {extreme[key]} at {extreme.name}" if len(rows) > 1 else ""
            found.append((what, f"{of_median(rows, key)}{at}"))

    grid = [row for row in results.rows("grid", build) if row.is_target]
    add("share of the roofline, forward", [r for r in grid if not r.backward], "x.share")
    add("share of the roofline, backward", [r for r in grid if r.backward], "x.share")
    widths = [r for r in results.rows("widths", build) if r.T >= 8 and r.r >= 4]
    add("time at width 577 and 1023 over that at 592 and 1024, T ≥ 8", widths, "x.slower", highest_is_worst=True)
    bound = [r for r in results.rows("types", build) if r["memory_bound"] and r.is_target]
    for name, what in (
        ("bfloat16", "bfloat16 against float where float is memory bound"),
        ("half", "half against float, likewise"),
        ("float_bfloat16", "bfloat16 activations beside float parameters, likewise"),
        ("float_half", "half activations beside float parameters, likewise"),
    ):
        add(what, bound, f"x.{name}")
    for rank in (8, 16, 32):
        rows = [r for r in results.rows("layers", build) if r.r == rank and r.layers == 32]
        add(f"tied against untied, 32 layers of 4096, T = 1, r = {rank}", rows, "x.tied_faster")
    threads = results.rows("threads", build)
    add("two threads against one, T ≥ 64", [r for r in threads if r.T >= 64], "x.faster")
    add("two threads against one, forward, T = 1", [r for r in threads if r.T == 1 and not r.backward], "x.faster")
    if build == "gcc" and (distances := re.findall(r"\| (\d+) % \|$", section, re.MULTILINE)):
        found.append(("training step's cost as layers, rank, tokens grow",
                      f"every point within {max(map(int, distances))} % of a straight line"))  # fmt: skip
    return found
