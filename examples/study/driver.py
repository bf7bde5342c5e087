"""Does the runs of a plan that the results lack, one or several at a time."""

import math
import pathlib
import signal
import subprocess
import sys
import time

import cells
import claims
import results
from progress import Progress

ROOT = pathlib.Path(__file__).resolve().parents[2]
# After which those at work are stopped in good order: of a run, and of the results, on a full disk or damaged.
FAILURES = (cells.Failed, claims.Lost, OSError, ValueError)
LOOK, CLAIM = 0.5, 5  # seconds between looks at what others have finished, and at what they have left unfinished


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
