"""From rows to what the page says: gains, shares of LoRA's gain, and tests in pairs of seeds."""

import math
import statistics

from inference import Estimate, holm
from plan import NO_RUNOFF, Candidate
from search import interior_axes

REFERENCE = ("lora", 8)
BUDGETS = (50, 20, 12, 8, 4, 2)  # the reference's trainable parameters over these


class Entry:
    """A candidate on a task with all its seeds, at the rates of its search or at finetune's own."""

    def __init__(self, progress, task, candidate, seeds, runoff=NO_RUNOFF):
        self.task, self.candidate = task, candidate.at(default_rates=False)
        self.at_default_rates = candidate.default_rates
        cells = progress.final_cells(task, candidate, seeds, runoff)
        rows = [progress.results.get(cell.key) for cell in cells]
        self.done = sum(row is not None for row in rows)
        self.complete = bool(rows) and all(row and row["status"] == "ok" for row in rows)
        # finetune's own rates may be others in another version of it, under the same key.
        self.complete &= len({(row["rate"], row["uv_rate"], row["b_rate"]) for row in rows if row}) == 1
        # A final run, or all of the search.
        self.diverged = any(row and row["status"] != "ok" for row in rows) or progress.is_hopeless(task, candidate)
        if not self.complete:
            return
        _, tried, searched = progress.searched(task, candidate)
        best = cells[0].point
        own = {name: float(rows[0][name]) for name in progress.plan.rate_columns(candidate)} if candidate.default_rates else None
        self.rates = own or progress.plan.rates(candidate, best)
        self.interior = dict(zip(progress.plan.axes(candidate), interior_axes(best, tried)))
        self.trials = len(tried)
        self.scheme = progress.plan.trained_scheme(candidate)
        ranked = sorted(searched[point] for point in tried)
        self.lead = ranked[1] - ranked[0] if len(ranked) > 1 else math.inf  # of the rates found over the next best
        select = [float(row["select_loss"]) for row in rows]
        self.select_loss, self.select_deviation = statistics.fmean(select), statistics.stdev(select)  # the latter of one seed
        self.trained = int(rows[0]["trained"])
        self.losses = {int(row["seed"]): float(row["test_loss"]) for row in rows}
        self.base = float(rows[0]["test_before"])
        self.gains = {seed: self.base - loss for seed, loss in self.losses.items()}


class Comparison:
    """A candidate's test loss less that of the smallest LoRA on all modules which is at least as large: below 0 is better."""

    def __init__(self, entry, lora):
        self.entry, self.lora = entry, lora
        self.difference = Estimate(entry.losses[seed] - lora.losses[seed] for seed in entry.losses)
        self.p = self.difference.p  # adjusted by adjust()


def adjust(comparisons):
    """Holm's correction over the comparisons of one table."""
    for comparison, p in zip(comparisons, holm([one.difference.p for one in comparisons])):
        comparison.p = p


def compare(entries, loras):
    """[Comparison] of all but `loras`, candidates that are LoRA on all modules or on some, with LoRA on all modules of
    equal or larger size, where there is one; adjusted. `entries`: by size."""
    opponents = [entry for entry in entries if entry.candidate.scheme == "lora"]
    comparisons = []
    for entry in entries:
        larger = [lora for lora in opponents if lora.trained >= entry.trained]
        if entry.candidate not in loras and larger:
            comparisons.append(Comparison(entry, larger[0]))
    adjust(comparisons)
    return comparisons


def shares(entry, reference):
    """{seed: part of the gain of LoRA r = 8 with the same seed}."""
    return {seed: entry.gains[seed] / reference.gains[seed] for seed in entry.gains}


def at_better_rates(searched, progress, seeds):
    """`searched`, the Entry of a search, or that of finetune's own rates where all its seeds are there and their mean select loss is
    lower: they are one more trial."""
    default = searched.candidate.at(default_rates=True)
    if not searched.complete or default not in progress.plan.candidates(searched.task):
        return searched
    own = Entry(progress, searched.task, default, seeds)
    return own if own.complete and own.select_loss < searched.select_loss else searched


class TaskResults:
    """All complete candidates of a task on some targets, by size; empty without the reference, LoRA r = 8."""

    def __init__(self, progress, task, targets):
        self.task, self.targets = task, targets
        of_plan = [c for c in progress.plan.candidates(task) if c.targets == targets and not c.default_rates]
        seeds = progress.plan.seeds
        searched = [Entry(progress, task, candidate, seeds) for candidate in of_plan] if task in progress.fixed else []
        self.searched = {entry.candidate: entry for entry in searched if entry.complete}
        entries = [at_better_rates(entry, progress, seeds) for entry in searched]
        done = sorted((entry for entry in entries if entry.complete), key=lambda entry: entry.trained)
        found = [entry for entry in done if entry.candidate == Candidate(*REFERENCE, targets)]
        self.no_gain = [seed for entry in found for seed, gain in entry.gains.items() if gain <= 0]
        self.reference = found[0] if found and not self.no_gain else None
        self.entries = done if self.reference else []
        self.diverged = [entry.candidate for entry in entries if entry.diverged]
        shown = [entry.candidate for entry in done]
        self.missing = [c for c in of_plan if c not in shown and c not in self.diverged]
        self.has_begun = len(self.missing) < len(of_plan)
        self.by_seed = {entry.candidate: shares(entry, self.reference) for entry in self.entries}
        self.shares = {c: Estimate(values.values()) for c, values in self.by_seed.items()}
        self.loras = [c for c in of_plan if progress.plan.trains_lora(c)]
        self.comparisons = compare(self.entries, self.loras)
        self.trained = {entry.candidate: entry.trained for entry in self.entries}
        self.against_frontier = against_frontier(self.by_seed, self.trained, self.loras)


class Pooled:
    """A task's candidates on all targets: shares of the gain of LoRA r = 8 on the first ones, sizes compared across targets."""

    def __init__(self, of_targets):
        """`of_targets`: TaskResults of one task that have entries."""
        self.task, self.reference = of_targets[0].task, of_targets[0].reference
        self.entries = sorted((entry for one in of_targets for entry in one.entries), key=lambda entry: entry.trained)
        self.by_seed = {entry.candidate: shares(entry, self.reference) for entry in self.entries}
        self.shares = {c: Estimate(values.values()) for c, values in self.by_seed.items()}
        self.trained = {entry.candidate: entry.trained for entry in self.entries}
        self.loras = [c for one in of_targets for c in one.loras]
        self.against_frontier = against_frontier(self.by_seed, self.trained, self.loras)


class Mean:
    """The mean of tasks: for each seed the mean share over the tasks, then over seeds."""

    def __init__(self, all_results):
        common = [entry.candidate for entry in all_results[0].entries] if all_results else []
        common = [c for c in common if all(c in results.by_seed for results in all_results)]
        self.candidates = common
        self.reference = all_results[0].reference if all_results else None
        first = {entry.candidate: entry for entry in all_results[0].entries} if all_results else {}
        self.trained = {c: first[c].trained for c in common}
        self.by_seed = {
            c: {seed: sum(r.by_seed[c][seed] for r in all_results) / len(all_results) for seed in first[c].losses}
            for c in common
        }
        self.shares = {c: Estimate(self.by_seed[c].values()) for c in common}
        self.differences = {}  # {candidate: (the smallest LoRA at least as large, Estimate of share less its share)}
        planned = all_results[0].loras if all_results else []
        self.loras = [c for c in planned if all(c in results.loras for results in all_results)]
        opponents = sorted((c for c in common if c.scheme == "lora"), key=lambda c: self.trained[c])
        for c in common:
            larger = [lora for lora in opponents if self.trained[lora] >= self.trained[c]]
            if c not in self.loras and larger:
                own, other = self.by_seed[c], self.by_seed[larger[0]]
                self.differences[c] = (larger[0], Estimate(own[seed] - other[seed] for seed in own))
        adjusted = holm([estimate.p for _, estimate in self.differences.values()])
        self.p = dict(zip(self.differences, adjusted))
        self.against_frontier = against_frontier(self.by_seed, self.trained, self.loras)


def against_frontier(by_seed, trained, loras):
    """LoRA's frontier: at any size the best LoRA that is no larger, on all modules or on some. {candidate: (that LoRA,
    Estimate of its share less that LoRA's, p)} of all candidates that are not LoRA and have a LoRA below them; p corrected
    by Holm. The best is chosen by what it is then compared by, which favours LoRA. Of `loras` those count that have run."""
    found = {}
    for c in by_seed:
        smaller = [lora for lora in loras if lora in by_seed and trained[lora] <= trained[c]]
        if c not in loras and smaller:
            best = max(smaller, key=lambda lora: Estimate(by_seed[lora].values()).mean)
            found[c] = (best, Estimate(by_seed[c][seed] - by_seed[best][seed] for seed in by_seed[c]))
    adjusted = holm([estimate.p for _, estimate in found.values()])
    return {c: (*found[c], p) for c, p in zip(found, adjusted)}


def best_within(results, part, is_lora):
    """Of a task or of the mean: the best within that part of the reference's parameters, among LoRAs or among the others;
    None where there is none."""
    fitting = [c for c in results.by_seed if part * results.trained[c] <= results.reference.trained and (c in results.loras) == is_lora]
    return max(fitting, key=lambda c: results.shares[c].mean, default=None)
