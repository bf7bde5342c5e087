"""Whether a folder of pages holds together: every link leads to a file and every anchor to an element, and nothing is loaded
from the network.

    python3 docs/site/check.py build/site
"""

import html.parser
import pathlib
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        self.ids |= {a[k] for k in ("id", "name") if a.get(k)}
        if tag == "a" and a.get("href"):
            self.links.append(a["href"])
        loaded = a.get("src") or (a.get("href") if tag == "link" and a.get("rel") != "canonical" else None)
        if loaded:
            self.loads.append(loaded)


def check(folder):
    """The faults, a line each."""
    pages = {f: Page(f.read_text()) for f in sorted(folder.rglob("*.html"))}
    faults = []
    for file, page in pages.items():
        for link in dict.fromkeys(page.links + page.loads):
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    faults.append(f"{file.relative_to(folder)}: loads {link}, which needs the network")
                continue
            target = (file.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else file
            if not target.is_file():
                faults.append(f"{file.relative_to(folder)}: no file for the link {link}")
            elif parts.fragment and target in pages and urllib.parse.unquote(parts.fragment) not in pages[target].ids:
                faults.append(f"{file.relative_to(folder)}: no element for the link {link}")
    return faults


if __name__ == "__main__":
    found = check(pathlib.Path(sys.argv[1]).resolve())
    print("\n".join(found) or "every link holds")
    sys.exit(1 if found else 0)
