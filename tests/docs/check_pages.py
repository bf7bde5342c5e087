"""Whether the pages are true of the tree: every relative link leads to a file and a heading, every path and header
that a page names exists, headers include what docs/architecture.md says that their folder may, and the glossary is in order.

    python3 tests/docs/check_pages.py
"""

import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parents[2]
built = {"build", "out", ".git", ".venv"}
files = [f for f in root.rglob("*") if f.is_file() and not built & set(f.relative_to(root).parts)]
names = {f.name for f in files}
suffixes = "hpp|cpp|cu|py|sh|md|csv|svg|png|cmake|golden"
faults = []


def without_blocks(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def anchors(page):
    """As GitHub makes them of headings, and those that the page sets itself."""
    text = without_blocks(page.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings} | set(re.findall(r'<a id="([\w-]+)">', text))


def check_page(page):
    text = page.read_text()

    def fault(what):
        faults.append(f"{page.relative_to(root)}: {what}")

    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(text)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists():
            fault(f"no file for the link {link}")
        elif anchor and anchor not in anchors(target):
            fault(f"no heading for the link {link}")
    if page.name == "CHANGELOG.md":  # which names what is gone
        return
    for path in re.findall(r"<(tiedlora/[\w/]+\.hpp)>", text):
        if not any((root / folder / path).exists() for folder in ("include", "dispatch")):
            fault(f"no header <{path}>")
    # Commands and paths from the root, in code blocks too, except placeholders in capitals.
    for path in re.findall(rf"(?<![\w./-])((?:bench|cmake|docs|examples|include|tests)/[\w./-]+\.(?:{suffixes})|script/[a-z_]+)\b", text):
        if not (root / path).exists() and not re.search(r"[A-Z]{4}", path):
            fault(f"no {path}")
    # A file in code font: from the root, from the page, from the library, or a name alone.
    for path in re.findall(rf"`([\w./-]+\.(?:{suffixes}))`", without_blocks(text)):
        places = [root, page.parent, root / "include", root / "include/tiedlora"]
        exists = any((place / path).exists() for place in places) if "/" in path else path in names
        if not exists and not re.search(r"[A-Z]{4}_", path):
            fault(f"no {path}")


def check_includes():
    may = {"views": "", "backends": "views", "ops": "views backends", "adapter": "views eigen",
           "serving": "views backends ops adapter", "verify": "views backends ops adapter", "io": "views adapter"}
    for folder, others in may.items():
        allowed = {folder, *others.split()}
        for header in (root / "include/tiedlora" / folder).rglob("*.hpp"):
            text = header.read_text()
            for include in re.findall(r'^#include "(.*)"', text, re.M):
                used = (header.parent / include).resolve().relative_to(root / "include/tiedlora").with_suffix("").parts[0]
                if used not in allowed:
                    faults.append(f"{header.relative_to(root)}: includes {used}; {folder} may not")
            if folder in ("views", "backends", "ops") and "#include <Eigen" in text:
                faults.append(f"{header.relative_to(root)}: includes Eigen; {folder} may not")


def check_glossary():
    terms = re.findall(r'^<a id="([\w-]+)"></a>\*\*(.+?)\*\*: ', (root / "docs/glossary.md").read_text(), re.M)
    names = [name.lower() for _, name in terms]
    if not names or names != sorted(names):
        faults.append("docs/glossary.md: the terms are not in alphabetical order")
    for anchor, name in terms:
        if anchor != re.sub(r"\W+", "-", name.lower().replace("×", "")):
            faults.append(f"docs/glossary.md: {name} has the anchor {anchor}")


pages = [f for f in files if f.suffix == ".md"]
for page in sorted(pages):
    check_page(page)
check_includes()
check_glossary()
print("\n".join(faults) or f"{len(pages)} pages hold")
sys.exit(1 if faults else 0)
