"""Pages as one HTML file that needs nothing beside it: text, tables and pictures, the pictures within.

The layouts are Jinja's templates in `templates/`, which escape all text.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """Return a page of `templates/` with values in it."""
    environment = Environment(
        loader=PackageLoader("anymask.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(f"{template}.html.jinja").render(values)


def picture_source(data: bytes) -> str:
    """Return a PNG or JPEG file as the address that holds it."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@dataclass(slots=True)
class Page:
    """A report that grows from top to bottom. Each method returns the page."""

    title: str
    parts: list[dict[str, Any]] = field(default_factory=list)

    def heading(self, text: str, *, level: int = 2) -> Self:
        """Add a heading."""
        return self._add("heading", text=text, level=level)

    def text(self, text: str, *, is_note: bool = False) -> Self:
        """Add a paragraph."""
        return self._add("text", text=text, is_note=is_note)

    def facts(self, facts: Sequence[tuple[str, str]]) -> Self:
        """Add a list of names and what they are."""
        return self._add("facts", facts=facts)

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        marked: Sequence[int] = (),
        soft: Sequence[int] = (),
        bold: Sequence[tuple[int, int]] = (),
    ) -> Self:
        """Add a table; the rows `marked` stand out, those in `soft` stand back, cells (row, column) in `bold` are best.

        The first column is left-aligned, the others are numbers.
        """
        return self._add("table", header=header, rows=rows, marked=marked, soft=soft, bold=bold)

    def pictures(self, pictures: Sequence[tuple[bytes, str]], *, layout: str = "plots") -> Self:
        """Add PNG or JPEG files side by side with captions; `layout` is "plots" or "cases"."""
        sources = [(picture_source(data), caption) for data, caption in pictures]
        return self._add("pictures", pictures=sources, layout=layout)

    def html(self) -> str:
        """Return the page."""
        return render("report", title=self.title, parts=self.parts)

    def _add(self, kind: str, **values: Any) -> Self:
        self.parts.append({"kind": kind, **values})
        return self
