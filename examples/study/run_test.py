"""script/study run with a stub in place of finetune: killed, stopped, broken, and gone on with."""

import errno
import json
import multiprocessing
import os
import pathlib
import resource
import shutil
import signal
import tempfile
import types
import unittest

import cells
import results
from run_fixture import PLAN, ROW, RunTest


class Run(RunTest):
    def test_runs_all_then_nothing_and_killed_runs_come_to_the_same(self):
        self.work("whole")
        status, said = self.finish("whole")
        self.assertEqual(status, 0, said)
        self.assertIn("[24/24]", said)
        whole = self.rows("whole")
        self.assertEqual(len(whole), 4 * 4 + 4 * 2)
        finals = [row for row in whole.values() if row["stage"] == "final"]
        self.assertTrue(all(float(row["test_loss"]) < 2.5 and row["test_before"] == "2.6" for row in finals))
        # Of a finished run stays what tells of it, and the adapter where it counts.
        kept = {path.name for path in (self.folder / "whole" / "cells" / finals[0]["key"]).iterdir()}
        self.assertEqual(kept, {"run.json", "metrics.csv", "train.log", "adapter.safetensors"})
        before = len(self.calls())
        self.assertEqual(self.finish("whole")[0], 0)
        self.assertEqual(len(self.calls()), before)

        # Killed at once, stopped by Ctrl-C, and a line torn by a crash; by two runs at a time.
        work = self.work("killed")
        for number, signal_number in enumerate((signal.SIGKILL, signal.SIGINT, signal.SIGKILL)):
            process = self.start("killed", "--jobs", "2")
            self.wait_for_rows("killed", 3 * number + 2)
            process.send_signal(signal_number)
            said, _ = process.communicate(timeout=300)
            self.assertEqual(process.returncode, 130 if signal_number == signal.SIGINT else -signal.SIGKILL, said)
            if signal_number == signal.SIGKILL:
                with open(work / "results.csv", "a") as file:
                    file.write("0123456789abcdef,search,co")
        status, said = self.finish("killed", "--jobs", "2")
        self.assertEqual(status, 0, said)
        self.assertEqual(self.rows("killed"), whole)
        lines = (work / "results.csv").read_text().split("\n")[1:-1]
        self.assertEqual(len(lines), len(whole))
        # Each run was evaluated once, but for one that a kill may have taken in between.
        evaluated = [call for call in self.calls()[before:] if call.startswith("eval")]
        self.assertLessEqual(len(evaluated), 8 + 4)

    def test_a_failure_is_shown_and_leaves_no_result(self):
        self.work("failing")
        (self.folder / "broken").touch()
        status, said = self.finish("failing")
        self.assertEqual(status, 1)
        self.assertIn("there is no such thing", said)
        self.assertFalse((self.folder / "failing" / "results.csv").exists())

    def test_default_rates_are_finetunes_and_need_no_search(self):
        work = self.work("default")
        block = 'name = "default"\ntasks = ["code"]\ntargets = "qkv"\nrates = "default"\ncandidates = ["lora:8"]\n'
        (self.folder / "plan.toml").write_text(f"{PLAN}[[blocks]]\n{block}")
        status, said = self.finish("default")
        self.assertEqual(status, 0, said)
        self.assertIn("[26/26]", said)
        chosen = [row for row in self.rows("default").values() if row["rate"] == "0.05"]
        self.assertEqual([(row["stage"], row["b_rate"], row["seed"]) for row in chosen], [("final", "0.05", s) for s in ("1", "2")])
        self.assertIn('"rate": 0.05', (work / "cells" / chosen[0]["key"] / "run.json").read_text())

    def test_what_is_no_divergence_is_a_failure(self):
        """finetune warns of one before it saves what it has, and an earlier attempt may have ended so."""
        for broken, part in (("warned", "No space left on device"), ("nan", "is not what it writes: ValueError"), ("null", "is not what it writes")):
            name = f"work-{broken}"
            work = self.work(name)
            (self.folder / broken).touch()
            status, said = self.finish(name)
            (self.folder / broken).unlink()
            self.assertEqual(status, 1, said)
            self.assertIn(part, said)
            self.assertFalse((work / "results.csv").exists())
        with open(next((work / "cells").iterdir()) / "train.log", "a") as log:
            log.write("the loss is no longer finite or has exploded; no adapter was written\n")
        (self.folder / "broken").touch()
        self.assertIn("there is no such thing", self.finish(name)[1])
        (self.folder / "broken").unlink()
        status, said = self.finish(name)
        self.assertEqual(status, 0, said)

    def test_a_smaller_plan_keeps_what_is_known_of_the_others(self):
        work = self.work("two")
        self.finish("two", "--hours", "0.00001")
        (self.folder / "plan.toml").write_text(PLAN.replace("[tasks.docstring]\nwindow = 32\n", "").replace("clip = 1.0", "clip = 2.0"))
        self.finish("two", "--hours", "0.00001")
        self.assertEqual(set(json.loads((work / "manifest.json").read_text())), {"code", "docstring"})

    def test_rows_of_another_plan_are_counted(self):
        self.work("other")
        self.assertNotIn("other settings", self.finish("other")[1])
        self.assertNotIn("other settings", self.finish("other")[1])
        (self.folder / "plan.toml").write_text(PLAN.replace("clip = 1.0", "clip = 2.0"))
        self.assertIn("results.csv has 24 rows of other settings, data or models", self.finish("other", "--hours", "0.00001")[1])

    def test_a_run_that_diverges_is_a_result(self):
        self.work("diverging")
        text = PLAN.replace("start_1 = { rate = 1e-1 }", "start_1 = { rate = 1 }").replace(
            '"lora:8", "tl6:4"', '"lora:1"'
        )
        (self.folder / "plan.toml").write_text(text.replace('"lora:1", "tl6:4", "vera:16"', '"lora:1"'))
        status, said = self.finish("diverging")
        self.assertEqual(status, 0, said)
        rows = self.rows("diverging").values()
        self.assertIn(("diverged", "inf"), {(row["status"], row["select_loss"]) for row in rows})
        self.assertEqual({row["status"] for row in rows if row["stage"] == "final"}, {"ok"})

    def test_hours_are_an_end(self):
        self.work("short")
        status, said = self.finish("short", "--hours", "0.00001")
        self.assertEqual(status, 130, said)
        self.assertIn("the same command continues", said)

    def test_changed_data_are_refused(self):
        work = self.work("changed")
        (work / "data" / "code" / "test.txt").write_text("other")
        status, said = self.finish("changed")
        self.assertEqual(status, 1)
        self.assertIn("manifest.json", said)

    def test_goes_on_with_another_rounding_but_not_with_another_loss(self):
        def rows_of(base_loss):
            work = self.work(f"from {base_loss}")
            row = ROW | {"key": "k", "select_before": base_loss, "arithmetic": "another"}
            row |= {"data": of_all["data"], "model": of_all["model"]}
            results.append(work / "results.csv", row)
            return self.finish(f"from {base_loss}", "--hours", "0.0001")

        self.work("first")
        self.finish("first", "--hours", "0.0001")
        of_all = json.loads((self.folder / "first" / "manifest.json").read_text())["code"]
        self.assertEqual(rows_of(2.501)[0], 130)  # the stub's base has 2.5
        status, said = rows_of(2.51)
        self.assertEqual(status, 1)
        self.assertIn("On code the base model's loss is 2.500000 with this finetune, 2.510000 in the results (key k)", said)

    def test_what_is_not_there_is_named(self):
        self.work("wrong")
        status, said = self.finish("wrong", "--finetune", "/none/finetune")
        self.assertEqual((status, said), (1, "script/study run: --finetune: /none/finetune is not a file\n"))
        (self.folder / "plan.toml").write_text(PLAN.replace("[tasks.docstring]", "[tasks.poems]"))
        status, said = self.finish("wrong")
        self.assertEqual(status, 1)
        self.assertIn("poems: no such task; there are code, docstring, translation", said)

    def test_options_of_finetune(self):
        machine = cells.Machine("finetune", "m.gguf", 2)
        machine.data = {"code": {"train": "a", "select": "b", "test": "c"}}
        settings = {"task": "code", "products": "bf16", "window": 16, "batch_tokens": 64, "scheme": "lora", "rank": 8,
                    "rate": 0.01, "b_rate": 0.03162, "seed": 3, "steps": 10, "targets": "qkv"}  # fmt: skip
        self.assertEqual(
            " ".join(cells.train_command(machine, settings, "out")),
            "finetune train --model m.gguf --products bf16 --threads 2 --window 16 --batch-tokens 64 --data a "
            "--validation b --scheme lora --rank 8 --rate 0.01 --b-rate 0.03162 --seed 3 --steps 10 "
            "--targets q_proj k_proj v_proj --out out --resume",
        )
        self.assertIn(
            " --layers 0 15 --targets ", " ".join(cells.train_command(machine, {**settings, "layers": [0, 15]}, "out"))
        )
        on_v = " ".join(cells.train_command(machine, {**settings, "targets": ["v_proj"]}, "out"))
        self.assertIn(" --targets v_proj --out", on_v)
        self.assertTrue(" ".join(cells.eval_command(machine, settings, "x")).endswith("--adapter x --no-base --data c"))
        self.assertTrue(" ".join(cells.eval_command(machine, settings)).endswith("--batch-tokens 64 --data c"))


class Interrupt(RunTest):
    def test_a_run_that_has_ended_by_then_is_still_polled(self):
        machine = cells.Machine("false", "m.gguf", 1)
        machine.data, machine.arithmetic = {"code": {"train": "a", "select": "b"}}, {"code": "any"}
        settings = {"task": "code", "targets": "qkv", "products": "bf16", "window": 128, "batch_tokens": 288}
        with open(self.folder / "claim", "w") as file:
            cell = types.SimpleNamespace(task="code", settings=settings)
            one = cells.Running(cell, machine, self.folder / "cell", types.SimpleNamespace(file=file))
            os.waitid(os.P_PID, one.process.pid, os.WEXITED | os.WNOWAIT)
            one.interrupt()
            self.assertIsNone(one.poll())
            self.assertIsNone(one.process)


class ReadLosses(unittest.TestCase):
    def test_the_table_of_finetune_eval(self):
        text = (
            "757 tokens, 750 of them for the loss (99 %); the longest example has 128\n"
            "                                           nats/token   perplexity\n"
            "base                                          2.71788      15.1482\n"
            "out/a 1.5 b/adapter.safetensors               1.99998       7.3889\n"
        )
        self.assertEqual(cells.read_losses(text), [2.71788, 1.99998])


def _append_with_little_room(path):
    """The file may grow by half a line; as on a full disk, the write takes what fits and says nothing."""
    room = path.stat().st_size + 50
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        results.append(path, {"key": "second", "task": "x" * 200})
    except OSError as error:
        os._exit(0 if error.errno == errno.ENOSPC else 2)
    os._exit(1)


class Table(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "results.csv"
        for key in ("a", "b", "c"):
            results.append(self.path, ROW | {"key": key})

    def test_what_an_editor_makes_of_it_is_read(self):
        whole = self.path.read_bytes()
        for data in (whole.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + whole, whole.replace(b"\n", b"\n\n"), whole + b"," * 26 + b"\n"):
            self.path.write_bytes(data)
            self.assertEqual(list(results.read(self.path)), ["a", "b", "c"])

    def test_a_damaged_line_is_named(self):
        lines = self.path.read_text().split("\n")
        for line, part in (
            (lines[2][:20], "line 3: [0-9]+ values, not 27"),
            ('"' + lines[2], "line 3: "),
            (lines[2].replace("b,search,code,,1", "b,search,code,,one"), "line 3: rank is 'one', not a whole number"),
            (lines[2].replace(",ok,1,1,", ",ok,1,nan,"), "line 3: select_loss is 'nan', not a number"),
            (lines[2].replace(",ok,1,1,", ',ok,1,"2,03",'), "line 3: select_loss is '2,03', not a number"),
            (lines[2].replace("code,,1,,1,", "code,,1,,1,0"), "rate is '0', not a number above 0"),
            (lines[2].replace(",ok,1,1,", ",diverged,1,1,"), "select_loss is '1', not inf, where the run diverged"),
            (lines[2].replace(",ok,", ",OK,"), "status is 'OK', not ok or diverged"),
            (lines[2].replace("search", "final"), "test_before is '', not a number"),
        ):
            self.path.write_text("\n".join([*lines[:2], line, *lines[3:]]))
            with self.assertRaisesRegex(ValueError, f"results.csv, {part}" if part.startswith("line") else part):
                results.read(self.path)

    def test_a_file_that_becomes_shorter_is_an_error(self):
        table = results.Table(self.path)
        table.refresh()
        self.path.write_text("".join(self.path.read_text().splitlines(keepends=True)[:2]))
        with self.assertRaisesRegex(ValueError, "became shorter while it was in use"):
            table.refresh()

    def test_a_row_without_room_is_an_error_and_leaves_no_half(self):
        whole = self.path.read_bytes()
        child = multiprocessing.Process(target=_append_with_little_room, args=(self.path,))
        child.start()
        child.join()
        self.assertEqual(child.exitcode, 0)
        self.assertEqual(self.path.read_bytes(), whole)

    def test_other_columns_are_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "results.csv"
            path.write_text("key,loss\n1,2\n")
            with self.assertRaisesRegex(ValueError, "different columns"):
                results.read(path)

    def test_json_is_replaced_at_once(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "a.json"
            results.write_json(path, {"b": 1})
            self.assertEqual(json.loads(path.read_text()), {"b": 1})
            self.assertEqual([p.name for p in pathlib.Path(folder).iterdir()], ["a.json"])


if __name__ == "__main__":
    unittest.main()
