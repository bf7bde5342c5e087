"""Tables and sentences of other pages."""

import pathlib
import tempfile
import unittest

import excerpts
from report_fixture import made_up, results_of


class Excerpts(unittest.TestCase):
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


if __name__ == "__main__":
    unittest.main()
