#!/usr/bin/env python3
"""compare_objects.py OBJECT...: the weak functions that objects of different instruction sets define under one name, of
which the linker keeps one. Fails if one of them is ours, or Eigen's, and its code differs, and lists it."""

import re
import subprocess
import sys

# Ours, and Eigen's, whatever types they are of; std's own templates are not.
ours = re.compile(r"_ZNK?(8tiedlora|5Eigen)")
# What the compiler itself writes for these copies, moves or frees, computes nothing and can carry no tag.
types = (
    "Error|Module|ModuleList|LayoutOptions|Layout|NameRule|NameMap|Fusion|Failure|AdapterView|Gradients|AdamW|"
    "Resident|Placement|AdapterSnapshot|AdapterSet|BatchPlan"
)
implicit = re.compile(rf"tiedlora::v1::(?:detail::)?({types})(<.*>)?::(~?\1\(|operator=\()")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def weak_functions(path):
    """The code of each weak function, as text without addresses: instructions and what they refer to."""
    weak = {line.split()[-1] for line in output("nm", path).splitlines() if line.split()[-2] in "WV"}
    code = {}
    lines = None
    for line in output("objdump", "-drw", "--no-show-raw-insn", path).splitlines():
        heading = re.match(r"[0-9a-f]+ <(.+)>:$", line)
        if heading:
            lines = code.setdefault(heading[1], []) if heading[1] in weak else None
        elif lines is not None and line.startswith(" "):
            line = re.sub(r"^\s*[0-9a-f]+:\s*", "", line).split("#")[0]
            instruction, _, target = line.partition("R_")
            if target:  # what the linker will fill in counts, not what stands there until then
                line = re.sub(r"[0-9a-f]+ <.*|[0-9a-f]+:\s*$", "", instruction) + re.sub(r"\.[\w.]+|[-+]0x.*", "", target)
            if not re.match(r"(cs )?nop|(data16 )+|xchg +%ax,%ax", line):  # between functions and loops
                lines.append(line.strip())
    return code


def demangled(names):
    text = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True).stdout
    return text.splitlines()


def main():
    objects = [weak_functions(path) for path in sys.argv[1:]]
    names = {name for code in objects for name in code}
    shared = [name for name in names if sum(name in code for code in objects) > 1]
    differing = sorted(name for name in shared if len({tuple(code[name]) for code in objects if name in code}) > 1)
    wrong = [name for name in demangled([name for name in differing if ours.match(name)]) if not implicit.match(name)]
    print(f"{len(names)} weak functions, {len(shared)} in more than one object, {len(differing)} of those differ: ", end="")
    print(f"{len(wrong)} of ours, {len(differing) - len(wrong)} of std or implicit")
    for name in wrong:
        print(f"differs: {name}")
    # An object without a function of ours would compare nothing.
    sys.exit(bool(wrong) or not all(any("tiedlora" in name for name in code) for code in objects))


main()
