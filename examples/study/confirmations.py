"""Comparisons of the plan that have seeds of their own: what these say, once all of them are there."""

import statistics

import pictures
from analysis import Entry, adjust
from inference import Estimate
from markdown_text import TITLES, name_list, p_text, per_cent, points, rates_cell, table


class Kept:
    """What one candidate of a pair keeps: Estimates of its gain in parts of the mean gain of the reference, LoRA r = 8, with
    the seeds of all; of each task, and of the mean over the tasks."""

    def __init__(self, entries, references):
        """Entries by task, and the reference's."""
        one = next(iter(entries.values()))
        self.candidate, self.trained = one.candidate, one.trained
        self.rates = {task: rates_cell(entry) for task, entry in entries.items()}
        self.at_edge = sum(not all(entry.interior.values()) for entry in entries.values())  # searches
        unit = {task: statistics.fmean(reference.gains.values()) for task, reference in references.items()}
        self.by_seed = {task: {seed: gain / unit[task] for seed, gain in entries[task].gains.items()} for task in references}
        self.of_task = {task: Estimate(values.values()) for task, values in self.by_seed.items()}
        self.mean = Estimate(statistics.fmean(values[seed] for values in self.by_seed.values()) for seed in one.gains)


class Pair:
    """A candidate against an opponent: Estimates of the difference in gain, above 0 where the candidate is better, in parts
    of the mean gain of the reference, LoRA r = 8, with the seeds of all."""

    def __init__(self, candidate, opponent, references):
        """Entries by task, and the reference's."""
        self.kept, self.opponent_kept = Kept(candidate, references), Kept(opponent, references)
        self.candidate, self.opponent = self.kept.candidate, self.opponent_kept.candidate
        self.trained, self.opponent_trained = self.kept.trained, self.opponent_kept.trained
        ours, theirs = self.kept.by_seed, self.opponent_kept.by_seed
        by_task = {task: {seed: ours[task][seed] - theirs[task][seed] for seed in ours[task]} for task in ours}
        self.of_task = {task: Estimate(values.values()) for task, values in by_task.items()}
        seeds = next(iter(by_task.values()))
        # Of the mean over the tasks.
        self.difference = Estimate(statistics.fmean(values[seed] for values in by_task.values()) for seed in seeds)
        self.p = self.difference.p  # adjusted by adjust()


class Confirmed:
    """`pairs`: empty until all runs are there, so that nobody stops when the figures please."""

    def __init__(self, progress, confirmation, references):
        """`references`: {task: Entry of LoRA r = 8, or None}."""
        self.confirmation = confirmation
        entries = {
            c: {
                task: Entry(progress, task, c, confirmation.seeds, confirmation.runoff)
                for task in confirmation.tasks
                if task in progress.fixed
            }
            for c in confirmation.candidates()
        }
        of_all = [entry for by_task in entries.values() for entry in by_task.values()]
        self.done = sum(entry.done for entry in of_all)
        self.planned = len(confirmation.seeds) * len(confirmation.tasks) * len(entries)
        self.diverged = [entry for entry in of_all if entry.diverged]
        self.pairs = []
        self.lacks = [task for task in confirmation.tasks if not references.get(task)]
        if self.done == self.planned and not self.diverged and not self.lacks:
            needed = {task: references[task] for task in confirmation.tasks}
            self.pairs = [Pair(entries[a], entries[b], needed) for a, b in confirmation.pairs]
            adjust(self.pairs)


def picture(confirmed):
    rows = [
        (f"{pair.candidate.label()} less {pair.opponent.label()}",
         {**{TITLES[task]: pair.of_task[task] for task in confirmed.confirmation.tasks}, "mean": pair.difference})
        for pair in confirmed.pairs
    ]  # fmt: skip
    return pictures.differences("with 95 % intervals, seeds of their own", rows)


def section(confirmed, drawn_as):
    """Of the page, with the picture of that name."""
    plan = confirmed.confirmation
    is_range = plan.seeds == list(range(plan.seeds[0], plan.seeds[-1] + 1))
    seeds = f"{plan.seeds[0]} to {plan.seeds[-1]}" if is_range else name_list(map(str, plan.seeds))
    text = f"## {plan.name}\n\nPairs that earlier results suggested, fixed in the plan before any of these runs, with seeds {seeds}, "
    text += f"which nothing else uses. {plan.note}".strip() + " "
    if not confirmed.pairs:
        state = f"{confirmed.done} of {confirmed.planned} runs are done"
        if confirmed.diverged:
            names = ", ".join(dict.fromkeys(f"{e.candidate.label()} on {TITLES[e.task].lower()}" for e in confirmed.diverged))
            return f"{text}No figures: runs diverged, of {names} ({state})."
        if confirmed.done == confirmed.planned:
            lacks = name_list(TITLES[task].lower() for task in confirmed.lacks)
            return f"{text}No figures: there is no gain of LoRA r = 8 on {lacks} to divide by ({state})."
        return f"{text}{state}; no figures before all are."
    text += "Differences in gain, in per cent of LoRA r = 8's mean gain on the task; p is that of the mean over the tasks. "
    text += "The columns of single tasks are no tests.\n\n"
    head = ["", "parameters", "against", "parameters", *(TITLES[task] for task in plan.tasks), "mean", "p", "Holm"]
    rows = [
        [pair.candidate.label(), f"{pair.trained:,}", pair.opponent.label(), f"{pair.opponent_trained:,}",
         *(points(pair.of_task[task]) for task in plan.tasks), points(pair.difference), p_text(pair.difference.p), p_text(pair.p)]
        for pair in confirmed.pairs
    ]  # fmt: skip
    better = sum(pair.p < 0.05 and pair.difference.mean > 0 for pair in confirmed.pairs)
    worse = sum(pair.p < 0.05 and pair.difference.mean < 0 for pair in confirmed.pairs)
    count = len(confirmed.pairs)
    text += f"![differences](results/{drawn_as})\n\n" + table(head, rows) + f"\n\nOf {count} pairs the first is better in {better}, worse in {worse}, and "
    text += f"not told apart from its opponent in {count - better - worse} (p < 0.05 after Holm's correction)."
    ours = {pair.candidate: pair.kept for pair in confirmed.pairs}
    theirs = {pair.opponent: pair.opponent_kept for pair in confirmed.pairs}
    at_edge = lambda kept: f"{sum(one.at_edge for one in kept.values())} of {len(kept) * len(plan.tasks)}"
    text += f" Of the first {at_edge(ours)} searches ended at an edge of what they tried, of the opponents {at_edge(theirs)}."
    every = ours | theirs
    rows = [
        [one.candidate.label(), f"{one.trained:,}",
         *(f"{per_cent(one.of_task[task])}; {one.rates[task]}" for task in plan.tasks), per_cent(one.mean)]
        for one in sorted(every.values(), key=lambda one: one.trained)
    ]  # fmt: skip
    head = ["", "parameters", *(f"{TITLES[task]}; rates" for task in plan.tasks), "mean"]
    return f"{text}\n\nWhat each keeps, in per cent of LoRA r = 8's mean gain, with the rates that its own search and runoff found:\n\n" + table(head, rows)
