"""What finetune's default rates lose against those of the search, with the same seeds."""

import statistics

from analysis import Entry, shares
from inference import Estimate
from markdown_text import TITLES, p_text, per_cent, points, rates_cell, table


class OfCandidate:
    """A candidate at the default rates, on each task where all its runs are there, searched rates among them."""

    def __init__(self, progress, candidate, of_tasks):
        """`of_tasks`: TaskResults."""
        self.candidate, self.rates, self.diverged = candidate, "", []
        self.taken = []  # tasks on which the other tables have the default rates, by the select loss
        self.by_seed, self.searched = {}, {}  # {task: {seed: share of the gain of LoRA r = 8}}
        for one in of_tasks:
            searched = one.searched.get(candidate.at(default_rates=False))
            if candidate not in progress.plan.candidates(one.task) or not searched:
                continue
            entry = Entry(progress, one.task, candidate, progress.plan.seeds)
            self.diverged += [one.task] if entry.diverged else []
            if entry.complete:
                self.by_seed[one.task] = shares(entry, one.reference)
                self.searched[one.task] = shares(searched, one.reference)
                self.taken += [one.task] if entry.select_loss < searched.select_loss else []
                self.rates = rates_cell(entry, marked=False)
        self.shares = {task: Estimate(values.values()) for task, values in self.by_seed.items()}
        self.lost = {task: Estimate(self._lost(task).values()) for task in self.by_seed}
        self.mean = None  # over the tasks, where all are there
        if len(self.by_seed) == len(progress.plan.tasks):
            of_all = [self._lost(task) for task in self.by_seed]
            self.mean = Estimate(statistics.fmean(one[seed] for one in of_all) for seed in of_all[0])

    def _lost(self, task):
        return {seed: share - self.searched[task][seed] for seed, share in self.by_seed[task].items()}


def of_plan(progress, sections, targets):
    """OfCandidate of each that has figures on some task."""
    of_tasks = [one for (_, of), one in sections.items() if of == targets and one.entries]
    named = dict.fromkeys(
        c for group in progress.plan.groups for c in group.candidates if c.default_rates and c.targets == targets
    )
    found = [OfCandidate(progress, candidate, of_tasks) for candidate in named]
    return [one for one in found if one.shares or one.diverged]


def missing(progress):
    """{task: labels of the candidates} that have not all of their runs there."""
    found = {}
    for group in progress.plan.groups:
        for candidate in (c for c in group.candidates if c.default_rates and group.task in progress.fixed):
            cells = progress.final_cells(group.task, candidate, group.seeds)
            if any(cell.key not in progress.results for cell in cells):
                found.setdefault(group.task, []).append(candidate.label())
    return found


def section(plan, found):
    """Of the page; `found`: of_plan()."""
    if not found:
        return ""
    text = "## What the default rates lose\n\nThe rates that `finetune train` takes by itself, against those of the search, with the same seeds: "
    text += "the share of LoRA r = 8's gain, and by how many points it differs from that at the rates of the search. "
    text += f"A search took up to {plan.trials} runs, the default takes none. ‡: the default has the lower select loss, so the other tables have it.\n\n"
    head = ["", "default rates", *(TITLES[task] for task in plan.tasks), "mean: difference", "p"]
    rows = []
    for one in found:
        row = [one.candidate.label(), one.rates]
        for task in plan.tasks:
            mark = "‡" if task in one.taken else ""
            there = f"{per_cent(one.shares[task])}{mark}; {points(one.lost[task])}" if task in one.shares else "not finished"
            row.append("diverged" if task in one.diverged else there)
        rows.append(row + ([points(one.mean), p_text(one.mean.p)] if one.mean else ["", ""]))
    return text + table(head, rows)
