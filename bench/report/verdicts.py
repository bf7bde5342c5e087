"""Each target beside what was seen. A figure is a median with its quartiles; where a target lies between these, the
verdict says so. Nothing here is a best run."""

import statistics

from results import Value


def standing(value, target, at_most=False):
    """'met', 'MISSED', or which of them within the spread."""
    low, middle, high = value.q1, value.median, value.q3
    if at_most:
        low, middle, high, target = -high, -middle, -low, -target
    if low >= target:
        return "met"
    if high < target:
        return "MISSED"
    return "met, within the spread" if middle >= target else "MISSED, within the spread"


class Verdict:
    """One line: what, the target in words, what was seen, how it stands."""

    def __init__(self, what, target, seen, stands):
        self.what, self.target, self.seen, self.stands = what, target, seen, stands


def of_median(rows, key):
    """The median over cells, of their quartiles likewise."""
    values = [row[key] for row in rows]
    return Value(*(statistics.median(getattr(value, part) for value in values) for part in ("q1", "median", "q3")))


ORDER = ("met", "met, within the spread", "MISSED, within the spread", "MISSED")


def worst(rows, key, target, at_most=False):
    """(figure, standing) of all cells together: the worst figure, and the worst standing of any cell."""
    sign = -1 if at_most else 1
    row = min(rows, key=lambda row: sign * row[key].median)
    stands = max((standing(row[key], target, at_most) for row in rows), key=ORDER.index)
    short = sum(standing(row[key], target, at_most).startswith("MISSED") for row in rows)
    if len(rows) == 1:
        return str(row[key]), stands
    return f"worst {row[key]} at {row.name}; {short or 'none'} of {len(rows)} cells miss it", stands


def all_of(rows, key, what, target, at_most=False):
    if not rows:
        return []
    seen, stands = worst(rows, key, target, at_most)
    everywhere = " everywhere" if len(rows) > 1 else ""
    return [Verdict(what, f"{'≤' if at_most else '≥'} {target:g}{everywhere}", seen, stands)]


def median_of(rows, key, what, target):
    if not rows:
        return []
    value = of_median(rows, key)
    return [Verdict(what, f"median ≥ {target:g}", str(value), standing(value, target))]


def grid_verdicts(results, build):
    rows = results.rows("grid", build)
    found = []
    for name, part in (("forward", [r for r in rows if not r.backward]), ("backward", [r for r in rows if r.backward])):
        found += median_of(part, "x.share", f"share of the roofline, {name}", 0.88)
        found += all_of(part, "x.share", f"share of the roofline, {name}", 0.70)
    if rows:
        # The largest cells are where other programs disturb most.
        large = lambda r: r.d_in == 4096 and r.T == 512
        below = [r for r in rows if r["x.vs_peer"].q3 < (0.9 if large(r) else 0.97)]
        least = min(rows, key=lambda r: r["x.vs_peer"].median)
        found.append(
            Verdict(
                "against the better of Eigen with care and OpenBLAS",
                "never below 0.97 beyond the spread (0.9 at 4096, T = 512)",
                f"{len(below)} of {len(rows)} cells below; least {least['x.vs_peer']} at {least.name}",
                "MISSED" if below else "met",
            )
        )
    found += median_of(rows, "x.vs_peer", "against the better of Eigen with care and OpenBLAS", 1.3)
    many = [r for r in rows if r.T >= 64 and r.r <= 16]
    found += all_of(many, "x.vs_naive", "against the plain Eigen expression, T ≥ 64, r ≤ 16", 1.5)
    wide = [r for r in many if r.r == 8 and r.d_in == 4096 and r.d_out == 4096]
    found += all_of(wide, "x.vs_naive", "against the plain Eigen expression, T ≥ 64, d = 4096, r = 8", 3)
    return found


def variant_verdicts(results, build):
    found = []
    rows = [r for r in results.rows("widths", build) if r.T >= 8]
    found += all_of(rows, "x.slower", "time at 577 and 1023 over that at 592 and 1024, T ≥ 8", 1.15, at_most=True)
    bound = [r for r in results.rows("types", build) if r["memory_bound"]]
    for name, what in (
        ("bfloat16", "bfloat16 against float where float is memory bound"),
        ("half", "half against float where float is memory bound"),
        ("float_bfloat16", "bfloat16 activations beside float parameters, likewise"),
        ("float_half", "half activations beside float parameters, likewise"),
    ):
        found += all_of(bound, f"x.{name}", what, 1.0)
    for rank, target in ((8, 1.5), (16, 2.0), (32, 2.5)):
        rows = [r for r in results.rows("layers", build) if r.r == rank and r.layers == 32]
        found += all_of(rows, "x.tied_faster", f"tied against untied, 32 layers of 4096, T = 1, r = {rank}", target)
    rows = results.rows("threads", build)
    found += all_of([r for r in rows if r.T >= 64], "x.faster", "two threads against one, T ≥ 64", 1.8)
    single = [r for r in rows if r.T == 1 and r.d_in == 4096 and r.r >= 16]
    found += all_of(single, "x.faster", "two threads against one, T = 1, d = 4096, r ≥ 16", 1.4)
    return found


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


def peer_verdicts(results):
    both = [r for r in results.rows("peers") if r.backward and r.peer == "eager"]
    what = "against PyTorch eager, forward + backward, one thread"
    return (
        all_of([r for r in both if r.r == 8 and r.T == 512], "x.faster", f"{what}, r = 8, T = 512", 8)
        + all_of([r for r in both if r.r == 64], "x.faster", f"{what}, r = 64", 2)
        + all_of([r for r in both if r.T == 1], "x.faster", f"{what}, T = 1", 10)
    )


def training_verdicts(section):
    """From the tables of the section on a training step: rows that have a target, and distances from straight lines."""
    found, distances = [], []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[4].startswith("≥"):
            found.append(Verdict(f"training step: {cells[0]}", cells[4], cells[3], cells[5]))
        if len(cells) == 4 and cells[3].endswith(" %"):
            distances.append(int(cells[3].removesuffix(" %")))
    if distances:
        seen = f"every point within {max(distances)} % of a straight line"
        found.append(Verdict("training step: cost as layers, rank, tokens grow", "linear", seen, "see the plot"))
    return found
