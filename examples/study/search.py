"""The search for learning rates: a coordinate search on a grid of powers of ten, as a function of what is known.

A point is one number for each axis, in eighths of a decade. The search goes along one axis after the other: it looks to
both sides, follows the better side downhill, then takes the next axis; when no axis helps, the step is halved. It
ends when its trials are spent. Because it is a pure function of the losses, a search that was stopped continues as if it
had not been, and one that is given more trials repeats none.
"""

import math

EIGHTHS = 8
FIRST_STEP, LAST_STEP = 4, 1  # half a decade, an eighth


def to_point(rates):
    return tuple(round(EIGHTHS * math.log10(rate)) for rate in rates)


def to_rates(point):
    return tuple(float(f"{10 ** (number / EIGHTHS):.4g}") for number in point)


def moved(point, axis, distance):
    return point[:axis] + (point[axis] + distance,) + point[axis + 1 :]


class _Wanted(Exception):
    """The search cannot go on without the losses of these points."""


def search(start, trials, losses):
    """(points to try next, points tried in order): no points to try where the search is over.

    `losses`: {point: loss}, infinity for a run that diverged. Points to try next do not depend on each other.
    """
    tried = []

    def need(points):
        fresh = [point for point in dict.fromkeys(points) if point not in tried]
        fresh = fresh[: trials - len(tried)]
        missing = [point for point in fresh if point not in losses]
        if missing:
            raise _Wanted(missing)
        tried.extend(fresh)
        if len(tried) >= trials:
            raise _Wanted([])

    def loss(point):
        return losses[point] if point in tried else math.inf

    try:
        need([start])
        best, step = start, FIRST_STEP
        while True:
            unmoved = 0
            while unmoved < len(start):
                for axis in range(len(start)):
                    before = best
                    need([moved(best, axis, -step), moved(best, axis, step)])
                    while True:  # downhill
                        ahead = min((moved(best, axis, sign * step) for sign in (-1, 1)), key=loss)
                        if loss(ahead) >= loss(best):
                            break
                        beyond = 2 * ahead[axis] - best[axis]
                        best = ahead
                        need([moved(best, axis, beyond - best[axis])])
                    unmoved = unmoved + 1 if best == before else 0
                    if unmoved >= len(start):
                        break
            if step == LAST_STEP:
                return [], tried
            step //= 2
    except _Wanted as wanted:
        return wanted.args[0], tried


def best_of(tried, losses):
    """The point of the lowest loss, the earlier of equals; None without a run that came to an end."""
    finite = [point for point in tried if losses[point] < math.inf]
    return min(finite, key=lambda point: losses[point]) if finite else None


def interior_axes(best, tried):
    """For each axis whether points on both sides of the best, equal to it on the other axes, were tried: being no
    better, they say that the optimum is between them."""
    result = []
    for axis in range(len(best)):
        along = [p[axis] - best[axis] for p in tried if moved(p, axis, best[axis] - p[axis]) == best]
        result.append(min(along) < 0 < max(along))
    return result
