"""The results of a study: a CSV that only grows, one line for each finished run, by several processes at once."""

import csv
import fcntl
import hashlib
import io
import json
import os

COLUMNS = (
    "key stage task scheme rank targets seed rate uv_rate b_rate status select_before select_loss best_step "
    "test_before test_loss trained frozen steps wall_seconds cpu_seconds adapter data model arithmetic program commit"
).split()


def to_line(values):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def whole_lines(data):
    """Less a last line that a crash cut short."""
    return data[: data.rfind(b"\n") + 1]


class Table:
    """A file's rows, {key: row}, as they come, from this process and others; the first row of a key counts."""

    def __init__(self, path):
        self.path, self.rows, self.end = path, {}, 0

    def refresh(self):
        """Reads what has come; whether there was anything. Raises ValueError for a file with other columns."""
        try:
            file = open(self.path, "rb")
        except FileNotFoundError:
            return False
        with file:
            if os.fstat(file.fileno()).st_size <= self.end:
                return False
            file.seek(self.end)
            data = whole_lines(file.read())
        lines = csv.reader(io.StringIO(data.decode()))
        if data and self.end == 0 and next(lines) != COLUMNS:
            raise ValueError(
                f"{self.path} has different columns from those this version writes; move it away to start over"
            )
        self.end += len(data)
        for line in filter(None, lines):
            row = dict(zip(COLUMNS, line))
            self.rows.setdefault(row["key"], row)
        return bool(data)


def read(path):
    """{key: row}."""
    table = Table(path)
    table.refresh()
    return table.rows


def append(path, row):
    """One line, which is on the disk when this returns. A lock keeps those of several processes apart: on NFS, appending
    alone does not."""
    line = to_line([row.get(name, "") for name in COLUMNS]).encode()
    with open(path, "a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        whole = whole_lines(file.read())
        file.truncate(len(whole))  # what a crash cut short goes
        file.write(line if whole else to_line(COLUMNS).encode() + line)
        os.fsync(file.fileno())


def write_whole(path, text):
    """Replaces a file at once: nobody sees half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_json(path, value):
    write_whole(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def hash_of(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
