"""What runs need before the first: the data of the tasks, and how this machine's finetune rounds."""

import math
import os
import pathlib
import platform
import shutil
import subprocess
import sys

import cells
import launcher
import results
import splits
import tasks

# What a probe trains uses all four factors, at every module.
PROBE = {"scheme": "tl6", "rank": 8, "targets": "all", "rate": 0.005623, "uv_rate": 0.3162, "b_rate": 0.005623, "seed": 1}
ROUNDING = 1e-3  # of a loss: products in bf16 round by 2^-9, and a loss is a mean over hundreds of tokens


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
