"""Pairs with seeds of their own: the figures by hand, and none before the last run."""

import re
import unittest
import unittest.mock

import confirmations
import excerpts
from analysis import TaskResults
from plan_test import TEXT
from report_fixture import LOSSES, TRAINED, check_drawn, made_up, page_of


class Confirmations(unittest.TestCase):
    def test_confirmations_by_hand(self):
        pairs = 'name = "Again?"\ntasks = ["code", "docstring"]\ntargets = "qkv"\nseeds = [7, 8]\n'
        text = f'{TEXT}[[blocks]]\n{pairs}pairs = [["tl6:4", "lora:2"], ["vera:16", "lora:2"]]\n'
        losses = {name: (*values, *[9.0] * 4, 2.2, 2.1) for name, values in LOSSES.items()}
        losses[("lora", 2)] = (*[9.0] * 6, 2.31, 2.22)
        with unittest.mock.patch.dict(TRAINED, {("lora", 2): 2000}):
            plan, progress = made_up(text, losses)
            for row in progress.results.values():  # on docstrings TL6 is 0.055 better with seed 8
                if row.get("test_loss") == "2.1" and (row["task"], row["trained"], row["seed"]) == ("docstring", "400", "8"):
                    row["test_loss"] = "2.045"
            references = {task: TaskResults(progress, task, "qkv").reference for task in ("code", "docstring")}
            found = confirmations.Confirmed(progress, plan.confirmations[0], references)
            page, drawn = page_of(plan, progress.results)
        tl6, vera = found.pairs
        # The reference gains 0.5 and 0.6 with the seeds of all, 0.55 in the mean. TL6 is 0.11 and 0.12 ahead: 0.2 and 12/55; on
        # docstrings 0.2 and 0.175/0.55.
        self.assertAlmostEqual(tl6.of_task["code"].mean, (0.11 + 0.12) / 2 / 0.55)
        self.assertAlmostEqual(tl6.of_task["docstring"].mean, (0.11 + 0.175) / 2 / 0.55)
        self.assertAlmostEqual(tl6.difference.mean, (0.11 + (0.12 + 0.175) / 2) / 2 / 0.55)
        # Of seeds 0.11 and 0.1475 (over 0.55): mean 0.12875, error 0.01875, t = 6.8667, p = 2/π·atan(1/t) = 0.092064. VeRA 0.11 and
        # 0.12: t = 23, p = 0.027662, which counts twice.
        self.assertAlmostEqual(tl6.difference.p, 0.092064, delta=1e-6)
        self.assertAlmostEqual(tl6.p, 0.092064, delta=1e-6)
        self.assertAlmostEqual(vera.p, 2 * 0.027662, delta=2e-6)
        self.assertIn("## Again?\n\nPairs that earlier results suggested, fixed in the plan before any of these runs, with seeds 7 to 8,", page)
        self.assertIn("![differences](results/confirmation-qkv-1.svg)", page)
        commands = drawn["confirmation-qkv-1.svg"]
        # On code, on docstrings and in the mean; what it is against, from the top.
        self.assertEqual(re.findall(r"^([0-9.]+) -?[0-9.]+ [0-9.]+ -0\.[0-9]+$", commands, re.M), ["20.909", "25.909", "23.409"])
        self.assertRegex(commands, r"set ytics noenhanced \('tl6 r=4 less lora r=2' -0.4\d+, 'vera r=16 less lora r=2' -1.4\d+\)")
        check_drawn(self, commands, "less lora r=2")
        self.assertIn("| tl6 r=4 | 400 | lora r=2 | 2,000 | +20.9 (", page)
        self.assertIn("Of 2 pairs the first is better in 0, worse in 0, and not told apart from its opponent in 2", page)
        # It keeps 0.4 and 0.5 of 0.55, on docstrings 0.4 and 0.555; in the mean 0.46375, and 12.7062·0.06375 to either side.
        self.assertIn("| tl6 r=4 | 400 | 81.8 (-33.7 to 197.3); A 0.001, B 0.001*, u and v 0.1* | 86.8 (-92.2 to 265.9); A", page)
        self.assertIn("u and v 0.1* | 84.3 (-63.0 to 231.6) |", page)
        # 0.12875/0.55, and 12.7062·0.01875/0.55 to either side.
        quotes = excerpts.figures([], [found])
        self.assertEqual(quotes["confirmed tl6 r=4 over lora r=2"], "+23.4 (-19.9 to +66.7)")
        self.assertEqual(quotes["confirmed tl6 r=4 over lora r=2 p"], "0.092")
        self.assertEqual((quotes["confirmed docstring tl6 r=4 over lora r=2"], quotes["confirmed docstring tl6 r=4 share"]), ("+26", "87"))
        self.assertEqual((quotes["confirmed mean tl6 r=4 share"], quotes["confirmed mean lora r=2 share"]), ("84", "61"))

    def test_no_figures_of_a_confirmation_before_its_last_run(self):
        pairs = 'name = "Again?"\ntasks = ["code", "docstring"]\ntargets = "qkv"\nseeds = [3, 4]\npairs = [["tl6:4", "lora:8"]]\n'
        losses = {name: values * 2 for name, values in LOSSES.items()}
        plan, progress = made_up(f"{TEXT}[[blocks]]\n{pairs}", losses)
        whole, _ = page_of(plan, progress.results)
        self.assertIn("| tl6 r=4 | 400 | lora r=8 |", whole)
        last = next(key for key, row in progress.results.items() if row["seed"] == "4")
        row = progress.results.pop(last)
        page, _ = page_of(plan, progress.results)
        self.assertIn("which nothing else uses. 7 of 8 runs are done; no figures before all are.", page)
        self.assertNotIn("| lora r=8 | 8,000 | -", page)
        progress.results[last] = row | {"status": "diverged", "test_loss": ""}
        page, _ = page_of(plan, progress.results)
        self.assertIn("No figures: runs diverged, of tl6 r=4 on code (8 of 8 runs are done).", page)

    def test_a_confirmation_without_its_reference_says_so(self):
        pairs = 'name = "Again?"\ntasks = ["code", "docstring"]\ntargets = "qkv"\nseeds = [3, 4]\npairs = [["tl6:4", "lora:8"]]\n'
        losses = {name: values * 2 for name, values in LOSSES.items()}
        losses["lora", 8] = (2.7, 2.0) * 2
        plan, progress = made_up(f"{TEXT}[[blocks]]\n{pairs}", losses)
        page, _ = page_of(plan, progress.results)
        self.assertIn("No figures: there is no gain of LoRA r = 8 on code and docstrings to divide by (8 of 8 runs are done).", page)


if __name__ == "__main__":
    unittest.main()
