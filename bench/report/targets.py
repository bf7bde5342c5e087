"""Each target with what was measured, and figures that have none. A figure is a median with its quartiles; where a target
lies between these, the verdict says so. Nothing here is a best run.

Targets are ratios to what somebody would use instead: they travel to other machines. Shares of the roofline do not (another
processor gives two loads a cycle, or an L3 five times slower), so they are shown and nothing is asked of them.
"""

import statistics

import scores
from fits import farthest
from results import Value, words

ORDER = ("met", "met, within the spread", "missed, within the spread", "missed")


def standing(value, target):
    """'met', 'missed', or which of them within the spread."""
    if value.q1 >= target:
        return "met"
    if value.q3 < target:
        return "missed"
    return "met, within the spread" if value.median >= target else "missed, within the spread"


class Verdict:
    """One line: what, the target in words, what was measured, how it stands. `key` finds what limits it."""

    def __init__(self, key, what, target, seen, stands):
        self.key, self.what, self.target, self.seen, self.stands = key, what, target, seen, stands

    @property
    def is_missed(self):
        return self.stands.startswith("missed")


def of_median(rows, key):
    """The median over configurations, of their quartiles likewise."""
    values = [row[key] for row in rows]
    return Value(*(statistics.median(getattr(value, part) for value in values) for part in ("q1", "median", "q3")))


def all_of(rows, column, key, what, target):
    """The worst figure of all configurations, and the worst standing of any."""
    if not rows:
        return []
    row = min(rows, key=lambda row: row[column].median)
    stands = [standing(row[column], target) for row in rows]
    missed = sum(one.startswith("missed") for one in stands)
    seen = f"{missed} of {len(rows)} below; worst {row[column]} at {words(row.name)}"
    return [Verdict(key, what, f"≥ {target:g} everywhere", seen, max(stands, key=ORDER.index))]


def median_of(rows, column, key, what, target):
    if not rows:
        return []
    value = of_median(rows, column)
    return [Verdict(key, what, f"median ≥ {target:g}", str(value), standing(value, target))]


def never_slower(key, score):
    """Against any baseline, beyond the spread; a configuration at 4096, T = 512 is where other programs disturb most."""
    large = lambda name: "4096x" in name and name.endswith("T:512")
    below = [name for name, value in score.ratios.items() if value.q3 < (0.9 if large(name) else 0.97)]
    seen = f"{len(below)} of {len(score.ratios)} below; worst {score.ratios[score.worst]} at {words(score.worst)}"
    target = "nowhere below 0.97 beyond the spread"
    if any(large(name) for name in score.ratios):
        target += " (0.9 at 4096, T = 512)"
    return Verdict(key, f"{score.baseline}, {score.what}", target, seen, "missed" if below else "met")


def baseline_verdicts(results, build):
    """Eigen and OpenBLAS in every build; PyTorch and PEFT against GCC's."""
    found = [
        never_slower(f"never slower: {score.what}" if score.baseline == scores.CAREFUL else "never slower", score)
        for score in scores.of_modules(results, build)
        if score.baseline != scores.PLAIN  # whom the careful one beats: shown, no target
    ]
    grid = [row for row in results.rows("grid", build) if row.is_target]
    found += median_of(grid, "x.vs_peer", "median", f"{scores.CAREFUL}, forward and backward", 1.3)
    both = [r for r in results.rows("pytorch", build) if r.is_target and r.backward and r.baseline == "eager"]
    what = "PyTorch eager, forward + backward"
    found += all_of([r for r in both if r.r == 8 and r.T == 512], "x.faster", "PyTorch r = 8", f"{what}, r = 8, T = 512", 8)
    return found + all_of([r for r in both if r.r == 64], "x.faster", "PyTorch r = 64", f"{what}, r = 64", 2)


def memory_verdicts(results, build):
    found = []
    rows = results.rows("kept", build)
    if rows:
        more = [r for r in rows if r["kept_bytes"] > r["r_T_floats"]]
        seen = f"{len(rows) - len(more)} of {len(rows)} shapes keep exactly that"
        found.append(Verdict("kept", "kept for backward besides x", "r × T values", seen, "missed" if more else "met"))
    rows = results.rows("allocations", build)
    if rows:
        calls = [(k, v) for r in rows for k, v in r.columns.items() if not k.startswith("control")]
        controls = [v for r in rows for k, v in r.columns.items() if k.startswith("control")]
        total = int(sum(v for _, v in calls))
        stands = "met" if total == 0 and min(controls) > 0 else "missed"
        seen = f"{total} in {len(calls)} counts (the control, one std::vector, counts {int(min(controls))})"
        found.append(Verdict("allocations", "allocations in a hot call, by operator new and by malloc", "0", seen, stands))
    return found


def training_verdicts(results):
    """The rows of the training tables that have a target."""
    found = []
    for table, title in (("train_step_table", "toy training step"), ("train_step_real", "SmolLM2-135M")):
        for row in results.tables[table]:
            if row["target"]:
                seen = row["ratio"] + (f" ({row['ratio_low']}–{row['ratio_high']})" if row["ratio_low"] else "")
                found.append(Verdict(row["name"], f"{title}, {row['name']}", row["target"], seen, row["verdict"]))
    return found


def engine_verdicts(results):
    return [never_slower(score.what, score) for score in scores.of_engine(results)]


def side_by_side(pairs, key):
    """[(build, one)] with both compilers' lines for one thing together."""
    order = list(dict.fromkeys(key(one) for _, one in pairs))
    return sorted(pairs, key=lambda pair: order.index(key(pair[1])))


def every(results):
    """[(build, verdict)], native builds only."""
    found = []
    for build in results.native_builds():
        for part in (baseline_verdicts, memory_verdicts):
            found += [(build, verdict) for verdict in part(results, build)]
    found = side_by_side(found, lambda verdict: (verdict.what, verdict.target))
    return found + [("gcc", verdict) for verdict in training_verdicts(results) + engine_verdicts(results)]


def information(results, build):
    """[(what, seen)]: figures without a target, from the machine's limits and from the library compared with itself."""
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
        ("bfloat16", "bfloat16 against float where float is bound by memory"),
        ("half", "half against float, likewise"),
        ("float_bfloat16", "bfloat16 activations with float parameters, likewise"),
        ("float_half", "half activations with float parameters, likewise"),
    ):
        add(what, bound, f"x.{name}")
    for rank in (8, 16, 32):
        rows = [r for r in results.rows("layers", build) if r.r == rank and r.layers == 32]
        add(f"tied against untied, 32 layers of 4096, T = 1, r = {rank}", rows, "x.tied_faster")
    threads = results.rows("threads", build)
    add("two threads against one, T ≥ 64", [r for r in threads if r.T >= 64], "x.faster")
    add("two threads against one, forward, T = 1", [r for r in threads if r.T == 1 and not r.backward], "x.faster")
    if build == "gcc" and any(results.growth.values()):
        found.append(("training step's cost as layers, rank, tokens grow",
                      f"every point within {farthest(results.growth)} % of a straight line"))  # fmt: skip
    return found
