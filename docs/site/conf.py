# Sphinx's settings. build.py writes the pages that it reads, and objects.json: the names of the API for the search.
import json
import pathlib
import re

from docutils import nodes
from sphinx.domains import Domain, ObjType

root = pathlib.Path(__file__).resolve().parents[2]

project = "tiedlora"
author = project
project_copyright = ""
version = release = ".".join(re.findall(r"#define TIEDLORA_VERSION_\w+ (\d+)", (root / "include/tiedlora/views/config.hpp").read_text()))

root_doc = "index"
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
highlight_language = "text"

html_theme = "furo"
html_title = f"tiedlora {version}"
html_static_path = [str(root / "build/docs/pages/_static")]
html_css_files = ["katex/katex.min.css", "style.css"]
html_js_files = ["katex/katex.min.js", "math.js"]
html_math_renderer = "katex"
html_copy_source = html_show_sourcelink = html_show_sphinx = html_show_copyright = False
html_use_index = False
html_show_search_summary = False  # it is fetched, which pages from a disk may not do
html_theme_options = {"navigation_with_keys": True}
pygments_style = "tango"
pygments_dark_style = "monokai"


class Names(Domain):
    """The public names, so that the search finds them as such."""

    name = "api"
    label = "API"
    object_types = {kind: ObjType(kind) for kind in ("struct", "class", "union", "concept", "function", "typedef", "enum", "variable", "define")}

    def get_objects(self):
        names = json.loads((pathlib.Path(self.env.srcdir) / "objects.json").read_text())
        for name, kind, page, anchor in names:
            yield name, name, kind, page, anchor, 1

    def merge_domaindata(self, docnames, otherdata):
        pass

    def resolve_any_xref(self, env, fromdocname, builder, target, node, contnode):
        return []


def setup(app):
    def inline(translator, node):
        translator.body.append(translator.starttag(node, "span", "", CLASS="math") + r"\(" + translator.encode(node.astext()) + r"\)</span>")
        raise nodes.SkipNode

    def block(translator, node):
        translator.body.append(translator.starttag(node, "div", "", CLASS="math") + r"\[" + translator.encode(node.astext()) + r"\]</div>")
        raise nodes.SkipNode

    app.add_html_math_renderer("katex", (inline, None), (block, None))
    app.add_domain(Names)
