"""Plain HTML pages that the server shows in the page's place."""

from __future__ import annotations

from importlib.resources import files


def read_plain_page(name: str) -> str:
    """Return a page: `layout.html` of the folder `templates` with the text of another file of it."""
    templates = files("anymask.server").joinpath("templates")
    text = templates.joinpath(name).read_text("utf-8")
    return templates.joinpath("layout.html").read_text("utf-8").replace("    <!-- text -->\n", text)
