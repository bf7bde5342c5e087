"""The API reference: pages from Doxygen's XML, one for each header, grouped as the folders of include/tiedlora are.

A page is Markdown with pieces of HTML: a heading for each name, its declarations, what its comment says, its members. A tag
of Doxygen's that is not known here is an error, so that nothing of a comment is lost.
"""

import dataclasses
import html
import pathlib
import re
import xml.etree.ElementTree

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import CppLexer

WIDTH = 96  # of a declaration on one line
# What needs no comment in a header.
STANDARD = {
    r"\w+::Scalar": "The type of its values.",
    r"\w+::(begin|end)": "For loops over it.",
    r"\w+Backend::(shrink|expand)(_backward)?": "As Backend says.",
    r"\w+Backend::runs_slices": "Whether it does its part of CallOptions::slice.",
    r"\w+Backend::masks_x": "Whether it applies CallOptions::dropout.",
    r"tl_\w+::size": "sizeof the struct, as its TL_…_INIT sets it.",
    r"TL_\w+_INIT": "The defaults.",
    r"verify::\w+::seed": "Of the random choices: the same seed makes the same ones.",
}
# Parts of what is public, which no user calls.
HIDDEN = r"tiedlora::(reference::(fill|block_features)|verify::ParityRunner)"


@dataclasses.dataclass
class Entry:
    """One public name: a struct, a function with its overloads, an alias, …"""

    kind: str
    name: str  # tiedlora::Layout::find
    file: str
    line: int
    declarations: list = dataclasses.field(default_factory=list)  # (code, HTML of the comment, id)
    members: list = dataclasses.field(default_factory=list)
    values: list = dataclasses.field(default_factory=list)  # of an enumeration: (name, comment)
    id: str = ""
    namespace: str = ""
    end: int = 0  # its last line

    @property
    def short(self):
        return re.sub(r"^(tiedlora|reference)::", "", self.name)

    @property
    def brief(self):
        text = re.sub(r"<[^>]+>", "", self.declarations[0][1]) if self.declarations else ""
        return re.split(r"(?<=[.:]) ", text)[0].rstrip(":").strip()


# ---- Comments


def markup(node, links):
    """What Doxygen made of a comment, as HTML."""

    def inner(n):
        return html.escape(n.text or "", quote=False) + "".join(
            markup_of(c) + html.escape(c.tail or "", quote=False) for c in n
        )

    def wrap(tag):
        return lambda n: f"<{tag}>{inner(n)}</{tag}>"

    def paragraph(n):
        text = inner(n).strip()
        return f"<div>{text}</div>" if re.search("<(pre|ul|ol|dl|div)", text) else f"<p>{text}</p>"

    def formula(n):
        tex = n.text.strip()
        display = tex.startswith("\\[")
        tex = html.escape(tex.removeprefix("\\[").removesuffix("\\]").strip("$").strip())
        return f'<div class="math">\\[{tex}\\]</div>' if display else f'<span class="math">\\({tex}\\)</span>'

    def code(n):
        return f"<code>{links(html.escape(''.join(plain(n)), quote=False))}</code>"

    def plain(n):
        yield " " if n.tag == "sp" else (n.text or "")
        for c in n:
            yield from plain(c)
            yield c.tail or ""

    def listing(n):
        return '<div class="highlight"><pre>%s</pre></div>' % colour("\n".join("".join(plain(line)) for line in n), links)

    def simplesect(n):
        label = {"return": "Returns", "note": "Note", "see": "See", "warning": "Mind"}[n.get("kind")]
        return f'<p class="aside"><b>{label}</b> ' + inner(n).replace("<p>", "").replace("</p>", "") + "</p>"

    def parameters(n):
        rows = ""
        for item in n.findall("parameteritem"):
            names = ", ".join("".join(plain(p)).strip() for p in item.findall("parameternamelist/parametername"))
            rows += f"<dt><code>{html.escape(names)}</code></dt><dd>{inner(item.find('parameterdescription'))}</dd>"
        return f'<dl class="fields">{rows}</dl>'

    kinds = {
        "para": paragraph,
        "computeroutput": code,
        "ref": lambda n: links(inner(n)),
        "bold": wrap("strong"),
        "emphasis": wrap("em"),
        "subscript": wrap("sub"),
        "superscript": wrap("sup"),
        "itemizedlist": wrap("ul"),
        "orderedlist": wrap("ol"),
        "listitem": wrap("li"),
        "formula": formula,
        "programlisting": listing,
        "verbatim": lambda n: f"<pre>{html.escape(n.text)}</pre>",
        "preformatted": wrap("pre"),
        "simplesect": simplesect,
        "parameterlist": parameters,
        "ulink": lambda n: f'<a href="{html.escape(n.get("url"))}">{inner(n)}</a>',
        "linebreak": lambda n: "<br>",
        "sp": lambda n: " ",
        "nonbreakablespace": lambda n: "&nbsp;",
        "lsquo": lambda n: "‘",
        "rsquo": lambda n: "’",
        "ldquo": lambda n: "“",
        "rdquo": lambda n: "”",
        "ndash": lambda n: "–",
        "mdash": lambda n: "—",
    }

    def markup_of(n):
        if n.tag not in kinds:
            raise SystemExit(f"docs/site/reference.py does not know Doxygen's <{n.tag}>: add it to markup()")
        return kinds[n.tag](n)

    return "" if node is None else "".join(markup_of(c) for c in node).strip()


def comment(definition, links):
    text = markup(definition.find("briefdescription"), links) + markup(definition.find("detaileddescription"), links)
    # A comment's first sentence and the rest are one paragraph, as they are in the header.
    return re.sub(r"\s*</p><p>", " ", text, count=1) if definition.findtext("briefdescription/para") is not None else text


def colour(code, links):
    """C++ as HTML, public types as links."""
    text = highlight(code, CppLexer(stripnl=False), HtmlFormatter(nowrap=True)).rstrip("\n")
    return links(text, types=True)


# ---- Declarations


def text_of(node):
    return " ".join("".join(node.itertext()).split()) if node is not None else ""


def tidy(code):
    code = re.sub(r"\s+([*&]+)(?=[\s,)>.]|$)", r"\1", code)  # Doxygen writes "T *", the library "T*"
    code = re.sub(r"\s+([*&]+)(?=\w)", r"\1 ", code)
    code = code.replace("< ", "<").replace(" >", ">").replace("( ", "(").replace(" )", ")")
    return re.sub(r"(?<=\w)=(?=[\w{])", " = ", re.sub(r"\s+", " ", code)).replace("= =", "==").strip()


def template(definition):
    parameters = definition.find("templateparamlist")
    if parameters is None:
        return ""
    parts = []
    for p in parameters.findall("param"):
        name, default = p.findtext("declname"), text_of(p.find("defval"))
        part = text_of(p.find("type"))
        part += f" {name}" if name and not part.endswith(" " + name) else ""
        parts.append(part + (f" = {default}" if default else ""))
    requires = text_of(definition.find("requiresclause"))
    return f"template <{', '.join(map(tidy, parts))}>\n" + (f"  requires{tidy(requires)}\n" if requires else "")


def wrapped(head, arguments, tail):
    """head(arguments)tail, an argument to a line where that is too long for one."""
    line = f"{head}({', '.join(arguments)}){tail}"
    if len(line) <= WIDTH or len(arguments) < 2:
        return line
    indent = " " * (len(head) + 1) if len(head) < 40 else "    "
    first = "" if len(head) < 40 else "\n" + indent
    return f"{head}({first}" + f",\n{indent}".join(arguments) + f"){tail}"


def split_arguments(text):
    parts, depth, begin = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "(<[{") - (c in ")]}" or (c == ">" and text[i - 1] != "-"))
        if c == "," and depth == 0:
            parts.append(text[begin:i].strip())
            begin = i + 1
    return [p for p in [*parts, text[begin:].strip()] if p]


def declaration(m):
    kind, name, type_ = m.get("kind"), m.findtext("name"), text_of(m.find("type"))
    initializer = text_of(m.find("initializer"))
    if kind == "define":
        arguments = [p.findtext("defname") or "" for p in m.findall("param")]
        return f"#define {name}" + (f"({', '.join(arguments)})" if arguments else "") + (f" {initializer}" if initializer else "")
    if kind == "enum":
        return "enum " + ("class " if m.get("strong") == "yes" else "") + name.lstrip("@0123456789")
    if kind == "typedef":
        definition = text_of(m.find("definition"))
        if definition.startswith("typedef"):
            return tidy(f"typedef {type_} {name}{m.findtext('argsstring') or ''};")
        return template(m) + tidy(f"using {name} = {type_};")
    if kind == "variable":
        initializer = initializer if len(initializer) < 60 else "= …"
        static = "static " if m.get("static") == "yes" and "static" not in type_ else ""
        return template(m) + tidy(f"{static}{type_} {name}{m.findtext('argsstring') or ''} {initializer}") + ";"
    arguments = m.findtext("argsstring") or ""
    close = arguments.rfind(")")
    inside, tail = arguments[1:close], arguments[close + 1 :]
    words = [w for w, on in (("static", m.get("static")), ("explicit", m.get("explicit"))) if on == "yes" and w not in type_.split()]
    type_ = re.sub(r"^inline |\binline ", "", type_) if type_ != "inline" else ""
    head = tidy(" ".join([*words, type_, name]))
    tail = re.sub(r"=\s*(default|delete|0)", r" = \1", tail)
    return template(m) + wrapped(head, [tidy(a) for a in split_arguments(inside)], re.sub(r"\s+", " ", tail).rstrip()) + ";"


# ---- Reading


class Reference:
    def __init__(self, xml_folder, root):
        self.root = root
        self.entries = {}  # file → entries
        self.pages = {}  # name → (page, anchor)
        self.faults = []  # names without a comment
        self.compounds = {}
        for file in sorted(pathlib.Path(xml_folder).glob("*.xml")):
            for c in xml.etree.ElementTree.parse(file).getroot().iter("compounddef"):
                self.compounds[c.get("id")] = c
        self.collect_names()
        self.read()

    def public(self, node):
        return node.get("prot", "public") == "public"

    def place(self, node):
        location = node.find("location")
        return (location.get("file"), int(location.get("line"))) if location is not None else ("", 0)

    def collect_names(self):
        """Where each type and function will be, before any comment refers to it."""
        for c in self.compounds.values():
            if c.get("kind") in ("struct", "class", "concept", "union"):
                self.add_name(c.findtext("compoundname"), self.place(c)[0])
            if c.get("kind") in ("struct", "class", "namespace", "file"):
                for m in c.iter("memberdef"):
                    if not self.public(m) or self.is_implied(m) or (c.get("kind") == "file" and not self.place(m)[0].endswith(".h")):
                        continue
                    prefix = c.findtext("compoundname") + "::" if c.get("kind") != "file" else ""
                    self.add_name(prefix + m.findtext("name"), self.place(m)[0])

    def add_name(self, name, file):
        if file and "<" not in name:
            self.pages.setdefault(name, (page_of(file), anchor_of(name)))

    def linker(self, page, namespace="tiedlora", without=""):
        """Turns the names of public things in code into links."""
        up = "../" * page.count("/")

        def link(match, types):
            name = match.group(0)
            if len(name) < 3 or name == without or (types and re.fullmatch(r"[a-z]\w*(?<!_t)", name)):  # a parameter's name, maybe
                return name
            inside = f"{namespace}::{name}" if not namespace.endswith(name) else ""  # a class rather than its constructor
            for full in (inside, f"tiedlora::{name}", name):
                if full in self.pages and (full.count("::") < 2 or full[10:11].isupper() or "::" in name or namespace in full):
                    target, anchor = self.pages[full]
                    return f'<a href="{up}{target}.html#{anchor}">{name}</a>'
            return name

        def links(text, types=False):
            # Not inside of tags and entities; of qualified names the whole.
            return re.sub(
                r"(<[^>]*>|&\w+;)|(?<![\w/.-])[A-Za-z_]\w*(?:::\w+)*", lambda m: m.group(0) if m.group(1) else link(m, types), text
            )

        return links

    def read(self):
        for c in self.compounds.values():
            kind, name = c.get("kind"), c.findtext("compoundname")
            if kind in ("struct", "class", "union", "concept") and self.public(c) and not self.nested(name) and not re.match(HIDDEN, name):
                self.add(self.compound(c))
            elif kind == "namespace" or (kind == "file" and name.endswith(".h")):
                prefix = name + "::" if kind == "namespace" else ""
                for m in sorted(c.iter("memberdef"), key=self.place):
                    if m.get("kind") == "typedef" and f"struct {m.findtext('name')}" == text_of(m.find("type")) and self.is_struct(m):
                        continue
                    if m.get("kind") == "define" and not re.match(r"TL_(VERSION|.*_INIT)", m.findtext("name")):
                        continue
                    self.add_member(self.entries.setdefault(self.place(m)[0], []), m, prefix, name if prefix else "")

    def is_struct(self, typedef):
        return any(c.findtext("compoundname") == typedef.findtext("name") for c in self.compounds.values())

    def nested(self, name):
        outer = re.sub(r"<.*", "", name).rpartition("::")[0]
        return any(c.findtext("compoundname") == outer and c.get("kind") in ("struct", "class") for c in self.compounds.values())

    def compound(self, c):
        file, line = self.place(c)
        name = re.sub(r"\s*([<>])\s*", r"\1", c.findtext("compoundname"))
        links = self.linker(page_of(file), name, without=name.rpartition("::")[2])
        kind = c.get("kind")
        entry = Entry(kind, name, file, line, id=anchor_of(name))
        if kind == "concept":
            lines = (self.root / file).read_text().splitlines()
            first = max(i for i in range(line) if lines[i].startswith("template"))  # Doxygen's text of it lacks the defaults
            last = first
            while not (lines[last].endswith(";") and is_balanced("\n".join(lines[first : last + 1]))):
                last += 1
            code = "\n".join(lines[first : last + 1])
        else:
            bases = ", ".join(tidy(text_of(b)) for b in c.findall("basecompoundref"))
            tag = "struct" if file.endswith(".h") or kind == "struct" else "class"
            code = template(c) + f"{tag} {name.rpartition('::')[2]}" + (f" : {bases}" if bases else "") + ";"
        entry.declarations.append((code, self.checked(c, name, links), entry.id))
        if kind != "concept":
            for m in sorted(c.iter("memberdef"), key=self.place):
                if self.public(m) and m.get("kind") != "friend":
                    self.add_member(entry.members, m, re.sub(r"<.*>$", "", name) + "::", name)
            for inner in c.findall("innerclass"):
                if self.public(inner) and inner.get("refid") in self.compounds:
                    entry.members.append(self.compound(self.compounds[inner.get("refid")]))
            entry.members.sort(key=lambda e: e.line)
        return entry

    def add(self, entry):
        self.entries.setdefault(entry.file, []).append(entry)

    def is_implied(self, m):
        """Copies, moves, comparisons that the compiler writes, deduction guides."""
        arguments, name = text_of(m.find("argsstring")), m.findtext("name")
        of_itself = re.fullmatch(rf"\((const )?{re.escape(name)} ?&+ ?\w*\).*", arguments)
        return m.get("kind") == "function" and bool(
            of_itself or name == "operator=" or name.startswith("~") or re.search(r"= ?(default|delete)|->", arguments)
        )

    def shares_comment(self, m, entries):
        """A function that follows another without a blank line shares its comment, and so do macros of constants. Variables of one
        declaration share theirs."""
        file, line = self.place(m)
        above = [e for e in entries if e.kind == m.get("kind") and e.file == file and e.end <= line and e.declarations]
        if not above or m.get("kind") not in ("function", "define", "variable") or m.findtext("name").endswith("_INIT"):
            return False
        last = max(above, key=lambda e: e.end)
        if m.get("kind") == "variable":
            if last.end == line:
                last.declarations[-1], shared = (last.declarations[-1][0], "", last.id), last.declarations[-1][1]
                return shared
            return False
        return all(text.strip() for text in (self.root / file).read_text().splitlines()[last.end : line])

    def add_member(self, entries, m, prefix, scope):
        file, line = self.place(m)
        name = prefix + m.findtext("name")
        if not file or self.is_implied(m) or re.fullmatch(HIDDEN, name):
            return
        links = self.linker(page_of(file), scope or "tiedlora", without=m.findtext("name"))
        same = next((e for e in entries if e.name == name and e.kind == m.get("kind") and e.kind == "function"), None)
        entry = same or Entry(m.get("kind"), name, file, line, id=anchor_of(name), namespace=scope)
        anonymous = m.get("kind") == "enum" and not m.findtext("name").strip("@0123456789")
        if anonymous:
            entry.name = prefix + ", ".join(v.findtext("name") for v in m.findall("enumvalue")[:1]) + ", …"
            entry.id = anchor_of(m.findtext("enumvalue/name"))
        text = comment(m, links)
        if not text and not anonymous:
            shared = self.shares_comment(m, entries)
            text = shared if isinstance(shared, str) else "" if shared else self.checked(m, name, links)
        location = m.find("location")
        body = int(location.get("bodystart") or 0), int(location.get("bodyend") or 0)
        entry.end = max(entry.end, line, body[1] if line <= body[0] < line + 20 else 0)
        if m.get("kind") == "variable" and text:  # of one declaration with those before it
            self.faults = [f for f in self.faults if not (f.startswith(f"{file}:{line}: ") and f"{prefix}" in f)]
        entry.declarations.append((declaration(m), text, entry.id))
        for v in m.findall("enumvalue"):
            initializer = text_of(v.find("initializer"))
            entry.values.append((f"{v.findtext('name')} {initializer}".strip(), comment(v, links)))
        if not same:
            entries.append(entry)

    def checked(self, node, name, links):
        file, line = self.place(node)
        text = comment(node, links)
        if not text:
            text = next((t for n, t in STANDARD.items() if re.fullmatch(n, name.removeprefix("tiedlora::"))), "")
        if not text:
            self.faults.append(f"{file}:{line}: {name} has no comment")
        return text


def is_balanced(code):
    return all(code.count(a) == code.count(b) for a, b in ("()", "{}"))


def anchor_of(name):
    name = re.sub(r"^tiedlora::", "api-", name)  # apart from the ids that headings get
    return re.sub(r"[^\w]+", "-", name).strip("-")


def page_of(file):
    """include/tiedlora/adapter/layout.hpp → reference/adapter/layout"""
    path = pathlib.PurePosixPath(file)
    if path.suffix == ".h":
        return "reference/c"
    parts = path.relative_to("include/tiedlora").with_suffix("").parts
    return "reference/" + ("/".join(parts) if len(parts) > 1 else "views/" + parts[0])


# ---- Writing


def raw(text):
    return "```````{raw} html\n" + text + "\n```````\n"


def fields(entries, links_of):
    """Members that are a line each: their declarations and what they are. Functions that share a comment stand above it."""
    groups = []  # (terms, meaning)
    for e in entries:
        for i, (code, text, _) in enumerate(e.declarations):
            anchor = f' id="{e.id}"' if i == 0 else ""
            term = f'<dt{anchor}><pre class="highlight">{colour(code, links_of(e))}</pre></dt>'
            meaning = text + (values(e, links_of) if e.values and i == 0 else "") + (fields(e.members, links_of) if e.members else "")
            above = groups[-1] if groups else None
            if above and ((not meaning and e.kind == "function") or (not above[1] and e.kind == "variable")):
                groups[-1] = (above[0] + [term], above[1] or meaning)
            else:
                groups.append(([term], meaning))
    rows = ["".join(terms) + (f"<dd>{meaning}</dd>" if meaning else "") for terms, meaning in groups]
    return '<dl class="fields">\n' + "\n".join(rows) + "\n</dl>" if rows else ""


def values(entry, links_of):
    return '<dl class="values">' + "".join(
        f'<dt id="{entry.id}-{name.split()[0]}"><code>{html.escape(name)}</code></dt><dd>{text}</dd>' for name, text in entry.values
    ) + "</dl>"


def write_entry(entry, reference, page):
    def links_of(e):
        return reference.linker(page, entry.name if entry.members else (entry.namespace or "tiedlora"), without=e.name.rpartition("::")[2])

    links = links_of(entry)
    parts = []
    for i, (code, text, _) in enumerate(entry.declarations):
        parts.append(f'<div class="highlight declaration"><pre>{colour(code, links)}</pre></div>')
        if not text and i:  # shares the comment above: stands above it, too
            parts[-1], parts[-2] = parts[-2], parts[-1]
        if text or not i:
            parts.append(f'<div class="comment">{text}</div>')
    if entry.values:
        parts.append(values(entry, links_of))
    if entry.members:
        parts.append(fields(entry.members, links_of))
    title = entry.short.replace("<", "\\<").replace("*", "\\*")
    return raw(f'<span class="anchor" id="{entry.id}"></span>') + f"\n## {title}\n\n" + raw("\n".join(parts))


def about(header):
    """What a header says of itself before its first line of code, as HTML; further in is set apart."""
    paragraphs = [""]
    for line in header.read_text().splitlines():
        if not line.startswith("//"):
            break
        text = html.escape(line[2:].rstrip(), quote=False)
        if text.startswith("   "):
            paragraphs += [] if paragraphs[-1].startswith("<pre>") else ["<pre>"]
            paragraphs[-1] += text[3:] + "\n"
        elif not text:
            paragraphs.append("")
        else:
            paragraphs += [""] if paragraphs[-1].startswith("<pre>") else []
            paragraphs[-1] += text
    return "".join(p + "</pre>" if p.startswith("<pre>") else f"<p>{p.strip()}</p>" for p in paragraphs if p.strip())


def write(xml_folder, root, pages, capabilities):
    """Writes reference/*.md into `pages`; returns the objects to be searched and what lacks a comment. A capability is a name,
    a title and the Markdown of its page."""
    reference = Reference(xml_folder, root)
    objects = []
    for capability, title, introduction in capabilities:
        overview, children = [], []
        for file, entries in sorted(reference.entries.items()):
            page = page_of(file) if file else ""
            if not file or not (page.startswith(f"reference/{capability}/") or page == f"reference/{capability}"):
                continue
            entries.sort(key=lambda e: e.line)
            path = pages / f"{page}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            header = file.removeprefix("include/tiedlora/")
            for above, e in zip(entries, entries[1:]):
                if e.kind in ("function", "define") and not any(text for _, text, _ in e.declarations):
                    e.declarations[0] = (e.declarations[0][0], above.declarations[0][1], e.id)
            body = "".join(write_entry(e, reference, page) + "\n" for e in entries)
            for e in entries:
                objects.append((e.name, e.kind, page, e.id))
                objects += [(m.name, m.kind, page, m.id) for m in e.members]
            if page == "reference/c":
                introduction += "\n" + body
                continue
            up = "../" * page.count("/")
            source = f'<a href="{up}source/{file}.html">{file}</a>'
            path.write_text(f"# {header}\n\n{raw(about(root / file))}\n{source}\n\n{body}")
            children.append(page.removeprefix("reference/"))
            overview.append(f'<h3><a href="{children[-1]}.html">{header}</a></h3>\n{about(root / file)}\n<dl class="overview">')
            for e in entries:
                overview.append(f'<dt><a href="{children[-1]}.html#{e.id}"><code>{html.escape(e.short)}</code></a></dt><dd>{e.brief}</dd>')
            overview.append("</dl>")
        text = f"# {title}\n\n{introduction}\n"
        if children:
            text += "## Headers\n\n" + raw("\n".join(overview)) + "\n```{toctree}\n:hidden:\n\n" + "\n".join(children) + "\n```\n"
        (pages / "reference" / f"{capability}.md").write_text(text)
    return objects, reference.faults
