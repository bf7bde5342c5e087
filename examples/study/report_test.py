"""The page of a study made up here: its figures against values worked out by hand, and its silence without any."""

import argparse
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest
import unittest.mock

import confirmations
import default_rates
import excerpts
import pictures
import report
import results
from analysis import Mean, TaskResults
from plan import Plan, Progress
from plan_test import FIXED, TEXT

ABOUT = {
    task: {
        "package": "Made up 1.0",
        "files": {"train": 5, "select": 1, "test": 2},
        "train_tokens": 1234,
        "model_types": "F32",
        **fixed,
    }
    for task, fixed in FIXED.items()
}
TRAINED = {("lora", 8): 8000, ("lora", 1): 1000, ("tl6", 4): 400, ("vera", 16): 900}
# Test losses by seed; the base has 2.6. Gains of LoRA r = 8: 0.5 and 0.6.
LOSSES = {("lora", 8): (2.1, 2.0), ("lora", 1): (2.2, 2.1), ("tl6", 4): (2.15, 2.06), ("vera", 16): (2.4, 2.301)}


def made_up(text=TEXT, losses=LOSSES, tasks=("code", "docstring")):
    plan = Plan(text)
    progress = Progress(plan, FIXED, {})
    while True:
        cells = [cell for cell in progress.ready() if cell.task in tasks]
        if not cells:
            return plan, progress
        for cell in cells:
            name = (cell.candidate.scheme, cell.candidate.rank)
            away = sum(abs(p - s) for p, s in zip(cell.point, plan.start(cell.candidate)))
            row = {**FIXED[cell.task], "stage": cell.stage, "task": cell.task, "seed": str(cell.seed), "status": "ok", "cpu_seconds": "90"}
            row |= {"arithmetic": "a", "commit": "1", "scheme": name[0], "rank": str(name[1])}
            row |= {"trained": str(TRAINED[name]), "select_loss": str(2 + away / 99), "rate": "0.003", "uv_rate": "0.2", "b_rate": "0.003"}
            if cell.stage == "final":
                row |= {"test_before": "2.6", "test_loss": str(losses[name][cell.seed - 1])}
            progress.results[cell.key] = row


def page_of(plan, rows, about=ABOUT):
    return report.make_page(*report.make_sections(plan, rows, about), about)


def results_of(plan, progress):
    return excerpts.of_first_targets(plan, report.make_sections(plan, progress.results, ABOUT)[1])


class Report(unittest.TestCase):
    def test_kinds_of_rounding_are_counted(self):
        plan, progress = made_up()
        page, _ = page_of(plan, progress.results)
        self.assertNotIn("round differently", page)
        runs = sum(row["task"] == "code" for row in progress.results.values())
        next(row for row in progress.results.values() if row["task"] == "code")["arithmetic"] = "b"
        page, _ = page_of(plan, progress.results)
        self.assertIn(f"round differently: Code 1 + {runs - 1}.", page)
        self.assertNotIn("the smaller part", page)  # a run of the search
        last = next(row for row in progress.results.values() if (row["task"], row["stage"], row["seed"]) == ("code", "final", "2"))
        last |= {"arithmetic": "b", "commit": "1-dirty"}
        page, _ = page_of(plan, progress.results)
        self.assertIn("On code the final runs of the smaller part are lora r=8 seed 2. Some runs were made with builds of unc", page)

    def test_shares_and_pairs_by_hand(self):
        plan, progress = made_up()
        of_task = TaskResults(progress, "code", "qkv")
        self.assertEqual(
            [entry.candidate.label() for entry in of_task.entries], ["tl6 r=4", "vera r=16", "lora r=1", "lora r=8"]
        )
        share = of_task.by_seed[of_task.entries[0].candidate]
        self.assertAlmostEqual(share[1], 0.45 / 0.5)
        self.assertAlmostEqual(share[2], 0.54 / 0.6)
        tl6, vera = of_task.comparisons
        self.assertEqual(tl6.lora.candidate.rank, 1)  # the smallest of at least 400 numbers
        # Differences -0.05 and -0.04: mean -0.045, error 0.005, t -9, one degree: p = 2/π·atan(1/9).
        self.assertAlmostEqual(tl6.difference.mean, -0.045)
        self.assertAlmostEqual(tl6.difference.p, 0.0704466, delta=1e-6)
        # 0.2 and 0.201: t = 401, p = 2/π·atan(1/401); of two tests the smaller p counts twice.
        self.assertAlmostEqual(vera.p, 2 * 0.00158759, delta=1e-6)
        self.assertAlmostEqual(tl6.p, 0.0704466, delta=1e-6)

    def test_the_opponent_is_the_smallest_lora_that_is_no_smaller(self):
        for trained, rank in ((1000, 1), (1001, 8), (8000, 8), (8001, None)):
            with unittest.mock.patch.dict(TRAINED, {("vera", 16): trained}):
                _, progress = made_up()
            ranks = {
                one.entry.candidate.scheme: one.lora.candidate.rank
                for one in TaskResults(progress, "code", "qkv").comparisons
            }
            self.assertEqual(ranks.get("vera"), rank)

    def test_loras_frontier_is_the_best_that_is_no_larger_on_any_modules(self):
        text = TEXT.replace("[schemes.tl6]", '[schemes.lora_v]\ntrain = { scheme = "lora" }\nstart = { rate = 1e-2, b_over_a = 1 }\n[schemes.tl6]')
        text = text.replace('"vera:16"', '"vera:16", "lora_v:1", "lora_v:2"')
        losses = {**LOSSES, ("lora_v", 1): (2.35, 2.24), ("lora_v", 2): (2.36, 2.25)}  # 50 and 60 %; 48 and 58.3 %
        sizes = {**TRAINED, ("lora_v", 1): 300, ("lora_v", 2): 350}
        with unittest.mock.patch.dict(TRAINED, sizes):
            plan, progress = made_up(text, losses)
            found = TaskResults(progress, "code", "qkv").against_frontier
            page, _ = page_of(plan, progress.results)
        self.assertEqual({c.scheme: (lora.label(), round(d.mean, 4)) for c, (lora, d, _) in found.items()},
                         {"tl6": ("lora_v r=1", 0.35), "vera": ("lora_v r=1", -0.1008)})  # fmt: skip
        # TL6: 40 and 30 points more, t = 7, p = 2/π·atan(1/7) = 0.0903; VeRA: 10 and 10.17 less, t = 121, p = 0.00526; Holm.
        self.assertAlmostEqual(found[next(c for c in found if c.scheme == "vera")][2], 2 * 0.0052612, delta=1e-6)
        self.assertIn("**LoRA's frontier:** below it vera r=16.\n", page)
        self.assertIn("| vera r=16 | 900 | lora_v r=1 | 300 | -10.1 (-11.1 to -9.0) | 0.005 | 0.011 |", page)
        of_tasks = excerpts.of_first_targets(plan, report.make_sections(plan, progress.results, ABOUT)[1])
        self.assertEqual(excerpts.figures(of_tasks)["code below the frontier"], "vera r=16")
        # On docstrings, and so in the mean, no LoRA as small is planned: there is nothing to say.
        self.assertEqual(page.count("**LoRA's frontier:**"), 1)
        gone = [key for key, row in progress.results.items() if (row["stage"], row["trained"], row["seed"]) == ("final", "300", "2")]
        for key in gone:
            del progress.results[key]
        page, _ = page_of(plan, progress.results)
        self.assertIn("Planned here, not finished, and would count: lora_v r=1.", page)
        # LoRA on fewer modules is no opponent of LoRA's, nor one of those that the correction is for.
        self.assertEqual([one.entry.candidate.scheme for one in TaskResults(progress, "code", "qkv").comparisons], ["tl6", "vera"])

    def test_the_best_within_a_budget_by_hand(self):
        plan, progress = made_up()
        page, _ = page_of(plan, progress.results)
        head, code = page.split("## Code")[0], page.split("## Code")[1].split("\n## ")[0]
        # LoRA r = 1 has an eighth: 80 and 83.3 % to TL6's 90 and 90; t = 5, p = 2/π·atan(1/5).
        self.assertEqual([line for line in code.splitlines() if line.startswith("| 1/")],
                         [f"| {budget} | tl6 r=4 | 90.0 (90.0 to 90.0) | lora r=1 | 81.7 (60.5 to 102.8) | +8.3 (-12.8 to +29.5) | 0.126 |"
                          for budget in ("1/8", "1/4", "1/2")])  # fmt: skip
        self.assertNotIn("Within a budget**", head)  # the mean has no LoRA below the reference

    def test_means_of_tasks_by_hand(self):
        plan, progress = made_up()
        other = made_up(losses={**LOSSES, ("tl6", 4): (2.2, 2.12)})[1]
        mean = Mean([TaskResults(progress, "code", "qkv"), TaskResults(other, "docstring", "qkv")])
        self.assertEqual([candidate.label() for candidate in mean.candidates], ["tl6 r=4", "lora r=8"])
        tl6 = mean.candidates[0]
        self.assertAlmostEqual(mean.by_seed[tl6][1], (0.45 + 0.4) / 2 / 0.5)
        self.assertAlmostEqual(mean.by_seed[tl6][2], (0.54 + 0.48) / 2 / 0.6)
        self.assertAlmostEqual(mean.differences[tl6][1].mean, -0.15)

    def test_every_figure_of_the_page(self):
        plan, progress = made_up()
        page, drawn = page_of(plan, progress.results)
        self.assertEqual(set(drawn), {"mean-qkv.svg", "code-qkv.svg", "docstring-qkv.svg"})
        rows = {
            match[1]: match[0]
            for match in re.finditer(r"^\| ([^|]*?) \|.*$", page.split("## Code")[1].split("\n## ")[0], re.M)
        }
        # Start and its neighbours at half a decade on the first axis: no star there, but on what the others decide.
        self.assertEqual(
            rows["tl6 r=4"],
            "| tl6 r=4 | 400 | 5.0 | 0.001 | 0.001* | 0.1* | 2.1050 ± 0.5718 | 90.0 (90.0 to 90.0) | r = 1 | "
            "-0.0450 (-0.1085 to +0.0185) | 0.070 | 0.070 |",
        )
        self.assertIn("| vera r=16 | 900 | 11.2 | – | – | 0.1 |", rows["vera r=16"])
        self.assertIn(" | 0.002 | 0.003 |", rows["vera r=16"])  # twice 0.00159
        self.assertIn("| 100 |", rows["lora r=8"])
        self.assertIn("**Worse than the next larger LoRA:** vera r=16 (+0.2005 with 90 % of its parameters).", page)
        self.assertIn("The other schemes compared are not told apart from the next larger LoRA by these seeds.", page)
        # Final runs of one point have one select loss here; half a decade away it is 4/99 more.
        self.assertIn("In 0 of 6 searches the best rates led", page)
        final = next(row for row in progress.results.values() if row["stage"] == "final")
        for more, close in ((0.05, 0), (0.06, 1)):  # a deviation of 0.0354, 0.0424
            final["select_loss"] = str(2 + more)
            self.assertIn(f"In {close} of 6 searches the best rates led", page_of(plan, progress.results)[0])
        self.assertIn("95 % of its gain or more for no scheme here; the most is tl6 r=4's, 90.0 (90.0 to 90.0) %.", page)
        self.assertIn("The base's test loss is 2.6000.", page)
        self.assertIn("**30 of 30 planned runs are done**", page)
        self.assertIn("| Code | 12 | 0 | 0.3 | 8 | 0 | 0.2 |", page)
        self.assertIn("| 5 + 1 + 2 |  | 1,234 | d-code |", page)

    def test_the_bar(self):
        text = TEXT.replace('tasks = ["code"]', 'tasks = ["code", "docstring"]').replace(
            '"vera:16"', '"vera:16", "lora:2"'
        )
        trained = {**TRAINED, ("lora", 2): 2000}
        losses = {**LOSSES, ("tl6", 4): (2.11, 2.011), ("lora", 2): (2.15, 2.05)}
        losses |= {("lora", 1): (2.2, 2.12), ("vera", 16): (2.4, 2.361)}
        with unittest.mock.patch.dict(TRAINED, trained):
            plan, progress = made_up(text, losses)
        mean = Mean([TaskResults(progress, task, "qkv") for task in ("code", "docstring")])
        self.assertEqual(
            report.bar_text(mean),
            "With an eighth of the trainable parameters of LoRA r = 8 or fewer, the mean over the seeds is 95 % of its gain or more "
            "for tl6 r=4, 98.1 (97.0 to 99.1) %. Of the schemes up to the size of LoRA r = 4, against LoRA on all modules of "
            "equal or larger size (p < 0.05 after Holm's correction): 1 lose, 1 win, 0 are not told apart.",
        )

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
        self.check_drawn(commands, "less lora r=2")
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
        at_default = default_rates.of_plan(*report.make_sections(plan, progress.results, ABOUT), "qkv")
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

    def test_targets_are_pooled_by_hand(self):
        block = 'name = "All"\ntasks = ["code"]\ntargets = "all"\ncandidates = ["lora:8", "tl6:4"]\n'
        plan, progress = made_up(f"{TEXT}[[blocks]]\n{block}")
        finals = [(key, row) for key, row in progress.results.items() if row["stage"] == "final"]
        on_all = {cell.key for candidate in plan.candidates("code") if candidate.targets == "all" for cell in progress.final_cells("code", candidate, plan.seeds)}
        for key, row in finals:
            if key in on_all:
                row |= {"trained": str(3 * int(row["trained"])), "test_loss": str(float(row["test_loss"]) - 0.1)}
        page, drawn = page_of(plan, progress.results)
        pooled = page.split("## Code: all targets together")[1].split("\n## ")[0]
        # TL6 on all seven gains 0.55 and 0.64 of 0.5 and 0.6: 110 and 106.67 %, mean 108.33, 12.7062·1.667 to either side.
        self.assertIn("| tl6 r=4 on all seven | 1,200 | 15.0 | 108.3 (87.2 to 129.5) |", pooled)
        # Within a quarter; LoRA r = 1 keeps 80 and 83.33 there.
        self.assertIn("| 1/4 | tl6 r=4 on all seven | 108.3 (87.2 to 129.5) | lora r=1 | 81.7", pooled)
        self.assertIn("| tl6 r=4 on all seven | 1,200 | lora r=1 | 1,000 | +26.7", pooled)
        self.assertEqual(page.count("all targets together"), 1)
        self.assertIn("code-pooled.svg", drawn)
        self.check_drawn(drawn["code-pooled.svg"], "on other modules")
        of_tasks = results_of(plan, progress)
        several = report.pooled_of(plan, report.make_sections(plan, progress.results, ABOUT)[1])
        line = excerpts.decisions(plan, of_tasks, several).splitlines()[6]
        self.assertEqual(line, "| 1/4: 2,000 | tl6 r=4 on all seven 108; lora r=1 82 | tl6 r=4 90 | tl6 r=4 90 |")
        found = excerpts.figures(of_tasks, (), [TaskResults(progress, "code", "all")], several)
        self.assertEqual((found["code all tl6 r=4"], found["code pooled above the frontier"]), ("108", "none"))

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

    def test_the_decisions_by_budget_and_by_task(self):
        # On code the tl6, of 400, has 90 % with both seeds, LoRA r = 1, of 1000, 80 and 83.3 %, VeRA, of 900, 40 and 49.8 %.
        plan, progress = made_up()
        table = excerpts.decisions(plan, results_of(plan, progress))
        self.assertEqual(
            table.splitlines(),
            [
                "| parameters | Code | Docstrings | Mean |",
                "|---|---:|---:|---:|",
                "| 1/50: 160 | not run | not run | not run |",
                "| 1/20: 400 | tl6 r=4 90 | tl6 r=4 90 | tl6 r=4 90 |",  # of 8000: all of 400
                "| 1/12: 666 | tl6 r=4 90 | tl6 r=4 90 | tl6 r=4 90 |",
                "| 1/8: 1,000 | tl6 r=4 90; lora r=1 82 | tl6 r=4 90 | tl6 r=4 90 |",
                "| 1/4: 2,000 | tl6 r=4 90; lora r=1 82 | tl6 r=4 90 | tl6 r=4 90 |",
                "| 1/2: 4,000 | tl6 r=4 90; lora r=1 82 | tl6 r=4 90 | tl6 r=4 90 |",
            ],
        )

    def test_shares_and_rates_by_task(self):
        # Only what two tasks have: not LoRA r = 1 and VeRA, which the plan has on code alone.
        plan, progress = made_up()
        of_tasks = results_of(plan, progress)
        self.assertEqual(
            excerpts.shares(of_tasks).splitlines()[2:],
            [
                "| tl6 r=4 | 5.0 % | 90.0 (90.0 to 90.0) | 90.0 (90.0 to 90.0) |",
                "| lora r=8 | 100.0 % | 100.0 (100.0 to 100.0) | 100.0 (100.0 to 100.0) |",
            ],
        )
        found = excerpts.rates(of_tasks).splitlines()
        self.assertEqual(found[0], "|  | code | docstrings |")
        self.assertTrue(found[2].startswith("| tl6 r=4 | A 0.001, B 0.001*, u and v 0.1* |"), found[2])

    def test_tables_are_all_that_changes_in_their_pages(self):
        begin, end = "<!-- shares -->", "<!-- end of shares -->"
        text = f"# A\n\n{begin}\nold\n{end}\n\nB\n"
        self.assertEqual(excerpts.put(text, "shares", "new", "a.md"), f"# A\n\n{begin}\n\nnew\n\n{end}\n\nB\n")
        for wrong in ("# A", text + end, text.replace(begin, "")):
            with self.assertRaisesRegex(ValueError, "a.md must have one line"):
                excerpts.put(wrong, "shares", "new", "a.md")

    def test_a_sentence_that_quotes_another_figure_is_named(self):
        plan, progress = made_up()
        of_tasks = results_of(plan, progress)
        quotes = """
            [[quotes]]
            page = "a.md"
            text = "LoRA r = 1 keeps {code lora r=1} %; TL6 is {code tl6 r=4 loss} from it"
            """
        with tempfile.TemporaryDirectory() as folder:
            page = pathlib.Path(folder, "a.md")
            page.write_text("So LoRA r = 1\nkeeps 82 %; TL6\nis -0.045 from it.")
            self.assertEqual(excerpts.missing_quotes(page.parent, quotes, of_tasks), [])
            page.write_text("So LoRA r = 1 keeps 83 %; TL6 is -0.045 from it.")
            self.assertEqual(
                excerpts.missing_quotes(page.parent, quotes, of_tasks),
                [("a.md", "LoRA r = 1 keeps 82 %; TL6 is -0.045 from it")],
            )
        self.assertEqual(excerpts.quoted("{mean tl6 r=4}", excerpts.figures(of_tasks)), "90")
        self.assertEqual(excerpts.quoted("{code above the frontier}", excerpts.figures(of_tasks)), "none")
        for wrong in ("{mean lora r=1}", "{code lora r=3}", "{nothing lora r=1}", "{code lora r=1 loss}"):
            with self.assertRaisesRegex(ValueError, "quotes.toml: no "):
                excerpts.quoted(wrong, excerpts.figures(of_tasks))

    def test_says_so_without_results(self):
        plan = Plan(TEXT)
        page, drawn = page_of(plan, {}, {})
        self.assertEqual(drawn, {})
        self.assertIn("**0 of 30 planned runs are done**", page)
        self.assertIn("no figures yet and supports no advice", page)
        self.assertNotIn("share", page)

    def test_the_page_of_an_own_study_leaves_docs_alone(self):
        plan, progress = made_up()
        with tempfile.TemporaryDirectory() as folder:
            work = pathlib.Path(folder)
            (work / "plan.toml").write_text(TEXT)
            options = argparse.Namespace(work=work, plan=work / "plan.toml", page=work / "page", check=False)
            with self.assertRaisesRegex(ValueError, "manifest.json does not exist; script/study run makes it"):
                report.command(options, plan)
            (work / "results.csv").touch()
            results.write_json(work / "manifest.json", {task: {**made, "model_name": "Mine"} for task, made in ABOUT.items()})
            before = (report.ROOT / "docs" / "results.md").read_text()
            with unittest.mock.patch.object(report.results, "read", return_value=progress.results), \
                 unittest.mock.patch.object(report.pictures, "draw") as draw:  # fmt: skip
                self.assertEqual(report.command(options, plan), 0)
            self.assertEqual(draw.call_count, 3)
            page = (work / "page" / "results.md").read_text()
            self.assertIn("One model, Mine (F32), 10 steps", page)
            self.assertNotIn("examples/study", page)
            self.assertEqual((report.ROOT / "docs" / "results.md").read_text(), before)

    def test_a_task_without_its_reference_has_no_figures(self):
        plan, progress = made_up(tasks=("code",))
        page, drawn = page_of(plan, progress.results)
        self.assertEqual(set(drawn), {"code-qkv.svg"})
        self.assertNotIn("## Docstring", page)
        self.assertNotIn("The mean of the tasks", page)
        self.assertIn("Planned, but not finished: Docstrings, q, k and v: all candidates.", page)

    def test_a_reference_without_a_gain_is_said(self):
        plan, progress = made_up(losses={**LOSSES, ("lora", 8): (2.7, 2.0)})
        page, drawn = page_of(plan, progress.results)
        self.assertEqual(drawn, {})
        self.assertIn("On code, q, k and v, LoRA r = 8 gained nothing with seed 1: no shares.", page)
        self.assertNotIn("not finished", page)

    def test_a_candidate_that_diverged_is_said_once(self):
        plan, progress = made_up()
        for row in progress.results.values():
            if (row["task"], row["scheme"], row["stage"]) == ("code", "vera", "final"):
                row["status"] = "diverged"
        page, _ = page_of(plan, progress.results)
        self.assertIn("left out of the tables: Code, q, k and v: vera r=16.", page)
        self.assertNotIn("not finished", page)

    def test_a_confirmation_without_its_reference_says_so(self):
        pairs = 'name = "Again?"\ntasks = ["code", "docstring"]\ntargets = "qkv"\nseeds = [3, 4]\npairs = [["tl6:4", "lora:8"]]\n'
        losses = {name: values * 2 for name, values in LOSSES.items()}
        losses["lora", 8] = (2.7, 2.0) * 2
        plan, progress = made_up(f"{TEXT}[[blocks]]\n{pairs}", losses)
        page, _ = page_of(plan, progress.results)
        self.assertIn("No figures: there is no gain of LoRA r = 8 on code and docstrings to divide by (8 of 8 runs are done).", page)

    def test_rows_of_other_data_are_no_other_rounding(self):
        plan, progress = made_up()
        row = next(row for row in progress.results.values() if row["task"] == "code")
        progress.results["old"] = {**row, "data": "older", "arithmetic": "b"}
        progress.results["poem"] = {**row, "task": "poems"}
        self.assertNotIn("round differently", page_of(plan, progress.results)[0])

    def test_default_rates_of_two_versions_are_no_result(self):
        block = 'name = "Default"\ntasks = ["code"]\ntargets = "qkv"\nrates = "default"\ncandidates = ["tl6:4"]\n'
        plan, progress = made_up(f"{TEXT}[[blocks]]\n{block}")
        self.assertIn("What the default rates lose", page_of(plan, progress.results)[0])
        cells = progress.final_cells("code", plan.groups[-1].candidates[0], plan.seeds)
        progress.results[cells[0].key]["rate"] = "0.3"
        self.assertNotIn("What the default rates lose", page_of(plan, progress.results)[0])
        del progress.results[cells[0].key]
        self.assertIn("- Planned, but not finished: Code, at the default rates: tl6 r=4.", page_of(plan, progress.results)[0])

    def test_results_that_cannot_be_read_replace_none(self):
        plan = Plan(TEXT)
        with tempfile.TemporaryDirectory() as folder, unittest.mock.patch.object(report, "RESULTS", pathlib.Path(folder) / "kept"):
            work = pathlib.Path(folder) / "work"
            for one in (work, report.RESULTS):
                one.mkdir()
            (report.RESULTS / "results.csv").write_text("kept")
            options = argparse.Namespace(work=work, plan=work / "plan.toml", page=None, check=False)
            with self.assertRaisesRegex(ValueError, "manifest.json does not exist"):
                report.command(options, plan)
            results.write_json(work / "manifest.json", ABOUT)
            (work / "results.csv").write_text(",".join(results.COLUMNS) + "\n")
            with self.assertRaisesRegex(ValueError, "no figure of"):  # of quotes.toml: it is another study
                report.command(options, plan)
            self.assertEqual((report.RESULTS / "results.csv").read_text(), "kept")

    def test_a_candidate_that_lacks_a_seed_is_left_out(self):
        plan, progress = made_up()
        gone = next(
            k
            for k, r in progress.results.items()
            if r["stage"] == "final" and r["task"] == "code" and r["trained"] == "400"
        )
        del progress.results[gone]
        page, _ = page_of(plan, progress.results)
        self.assertNotIn("| tl6 r=4 |", page.split("## Code")[1].split("\n## ")[0])
        self.assertIn("Planned, but not finished: Code, q, k and v: tl6 r=4.", page)

    def check_drawn(self, picture, text):
        if not shutil.which("gnuplot"):
            self.skipTest("gnuplot draws the pictures")
        with tempfile.TemporaryDirectory() as folder:
            script = pictures.script(f"{folder}/a.svg", picture)
            done = subprocess.run(["gnuplot"], input=script, text=True, capture_output=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            with open(f"{folder}/a.svg") as file:
                self.assertIn(text, file.read())

    def test_the_frontier_is_drawn(self):
        plan, progress = made_up()
        _, drawn = page_of(plan, progress.results)
        # VeRA, 900, is below TL6, 400.
        self.assertEqual(re.findall(r'^[0-9]+ .*"(.*)"$', drawn["code-qkv.svg"], re.M), ["1", "8", "4", ""])
        self.check_drawn(drawn["code-qkv.svg"], "trainable parameters")


if __name__ == "__main__":
    unittest.main()
