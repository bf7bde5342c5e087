"""What of a plan is done, and which runs can begin: searches, runoffs, final seeds."""

import math

import search
from plan import NO_RUNOFF


class Progress:
    """What of a plan is done, given results {key: row}, and what can run next."""

    def __init__(self, plan, fixed, results):
        """`fixed`: {task: {name: value}}."""
        self.plan, self.fixed, self.results = plan, fixed, results

    def start(self, task, candidate):
        """Where a candidate's search begins on a task: at what the first trials on the task before it found; on the
        first task, and where all these diverged, at the plan's start. None while they are not done."""
        before = self.plan.tasks_before(task, candidate)
        if not before:
            return self.plan.start(candidate)
        if before[-1] not in self.fixed:
            return None
        wanted, tried, losses = self.searched(before[-1], candidate, self.plan.handed_on)
        if wanted or not tried:
            return None
        return search.best_of(tried, losses) or self.plan.start(candidate)

    def searched(self, task, candidate, trials=None):
        """Of all its trials, or the first few: (runs to do next, points tried, {point: loss}) of a candidate's search. No points tried, and no runs to
        run: it waits for that of another task."""
        losses = _Losses(self, task, candidate)
        start = self.start(task, candidate)
        if start is None:
            return [], [], losses
        wanted, tried = search.search(start, trials or self.plan.trials, losses)
        return [losses.cell(point) for point in wanted], tried, losses

    def runoff(self, task, candidate, runoff):
        """{point: its runs} of the best rates, in the order of their losses; none before the search is over, or where all its
        runs diverged."""
        wanted, tried, losses = self.searched(task, candidate)
        if wanted:
            return {}
        ranked = sorted((point for point in tried if losses[point] < math.inf), key=lambda point: losses[point])
        return {point: [losses.cell(point, seed) for seed in runoff.seeds] for point in ranked[: runoff.best]}

    def is_hopeless(self, task, candidate):
        """Whether the search is over, and all its runs diverged."""
        wanted, tried, losses = self.searched(task, candidate)
        return bool(tried) and not wanted and search.best_of(tried, losses) is None

    def settled(self, task, candidate, runoff):
        """(runs to do next, the rates): no rates before search and runoff are over."""
        if candidate.default_rates:
            return [], ()
        wanted, _, losses = self.searched(task, candidate)
        again = self.runoff(task, candidate, runoff)
        missing = [cell for cells in again.values() for cell in cells if cell.key not in self.results]
        if wanted or missing or not again:
            return wanted + missing, None
        of_runoff = lambda cells: sum(float(self.results[cell.key]["select_loss"]) for cell in cells)
        return [], min(again, key=lambda point: losses[point] + of_runoff(again[point]))

    def final_cells(self, task, candidate, seeds, runoff=NO_RUNOFF):
        """One for each, at the rates that are settled; none before."""
        _, best = self.settled(task, candidate, runoff)
        if best is None:
            return []
        return [self.plan.cell("final", task, candidate, seed, best, self.fixed[task]) for seed in seeds]

    def ready(self):
        """Runs that can begin now, in the order of the plan: for each task the searches of its candidates, then one
        seed of all candidates after the other, so that whatever is there can be compared."""
        cells = []
        for group in self.plan.groups:
            if group.task not in self.fixed:
                continue
            for candidate in group.candidates:
                cells += self.settled(group.task, candidate, group.runoff)[0]
            finals = [self.final_cells(group.task, candidate, group.seeds, group.runoff) for candidate in group.candidates]
            for i in range(len(group.seeds)):
                cells += [of[i] for of in finals if of]
        once = {cell.key: cell for cell in cells}  # two groups may wait for one search
        return [cell for key, cell in once.items() if key not in self.results]

    def counts(self):
        """{stage: (done, planned)}; a search that ends before its trials are spent plans no more than it took."""
        counts = {"search": [0, 0], "final": [0, 0]}
        for task, candidate in dict.fromkeys((group.task, c) for group in self.plan.groups for c in group.candidates):
            if candidate.default_rates:
                continue
            wanted, tried, _ = self.searched(task, candidate) if task in self.fixed else ([None], [], None)
            counts["search"][0] += len(tried)
            counts["search"][1] += self.plan.trials if wanted or not tried else len(tried)
        for group in self.plan.groups:
            for candidate in group.candidates if group.task in self.fixed else []:
                again = {} if candidate.default_rates else self.runoff(group.task, candidate, group.runoff)
                counts["search"][0] += sum(cell.key in self.results for cells in again.values() for cell in cells)
                if again:  # there may be fewer than `best`
                    counts["search"][1] += (len(again) - group.runoff.best) * len(group.runoff.seeds)
                finals = self.final_cells(group.task, candidate, group.seeds, group.runoff)
                counts["final"][0] += sum(cell.key in self.results for cell in finals)
            counts["search"][1] += len(group.candidates) * group.runoff.best * len(group.runoff.seeds)
            counts["final"][1] += len(group.candidates) * len(group.seeds)
        return counts

    def strangers(self):
        """Rows that no candidate of this plan would have with these settings, data and model, whatever its rates and seeds."""
        named = {}
        for task, c in dict.fromkeys((group.task, c) for group in self.plan.groups for c in group.candidates):
            named.setdefault((task, c.scheme, str(c.rank), c.targets), []).append(c)
        found = []
        for row in self.results.values():
            candidates = named.get((row["task"], row["scheme"], row["rank"], row["targets"]), [])
            if not any(self._key_of(row, candidate) == row["key"] for candidate in candidates):
                found.append(row)
        return found

    def _key_of(self, row, candidate):
        """That of a candidate's run at the rates and with the seed of a row."""
        point = self.plan.point(candidate, row)
        if row["task"] not in self.fixed or point is None:
            return None
        return self.plan.cell(row["stage"], row["task"], candidate, int(row["seed"]), point, self.fixed[row["task"]]).key


class _Losses:
    """{point: loss} of a search, out of the results."""

    def __init__(self, progress, task, candidate):
        self.progress, self.task, self.candidate = progress, task, candidate

    def cell(self, point, seed=None):
        """A run of the search, or of a runoff with a seed of its own."""
        plan = self.progress.plan
        seed = plan.search_seed if seed is None else seed
        return plan.cell("search", self.task, self.candidate, seed, point, self.progress.fixed[self.task])

    def __contains__(self, point):
        return self.cell(point).key in self.progress.results

    def __getitem__(self, point):
        return float(self.progress.results[self.cell(point).key]["select_loss"])
