"""Splits what a task is made of into train, select and test: by whole files, with near-copies on one side."""

import re

PARTS = ("train", "select", "test")
SHARES = {"train": 0.7, "select": 0.1, "test": 0.2}
ALIKE = 0.5  # Jaccard's index from which two texts are near-copies


def allot(sizes):
    """{unit: part} for {unit: size}. The largest first, each to the part that lacks most of its share: no chance."""
    lacks = {part: SHARES[part] * sum(sizes.values()) for part in PARTS}
    parts = {}
    for unit in sorted(sizes, key=lambda unit: (-sizes[unit], unit)):
        part = max(PARTS, key=lambda part: lacks[part])
        parts[unit] = part
        lacks[part] -= sizes[unit]
    return parts


def jaccard(one, other):
    """Of two sets: what they share over what they have; 0 where both are empty."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


def lines(text):
    """The lines of a file that say something, for files of code."""
    return frozenset(line for line in map(str.strip, text.splitlines()) if len(line) > 15)


def shingles(text, length=5):
    """All runs of that many characters, lower-cased, without layout."""
    plain = re.sub(r"\W+", " ", text.lower()).strip()
    return frozenset(plain[i : i + length] for i in range(max(1, len(plain) - length + 1)))


def split_texts(texts):
    """{part: [name]} of {name: text}: near-copies (by their lines) go together."""
    names = sorted(texts)
    leader = {name: name for name in names}

    def find(name):
        while leader[name] != name:
            name = leader[name]
        return name

    sets = {name: lines(texts[name]) for name in names}
    for i, one in enumerate(names):
        for other in names[:i]:
            if jaccard(sets[one], sets[other]) >= ALIKE:
                leader[find(one)] = find(other)
    sizes = {}
    for name in names:
        sizes[find(name)] = sizes.get(find(name), 0) + len(texts[name])
    parts = allot(sizes)
    return {part: [name for name in names if parts[find(name)] == part] for part in PARTS}


def split_examples(files):
    """{part: [example]} of {file: [(question, answer)]}. An example that is nearly one of a later part (train < select
    < test) is left out, and one with the answer of another too: such pairs would be learnt by heart, then measured."""
    parts = allot({file: len(examples) for file, examples in files.items() if examples})
    kept, seen, answers = {}, [], set()
    for part in reversed(PARTS):
        kept[part] = []
        mine = []
        for file in sorted(file for file in parts if parts[file] == part):
            for question, answer in files[file]:
                own = shingles(question)
                if answer in answers or any(jaccard(own, other) >= ALIKE for other in seen):
                    continue
                answers.add(answer)
                mine.append(own)
                kept[part].append((question, answer))
        seen += mine
    return kept
