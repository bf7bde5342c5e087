"""The results of a study: a CSV that only grows, one line for each finished run."""

import csv
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


def without_torn_line(path):
    """The text of a file, less a last line that a crash cut short; the file loses it too."""
    if not path.exists():
        return ""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    return whole.decode()


def read(path, mend=False):
    """{key: row}; the first row of a key counts. Raises ValueError for a file with other columns."""
    text = without_torn_line(path) if mend else path.read_text() if path.exists() else ""
    reader = csv.DictReader(io.StringIO(text))
    if text and list(reader.fieldnames) != COLUMNS:
        raise ValueError(f"{path} has different columns from those this version writes; move it away to start over")
    rows = {}
    for row in reader:
        rows.setdefault(row["key"], row)
    return rows


def append(path, row):
    """One write of one line, which is on the disk when this returns."""
    line = to_line([row.get(name, "") for name in COLUMNS])
    if not path.exists() or path.stat().st_size == 0:
        line = to_line(COLUMNS) + line
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, line.encode())
        os.fsync(file)
    finally:
        os.close(file)


def write_whole(path, text):
    """Replaces a file at once: nobody sees half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_json(path, value):
    write_whole(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def hash_of(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
