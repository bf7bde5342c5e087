"""Straight lines through the training step's cost as layers, rank and tokens grow."""

import statistics


def fit(xs, ys):
    """Least squares y = a + b x: a, b and the largest |y - a - b x| as a share of the largest y."""
    mean_x, mean_y = statistics.fmean(xs), statistics.fmean(ys)
    b = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys)) / sum((x - mean_x) ** 2 for x in xs)
    a = mean_y - b * mean_x
    return a, b, max(abs(y - a - b * x) for x, y in zip(xs, ys)) / max(ys)


def lines(growth):
    """(axis, column, a, b, farthest) of every curve; a step without adapter has no rank."""
    for axis, rows in growth.items():
        for column in list(rows[0])[1:] if rows else []:
            if (axis, column) != ("rank", "none"):
                yield axis, column, *fit([row[axis] for row in rows], [row[column] for row in rows])


def farthest(growth):
    """Per cent, as it is printed for the farthest point of all."""
    return max(int(f"{100 * off:.0f}") for *_, off in lines(growth))
