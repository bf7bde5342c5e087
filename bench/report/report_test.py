"""What the programs wrote, through CSV files, to rows, scores and verdicts; and the toy's table against its own processes.
That the committed pages agree with the committed results, `report.py --check` checks."""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import unittest

import collect
import fits
import scores
import targets
from markdown import wrapped
from results import Results, Row, Value, words

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
CONTEXT = {"compiler": "GNU 1.0", "flags": "-O3", "kernels": "sse2", "rounds": "3", "num_cpus": 2, "date": "2030-01-02T03:04",
           "caches": [{"level": 1, "type": "Data", "size": 32768}], "eigen": "3", "openblas": "OpenBLAS 1"}  # fmt: skip


def entry(name, q1, median, q3):
    ratios = {f"x.{key}{part}": value for key in ("vs_peer", "vs_naive")
              for part, value in (("", median), (".q1", q1), (".q3", q3))}  # fmt: skip
    return {"name": f"grid/{name}/iterations:1/manual_time", "real_time": 9, "iterations": 1, **ratios}


def made_up(folder, entries):
    results = folder / "raw"
    results.mkdir()
    (results / "gcc.json").write_text(json.dumps({"context": CONTEXT, "benchmarks": entries}))
    (results / "engine_about.json").write_text('{"rounds": 12}')
    collect.collect(results, folder / "numbers")
    return Results(folder / "numbers")


class Report(unittest.TestCase):
    def test_from_json_to_scores(self):
        with tempfile.TemporaryDirectory() as name:
            results = made_up(pathlib.Path(name), [
                entry("forward/lora/64x32/r:8/T:1", 1.0312, 1.04, 1.05),  # won: both quartiles above 1.03
                entry("forward/lora/64x64/r:8/T:1", 1.02, 1.04, 1.05),  # even
                entry("forward/tl6/64x64/r:8/T:8", 0.9, 0.92, 0.96),  # lost
                entry("forward/tl6/64x64/r:1/T:8", 0.1, 0.1, 0.1),  # a rank that nobody uses
                {"name": "grid/forward/x", "error_occurred": True, "error_message": "not measured: no memory"},
            ])  # fmt: skip
        self.assertEqual(results.about["not_measured"], ["grid/forward/x, gcc: no memory"])
        self.assertEqual((results.about["engine"], results.about["machine"]["date"]), ({"rounds": 12}, "2030-01-02"))
        row = results.rows("grid", "gcc")[0]
        self.assertEqual((row.d_in, row.d_out, row.r, row.T, row.backward), (64, 32, 8, 1, False))
        self.assertNotIn("real_time", row.columns)
        score = scores.find(scores.of_modules(results, "gcc"), scores.CAREFUL, "forward")
        self.assertEqual((score.won, score.even, score.lost), (1, 1, 1))
        self.assertEqual((score.worst, score.figure.median), ("forward/tl6/64x64/r:8/T:8", 1.04))
        verdict = targets.never_slower("key", score)
        self.assertTrue(verdict.is_missed)
        self.assertIn("1 of 3 below; worst 0.92 (0.90–0.96) at TL6, 64, r = 8, T = 8", verdict.seen)

    def test_verdicts_know_the_spread(self):
        values = ((1.3, 1.4, 1.5), (1.2, 1.3, 1.4), (1.1, 1.2, 1.3), (1, 1.1, 1.2))
        stands = [targets.standing(Value(*value), 1.3) for value in values]
        self.assertEqual(stands, ["met", "met, within the spread", "missed, within the spread", "missed"])

    def test_names(self):
        row = Row("gcc", "peft/both/vera/576x576/r:64/T:512", {})
        self.assertEqual((row.baseline, row.backward, row.T), ("peft", True, 512))
        self.assertEqual(words("eager/forward/lora/4096x12288/r:8/T:1"), "LoRA, 4096 → 12288, r = 8, T = 1")

    def test_a_line_through_points(self):
        self.assertEqual(fits.fit([1, 2, 3], [3, 5, 7]), (1, 2, 0))

    def test_prose_is_wrapped_and_tables_are_not(self):
        table = "| " + "a " * 100 + "|"
        self.assertEqual(wrapped(f"one\ntwo\n\n{table}\n\n- a\n  b\n- c"), f"one two\n\n{table}\n\n- a b\n- c\n")

    def test_the_toys_table_is_of_its_processes(self):
        results = Results(DOCS / "benchmarks")
        times = {}
        for row in results.steps:
            times.setdefault((row["program"], row["variant"]), []).append(float(row["step_ms"]))
        for row in results.tables["train_step_table"]:
            scheme, _, what = row["name"].rpartition(": ")
            if what in ("whole step", "step without adapter"):
                ours, _, theirs = (scheme or "none").partition(" against ")
                mine, other = times["tiedlora", ours], times[row["baseline"], theirs or ours]
                self.assertEqual(row["ours"], f"{statistics.median(mine):.1f}", row)
                self.assertEqual(row["theirs"], f"{statistics.median(other):.1f}", row)
                self.assertEqual(row["ratio"], f"{statistics.median(b / a for a, b in zip(mine, other)):.2f}", row)

    def test_a_page_that_was_edited_is_refused(self):
        report = [sys.executable, "-B", str(pathlib.Path(__file__).with_name("report.py")), "--check", "--from"]
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name) / "benchmarks"
            folder.mkdir()
            for path in (DOCS / "benchmarks").iterdir():
                (folder / path.name).symlink_to(path)
            page = folder.parent / "benchmarks.md"
            text = (DOCS / "benchmarks.md").read_text()
            page.write_text(text)
            self.assertEqual(subprocess.run([*report, folder]).returncode, 0)
            page.write_text(text.replace("1.17", "1.18"))
            refused = subprocess.run([*report, folder], stderr=subprocess.PIPE, text=True)
            self.assertEqual(refused.returncode, 1)
            self.assertIn("benchmarks.md does not agree with the results", refused.stderr)


if __name__ == "__main__":
    unittest.main()
