"""Results made up here, from which tests work out their figures."""

import shutil
import subprocess
import tempfile

import excerpts
import page
import pictures
from plan import Plan
from plan_test import FIXED, TEXT
from progress import Progress

ABOUT = {
    task: {
        "package": "Made up 1.0",
        "files": {"train": 5, "select": 1, "test": 2},
        "train_tokens": 1234,
        "model_types": "F32",
        **fixed,
    }
    for task, fixed in FIXED.items()
}
TRAINED = {("lora", 8): 8000, ("lora", 1): 1000, ("tl6", 4): 400, ("vera", 16): 900}
# Test losses by seed; the base has 2.6. Gains of LoRA r = 8: 0.5 and 0.6.
LOSSES = {("lora", 8): (2.1, 2.0), ("lora", 1): (2.2, 2.1), ("tl6", 4): (2.15, 2.06), ("vera", 16): (2.4, 2.301)}


def made_up(text=TEXT, losses=LOSSES, tasks=("code", "docstring")):
    plan = Plan(text)
    progress = Progress(plan, FIXED, {})
    while True:
        cells = [cell for cell in progress.ready() if cell.task in tasks]
        if not cells:
            return plan, progress
        for cell in cells:
            name = (cell.candidate.scheme, cell.candidate.rank)
            away = sum(abs(p - s) for p, s in zip(cell.point, plan.start(cell.candidate)))
            row = {**FIXED[cell.task], "stage": cell.stage, "task": cell.task, "seed": str(cell.seed), "status": "ok", "cpu_seconds": "90"}
            row |= {"arithmetic": "a", "commit": "1", "scheme": name[0], "rank": str(name[1])}
            row |= {"trained": str(TRAINED[name]), "select_loss": str(2 + away / 99), "rate": "0.003", "uv_rate": "0.2", "b_rate": "0.003"}
            if cell.stage == "final":
                row |= {"test_before": "2.6", "test_loss": str(losses[name][cell.seed - 1])}
            progress.results[cell.key] = row


def page_of(plan, rows, about=ABOUT):
    return page.make_page(*page.make_sections(plan, rows, about), about)


def results_of(plan, progress):
    return excerpts.of_first_targets(plan, page.make_sections(plan, progress.results, ABOUT)[1])


def check_drawn(test, picture, text):
    if not shutil.which("gnuplot"):
        test.skipTest("gnuplot draws the pictures")
    with tempfile.TemporaryDirectory() as folder:
        script = pictures.script(f"{folder}/a.svg", picture)
        done = subprocess.run(["gnuplot"], input=script, text=True, capture_output=True, check=False)
        test.assertEqual((done.returncode, done.stderr), (0, ""))
        with open(f"{folder}/a.svg") as file:
            test.assertIn(text, file.read())
