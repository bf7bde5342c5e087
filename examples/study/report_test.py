"""The command: which files it replaces, and when none."""

import argparse
import pathlib
import tempfile
import unittest
import unittest.mock

import report
import results
from plan import Plan
from plan_test import TEXT
from report_fixture import ABOUT, made_up


class Report(unittest.TestCase):
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


if __name__ == "__main__":
    unittest.main()
