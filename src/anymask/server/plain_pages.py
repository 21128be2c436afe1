"""Plain HTML pages that the server shows in the page's place."""

from __future__ import annotations

from importlib.resources import files


def read_template(name: str) -> str:
    """Return the text of a file of the folder `templates`."""
    return files("anymask.server").joinpath("templates", name).read_text("utf-8")
