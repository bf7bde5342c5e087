"""Every error message that the library and the programs can give, with its place, to be read as a user reads it: does it
say what was found, where, and what to do?

    python3 tests/docs/list_messages.py [PATH...]        # files or folders; without: include, c, examples, bench, script

One line each, FILE:LINE: MESSAGE, with {expressions} where values stand. Found are the calls by which this project raises
or returns errors, in C++ (fail, Failure, throw ...), Python (sys.exit, raise, parser.error) and shell (>&2). A new way to
refuse something has to be added below. Not listed are the texts of tables, such as those of io/sniff.hpp.
"""

import ast
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parents[2]
folders = ["include", "c", "examples", "bench", "script"]

# What takes the text of an error, or parts of one.
raises = re.compile(
    r"(fail(_at)?|raise|message|Failure|\w*Error|runtime_error|invalid_argument|out_of_range|logic_error|refuse\w*|refused|"
    r"wrong\w*|problem|unexpected|format)"
)
token = re.compile(
    r"""(?P<skip>//[^\n]*|/\*.*?\*/|\s+|\\\n)|(?P<raw>R"(?P<mark>[^(\s]*)\((?P<text>.*?)\)(?P=mark)")|"""
    r"""(?P<string>"(?:\\.|[^"\\])*")|(?P<char>'(?:\\.|[^'\\])')|(?P<word>[A-Za-z_]\w*)|(?P<number>\d[\w.']*)|(?P<other>->|::|.)""",
    re.S,
)
placeholder = r"\{(:[^{}]*)?\}"
closing = {"(": ")", "{": "}", "[": "]"}


class Token:
    def __init__(self, kind, text, line):
        self.kind, self.text, self.line = kind, text, line


def tokens_of(source):
    found, line = [], 1
    for match in token.finditer(source):
        kind, text = match.lastgroup, match[0]
        if kind in ("text", "mark") or match["raw"]:
            found.append(Token("string", match["text"], line))
        elif kind == "string":
            plain = text[1:-1]
            for escape, character in (('\\"', '"'), ("\\n", " "), ("\\t", " "), ("\\\\", "\\")):
                plain = plain.replace(escape, character)
            found.append(Token("string", plain, line))
        elif kind != "skip":
            found.append(Token(kind, text, line))
        line += text.count("\n")
    return found


def end_of(tokens, begin):
    """After the bracket that closes the one at `begin`."""
    depth = 0
    for at in range(begin, len(tokens)):
        if tokens[at].kind == "other" and tokens[at].text in closing:
            depth += 1
        elif tokens[at].kind == "other" and tokens[at].text in closing.values():
            depth -= 1
            if depth == 0:
                return at + 1
    return len(tokens)


def arguments_of(tokens):
    """What stands between commas."""
    found, begin, at = [], 0, 0
    while at < len(tokens):
        if tokens[at].kind == "other" and tokens[at].text in closing:
            at = end_of(tokens, at)
        elif tokens[at].text == "," and tokens[at].kind == "other":
            found.append(tokens[begin:at])
            begin = at = at + 1
        else:
            at += 1
    return found + [tokens[begin:]] if tokens else []


def is_call(tokens, at):
    return tokens[at].kind == "word" and at + 1 < len(tokens) and tokens[at + 1].text in ("(", "{")


def code(tokens):
    text = ""
    for one in tokens:
        shown = f'"{one.text}"' if one.kind == "string" else one.text
        text += (" " if text and re.match(r"\w", shown) and re.search(r"\w$", text) else "") + shown
    return text if len(text) < 40 else text[:36] + "..."


def shown(tokens):
    """An argument as a reader of the message sees it: texts as they are, {code} for values."""
    text, code_begin, at = "", 0, 0

    def close(end):
        value = [one for one in tokens[code_begin:end]]
        while value and value[0].text in ("+", "<<"):
            value = value[1:]
        while value and value[-1].text in ("+", "<<"):
            value = value[:-1]
        return "{" + code(value) + "}" if value else ""

    while at < len(tokens):
        one = tokens[at]
        if one.kind == "string":
            text += close(at) + one.text
            at = code_begin = at + 1
        elif is_call(tokens, at) and raises.fullmatch(one.text):
            while at > code_begin and tokens[at - 1].text in ("::", "detail", "fmt", "std", "tiedlora"):
                at -= 1
            text += close(at)
            while tokens[at + 1].text not in ("(", "{") or not raises.fullmatch(tokens[at].text):
                at += 1
            end = end_of(tokens, at + 1)
            text += call(tokens[at:end])
            at = code_begin = end
        elif one.text == "?" and any(later.kind == "string" for later in tokens[at:]):  # a choice of texts
            choices = [later.text for later in tokens[at:] if later.kind == "string"]
            return text + "{" + " | ".join(choices) + "}"
        elif one.kind == "other" and one.text in closing:
            end = end_of(tokens, at)
            inner = tokens[at + 1 : end - 1]
            strings = sum(each.kind == "string" for each in inner)
            is_argument = at > 0 and tokens[at - 1].kind == "word" and tokens[at - 1].text not in ("string", "return")
            if strings and not is_argument:
                text += close(at) + "".join(map(shown, arguments_of(inner)))
                code_begin = end
            at = end
        else:
            at += 1
    return text + close(len(tokens))


def call(tokens):
    """A call of something that raises: its arguments one after the other, those of a format at their places."""
    texts = [shown(argument) for argument in arguments_of(tokens[2:-1])]
    literals = ["".join(one.text for one in argument if one.kind == "string") for argument in arguments_of(tokens[2:-1])]
    for place, literal in enumerate(literals):
        if re.search(placeholder, literal):
            values = texts[place + 1 :]

            def put(found):
                return found[0][0] if found[0] in ("{{", "}}") else values.pop(0) if values else "{}"

            text = re.sub(r"\{\{|\}\}|" + placeholder, put, texts[place])
            texts[place:] = [text, *values]
            break
    return texts[0] + " " + "".join(texts[1:]) if is_value(texts) else "".join(texts)


def is_value(texts):
    """Whether the first argument says where, apart from the text."""
    return len(texts) > 1 and re.fullmatch(r"\{[^{}]*\}", texts[0]) and texts[1][:1] not in (" ", ":", ";", ",", "{")


def messages_of_cpp(source):
    tokens, at = tokens_of(source), 0
    while at < len(tokens):
        if is_call(tokens, at) and raises.fullmatch(tokens[at].text):
            end = end_of(tokens, at + 1)
            inner = tokens[at:end]
            is_text = any(one.kind == "string" and re.search(r"[A-Za-z]{2}", one.text) for one in inner)
            is_format = tokens[at].text in ("format", "message")
            # A format may be of anything: an error if its text is returned or goes on as one.
            before = [one.text for one in tokens[max(0, at - 4) : at]]
            text = call(inner) if is_text else ""
            is_prose = len(re.findall(r"\b[a-z]+ ", text)) > 2 and "set terminal" not in text and "set title" not in text
            if is_text and (not is_format or is_prose and ("return" in before or (tokens[at].text == "message" and "=" in before))):
                yield tokens[at].line, text
            at = end if is_text else at + 2
        else:
            at += 1


def messages_of_python(source):
    def text_of(node):
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(text_of(part) for part in node.values)
        if isinstance(node, ast.FormattedValue):
            return "{" + ast.unparse(node.value) + "}"
        if isinstance(node, ast.BinOp):
            return text_of(node.left) + text_of(node.right)
        return "{" + ast.unparse(node) + "}"

    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("exit", "error", "fail", "SystemExit", "Failed") or name.endswith("Error"):
            text = " ".join(map(text_of, node.args))
            if re.search(r"[A-Za-z]{2} ", text):
                yield node.lineno, text


def messages_of_shell(source):
    for number, line in enumerate(source.splitlines(), 1):
        if not line.lstrip().startswith("#") and (">&2" in line or re.search(r"\bfail [\"']", line)):
            found = re.findall(r"\"((?:\\.|[^\"\\])*)\"|'([^']*)'", line)
            text = " ".join(one or other for one, other in found)
            if re.search(r"[A-Za-z]{2} ", text):
                yield number, text


def messages_of(file):
    source = file.read_text(errors="replace")
    if file.suffix in (".hpp", ".cpp", ".h", ".cu", ".cuh"):
        return messages_of_cpp(source)
    first = source.split("\n", 1)[0]
    if file.suffix == ".py" or "python" in first:
        return messages_of_python(source)
    if file.suffix == ".sh" or first.startswith("#!"):
        return messages_of_shell(source)
    return []


def is_source(file):
    return file.is_file() and not re.search(r"_test\b|(^|/)test|tables\.hpp$|/results/", str(file.relative_to(root)))


def main():
    places = [pathlib.Path(path).resolve() for path in sys.argv[1:]] or [root / folder for folder in folders]
    files = [file for place in places for file in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    for file in filter(is_source, files):
        for line, text in messages_of(file):
            print(f"{file.relative_to(root)}:{line}: {' '.join(text.split())}")


if __name__ == "__main__":
    main()
