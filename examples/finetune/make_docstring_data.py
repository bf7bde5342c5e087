"""Writes examples for fine-tuning from what every machine has: the functions of Python's standard library, and what their
authors say in one line that they do.

FOLDER/train.jsonl and FOLDER/validation.jsonl get lines {"prompt": a question and the function without its docstring,
"completion": the docstring's first line, as an order: "Return the …"}. The validation examples come from modules of their own:
functions of one module are much alike. With EXAMPLES, at most that many to train on, and a fifth as many to validate with.
"""

import argparse
import ast
import json
import pathlib
import random
import sys
import sysconfig

QUESTION = "What does this Python function do? Answer in one line.\n\n"
LARGEST_CODE = 700  # characters: some 230 tokens, with the chat template 270
VALIDATION = {"colorsys", "fnmatch", "heapq", "shutil", "statistics", "textwrap", "weakref"}
# Of these, what the demo shows comes first.
SHOWN = ("def disk_usage(", "def multimode(", "def indent(")
# Tests, programs, and what others installed.
LEFT_OUT = {"test", "tests", "idle_test", "idlelib", "lib2to3", "site-packages", "dist-packages", "turtledemo"}
# A line that begins otherwise ("Internal function.", "See above.", "Same as …") rarely says what the function does.
VERBS = set("""
    accept acquire add adjust allocate append apply arrange assert assign attach bind block build calculate call cancel change
    check clean clear clone close collect combine compare compile complete compute configure connect construct convert copy
    count create cut decode decompress compress define delete detach determine disable discard display divide draw drop dump
    emit empty enable encode enqueue ensure enter enumerate escape evaluate examine execute exit expand extend extract feed
    fetch fill filter find fix flush force format generate get give group handle hide import indicate inform insert inspect
    install interpret interrupt invoke iterate join kill launch limit list listen load locate lock log look make map mark match
    merge modify move multiply normalize notify obtain open pack parse pause peek perform pop prepare print process produce
    propagate push put query quote raise read receive record recognize redirect reduce refresh register release reload remove
    rename render reopen repeat replace report request reset resize resolve restore retrieve return reverse rotate round run
    save scan schedule search seek select send serialize set show shut shuffle sleep sort split start stop store strip submit
    subtract suspend swap switch take tell terminate test toggle transform translate truncate try turn undo unescape uninstall
    unlock unpack unquote unregister update validate verify visit wait wake walk warn wrap write yield
""".split())


def as_order(line):
    """"Returns x" as "Return x"; nothing for a line that does not begin with one of the verbs."""
    first, _, rest = line.partition(" ")
    word = first.lower()
    # The longest first: "parses" is of "parse", "fetches" of "fetch".
    for verb in (word, word[:-1] if word.endswith("s") else "", word[:-2] if word.endswith("es") else ""):
        if verb in VERBS and rest:
            return f"{verb.capitalize()} {rest}"
    return None


def does_something(function):
    """Not only a docstring, and more than what every abstract method has."""
    body = function.body[1:]
    return len(body) > 1 or (len(body) == 1 and not isinstance(body[0], (ast.Pass, ast.Raise)))


def without_docstring(function, source):
    """The function's text without its docstring, less the common indentation."""
    lines = source.splitlines()[function.lineno - 1 : function.end_lineno]
    docstring = function.body[0]
    begin, end = docstring.lineno - function.lineno, docstring.end_lineno - function.lineno
    indent = len(lines[0]) - len(lines[0].lstrip())
    kept = lines[:begin] + lines[end + 1 :]
    # Lines within a string may begin further to the left.
    return "\n".join(line[min(indent, len(line) - len(line.lstrip())) :].rstrip() for line in kept).strip()


def functions(path):
    try:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        docstring = ast.get_docstring(node)
        if not docstring or node.body[0].lineno == node.lineno or not does_something(node):
            continue
        line = docstring.strip().splitlines()[0].strip()
        answer = as_order(line) if 15 <= len(line) <= 120 and line[-1] == "." and line.isascii() else None
        code = without_docstring(node, source)
        if answer and len(code) <= LARGEST_CODE:
            yield code, answer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("examples", type=int, nargs="?", metavar="EXAMPLES")
    options = parser.parse_args()
    if options.examples is not None and options.examples < 1:
        parser.error(f"EXAMPLES is {options.examples}; give 1 or more")
    library = pathlib.Path(sysconfig.get_paths()["stdlib"])
    train, validation, seen = [], [], set()
    for path in sorted(library.rglob("*.py")):
        if LEFT_OUT & set(path.relative_to(library).parts):
            continue
        for code, answer in functions(path):
            # One of each: of functions with one answer, some would be trained on and others validate.
            if code in seen or answer in seen:
                continue
            seen |= {code, answer}
            examples = validation if path.relative_to(library).with_suffix("").as_posix() in VALIDATION else train
            examples.append({"prompt": QUESTION + code, "completion": answer})
    if not train or not validation:
        sys.exit(f"{library} holds no functions to learn from: is Python's standard library installed?")
    random.Random(1).shuffle(train)
    validation.sort(key=lambda example: not example["prompt"].removeprefix(QUESTION).startswith(SHOWN))
    if options.examples:
        train = train[: options.examples]
        validation = validation[: max(options.examples // 5, len(SHOWN))]
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, examples in ("train", train), ("validation", validation):
        text = "".join(json.dumps(example) + "\n" for example in examples)
        (options.folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    print(f"{len(train)} functions of {library} to train on, {len(validation)} to validate with")


if __name__ == "__main__":
    main()
