"""Configuration of Sphinx for the site: the pages of the repository, as they are.

`make site` builds it (`build.py`). `pages.py` adds what a code host does by itself.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from recsys import __version__  # noqa: E402

project = "session-recsys"
version = release = __version__
root_doc = "README"
include_patterns = [
    *("*.md", "docs/*.md", "docs/*.ipynb"),
    *("clients/*/README.md", "data/README.md", "docker/README.md"),
]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}  # pages.py reads the cells of a notebook
extensions = ["myst_parser", "pages"]
nitpicky = True

myst_heading_anchors = 6  # named as on a code host
myst_enable_extensions = ["html_image"]
myst_fence_as_directive = ["mermaid"]

html_theme = "furo"
html_title = f"session-recsys {version}"
html_static_path = [str(HERE / "static")]
html_css_files = ["site.css"]
templates_path = [str(HERE / "templates")]
html_additional_pages = {"index": "start.html"}
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "versions.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
html_copy_source = False
html_use_index = False
html_show_copyright = False
html_show_search_summary = False  # a page of a disk (file://) cannot read the other pages
