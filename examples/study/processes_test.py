"""script/study run in several processes that share a work folder, as on several machines."""

import collections
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import tempfile
import unittest

import claims
import launcher
import results
from run_fixture import PLAN, ROW, RunTest

SMALL = PLAN.split('[[blocks]]\nname = "second"')[0]  # two candidates: four trials and two seeds of each
CELLS = 2 * (4 + 2)
SMALLER = SMALL.replace(', "tl6:4"', "")  # the first, of which the first trial begins alone
LAUNCHED = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "PMIX_RANK": "1", "PMI_SIZE": "2"}
MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "MPIEXEC_TIMEOUT": "300",
}
MPIRUN = os.environ.get("MPIEXEC_EXECUTABLE", "mpirun")  # that of the finetune built beside


class Processes(RunTest):
    whole = None  # the rows of one process

    def setUp(self):
        super().setUp()
        self.plan(SMALL)
        if not self.whole:
            self.work("whole")
            status, said = self.finish("whole")
            self.assertEqual(status, 0, said)
            Processes.whole = self.rows("whole")
            (self.folder / "calls.log").unlink()
        self.hold = self.folder / "hold"
        self.hold.touch()

    def plan(self, text):
        (self.folder / "plan.toml").write_text(text)

    def check_all(self, name):
        """All cells came to what they come to in one process, and each to one line."""
        self.assertEqual(self.rows(name), self.whole)
        lines = (self.folder / name / "results.csv").read_text().split("\n")[1:-1]
        self.assertEqual(len(lines), CELLS)

    def test_two_run_every_cell_once_and_come_to_what_one_comes_to(self):
        work = self.work("shared")
        both = [self.start("shared", environment=LAUNCHED), self.start("shared")]
        self.wait_for_calls("train", 2)  # one of each
        self.hold.unlink()
        said = [process.communicate(timeout=300)[0] for process in both]
        self.assertEqual([process.returncode for process in both], [0, 0], said)
        self.check_all("shared")
        self.assertEqual(set(collections.Counter(self.calls()).values()), {1}, self.calls())
        rows = [re.findall(r"^\[(\d+)/12\]", text, re.M) for text in said]
        self.assertTrue(all(rows), said)
        self.assertEqual(len(rows[0] + rows[1]), CELLS)
        self.assertIn(str(CELLS), rows[0] + rows[1])  # said by one that ran fewer
        self.assertEqual(list((work / "claims").iterdir()), [])

    def test_a_killed_ones_cell_is_taken_over_once_its_finetune_has_ended(self):
        self.plan(SMALLER)
        work = self.work("killed")
        linger = self.folder / "linger"
        linger.touch()
        first = self.start("killed")
        self.wait_for_calls("train", 1)
        second = self.start("killed")
        [claim] = (work / "claims").iterdir()
        self.assertIn(f" {first.pid} code lora r=8 search seed 9", claim.read_text())
        first.kill()
        first.wait()
        self.assertIsNone(claims.Claims(work / "claims").take(claim.name, "the test"))
        linger.unlink()
        self.wait_for_calls("train", 2)
        self.hold.unlink()
        said, _ = second.communicate(timeout=300)
        self.assertEqual(second.returncode, 0, said)
        calls = [call for call in self.calls() if not call.startswith(("probe", "base"))]
        self.assertEqual(calls[:3], [f"train {claim.name}", f"stop {claim.name}", f"train {claim.name}"])
        self.assertEqual(self.rows("killed"), {k: row for k, row in self.whole.items() if row["scheme"] == "lora"})

    def test_what_another_arithmetic_began_is_begun_anew(self):
        self.plan(SMALLER)
        work = self.work("mixed")
        first = self.start("mixed")
        self.wait_for_calls("train", 1)
        first.send_signal(signal.SIGUSR2)
        self.assertEqual(first.wait(), 130)
        [cell] = (work / "cells").iterdir()
        (cell / "trained.json").write_text("of another machine")
        (cell / "arithmetic").write_text("another")
        self.hold.unlink()
        status, said = self.finish("mixed")
        self.assertEqual(status, 0, said)

    def test_locks_that_do_not_reach_another_machine_are_noticed(self):
        work = self.work("apart")
        process = self.start("apart")
        self.wait_for_calls("train", 1)
        [claim] = (work / "claims").iterdir()
        claim.write_text("elsewhere 7 a cell\n")
        self.hold.unlink()
        said, _ = process.communicate(timeout=300)
        self.assertEqual(process.returncode, 1)
        self.assertIn(f"{claim} was locked here, and another process took it: elsewhere 7 a cell. File locks must", said)
        self.assertFalse((work / "results.csv").exists())

    @unittest.skipUnless(shutil.which(MPIRUN), "there is no mpirun")
    def test_the_processes_of_mpirun_stop_together_and_go_on(self):
        self.work("mpi")
        two = {"launcher": [MPIRUN, "-n", "2"], "environment": {**MPI, "OMPI_MCA_orte_tmpdir_base": str(self.folder)}}
        process = self.start("mpi", **two)
        self.wait_for_calls("train", 2)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=300)
        self.assertNotEqual(process.returncode, 0, said)
        self.wait_for_calls("stop", 2)
        self.hold.unlink()
        status, said = self.finish("mpi", **two)
        self.assertEqual(status, 0, said)
        self.check_all("mpi")


def _append(path, writer):
    for i in range(10):
        results.append(path, ROW | {"key": f"{writer}-{i}", "task": "x" * 100 * i})


class Append(unittest.TestCase):
    def test_lines_of_several_stay_whole_and_one_cut_short_goes(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "results.csv"
            results.append(path, ROW | {"key": "first"})
            table = results.Table(path)
            self.assertTrue(table.refresh())
            self.assertFalse(table.refresh())
            with open(path, "a") as file:
                file.write("0123456789abcdef,search,co")
            self.assertFalse(table.refresh())
            writers = [multiprocessing.Process(target=_append, args=(path, writer)) for writer in range(3)]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
            self.assertTrue(table.refresh())
            self.assertEqual(set(table.rows), {"first"} | {f"{w}-{i}" for w in range(3) for i in range(10)})
            self.assertEqual(table.rows, results.read(path))
            self.assertTrue(all(len(row["task"]) == 100 * int(key[-1]) for key, row in table.rows.items() if "-" in key))
            self.assertEqual(path.read_text().count("key,"), 1)


class Claims(unittest.TestCase):
    def test_one_has_it_until_it_lets_go(self):
        with tempfile.TemporaryDirectory() as folder:
            mine, others = claims.Claims(pathlib.Path(folder)), claims.Claims(pathlib.Path(folder))
            claim = mine.take("a", "x")
            self.assertIsNone(others.take("a", "x"))
            self.assertEqual((others.count(), mine.count()), (1, 1))
            claim.release(done=False)
            self.assertEqual(others.count(), 0)
            again = others.take("a", "x")
            again.release(done=True)
            self.assertEqual(list(pathlib.Path(folder).iterdir()), [])

    def test_no_locks_are_an_error(self):
        with open(os.devnull) as file, self.assertRaisesRegex(OSError, "no file locks here"):
            claims.lock(file, 0)  # which flock refuses


class Cores(unittest.TestCase):
    def share(self, bound_to, machine_has, **environment):
        return launcher.cores(environment, lambda process: bound_to if process == 0 else machine_has)

    def test_of_one_process_all_that_it_may_use(self):
        self.assertEqual(self.share(8, 8), 8)
        self.assertEqual(self.share(2, 8, OMPI_COMM_WORLD_LOCAL_SIZE="1"), 2)

    def test_of_several_bound_to_a_core_to_some_and_to_none(self):
        for bound_to, share in ((1, 1), (2, 2), (16, 4), (32, 4)):
            self.assertEqual(self.share(bound_to, 32, OMPI_COMM_WORLD_LOCAL_SIZE="8"), share)
        self.assertEqual(self.share(2, 2, MPI_LOCALNRANKS="8"), 1)
        self.assertEqual(self.share(8, 8, SLURM_STEP_TASKS_PER_NODE="4(x2)"), 2)


if __name__ == "__main__":
    unittest.main()
