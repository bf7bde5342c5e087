"""The plan of a study: what is compared, in which order, and the runs that follow from it."""

import dataclasses
import hashlib
import json
import tomllib

import plan_tables
import search
from plan_tables import AXES, TRAIN, TRAINING

TARGETS = {"qkv": ["q_proj", "k_proj", "v_proj"], "all": list(plan_tables.MODULES)}
COLUMNS = {"rate": "rate", "uv_rate": "uv_rate", "b_over_a": "b_rate"}  # of a row, by axis
ON_TARGETS = {"qkv": "", "all": " on all seven"}  # of a label


@dataclasses.dataclass(frozen=True)
class Candidate:
    scheme: str
    rank: int
    targets: str
    default_rates: bool = False  # finetune's own, of which nothing is searched

    def label(self):
        return f"{self.scheme} r={self.rank}{ON_TARGETS[self.targets]}"

    def at(self, default_rates):
        return dataclasses.replace(self, default_rates=default_rates)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run. `settings` are all that decide its outcome but for rounding, and `key` is their hash."""

    stage: str  # "search" or "final"
    task: str
    candidate: Candidate
    seed: int
    point: tuple
    settings: tuple  # of (name, value)

    @property
    def key(self):
        text = json.dumps(["study 2", self.stage, *self.settings], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Runoff:
    """The `best` rates of a search run again with these seeds; the lowest mean, with the search's own seed, decides."""

    best: int
    seeds: list


NO_RUNOFF = Runoff(1, [])


@dataclasses.dataclass(frozen=True)
class Group:
    """What of a block runs on one task."""

    task: str
    candidates: list
    seeds: list
    runoff: Runoff = NO_RUNOFF


@dataclasses.dataclass(frozen=True)
class Confirmation:
    """A block of pairs with seeds of their own: whether what earlier seeds suggested holds with new ones."""

    name: str
    tasks: list
    pairs: list  # of (Candidate, the opponent)
    seeds: list
    runoff: Runoff
    note: str = ""  # for the page: how it came about, and what it can see

    def candidates(self):
        return list(dict.fromkeys(candidate for pair in self.pairs for candidate in pair))

    def targets(self):
        return self.pairs[0][0].targets


class Plan:
    def __init__(self, text):
        """Raises ValueError if the text is not a valid plan."""
        self.table = tomllib.loads(text)
        plan_tables.check(self.table)
        # 1 and 1.0 are one setting, and have one key.
        self.training = {
            name: float(value) if TRAINING[name] is plan_tables.NUMBER else value
            for name, value in self.table["training"].items()
        }
        self.trials, self.search_seed = self.table["search"]["trials"], self.table["search"]["seed"]
        self.handed_on = self.table["search"].get("handed_on", self.trials)
        self.seeds = self.table["final"]["seeds"]
        self.tasks = self.table["tasks"]
        self.schemes = self.table["schemes"]
        self.cut = self.table.get("cut", [])
        if len(set(self.seeds)) != len(self.seeds) or self.search_seed in self.seeds:
            raise ValueError("[final] seeds must differ from each other and from that of the search")
        if not 1 <= self.handed_on <= self.trials:
            raise ValueError(f"[search] handed_on must be from 1 to trials, {self.trials}, not {self.handed_on}")
        if len(self.seeds) < 2:
            raise ValueError("[final] seeds: an interval needs two at least")
        self.confirmations = []
        self.groups = []  # in the order in which they run
        for block in self.table["blocks"]:
            self._add(block)

    def _add(self, block):
        """To the groups; a candidate that came before is left out, except where it runs with other seeds."""
        where = f"[[blocks]] {block['name']}"
        if missing := [task for task in block["tasks"] if task not in self.tasks]:
            raise ValueError(f"{where}: no [tasks.{missing[0]}]")
        if "pairs" in block:
            confirmation = self._confirmation(block, where)
            self.confirmations.append(confirmation)
            for task in block["tasks"]:
                self.groups.append(Group(task, confirmation.candidates(), confirmation.seeds, confirmation.runoff))
            return
        if block.get("rates", "default") != "default":
            raise ValueError(f'{where}: rates may be "default", which are finetune\'s own; else they are searched')
        named = list(dict.fromkeys(self._candidate(name, block, where) for name in block["candidates"]))
        for task in block["tasks"]:
            self.groups.append(Group(task, [c for c in named if c not in self.candidates(task)], self.seeds))

    def _candidate(self, name, block, where):
        scheme, _, rank = name.partition(":")
        targets = block["targets"]
        is_rank = rank.isascii() and rank.isdecimal() and int(rank) > 0
        if scheme not in self.schemes or not is_rank or targets not in TARGETS:
            raise ValueError(f"{where}: {name} on {targets} is not a SCHEME:RANK of [schemes] on {' or '.join(TARGETS)}")
        return Candidate(scheme, int(rank), targets, "rates" in block)

    def _confirmation(self, block, where):
        pairs, seeds, table = block["pairs"], block["seeds"], block.get("runoff")
        runoff = Runoff(**table) if table else NO_RUNOFF
        used = [self.search_seed, *self.seeds, *seeds, *runoff.seeds]
        used += [seed for one in self.confirmations for seed in (*one.seeds, *one.runoff.seeds)]
        if len(seeds) < 2 or len(set(used)) != len(used):
            raise ValueError(f"{where}: seeds must be two at least, differ from each other, and not be used elsewhere")
        pairs = [tuple(self._candidate(name, block, where) for name in pair) for pair in pairs]
        if same := [one for one, other in pairs if one == other]:
            raise ValueError(f"{where}: {same[0].label()} is compared with itself")
        return Confirmation(block["name"], block["tasks"], pairs, seeds, runoff, block.get("note", ""))

    def candidates(self, task):
        """Those that run with the seeds of all, not with those of a confirmation."""
        return [c for group in self.groups if group.task == task and group.seeds == self.seeds for c in group.candidates]

    def tasks_before(self, task, candidate):
        """The tasks that run this candidate before this one does."""
        tasks = list(dict.fromkeys(group.task for group in self.groups if candidate in group.candidates))
        return tasks[: tasks.index(task)]

    def trained_scheme(self, candidate):
        """finetune's name of what a candidate trains, on all targets or on some."""
        return self.schemes[candidate.scheme].get("train", {}).get("scheme", candidate.scheme)

    def trains_lora(self, candidate):
        return self.trained_scheme(candidate) == "lora"

    def in_picture(self, candidate):
        """The curve that it is drawn with, its scheme's `curve` or the scheme, and its label there."""
        curve = self.schemes[candidate.scheme].get("curve", candidate.scheme)
        return curve, str(candidate.rank) if curve == candidate.scheme else f"{candidate.scheme} {candidate.rank}"

    def curves(self):
        """Those of all pictures, LoRA's first."""
        return list(dict.fromkeys(["lora", *(scheme.get("curve", name) for name, scheme in self.schemes.items())]))

    def axes(self, candidate):
        return [] if candidate.default_rates else [axis for axis in AXES if axis in self.schemes[candidate.scheme]["start"]]

    def rate_columns(self, candidate):
        """Of a row: the rates that the candidate has, searched or not."""
        return [COLUMNS[axis] for axis in self.axes(candidate.at(default_rates=False))]

    def start(self, candidate):
        """Where the search begins: rates of the scheme, or those of this rank."""
        scheme = self.schemes[candidate.scheme]
        rates = {**scheme["start"], **scheme.get(f"start_{candidate.rank}", {})}
        return search.to_point([rates[axis] for axis in self.axes(candidate)])

    def rates(self, candidate, point):
        """{option: value} of finetune train."""
        rates = dict(zip(self.axes(candidate), search.to_rates(point)))
        ratio = rates.pop("b_over_a", None)
        if ratio is not None:
            rates["b_rate"] = float(f"{rates['rate'] * ratio:.4g}")
        return rates

    def point(self, candidate, row):
        """The inverse, of a row's columns; None where it lacks one."""
        axes = self.axes(candidate)
        if not all(row[COLUMNS[axis]] for axis in axes):
            return None
        values = {axis: float(row[COLUMNS[axis]]) for axis in axes}
        if "b_over_a" in values:
            values["b_over_a"] /= values["rate"]
        return search.to_point(values.values())

    def cell(self, stage, task, candidate, seed, point, fixed):
        """`fixed`: {name: value} of what the machine adds: hashes of data and model."""
        own = self.schemes[candidate.scheme].get("train", {})
        train = {name: own[name] for name in TRAIN if name in own}  # whatever order the plan has them in
        settings = {
            "task": task,
            **fixed,
            **{name: self.training[name] for name in TRAINING},
            "window": self.tasks[task]["window"],
            "scheme": candidate.scheme,
            **train,
            "rank": candidate.rank,
            "targets": train.get("targets", candidate.targets),
            **self.rates(candidate, point),
            "seed": seed,
        }
        return Cell(stage, task, candidate, seed, point, tuple(settings.items()))
