"""The three tasks, made from packages that every machine can install: a text for each part, and what it is made of."""

import importlib.metadata
import importlib.util
import json
import pathlib
import random
import re
import sys

import splits

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "finetune"))
import make_docstring_data as docstrings  # noqa: E402

TRANSLATE = "Translate into German:\n\n"
# Characters, or examples, of a part at most. A run reads a part of train, 13 % of the code's to 64 % of the translation's, and
# select three times.
LARGEST_TEXT = {"train": 400_000, "select": 16_000, "test": 60_000}
MOST_EXAMPLES = {"train": 1000, "select": 50, "test": 150}


def package_folder(name):
    """Where a package of Python's lies; it is not imported, which may need others."""
    found = importlib.util.find_spec(name)
    if not found or not found.submodule_search_locations:
        sys.exit(f"The Python package {name} is not installed: run script/bootstrap study")
    return pathlib.Path(found.submodule_search_locations[0])


def without_licence(text):
    """Less the comment that every header begins with."""
    return re.sub(r"\A(?:\s*//[^\n]*\n|\s*/\*.*?\*/)+", "", text, flags=re.S).strip() + "\n"


def some_of(files, most):
    """Whole files in random order, up to that many characters; the last is cut."""
    names = sorted(files)
    random.Random(1).shuffle(names)
    return "\n".join(files[name] for name in names)[:most]


def code(eigen):
    """Eigen's headers, to be gone on with token by token."""
    root = eigen / "Eigen" / "src"
    macros = root / "Core" / "util" / "Macros.h"
    if not macros.is_file():
        sys.exit(f"{eigen} holds no Eigen: install it (libeigen3-dev), or name its folder by --eigen")
    version = [
        re.search(rf"define EIGEN_{word}_VERSION (\d+)", macros.read_text())[1] for word in ("WORLD", "MAJOR", "MINOR")
    ]
    texts = {}
    for path in sorted(root.rglob("*.h")):
        texts[path.relative_to(root).as_posix()] = without_licence(path.read_text(encoding="utf-8", errors="replace"))
    parts = splits.split_texts(texts)
    files = {part: some_of({name: texts[name] for name in parts[part]}, LARGEST_TEXT[part]) for part in splits.PARTS}
    return files, {"package": f"Eigen {'.'.join(version)}", "files": {part: len(parts[part]) for part in splits.PARTS}}


def as_jsonl(files, question):
    """{part: text} of {file: [(question, answer)]}, and how many examples each part has."""
    parts = splits.split_examples(files)
    texts, counts = {}, {}
    for part, examples in parts.items():
        random.Random(1).shuffle(examples)
        examples = examples[: MOST_EXAMPLES[part]]
        lines = [json.dumps({"prompt": question + q, "completion": a}, ensure_ascii=False) for q, a in examples]
        texts[part] = "".join(line + "\n" for line in lines)
        counts[part] = len(examples)
    return texts, counts


def count_files(files):
    parts = splits.allot({file: len(examples) for file, examples in files.items() if examples})
    return {part: sum(p == part for p in parts.values()) for part in splits.PARTS}


def docstring():
    """Django's functions, and the first line of what their authors say of them."""
    root = package_folder("django")
    files = {path.relative_to(root).as_posix(): list(docstrings.functions(path)) for path in sorted(root.rglob("*.py"))}
    texts, counts = as_jsonl(files, docstrings.QUESTION)
    return texts, {
        "package": f"Django {importlib.metadata.version('django')}",
        "files": count_files(files),
        "examples": counts,
    }


def translation():
    """Django's messages in English and German."""
    import polib

    root = package_folder("django")
    files = {}
    for path in sorted(root.rglob("locale/de/LC_MESSAGES/*.po")):
        pairs = [
            (entry.msgid, entry.msgstr)
            for entry in polib.pofile(str(path))
            if entry.translated() and not entry.obsolete
        ]
        files[path.relative_to(root).as_posix()] = [
            (en, de) for en, de in pairs if 3 <= len(en) <= 300 and de and en != de
        ]
    texts, counts = as_jsonl(files, TRANSLATE)
    return texts, {
        "package": f"Django {importlib.metadata.version('django')}",
        "files": count_files(files),
        "examples": counts,
    }


SUFFIX = {"code": "txt", "docstring": "jsonl", "translation": "jsonl"}


def make(name, eigen):
    """({part: text}, what it is made of) of a task."""
    return code(eigen) if name == "code" else {"docstring": docstring, "translation": translation}[name]()
