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


def natural_width(path):
    """Of a picture in pixels; 0 where it does not say."""
    data = path.read_bytes()
    if path.suffix == ".png":
        return int.from_bytes(data[16:20], "big")
    found = re.search(rb'<svg[^>]*?\swidth="(\d+)', data)
    return int(found[1]) if found else 0


def mark_wide(app, doctree, _):
    """Pictures that a phone should scroll rather than shrink."""
    for image in doctree.findall(nodes.image):
        path = pathlib.Path(app.srcdir, image["uri"])
        if path.exists() and natural_width(path) > 700:
            image["classes"].append("wide")


def join_units(app, doctree, _):
    """No line ends between a number and its % or unit."""
    for text in list(doctree.findall(nodes.Text)):
        joined = re.sub(r"(?<=\d) (?=%|(?:ms|µs|[kMG]i?B)\b)", "\u00a0", text)
        if joined != text and not isinstance(text.parent, (nodes.literal, nodes.literal_block, nodes.raw)):
            text.parent.replace(text, nodes.Text(joined))


def setup(app):
    def inline(translator, node):
        translator.body.append(translator.starttag(node, "span", "", CLASS="math") + r"\(" + translator.encode(node.astext()) + r"\)</span>")
        raise nodes.SkipNode

    def block(translator, node):
        translator.body.append(translator.starttag(node, "div", "", CLASS="math") + r"\[" + translator.encode(node.astext()) + r"\]</div>")
        raise nodes.SkipNode

    app.add_html_math_renderer("katex", (inline, None), (block, None))
    app.add_domain(Names)
    app.connect("doctree-resolved", mark_wide)
    app.connect("doctree-resolved", join_units)
