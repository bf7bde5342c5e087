"""Reads what the programs of this folder wrote: a list of rows for each group of measurements."""

import csv
import json
import pathlib
import re
import statistics

BUILDS = ("gcc", "clang19", "avx2", "sse2")  # NAME.json each
NATIVE = BUILDS[:2]  # for this machine: peers choose their kernels at run time, so that the others are no contest


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
    """One measurement: `name` without its group, `columns` as they stand in the JSON, and the numbers of the name."""

    def __init__(self, build, name, columns):
        self.build, self.name, self.columns = build, name, columns
        self.backward = name.startswith("backward") or name.startswith("both")
        for key, value in re.findall(r"(\w+):(\d+)", name):
            setattr(self, key, int(value))
        if match := re.search(r"(\d+)x(\d+)", name):
            self.d_in, self.d_out = int(match[1]), int(match[2])

    @property
    def is_target(self):
        """Whether targets and the count of cells won and lost look at it: forward as in decoding, in mixed batches and
        in prompts, backward of as many tokens as anybody trains with, ranks that are in use."""
        return 4 <= self.r <= 64 and (self.T >= 8 if self.backward else self.T in (1, 8, 64, 512))

    def __getitem__(self, key):
        if f"{key}.q1" in self.columns:
            return Value(*(self.columns[key + part] for part in (".q1", "", ".q3")))
        return self.columns[key]


class Results:
    """`rows(group, build)` of everything in a folder; `contexts[build]` is what a program says of its machine and
    itself."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.contexts, self.groups, self.errors = {}, {}, []
        for build in BUILDS:
            self._read(build, self.folder / f"{build}.json")
            self._read(build, self.folder / f"{build}-memory.json")
        self.peers = None
        if (self.folder / "peers.json").exists():
            self.peers = json.loads((self.folder / "peers.json").read_text())
            self.groups["peers"] = [self._peer_row(row) for row in self.peers["rows"]]

    def rows(self, group, build=None):
        return [row for row in self.groups.get(group, []) if build in (None, row.build)]

    def builds(self):
        return [build for build in BUILDS if build in self.contexts]

    def write_csv(self, folder):
        """One file for each group, numbers with 4 digits."""
        folder.mkdir(parents=True, exist_ok=True)
        for group, rows in self.groups.items():
            keys = list(dict.fromkeys(key for row in rows for key in row.columns))
            with (folder / f"{group}.csv").open("w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["build", "name", *keys])
                for row in rows:
                    numbers = (f"{row.columns[key]:.4g}" if key in row.columns else "" for key in keys)
                    writer.writerow([row.build, row.name, *numbers])

    def _read(self, build, path):
        if not path.exists():
            return
        document = json.loads(path.read_text())
        self.contexts.setdefault(build, {}).update(document["context"])
        known = {"real_time", "cpu_time", "iterations", "threads", "repetitions", "repetition_index"}
        known |= {"family_index", "per_family_instance_index"}
        for entry in document["benchmarks"]:
            group, name = entry["name"].removesuffix("/iterations:1/manual_time").split("/", 1)
            if entry.get("error_occurred"):
                self.errors.append(f"{group}/{name}, {build}: {entry['error_message'].removeprefix('not measured: ')}")
                continue
            columns = {k: v for k, v in entry.items() if isinstance(v, (int, float)) and k not in known}
            self.groups.setdefault(group, []).append(Row(build, name, columns))

    def _peer_row(self, row):
        columns = {}
        ratios = [theirs / ours for ours, theirs in zip(row["us.ours"], row["us.theirs"])]
        for key, values in {"us.ours": row["us.ours"], "us.theirs": row["us.theirs"], "x.faster": ratios}.items():
            value = Value.of(values)
            columns |= {key: value.median, f"{key}.q1": value.q1, f"{key}.q3": value.q3}
        peer, direction, rest = row["name"].split("/", 2)
        result = Row("gcc", f"{direction}/{rest}", columns)
        result.name, result.peer = row["name"], peer
        return result
