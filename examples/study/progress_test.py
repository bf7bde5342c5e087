"""Which runs can begin: searches, runoffs and seeds, in the order of the plan."""

import unittest

from plan import Candidate, Plan
from plan_test import AGAIN, FIXED, TEXT, finish
from progress import Progress


class ProgressTest(unittest.TestCase):
    def setUp(self):
        self.plan = Plan(TEXT)
        self.progress = Progress(self.plan, FIXED, {})

    def test_searches_come_before_seeds_and_seeds_in_turn(self):
        order = []
        while ready := self.progress.ready():
            order.append(ready[0])
            finish(self.progress, ready[0])
        code = [cell for cell in order if cell.task == "code" and cell.candidate.label() in ("lora r=8", "tl6 r=4")]
        self.assertEqual(order[: len(code)], code)
        self.assertEqual([cell.stage for cell in code], ["search"] * 6 + ["final"] * 4)
        finals = [(cell.candidate.label(), cell.seed) for cell in code[6:]]
        self.assertEqual(finals, [("lora r=8", 1), ("tl6 r=4", 1), ("lora r=8", 2), ("tl6 r=4", 2)])
        self.assertEqual(self.progress.counts(), {"search": [18, 18], "final": [12, 12]})
        self.assertEqual(len({cell.key for cell in order}), len(order))

    def test_every_candidate_has_as_many_trials(self):
        while ready := self.progress.ready():
            finish(self.progress, ready[0])
        for group in self.plan.groups:
            for candidate in group.candidates:
                self.assertEqual(len(self.progress.searched(group.task, candidate)[1]), 3)

    def test_a_runoff_between_the_best_rates(self):
        plan = Plan(TEXT + AGAIN + "runoff = { best = 2, seeds = [10, 11] }\n")
        tl6, lora2 = Candidate("tl6", 4, "qkv"), Candidate("lora", 2, "qkv")
        progress = Progress(plan, FIXED, {})
        self.assertEqual(progress.counts()["search"], [0, 18 + 3 + 2 * 2 * 2])
        while wanted := progress.searched("code", tl6)[0]:
            for cell in wanted:  # the start is best, then half a decade less
                finish(progress, cell, loss={(-24, -8, 0): 1.0, (-28, -8, 0): 1.1}.get(cell.point, 2.0))
        group = plan.groups[-1]
        self.assertEqual(group.candidates, [tl6, lora2])
        runs, rates = progress.settled("code", tl6, group.runoff)
        self.assertEqual([(cell.stage, cell.point, cell.seed) for cell in runs],
                         [("search", point, seed) for point in ((-24, -8, 0), (-28, -8, 0)) for seed in (10, 11)])  # fmt: skip
        self.assertIsNone(rates)
        for cell, loss in zip(runs, (1.3, 1.0, 1.0, 1.1)):  # with 1.0 and 1.1: 3.3 and 3.2
            self.assertIsNone(progress.settled("code", tl6, group.runoff)[1])
            finish(progress, cell, loss)
        self.assertEqual(progress.settled("code", tl6, group.runoff), ([], (-28, -8, 0)))
        self.assertEqual(progress.counts()["search"], [3 + 4, 18 + 3 + 8])
        # Where there is no runoff the search's best stays.
        self.assertEqual(progress.final_cells("code", tl6, [1])[0].point, (-24, -8, 0))
        self.assertEqual([cell.point for cell in progress.final_cells("code", tl6, [7, 8], group.runoff)], [(-28, -8, 0)] * 2)
        finish(progress, runs[3], loss="inf")
        self.assertEqual(progress.settled("code", tl6, group.runoff), ([], (-24, -8, 0)))
        for runoff, part in (
            ("{ best = 2, seeds = [8] }", "not be used elsewhere"),
            ("{ best = 0, seeds = [10] }", "runoff: best is 0, not a whole number from 1"),
            ("{ best = 2, seeds = [] }", r"runoff: seeds is \[\], not one whole"),
            ("{ best = 2, seed = [10] }", "runoff: unknown seed; there are best, seeds"),
        ):
            with self.assertRaisesRegex(ValueError, part):
                Plan(TEXT + AGAIN + f"runoff = {runoff}\n")
        again = AGAIN.replace('"again"', '"third"').replace("[7, 8]", "[11, 12]")
        with self.assertRaisesRegex(ValueError, "third: seeds must be .* not be used elsewhere"):
            Plan(TEXT + AGAIN + "runoff = { best = 2, seeds = [10, 11] }\n" + again)

    def test_a_search_that_diverged_throughout_is_said_to_have(self):
        plan = Plan(TEXT + AGAIN + "runoff = { best = 2, seeds = [10] }\n")
        lora2, progress = Candidate("lora", 2, "qkv"), Progress(plan, FIXED, {})
        self.assertFalse(progress.is_hopeless("code", lora2))
        while wanted := progress.searched("code", lora2)[0]:
            self.assertFalse(progress.is_hopeless("code", lora2))
            for cell in wanted:
                finish(progress, cell, loss="inf")
        self.assertTrue(progress.is_hopeless("code", lora2))
        self.assertEqual(progress.settled("code", lora2, plan.groups[-1].runoff), ([], None))

    def test_seeds_run_at_the_best_rates(self):
        candidate = Candidate("lora", 8, "qkv")
        while wanted := self.progress.searched("code", candidate)[0]:
            for cell in wanted:
                finish(self.progress, cell, loss=1.0 if cell.point == (-20, 0) else 2.0)
        self.assertEqual([cell.point for cell in self.progress.final_cells("code", candidate, [1, 2])], [(-20, 0)] * 2)

    def test_the_second_task_starts_at_the_optimum_of_the_first(self):
        candidate = Candidate("lora", 8, "qkv")
        self.assertEqual(self.progress.searched("docstring", candidate)[:2], ([], []))  # waits
        self.assertEqual(self.progress.counts()["search"], [0, 18])
        while wanted := self.progress.searched("code", candidate)[0]:
            for cell in wanted:
                finish(self.progress, cell, loss=1.0 if cell.point == (-20, 0) else 2.0)
        self.assertEqual([cell.point for cell in self.progress.searched("docstring", candidate)[0]], [(-20, 0)])

    def test_the_second_task_starts_where_planned_if_all_diverged_on_the_first(self):
        candidate = Candidate("lora", 8, "qkv")
        while wanted := self.progress.searched("code", candidate)[0]:
            for cell in wanted:
                finish(self.progress, cell, loss="inf")
        self.assertEqual(self.progress.searched("docstring", candidate)[0][0].point, self.plan.start(candidate))

    def test_more_trials_move_no_start_of_another_task(self):
        candidate = Candidate("lora", 8, "qkv")
        plan = Plan(TEXT.replace("trials = 3", "trials = 6\nhanded_on = 3"))
        progress = Progress(plan, FIXED, {})
        order = []
        while wanted := progress.searched("code", candidate)[0]:
            for cell in wanted:
                order.append(cell.point)
                finish(progress, cell, loss=9 - len(order))  # the last trial is the best
            start = progress.start("docstring", candidate)
            self.assertEqual(start, order[2] if len(order) >= 3 else None)
        self.assertEqual(progress.final_cells("code", candidate, [1])[0].point, order[5])
        for wrong, part in (("0", "handed_on is 0, not a whole number from 1"), ("7", "handed_on must be from 1 to trials, 6")):
            with self.assertRaisesRegex(ValueError, part):
                Plan(TEXT.replace("trials = 3", f"trials = 6\nhanded_on = {wrong}"))

    def test_no_seeds_where_every_trial_diverged(self):
        candidate = Candidate("lora", 8, "qkv")
        while wanted := self.progress.searched("code", candidate)[0]:
            for cell in wanted:
                finish(self.progress, cell, loss="inf")
        self.assertEqual(self.progress.final_cells("code", candidate, [1, 2]), [])


if __name__ == "__main__":
    unittest.main()
