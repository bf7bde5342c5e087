"""Student's t for pairs: intervals and tests over seeds. Python's library has the means, but not the distribution."""

import math
import statistics


def incomplete_beta(a, b, x):
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # where the fraction converges fast
        return 1 - incomplete_beta(b, a, 1 - x)
    tiny = 1e-300
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1 / max(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, 1000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + term * d
            d = 1 / (d if abs(d) > tiny else tiny)
            c = 1 + term / c
            c = c if abs(c) > tiny else tiny
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * value


def t_two_sided(t, freedom):
    """The probability of a |t| as large by chance."""
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def t_quantile(freedom, level=0.95):
    """The |t| that chance exceeds with probability 1 - level."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_two_sided(middle, freedom) > 1 - level else (low, middle)
    return (low + high) / 2


class Estimate:
    """A mean over seeds with its 95 % interval; `p` is of the hypothesis that the mean is zero."""

    def __init__(self, values):
        values = list(values)
        if len(values) < 2:
            raise ValueError("an interval needs two seeds at least")
        self.count = len(values)
        self.mean = statistics.fmean(values)
        error = statistics.stdev(values) / math.sqrt(self.count)
        self.half = t_quantile(self.count - 1) * error
        self.low, self.high = self.mean - self.half, self.mean + self.half
        self.p = t_two_sided(self.mean / error, self.count - 1) if error > 0 else (1.0 if self.mean == 0 else 0.0)


def holm(values):
    """p values of several tests, adjusted so that one error among all of them has the probability that is named."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted, largest = [0.0] * len(values), 0.0
    for position, i in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - position) * values[i]))
        adjusted[i] = largest
    return adjusted
