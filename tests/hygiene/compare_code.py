#!/usr/bin/env python3
"""compare_code.py ASSEMBLY...: the functions that translation units of different instruction sets define under one name, of
which the linker keeps one. Fails if the code of any differs, whosever it is, and lists it."""

import re
import subprocess
import sys

instruction_or_label = re.compile(r"\t[a-z]|\.L")
local_label = re.compile(r"\.L[\w.$]+")


def weak_functions(path):
    """The code of each weak function as the compiler wrote it, with its local labels renumbered."""
    code = {}
    weak = set()
    lines = None
    with open(path) as assembly:
        for line in assembly:
            if line.startswith("\t.weak\t"):
                weak.add(line.split()[1])
            elif line[0] not in "\t.# \n":
                name = line.split(":")[0].strip('"')
                lines = code.setdefault(name, []) if name in weak else None
            elif line.startswith("\t.size\t") or line.startswith("\t.section\t"):  # its end, or its cold part
                lines = None
            elif lines is not None and instruction_or_label.match(line):
                lines.append(line.split("#")[0].strip())
    return {name: renumbered(lines) for name, lines in code.items() if lines}


def renumbered(lines):
    numbers = {}
    label = lambda match: f".L{numbers.setdefault(match[0], len(numbers))}"
    return tuple(local_label.sub(label, line) for line in lines)


def demangled(names):
    text = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True).stdout
    return text.splitlines()


def main():
    units = [weak_functions(path) for path in sys.argv[1:]]
    names = {name for code in units for name in code}
    shared = [name for name in names if sum(name in code for code in units) > 1]
    differing = sorted(name for name in shared if len({code[name] for code in units if name in code}) > 1)
    print(f"{len(names)} weak functions, {len(shared)} in more than one unit, {len(differing)} of those differ")
    for name in demangled(differing):
        print(f"differs: {name}")
    # A unit without a function of ours would compare nothing.
    sys.exit(bool(differing) or not all(any("tiedlora" in name for name in code) for code in units))


main()
