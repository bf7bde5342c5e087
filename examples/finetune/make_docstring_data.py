"""Writes examples for fine-tuning from what every machine has: the functions of Python's standard library, and the
first line of what their authors say they do.

    python3 make_docstring_data.py OUT.jsonl

Each line is {"prompt": the function without its docstring, "completion": the docstring's first line}.
"""

import ast
import json
import pathlib
import sys
import sysconfig

QUESTION = "What does this Python function do? Answer in one line.\n\n"
LARGEST_CODE = 900  # characters: some 300 tokens


def without_docstring(function, source):
    """The function's own text but for its docstring, less the indentation that it shares."""
    lines = source.splitlines()[function.lineno - 1 : function.end_lineno]
    docstring = function.body[0]
    begin, end = docstring.lineno - function.lineno, docstring.end_lineno - function.lineno
    kept = lines[:begin] + lines[end + 1 :]
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[indent:].rstrip() for line in kept).strip()


def functions(path):
    try:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or len(node.body) < 2:
            continue
        docstring = ast.get_docstring(node)
        if not docstring or node.body[0].lineno == node.lineno:
            continue
        answer = docstring.strip().splitlines()[0].strip()
        code = without_docstring(node, source)
        if 15 <= len(answer) <= 120 and answer[-1] in ".:" and len(code) <= LARGEST_CODE:
            yield code, answer.rstrip(":.") + "."


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    library = pathlib.Path(sysconfig.get_paths()["stdlib"])
    seen = set()
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        for path in sorted(library.rglob("*.py")):
            parts = path.relative_to(library).parts
            if {"test", "tests", "idlelib", "site-packages", "dist-packages", "lib2to3", "idle_test"} & set(parts):
                continue
            for code, answer in functions(path):
                if (code, answer) in seen or any(c > "~" for c in answer):
                    continue
                seen.add((code, answer))
                out.write(json.dumps({"prompt": QUESTION + code, "completion": answer}) + "\n")
    print(f"{len(seen)} functions of {library} to {sys.argv[1]}")


if __name__ == "__main__":
    main()
