"""Rows of a table that compares the library with something else, as bench/report prints them: every figure with the digits
that it is shown with."""

import csv
import statistics

COLUMNS = ("kind", "name", "unit", "ours", "ours_low", "ours_high", "baseline", "theirs", "theirs_low", "theirs_high",
           "ratio", "ratio_low", "ratio_high", "target", "verdict")  # fmt: skip


def quartiles(values):
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def numbers(values, digits, unit=1.0):
    """Median and quartiles as text; empty without values, and a count of bytes has no quartiles."""
    if not isinstance(values, list):
        return ["" if values is None else f"{values / unit:.{digits}f}", "", ""]
    return [f"{value / unit:.{digits}f}" for value in (statistics.median(values), *quartiles(values))]


def row(kind, name, unit, scale, digits, ours, baseline, theirs, ratios, target="", verdict=""):
    """`kind`: 'speed' (ratio: theirs over ours), 'memory' (ours over theirs), 'own' (the library compared with itself).
    `scale`: what a unit is in seconds or bytes. `ours`, `theirs`: a value of each process, or one number, or None."""
    ratio = numbers(ratios, 2) if ratios else ["", "", ""]
    return [kind, name, unit, *numbers(ours, digits, scale), baseline, *numbers(theirs, digits, scale), *ratio, target, verdict]


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
