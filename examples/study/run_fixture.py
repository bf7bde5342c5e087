"""For the tests: script/study run with a stub in place of finetune."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

import cells
import results
from plan_test import TEXT

HERE = pathlib.Path(__file__).resolve().parent
PLAN = TEXT.replace('["code", "docstring"]', '["code"]').replace("trials = 3", "trials = 4")
TIMES = ("wall_seconds", "cpu_seconds", "commit")
# All that a row must have.
ROW = dict.fromkeys(results.WHOLE + results.OF_OK + results.TIMES, "1") | {"stage": "search", "task": "code", "status": "ok"}


class RunTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "plan.toml").write_text(PLAN)
        (self.folder / "model.gguf").write_text("model")

    def work(self, name):
        """A folder with data in it, so that no package is needed."""
        for task, suffix in (("code", "txt"), ("docstring", "jsonl")):
            data = self.folder / name / "data" / task
            data.mkdir(parents=True)
            hashes = {}
            for part in ("train", "select", "test"):
                path = data / f"{part}.{suffix}"
                path.write_text(f"{task} {part}\n")
                hashes[part] = cells.file_hash(path)
            results.write_json(data / "manifest.json", {"package": "none", "files": {}, "hashes": hashes})
        return self.folder / name

    def start(self, name, *more, launcher=(), environment=()):
        command = [
            *launcher,
            sys.executable,
            HERE / "study.py",
            "run",
            "--work",
            self.folder / name,
            "--plan",
            self.folder / "plan.toml",
        ]
        command += ["--finetune", HERE / "stub_finetune.py", "--model", self.folder / "model.gguf", *more]
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | dict(environment)
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)  # which comes first
        return process

    def finish(self, name, *more, **how):
        process = self.start(name, *more, **how)
        said, _ = process.communicate(timeout=300)
        return process.returncode, said

    def rows(self, name):
        """{key: row} without what differs from run to run."""
        rows = results.read(self.folder / name / "results.csv")
        return {key: {column: row[column] for column in row if column not in TIMES} for key, row in rows.items()}

    def calls(self):
        path = self.folder / "calls.log"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def wait_for(self, what, condition):
        for _ in range(6000):
            if condition():
                return
            time.sleep(0.01)
        self.fail(f"no {what} come")

    def wait_for_rows(self, name, count):
        path = self.folder / name / "results.csv"
        self.wait_for("results", lambda: path.exists() and path.read_text().count("\n") > count)

    def wait_for_calls(self, word, count):
        self.wait_for(f"calls to {word}", lambda: sum(call.startswith(word) for call in self.calls()) >= count)
