"""One cell: finetune train, for a final cell finetune eval, and what they came to."""

import ctypes
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import time

import launcher
from plan import TARGETS
from results import read_json, write_json, write_whole


class Failed(Exception):
    """finetune ended as it should not: the message has the end of what it said."""


def file_hash(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def number(value):
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def die_with_parent():
    """A driver that is killed leaves nothing behind that works on: Linux ends its children. Not by SIGINT, of which a
    second one would cost finetune its checkpoint."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    except (AttributeError, OSError):
        pass


class Machine:
    """What cells are run with."""

    def __init__(self, finetune, model, threads):
        """To be added: `data`, {task: {part: path}}, and what probes found of each task: `arithmetic`, {task: hash}, and
        `test_before`, {task: the base's test loss}."""
        self.finetune, self.model, self.threads = finetune, model, threads
        self.data, self.arithmetic, self.test_before = {}, {}, {}


def common_options(machine, settings):
    return ["--model", str(machine.model), "--products", settings["products"], "--threads", str(machine.threads),
            "--window", str(settings["window"]), "--batch-tokens", str(settings["batch_tokens"])]  # fmt: skip


def train_command(machine, settings, folder):
    data = machine.data[settings["task"]]
    command = [str(machine.finetune), "train", *common_options(machine, settings)]
    command += ["--data", str(data["train"]), "--validation", str(data["select"])]
    for name in ("scheme", "rank", "rate", "b_rate", "uv_rate", "seed", "steps", "evaluations", "schedule", "warm_up",
                 "weight_decay", "clip", "scaling"):  # fmt: skip
        if name in settings:
            command += ["--" + name.replace("_", "-"), number(settings[name])]
    if "layers" in settings:
        command += ["--layers", *map(str, settings["layers"])]
    targets = settings["targets"]  # a name of the plan's, or a scheme's own
    return command + [
        "--targets",
        *(TARGETS[targets] if isinstance(targets, str) else targets),
        "--out",
        str(folder),
        "--resume",
    ]


def eval_command(machine, settings, adapter=None):
    """Of an adapter, or of the base."""
    what = ["--adapter", str(adapter), "--no-base"] if adapter else []
    return [str(machine.finetune), "eval", *common_options(machine, settings), *what,
            "--data", str(machine.data[settings["task"]]["test"])]  # fmt: skip


def read_run(folder, settings):
    """What finetune train wrote of a run, for a row; the rates too where it chose them."""
    run = read_json(folder / "run.json")
    chosen = {} if "rate" in settings else {name: number(run["training"][name]) for name in ("rate", "uv_rate", "b_rate")}
    return chosen | {
        "select_before": run["validation_loss_before"],
        "select_loss": run["validation_loss"],
        "best_step": run["training"]["best_step"],
        "steps": run["training"]["steps"],
        "trained": run["adapter"]["trained_numbers"],
        "frozen": run["adapter"]["frozen_numbers"],
        "adapter": file_hash(folder / "adapter.safetensors"),
    }


def read_losses(text):
    """The losses in the table of finetune eval, one a row; that of a run may be infinite or no number."""
    return [float(found) for found in re.findall(r"^.* ([0-9.]+|inf|nan) +(?:[0-9.]+|inf|nan)$", text, re.M)]


class Running:
    """A cell at work, without a thread: `poll` returns its row when it is finished, and raises Failed."""

    def __init__(self, cell, machine, folder, claim):
        self.cell, self.machine, self.folder, self.claim = cell, machine, folder, claim
        self.settings = dict(cell.settings)
        self.process, self.interrupted = None, False
        self._make_folder()
        self.trained = folder / "trained.json"
        self.begin, self.cpu = time.monotonic(), 0.0
        self.row = self._trained_row()
        if self.row:  # what came before a kill
            self._evaluate()
        else:
            self._start(train_command(machine, self.settings, folder), "train.log")

    def _make_folder(self):
        """What was begun with another arithmetic is begun anew: a row is of one kind, and finetune may refuse."""
        arithmetic, rounds_by = self.machine.arithmetic[self.cell.task], self.folder / "arithmetic"
        if rounds_by.exists() and rounds_by.read_text() != arithmetic:
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(rounds_by, arithmetic)

    def _trained_row(self):
        """What trained.json holds, or None; a damaged one is made again."""
        try:
            return json.loads(self.trained.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _start(self, command, log):
        self.log = self.folder / log
        self.log_begin = self.log.stat().st_size if self.log.exists() else 0  # after what an earlier attempt said
        with open(self.log, "ab") as file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                preexec_fn=die_with_parent,
                pass_fds=[self.claim.file.fileno()],  # which lasts as long as either process
                env=launcher.alone(os.environ),
            )

    def _evaluate(self):
        if self.cell.stage == "final" and self.row["status"] == "ok":
            (self.folder / "eval.log").unlink(missing_ok=True)
            self._start(eval_command(self.machine, self.settings, self.folder / "adapter.safetensors"), "eval.log")
        else:
            self.process = None

    def interrupt(self):
        """finetune writes a checkpoint and ends."""
        self.interrupted = True
        if self.process:
            os.kill(self.process.pid, signal.SIGINT)  # Popen.send_signal may take the status that `poll` waits for

    def poll(self):
        """The cell's row, or None while it runs or where it was interrupted (then `process` is None)."""
        if self.process:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid == 0:
                return None
            self.process.returncode = os.waitstatus_to_exitcode(status)
            self.cpu += usage.ru_utime + usage.ru_stime
            ended, self.process = self.process.returncode, None
            said = self.log.read_bytes()[self.log_begin :].decode(errors="replace")
            if self.interrupted and ended != 0:
                return None
            if self.log.name == "train.log":
                # finetune prints the same words as a warning before it saves the best adapter so far.
                exploded = "is no longer finite or has exploded" in said and "no adapter was written" in said
                if ended != 0 and not (ended == 1 and exploded):
                    raise Failed(f"finetune train ended with {ended}; {self.log}:\n{said[-1500:]}")
                row = {"status": "diverged", "select_loss": math.inf} if ended else self._row_of_run()
                self.row = row | {"cpu_seconds": self.cpu, "wall_seconds": time.monotonic() - self.begin}
                write_json(self.trained, self.row)
                self.cpu, self.begin = 0.0, time.monotonic()
                self._evaluate()
                if self.process:
                    return None
            else:
                losses = read_losses(said)
                if ended != 0 or len(losses) != 1 or not math.isfinite(losses[0]):
                    raise Failed(f"finetune eval ended with {ended}; {self.log}:\n{said[-1500:]}")
                self.row |= {"test_before": self.machine.test_before[self.cell.task], "test_loss": losses[0]}
                self.row["cpu_seconds"] += self.cpu
                self.row["wall_seconds"] += time.monotonic() - self.begin
        return self._whole_row()

    def _row_of_run(self):
        try:
            row = {"status": "ok", **read_run(self.folder, self.settings)}
            if not all(math.isfinite(row[name]) for name in ("select_before", "select_loss")):
                raise ValueError("a loss that is no number")
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise Failed(f"finetune train ended well, but {self.folder / 'run.json'} is not what it writes: {error!r}") from None
        return row

    def _whole_row(self):
        candidate = self.cell.candidate
        row = {
            "key": self.cell.key,
            "stage": self.cell.stage,
            "task": self.cell.task,
            "seed": self.cell.seed,
            **self.row,
        }
        row |= {"scheme": candidate.scheme, "rank": candidate.rank, "targets": candidate.targets}
        row |= {name: number(self.settings[name]) for name in ("rate", "uv_rate", "b_rate") if name in self.settings}
        row |= {name: self.settings[name] for name in ("data", "model")}
        row["arithmetic"] = self.machine.arithmetic[self.cell.task]
        for name in ("cpu_seconds", "wall_seconds"):
            row[name] = f"{row[name]:.1f}"
        return row

    def tidy(self):
        """Of a cell in the results, what says how it went, and the adapter where its test loss counts, stay."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in ("run.json", "metrics.csv", "train.log") and not (
                path.name == "adapter.safetensors" and self.cell.stage == "final"
            ):
                path.unlink()
