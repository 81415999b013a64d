"""Sphinx: `make docs` builds the pages into docs/_build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphinx.writers.html5 import HTML5Translator

from headrace import __version__

if TYPE_CHECKING:
    from docutils.nodes import literal
    from sphinx.application import Sphinx

project = "Headrace"
copyright = "the authors of Headrace"  # noqa: A001 - Sphinx's name for it
version = release = __version__

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["attrs_inline", "deflist"]
myst_heading_anchors = 4  # links to headings are written as GitHub has them
linkcheck_ignore = [r"http://127\.0\.0\.1"]
linkcheck_anchors = False  # many are made by scripts
linkcheck_timeout = 20  # seconds
highlight_language = "text"  # of a block without a language
smartquotes = False  # quotes in commands stay as they are typed

html_theme = "furo"
html_title = "Headrace"
html_static_path = ["_static"]
html_css_files = ["headrace.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options: dict[str, list[str]] = {"top_of_page_buttons": []}


class PlainTranslator(HTML5Translator):
    """Writes code in a line as one element: Sphinx's own, one a word, were a third of a page."""

    def visit_literal(self, node: literal) -> None:
        """Begin it."""
        self.body.append(self.starttag(node, "code", "", CLASS="literal"))

    def depart_literal(self, _node: literal) -> None:
        """End it."""
        self.body.append("</code>")


def setup(app: Sphinx) -> None:
    """Is called by Sphinx."""
    app.set_translator("html", PlainTranslator)
