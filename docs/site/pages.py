"""Extension of Sphinx for what a code host does by itself: lists, notebooks, diagrams.

The navigation is made of the tables of docs/README.md. A page that is missing there is a warning,
and a warning ends the build.
"""

import base64
import json
import posixpath
import re
from html import escape

import mermaidx
from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

LIST = "docs/README"
TABLE = re.compile(r"^\| (.+?) \| \|\n\|---\|---\|\n((?:\|.*\n)+)", re.MULTILINE)
LINK = re.compile(r"\]\(([\w./-]+)\.(?:md|ipynb)\)")
WIDTH = re.compile(r'viewBox="0 0 ([\d.]+) ')
QUOTED = re.compile(r'"([^"]+)"')


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("source-read", read_page)
    app.add_directive("mermaid", Diagram)
    for language in ("csv", "promql"):  # Pygments knows neither
        app.add_lexer(language, TextLexer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def read_page(app: Sphinx, page: str, content: list[str]) -> None:
    """Replace a notebook by its cells, and add the navigation to the first page."""
    if page == app.config.root_doc:
        listed = app.srcdir / f"{LIST}.md"
        app.env.note_dependency(str(listed))
        content[0] += navigation(listed.read_text(encoding="utf-8"))
    elif app.env.doc2path(page).suffix == ".ipynb":
        content[0] = cells(content[0])


def navigation(text: str) -> str:
    """Return a hidden table of contents for each table of the list of documents."""
    trees = [("Documents", [LIST])]
    for title, rows in TABLE.findall(text):
        paths = (posixpath.join("docs", path) for path in LINK.findall(rows))
        trees.append((title.capitalize(), [posixpath.normpath(path) for path in paths]))
    return "".join(
        "\n".join(["\n```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```\n"])
        for title, pages in trees
    )


def cells(notebook: str) -> str:
    """Return the cells of a notebook as Markdown."""
    parts = []
    for cell in json.loads(notebook)["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(parts)


class Diagram(SphinxDirective):
    """Fence of Mermaid as a picture, so that a page runs no program to show it."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        source = "\n".join(self.content)
        picture = mermaidx.render(source).svg()
        width = WIDTH.search(picture)
        assert width, f"The diagram of {self.env.docname} has no size."
        encoded = base64.b64encode(picture.encode()).decode()
        words = escape("; ".join(QUOTED.findall(source)), quote=True)
        image = (
            f'<div class="diagram"><img width="{float(width[1]):.0f}" alt="Diagram: {words}" '
            f'src="data:image/svg+xml;base64,{encoded}"></div>'
        )
        return [nodes.raw("", image, format="html")]
