"""The documentation as one folder of pages that need no server and no network: the README, docs/, the examples' READMEs and the
API reference. script/docs calls it after Doxygen.

Pages are those of the repository: their relative links, which GitHub follows too, lead to pages where the target is one, and
else to a listing of the file or the folder. At the end every link and every anchor of the folder is tried.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

import check
import reference

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "docs/site"
WORK = ROOT / "build/docs"  # what conf.py and the Doxyfile know it as
OUT = ROOT / "build/site"

# What is in the sidebar, by reader. Pages that are not there are left out; pages of docs/ that no list has come last. Pages of a
# folder beside a page of its name (docs/benchmarks/*.md) are below that.
NAVIGATION = {
    "Start": [
        ("All pages", "docs/README.md"),
        ("Install", "docs/install.md"),
        ("Glossary", "docs/glossary.md"),
    ],
    "I have an engine": [
        ("Inside your engine", "docs/integration.md"),
        ("Many adapters in one batch", "docs/batches.md"),
        ("Schemes, and what adapters turn into", "docs/adapters.md"),
        ("Files", "docs/files.md"),
        ("From C and other languages", "docs/c.md"),
        ("Builds", "docs/builds.md"),
        ("An example engine", "examples/engine/README.md"),
    ],
    "I train on a CPU": [
        ("Fine-tune a language model", "docs/finetune.md"),
        ("Several machines", "docs/scale.md"),
        ("Where a step's time goes", "docs/profile.md"),
    ],
    "I have GPU kernels": [
        ("Your kernels, on a GPU", "docs/gpu.md"),
        ("The CUDA example", "examples/gpu/cuda/README.md"),
    ],
    "I compare methods": [
        ("Which scheme should I take?", "docs/choosing.md"),
        ("The mathematics", "docs/mathematics.md"),
        ("What tying costs in quality", "docs/quality.md"),
        ("Compared with other projects", "docs/comparison.md"),
        ("Which scheme suits which task", "docs/results.md"),
        ("The study", "examples/study/README.md"),
        ("Benchmarks", "docs/benchmarks.md"),
        ("Known gaps", "docs/limits.md"),
    ],
    "I want to contribute": [
        ("Contributing", "CONTRIBUTING.md"),
        ("Architecture", "docs/architecture.md"),
        ("The CPU's kernels", "include/tiedlora/backends/cpu/README.md"),
        ("Benchmarking", "bench/README.md"),
        ("Reference values", "tests/golden/README.md"),
        ("What including costs", "docs/include_cost.md"),
        ("Changelog", "CHANGELOG.md"),
    ],
}
REFERENCE = ("views", "adapter", "ops", "backends", "serving", "verify", "io", "c")

# A link or an image of Markdown, outside of code. Its text may hold code and one pair of brackets.
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
CODE = re.compile(r"(^```.*?^```[^\n]*$|^~~~.*?^~~~[^\n]*$|``[^\n]*?``|`[^`\n]*`)", re.S | re.M)


def tracked():
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def toctree(lines, caption=""):
    return "\n\n```{toctree}\n:hidden:\n" + (f":caption: {caption}\n" if caption else "") + "\n" + "\n".join(lines) + "\n```\n"


class Site:
    def __init__(self):
        self.pages, self.out = WORK / "pages", OUT
        self.files = set(tracked())
        listed = [path for entries in NAVIGATION.values() for _, path in entries]
        docs = sorted(f for f in self.files if f.startswith("docs/") and f.endswith(".md") and not f.startswith("docs/site/"))
        self.below = {f: [g for g in docs if os.path.dirname(g) == f[:-3]] for f in docs}
        children = [g for pages in self.below.values() for g in pages]
        self.unlisted = [f for f in docs if f not in listed and f not in children]
        self.sources = ["README.md", *(f for f in listed if f in self.files), *self.unlisted, *children]
        self.listings = set()  # files and folders that a page leads to and that are not pages
        self.faults = []

    def staged(self, path):
        """Where a page of the repository stands among the pages of the site."""
        return "index.md" if path == "README.md" else path

    def stage(self):
        shutil.rmtree(self.pages, ignore_errors=True)
        for path in self.sources:
            text = self.rewritten((ROOT / path).read_text(), path, self.staged(path))
            below = [f"{os.path.relpath(g, os.path.dirname(path))[:-3]}" for g in self.below.get(path, [])]
            text += toctree(below) if below else ""
            self.write(self.staged(path), text + (self.contents() if path == "README.md" else ""))
        static = self.pages / "_static"
        shutil.copytree("/usr/share/javascript/katex", static / "katex", ignore=shutil.ignore_patterns("contrib", "katex.js", "*.mjs"))
        shutil.copy("/usr/share/doc/libjs-katex/copyright", static / "katex/copyright.txt")
        for name in ("style.css", "math.js"):
            shutil.copy(HERE / name, static)

    def write(self, path, text):
        (self.pages / path).parent.mkdir(parents=True, exist_ok=True)
        (self.pages / path).write_text(text)

    def contents(self):
        text = "\n"
        sections = {**NAVIGATION, "More": [("", f) for f in self.unlisted]}
        for caption, entries in sections.items():
            lines = [f"{title} <{path[:-3]}>" if title else path[:-3] for title, path in entries if path in self.files]
            text += toctree(lines, caption) if lines else ""
        return text + toctree([f"reference/{r}" for r in REFERENCE], "Reference")

    def rewritten(self, text, source, target):
        """The Markdown of the page `source` for its place `target` in the site."""
        pieces = CODE.split(text)
        # A link's text may be code: code stands in for itself until links are found.
        kept = pieces[1::2]
        text = "".join(p if i % 2 == 0 else f"\0{i // 2}\0" for i, p in enumerate(pieces))
        text = LINK.sub(lambda m: self.link(m, source, target), text)
        return re.sub(r"\0(\d+)\0", lambda m: kept[int(m.group(1))], text)

    def link(self, match, source, target):
        image, label, address = match.groups()
        if re.match(r"\w+:", address):
            return match.group(0)
        path, _, anchor = address.partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(source), path)) if path else source
        here = os.path.dirname(target)
        if not (ROOT / path).exists():
            self.faults.append(f"{source}: no file for the link {address}")
            return label
        if image:
            (self.pages / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, self.pages / path)
            return f"![{label}]({os.path.relpath(path, here)})"
        if f"{path}/README.md" in self.sources:
            path = f"{path}/README.md"
        if path in self.sources:
            page = os.path.relpath(self.staged(path), here)
            if anchor and re.search(rf'<\w+ (?:id|name)="{re.escape(anchor)}"', (ROOT / path).read_text()):  # no heading
                return f'<a href="{page[:-3]}.html#{anchor}">{label}</a>'
            return f"[{label}]({page if path != source else ''}{'#' if anchor else ''}{anchor})" if path != source or anchor else label
        folder = re.fullmatch(r"include/tiedlora/(\w+)", path)
        if folder and folder.group(1) in REFERENCE:
            return f"[{label}]({os.path.relpath(f'reference/{folder.group(1)}.md', here)})"
        self.listings.add(path)
        return f'<a href="{os.path.relpath(self.listing(path), here)}{"#" if anchor else ""}{anchor}">{label}</a>'

    def listing(self, path):
        if path.endswith((".png", ".svg")):
            return f"source/{path}"
        return f"source/{path}/index.html" if (ROOT / path).is_dir() else f"source/{path}.html"

    def capabilities(self):
        """The reference's introductions: `# folder: title` and what follows it. {{page text}} is the first block of code of that page
        that has this text: the tests compile the pages' code."""
        parts = re.split(r"^# (\w+): (.*)$", (HERE / "capabilities.md").read_text(), flags=re.M)[1:]
        for name, title, text in zip(parts[::3], parts[1::3], parts[2::3]):
            text = re.sub(r"\{\{(\S+) (.*?)\}\}", lambda m: self.block(*m.groups()), text)
            yield name, title, self.rewritten(text, "docs/site/capabilities.md", f"reference/{name}.md")

    def block(self, page, wanted):
        blocks = re.findall(r"^```(?:cpp|c|python)\n.*?^```$", (ROOT / page).read_text(), re.S | re.M)
        found = next((b for b in blocks if wanted in b), None)
        if not found:
            self.faults.append(f"docs/site/capabilities.md: {page} has no block of code with {wanted}")
        return found or ""

    def write_listings(self):
        formatter = HtmlFormatter(style="tango", linenos="inline", lineanchors="L", anchorlinenos=True, cssclass="listing")
        style = formatter.get_style_defs(".listing")
        dark = HtmlFormatter(style="monokai").get_style_defs(".listing")
        css = (HERE / "listing.css").read_text() + style + "\n@media (prefers-color-scheme: dark) {\n" + dark + "\n}\n"
        (self.out / "source").mkdir(exist_ok=True)
        (self.out / "source/listing.css").write_text(css)
        folders = {p for p in self.listings if (ROOT / p).is_dir()}
        for folder in folders:
            self.listings |= {f for f in self.files if f.startswith(folder + "/")}
        for path in sorted(self.listings):
            target = self.out / self.listing(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.endswith((".png", ".svg")):
                shutil.copy(ROOT / path, target)
                continue
            up = "../" * self.listing(path).count("/")
            if path in folders:
                inside = sorted(f for f in self.files if f.startswith(path + "/"))
                links = "".join(f'<li><a href="{up}{self.listing(f)}">{f.removeprefix(path + "/")}</a></li>' for f in inside)
                body = f"<ul>{links}</ul>"
            else:
                try:
                    text = (ROOT / path).read_text()
                    lexer = get_lexer_for_filename(path, text)
                except ClassNotFound:
                    lexer = TextLexer()
                except UnicodeDecodeError:
                    text, lexer = "(not text)", TextLexer()
                body = highlight(text, lexer, formatter)
            target.write_text(
                f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{path}</title>'
                f'<meta name="viewport" content="width=device-width, initial-scale=1">'
                f'<link rel="stylesheet" href="{up}source/listing.css"></head>\n'
                f'<body><header><a href="{up}index.html">tiedlora</a> / {path}</header>\n{body}</body></html>\n'
            )


def main():
    site = Site()
    site.stage()
    objects, faults = reference.write(WORK / "doxygen/xml", ROOT, site.pages, list(site.capabilities()))
    site.listings |= {f for f in site.files if re.match(r"include/tiedlora/.*\.hpp$", f)} | {"c/tiedlora.h"}
    site.write("objects.json", json.dumps(objects))
    faults += site.faults
    if faults:
        print("\n".join(faults), file=sys.stderr)

    shutil.rmtree(OUT, ignore_errors=True)
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-c", HERE, "-d", WORK / "doctrees"]
    built = subprocess.run([*sphinx, site.pages, OUT], cwd=ROOT)
    if built.returncode == 0 or (OUT / "index.html").exists():
        site.write_listings()
        broken = check.check(OUT)
        print("\n".join(broken), file=sys.stderr)
        faults += broken
    for leftover in (".buildinfo", "objects.inv"):
        (OUT / leftover).unlink(missing_ok=True)
    shutil.rmtree(OUT / "_sources", ignore_errors=True)
    return 1 if faults or built.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
