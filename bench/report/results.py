"""Reads docs/benchmarks: about.json, and a list of rows for each CSV file."""

import csv
import json
import pathlib
import re
import statistics

BUILDS = ("gcc", "clang19", "avx2", "sse2")
NATIVE = BUILDS[:2]  # OpenBLAS picks its kernels at run time, so that only builds for this machine's best meet it on even terms
# What tiedlora_bench and memory_bench measure, then bench/baselines/pytorch.py: NAME.csv each.
GROUPS = ("machine", "grid", "cold", "halves", "distant", "types", "widths", "threads", "layers", "decode", "batch", "kept",
          "allocations", "tenants", "pytorch")  # fmt: skip
TABLES = ("train_step_table", "train_step_real", "train_step_memory")  # text as it is printed
AXES = ("layers", "rank", "tokens")  # train_step_AXIS.csv


class Value:
    """A median with its quartiles."""

    def __init__(self, q1, median, q3):
        self.q1, self.median, self.q3 = q1, median, q3

    @staticmethod
    def of(values):
        if len(values) == 1:
            return Value(values[0], values[0], values[0])
        return Value(*statistics.quantiles(values, n=4, method="inclusive"))

    def __str__(self):
        return f"{self.median:.2f} ({self.q1:.2f}–{self.q3:.2f})"


class Row:
    """One measurement: `name` without its group, `columns` of values, and the numbers in the name."""

    def __init__(self, build, name, columns):
        self.build, self.name, self.columns = build, name, columns
        self.baseline = name.split("/")[0] if re.match("eager|peft", name) else None
        case = name.removeprefix(f"{self.baseline}/")
        self.backward = case.startswith(("backward", "both"))
        for key, value in re.findall(r"(\w+):(\d+)", name):
            setattr(self, key, int(value))
        if match := re.search(r"(\d+)x(\d+)", name):
            self.d_in, self.d_out = int(match[1]), int(match[2])

    @property
    def is_target(self):
        """Whether targets and the count of wins and losses look at it: forward as in decoding, in mixed batches and
        in prompts, backward of as many tokens as anybody trains with, ranks that are in use."""
        return 4 <= self.r <= 64 and (self.T >= 8 if self.backward else self.T in (1, 8, 64, 512))

    def __getitem__(self, key):
        if f"{key}.q1" in self.columns:
            return Value(*(self.columns[key + part] for part in (".q1", "", ".q3")))
        return self.columns[key]


def words(name):
    """A configuration's name as a reader says it: 'LoRA, 4096, r = 64, T = 1'."""
    schemes = {"lora": "LoRA", "vera": "VeRA", "tl5": "TL5", "tl6": "TL6"}
    said = {"eager": None, "peft": None, "forward": None, "backward": None, "both": None, **schemes}
    parts = []
    for part in name.split("/"):
        if match := re.fullmatch(r"(\d+)x(\d+)", part):
            parts.append(match[1] if match[1] == match[2] else f"{match[1]} → {match[2]}")
        else:
            parts.append(said.get(part, part.replace(":", " = ")))
    return ", ".join(part for part in parts if part)


class Results:
    """`rows(group, build)` of a folder; `about` says of what machine, programs and versions, `tables` are printed as they are."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.about = json.loads((self.folder / "about.json").read_text())
        self.groups = {name: [self._row(row) for row in self._read(name)] for name in GROUPS}
        self.tables = {name: self._read(name) for name in TABLES}
        self.engine = {(row["program"], int(row["threads"]), row["adapter"]): row for row in self._read("engine")}
        self.growth = {axis: self._numbers(f"train_step_{axis}") for axis in AXES}
        self.steps = self._read("train_step")

    def rows(self, group, build=None):
        return [row for row in self.groups.get(group, []) if build in (None, row.build)]

    def builds(self):
        return [build for build in BUILDS if build in self.about["builds"]]

    def native_builds(self):
        return [build for build in self.builds() if build in NATIVE]

    def _read(self, name):
        path = self.folder / f"{name}.csv"
        if not path.exists():
            return []
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _numbers(self, name):
        return [{key: float(value) for key, value in row.items()} for row in self._read(name)]

    def _row(self, row):
        build, name = row.pop("build"), row.pop("name")
        return Row(build, name, {key: float(text) for key, text in row.items() if text})
