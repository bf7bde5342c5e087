"""What the default rates lose, by hand, and where they are the rates of the tables."""

import unittest

import default_rates
import excerpts
from analysis import TaskResults
from page import make_sections
from plan_test import TEXT
from report_fixture import ABOUT, made_up, page_of, results_of


class DefaultRates(unittest.TestCase):
    def test_default_rates_by_hand(self):
        block = 'name = "Default"\ntasks = ["code", "docstring"]\ntargets = "qkv"\nrates = "default"\ncandidates = ["tl6:4"]\n'
        plan, progress = made_up(f"{TEXT}[[blocks]]\n{block}")
        group = [g for g in plan.groups if g.candidates[0].default_rates]
        self.assertEqual([(g.task, g.candidates[0].label()) for g in group], [("code", "tl6 r=4"), ("docstring", "tl6 r=4")])
        cells = progress.final_cells("code", group[0].candidates[0], plan.seeds)
        self.assertNotIn("rate", dict(cells[0].settings))
        page, _ = page_of(plan, progress.results)
        # As the made-up losses are the same at all rates: shares 0.45/0.5 and 0.54/0.6, nothing lost.
        self.assertIn("| tl6 r=4 | A 0.003, B 0.003, u and v 0.2 | 90.0 (90.0 to 90.0); +0.0 (+0.0 to +0.0) | 90.0 (90.0 to 90.0); +0.0 (+0.0 to +0.0) | +0.0 ", page)
        for task, losses in (("code", (2.2, 2.18)), ("docstring", (2.15, 2.06))):
            for cell, loss in zip(progress.final_cells(task, group[0].candidates[0], plan.seeds), losses):
                progress.results[cell.key]["test_loss"] = str(loss)
        page, _ = page_of(plan, progress.results)
        # On code seed 1 loses 0.05/0.5, seed 2 0.12/0.6: 15 points, and 12.7062·5 to either side; half of it in the mean.
        self.assertIn("| 75.0 (11.5 to 138.5); -15.0 (-78.5 to +48.5) | 90.0 (90.0 to 90.0); +0.0 (+0.0 to +0.0) | -7.5 (-39.3 to +24.3) | 0.205 |", page)
        del progress.results[cells[0].key]
        self.assertIn("| tl6 r=4 | A 0.003, B 0.003, u and v 0.2 | not finished | 90.0 ", page_of(plan, progress.results)[0])

    def test_the_lower_select_loss_chooses_between_the_search_and_the_default(self):
        block = 'name = "Default"\ntasks = ["code", "docstring"]\ntargets = "qkv"\nrates = "default"\ncandidates = ["tl6:4"]\n'
        plan, progress = made_up(f"{TEXT}[[blocks]]\n{block}")
        default = next(c for group in plan.groups for c in group.candidates if c.default_rates)
        cells = progress.final_cells("code", default, plan.seeds)
        for cell, select, test in zip(cells, (1.9, 2.09), (2.2, 2.18)):  # a mean of 1.995; at the rates of the search 2
            progress.results[cell.key] |= {"select_loss": str(select), "test_loss": str(test)}
        page, _ = page_of(plan, progress.results)
        code, docstring = (page.split(f"## {title}:")[1].split("\n## ")[0] for title in ("Code", "Docstrings"))
        # Shares 0.4/0.5 and 0.42/0.6: 75 %, and 12.7062·5 to either side. Against LoRA r = 1: 0 and 0.08.
        self.assertIn("| tl6 r=4 | 400 | 5.0 | 0.003‡ | 0.003‡ | 0.2‡ | 2.1900 ± 0.1271 | 75.0 (11.5 to 138.5) | r = 1 | +0.0400", code)
        self.assertIn("| tl6 r=4 | 400 | 5.0 | 0.001 | 0.001* | 0.1* | 2.1050", docstring)
        self.assertIn("| 75.0 (11.5 to 138.5)‡; -15.0 (-78.5 to +48.5) | 90.0 (90.0 to 90.0); +0.0", page)
        self.assertIn("(‡: the default). A seed fixes", page)
        at_default = default_rates.of_plan(*make_sections(plan, progress.results, ABOUT), "qkv")
        quotes = excerpts.figures(results_of(plan, progress), at_default=at_default)
        self.assertEqual((quotes["default code tl6 r=4"], quotes["default mean tl6 r=4"]), ("75", "-7.5 (-39.3 to +24.3)"))
        self.assertIn("In 0 of 6 searches", page)  # of the searches, whichever rates the tables have
        progress.results[cells[1].key]["select_loss"] = "2.11"  # 2.005
        self.assertIn("| tl6 r=4 | 400 | 5.0 | 0.001 | 0.001* | 0.1* | 2.1050", page_of(plan, progress.results)[0].split("## Code:")[1])
        progress.results[cells[1].key] |= {"select_loss": "1", "status": "diverged"}
        self.assertIn("| tl6 r=4 | 400 | 5.0 | 0.001 | 0.001* | 0.1* | 2.1050", page_of(plan, progress.results)[0].split("## Code:")[1])

    def test_the_references_default_rates_scale_all_shares(self):
        block = 'name = "Default"\ntasks = ["code"]\ntargets = "qkv"\nrates = "default"\ncandidates = ["lora:8"]\n'
        plan, progress = made_up(f"{TEXT}[[blocks]]\n{block}")
        default = next(c for group in plan.groups for c in group.candidates if c.default_rates)
        for cell, test in zip(progress.final_cells("code", default, plan.seeds), (2.0, 1.9)):
            progress.results[cell.key] |= {"select_loss": "1", "test_loss": str(test)}
        found = TaskResults(progress, "code", "qkv")
        # Gains of 0.6 and 0.7 in place of 0.5 and 0.6.
        self.assertEqual({c.scheme: round(by_seed[1], 6) for c, by_seed in found.by_seed.items() if c.rank != 1},
                         {"tl6": 0.75, "vera": round(0.2 / 0.6, 6), "lora": 1})  # fmt: skip
        page, _ = page_of(plan, progress.results)
        # At the rates of the search the reference keeps 0.5/0.6 and 0.6/0.7: 16.7 and 14.3 points less.
        self.assertIn("| 100.0 (100.0 to 100.0)‡; +15.5 (+0.3 to +30.6) |", page)

    def test_default_rates_of_two_versions_are_no_result(self):
        block = 'name = "Default"\ntasks = ["code"]\ntargets = "qkv"\nrates = "default"\ncandidates = ["tl6:4"]\n'
        plan, progress = made_up(f"{TEXT}[[blocks]]\n{block}")
        self.assertIn("What the default rates lose", page_of(plan, progress.results)[0])
        cells = progress.final_cells("code", plan.groups[-1].candidates[0], plan.seeds)
        progress.results[cells[0].key]["rate"] = "0.3"
        self.assertNotIn("What the default rates lose", page_of(plan, progress.results)[0])
        del progress.results[cells[0].key]
        self.assertIn("- Planned, but not finished: Code, at the default rates: tl6 r=4.", page_of(plan, progress.results)[0])


if __name__ == "__main__":
    unittest.main()
