"""From what the programs wrote (JSON for each build, tables of the comparisons) to the folder that the pages are made of:
a CSV file for each group of measurements, values with 6 digits, and about.json: the machine and the versions."""

import csv
import json
import pathlib
import shutil

from results import BUILDS, Value

# What the comparisons with other programs wrote is taken over as it is; NAME_about.json goes into about.json under NAME.
COPIED = ("train_step*.csv", "engine.csv")
IGNORED = {"real_time", "cpu_time", "iterations", "threads", "repetitions", "repetition_index", "family_index",
           "per_family_instance_index"}  # fmt: skip


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def write_csv(folder, group, rows):
    """`rows`: (build, name, {column: number})."""
    keys = list(dict.fromkeys(key for _, _, columns in rows for key in columns))
    with (folder / f"{group}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["build", "name", *keys])
        for build, name, columns in rows:
            writer.writerow([build, name, *(f"{columns[key]:.6g}" if key in columns else "" for key in keys)])


def read_build(build, path, about, groups):
    """Adds the measurements of one program's JSON file."""
    document = json.loads(path.read_text())
    context = document["context"]
    about["builds"].setdefault(build, {key: context[key] for key in ("compiler", "flags", "kernels", "rounds")})
    about.setdefault("machine", {
        "cpu": cpu_model(), "cores": context["num_cpus"], "date": context["date"][:10],
        "caches": ", ".join(f"L{c['level']} {c['type'].lower()} {c['size'] // 1024} KiB" for c in context["caches"]),
    })  # fmt: skip
    if "openblas" in context:
        about.setdefault("baselines", {key: context[key] for key in ("eigen", "openblas")})
    for entry in document["benchmarks"]:
        group, name = entry["name"].removesuffix("/iterations:1/manual_time").split("/", 1)
        if entry.get("error_occurred"):
            message = entry["error_message"].removeprefix("not measured: ")
            about["not_measured"].append(f"{group}/{name}, {build}: {message}")
            continue
        columns = {key: value for key, value in entry.items() if isinstance(value, (int, float)) and key not in IGNORED}
        groups.setdefault(group, []).append((build, name, columns))


def pytorch_row(row):
    columns = {}
    ratios = [theirs / ours for ours, theirs in zip(row["us.ours"], row["us.theirs"])]
    for key, values in {"us.ours": row["us.ours"], "us.theirs": row["us.theirs"], "x.faster": ratios}.items():
        value = Value.of(values)
        columns |= {key: value.median, f"{key}.q1": value.q1, f"{key}.q3": value.q3}
    return "gcc", row["name"], columns


def collect(results, folder):
    """Nothing of an earlier run stays in `folder`."""
    about, groups = {"builds": {}, "not_measured": [], "notes": []}, {}
    for build in BUILDS:
        for path in (results / f"{build}.json", results / f"{build}-memory.json"):
            if path.exists():
                read_build(build, path, about, groups)
    if (results / "pytorch.json").exists():
        pytorch = json.loads((results / "pytorch.json").read_text())
        about.setdefault("baselines", {}).update({"torch": pytorch["torch"], "peft": pytorch["peft"]})
        groups["pytorch"] = [pytorch_row(row) for row in pytorch["rows"]]
    for path in sorted(results.glob("*_about.json")):
        about[path.name.removesuffix("_about.json")] = json.loads(path.read_text())
    if "gcc" not in about["builds"]:
        raise SystemExit(f"{results} has no gcc.json, the measurements of the GCC build: script/bench makes it")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for group, rows in groups.items():
        write_csv(folder, group, rows)
    for pattern in COPIED:
        for path in results.glob(pattern):
            shutil.copy(path, folder)
    (folder / "about.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
