"""Before and after: what a change did to the library's own times, from the JSON files of tiedlora_bench.

    python3 bench/report/compare.py [--filter REGEX] [--slower PERCENT] BEFORE.json... -- AFTER.json...

For each group of configurations (forward or backward, T, rank) the ratio after / before as a median with quartiles over the
configurations, twice: as timed, and divided by the same ratio of the baselines, whose code did not change. The baselines are
careful Eigen and OpenBLAS (their geometric mean) in the rounds of the same run, so the second figure is free of what the
machine did: another clock, other programs in the L3. Where the two disagree, believe the second; where the baselines moved by
more than a few per cent, measure again. Then every configuration that is more than 10 % slower in either figure.

Several files for a side, best taken in turns (before, after, before, after), are merged: each configuration's median counts.

    program=build/bench/gcc/bin/tiedlora_bench
    $program --filter '^grid/.*/r:(4|8|64)/T:(8|64|512)$' --benchmark_out=before-1.json
"""

import argparse
import json
import math
import pathlib
import re
import statistics
import sys

BASELINES = ("eigen", "openblas")
READERS = ("read_A", "read_B")  # the control where no baseline takes part
OTHERS = {*BASELINES, *READERS, "naive", "roofline", "traffic", "fma"}  # whose times are not the library's
SUFFIX = "/iterations:1/manual_time"


class Timing:
    """One time of the library's in one measurement, over all files of a side."""

    def __init__(self):
        self.times, self.relative = [], []  # microseconds, and over the baselines of the same run

    def add(self, time, control):
        self.times.append(time)
        if control:
            self.relative.append(time / control)


def control_of(times):
    """The geometric mean of the baselines; None where nobody else was timed."""
    values = [times[name] for name in BASELINES if name in times] or [times[name] for name in READERS if name in times]
    return math.exp(statistics.fmean(map(math.log, values))) if values else None


def read_side(paths, pattern):
    """({name: Timing}, a line that says what was read)."""
    timings, builds = {}, {}
    for path in paths:
        document = json.loads(path.read_text())
        context = document["context"]
        builds[f"{context.get('compiler', '?')}, {context.get('kernels', '?')}, {context.get('rounds', '?')} rounds"] = None
        for entry in document["benchmarks"]:
            name = entry["name"].removesuffix(SUFFIX)
            if entry.get("error_occurred") or name.startswith("machine/") or not re.search(pattern, name):
                continue
            times = {key[3:]: value for key, value in entry.items() if key.startswith("us.") and key.count(".") == 1}
            own = [key for key in times if key not in OTHERS]
            for key in own:
                title = name if own == ["ours"] else f"{name} {key}"
                timings.setdefault(title, Timing()).add(times[key], control_of(times))
    return timings, f"{len(paths)} file{'s' * (len(paths) > 1)}: {'; '.join(builds)}"


class Change:
    """A configuration in both sides: after over before."""

    def __init__(self, name, before, after):
        self.name = name
        self.before, self.after = statistics.median(before.times), statistics.median(after.times)
        self.raw = self.after / self.before
        self.normal = None
        if before.relative and after.relative:
            self.normal = statistics.median(after.relative) / statistics.median(before.relative)

    def is_slower(self, limit):
        return self.raw > limit or (self.normal or 0) > limit

    def group(self):
        """('grid forward', T, r); what a name lacks is -1."""
        number = lambda key: int(found[1]) if (found := re.search(rf"\b{key}:(\d+)", self.name)) else -1
        kind, direction = self.name.split("/")[:2]
        words = [kind, direction] if direction in ("forward", "backward", "both") else [kind]
        return " ".join(words + self.name.split(" ")[1:]), number("T"), number("r")


def spread(values):
    """'median (lower to upper quartile)'"""
    if not values:
        return "-"
    q1, q2, q3 = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return f"{q2:.3f} ({q1:.3f}-{q3:.3f})"


def print_groups(changes, limit):
    line = "{:32} {:>5} {:>4} {:>6}   {:>21} {:>21} {:>21} {:>7}"
    percent = f"> {100 * (limit - 1):g} %"
    titles = ("count", "timed", "over the baselines", "baselines themselves", percent)
    print(line.format("after / before: medians", "T", "r", *titles))

    def show(title, tokens, rank, part):
        normal = [c.normal for c in part if c.normal]
        baselines = [c.raw / c.normal for c in part if c.normal]
        slower = sum(c.is_slower(limit) for c in part)
        number = lambda value: value if value >= 0 else ""
        print(line.format(title, number(tokens), number(rank), len(part), spread([c.raw for c in part]), spread(normal),
                          spread(baselines), slower or ""))  # fmt: skip

    groups, kinds = {}, {}
    for change in changes:
        groups.setdefault(change.group(), []).append(change)
        kinds.setdefault(change.group()[0], []).append(change)
    for group in sorted(groups):
        show(*group, groups[group])
    print()
    for kind in sorted(kinds):
        show(f"{kind}, all", -1, -1, kinds[kind])


def print_slower(changes, limit):
    slower = sorted((c for c in changes if c.is_slower(limit)), key=lambda c: -(c.normal or c.raw))
    share = f"{len(slower)} of {len(changes)} configurations"
    print(f"\n{share} are more than {100 * (limit - 1):g} % slower, timed or over the baselines")
    if slower:
        print(f"{'':56} {'before':>10} {'after, us':>10} {'timed':>7} {'over the baselines':>19}")
    for c in slower:
        normal = f"{c.normal:.2f}" if c.normal else "-"
        print(f"{c.name:56} {c.before:10.4g} {c.after:10.4g} {c.raw:7.2f} {normal:>19}")


def main():
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="%(prog)s [options] BEFORE... -- AFTER..."
    )
    parser.add_argument("before", nargs="+", type=pathlib.Path, metavar="BEFORE.json")
    parser.add_argument("--filter", default="", metavar="REGEX", help="only the measurements that it finds")
    parser.add_argument("--slower", type=float, default=10, metavar="PERCENT", help="which configurations are listed")
    arguments = parser.parse_args(words[:cut])
    after_paths = [pathlib.Path(word) for word in words[cut + 1 :]]
    if not after_paths:
        parser.error("no files after --")
    if missing := [str(path) for path in arguments.before + after_paths if not path.is_file()]:
        parser.error(f"no such file: {', '.join(missing)}; options go before the files")
    before, read_before = read_side(arguments.before, arguments.filter)
    after, read_after = read_side(after_paths, arguments.filter)
    print(f"before: {read_before}\nafter:  {read_after}")
    changes = [Change(name, before[name], after[name]) for name in before if name in after]
    if alone := len(before) + len(after) - 2 * len(changes):
        print(f"left out: {alone} configurations of one side only")
    if not changes:
        sys.exit("no measurement is in both sides")
    print()
    limit = 1 + arguments.slower / 100
    print_groups(changes, limit)
    print_slower(changes, limit)


if __name__ == "__main__":
    main()
