"""The results of a study: a CSV that only grows, one line for each finished run, by several processes at once."""

import csv
import errno
import fcntl
import hashlib
import io
import json
import math
import os

COLUMNS = (
    "key stage task scheme rank targets seed rate uv_rate b_rate status select_before select_loss best_step "
    "test_before test_loss trained frozen steps wall_seconds cpu_seconds adapter data model arithmetic program commit"
).split()


def to_line(values):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


WHOLE = ("rank", "seed")
OF_OK = ("select_before", "select_loss", "trained", "frozen", "steps")
OF_FINAL = ("test_before", "test_loss")


RATES = ("rate", "uv_rate", "b_rate")
TIMES = ("wall_seconds", "cpu_seconds")


def fault(row):
    """What is wrong with a row, or ""."""

    def number(text):
        try:
            return float(text)
        except ValueError:
            return math.nan

    if row["status"] not in ("ok", "diverged"):
        return f"status is {row['status']!r}, not ok or diverged"
    if row["stage"] not in ("search", "final"):
        return f"stage is {row['stage']!r}, not search or final"
    for name in WHOLE:
        if not row[name].isdecimal():
            return f"{name} is {row[name]!r}, not a whole number"
    is_ok = row["status"] == "ok"
    numbers = TIMES + (OF_OK + (OF_FINAL if row["stage"] == "final" else ()) if is_ok else ())
    if wrong := next((name for name in numbers if not math.isfinite(number(row[name]))), None):
        return f"{wrong} is {row[wrong]!r}, not a number"
    if wrong := next((name for name in RATES if row[name] and not 0 < number(row[name]) < math.inf), None):
        return f"{wrong} is {row[wrong]!r}, not a number above 0"
    if not is_ok and number(row["select_loss"]) != math.inf:
        return f"select_loss is {row['select_loss']!r}, not inf, where the run diverged"
    return "trained is 0" if is_ok and number(row["trained"]) == 0 else ""


def whole_lines(data):
    """Less a last line that a crash cut short."""
    return data[: data.rfind(b"\n") + 1]


class Table:
    """A file's rows, {key: row}, as they come, from this process and others; the first row of a key counts."""

    def __init__(self, path):
        self.path, self.rows, self.end, self.lines = path, {}, 0, 0

    def refresh(self):
        """Reads what has come; whether there was anything. Raises ValueError for a file with other columns, a line that is no
        row, and one that became shorter meanwhile."""
        try:
            file = open(self.path, "rb")
        except FileNotFoundError:
            return False
        with file:
            size = os.fstat(file.fileno()).st_size
            if size < self.end:
                raise ValueError(f"{self.path} became shorter while it was in use; the same command starts again with what it has")
            if size == self.end:
                return False
            file.seek(self.end)
            data = whole_lines(file.read())
        self.end += len(data)
        for line in data.split(b"\n")[:-1]:
            self.lines += 1
            self._add(line)
        return bool(data)

    def _add(self, line):
        """No value has a line break, so that a damaged line harms no other."""
        try:
            values = next(csv.reader([line.decode("utf-8-sig").rstrip("\r")], strict=True), [])
        except (UnicodeDecodeError, csv.Error) as error:
            values = [str(error)]
        if self.lines == 1:
            if values != COLUMNS:
                raise ValueError(
                    f"{self.path} has different columns from those this version writes; move it away to start over"
                )
        elif any(values):
            row = dict(zip(COLUMNS, values))
            wrong = fault(row) if len(values) == len(COLUMNS) else f"{len(values)} values, not {len(COLUMNS)}"
            if wrong:
                raise ValueError(f"{self.path}, line {self.lines}: {wrong}; take the line out, and its run is made again")
            self.rows.setdefault(row["key"], row)


def to_text(rows):
    """A whole file, of {key: row}."""
    return to_line(COLUMNS) + "".join(to_line([row[name] for name in COLUMNS]) for row in rows.values())


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
        line = line if whole else to_line(COLUMNS).encode() + line
        if file.write(line) != len(line):  # a full disk takes a part, and says nothing
            file.truncate(len(whole))
            raise OSError(errno.ENOSPC, "no room for another row", str(path))
        os.fsync(file.fileno())


def write_whole(path, text):
    """Replaces a file at once: nobody sees half of it."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write_json(path, value):
    write_whole(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path):
    """Raises ValueError that names the file."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it to make it again") from None


def hash_of(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
