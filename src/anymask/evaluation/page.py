"""A report as one HTML file that needs nothing beside it: text, tables and pictures, the pictures within."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

_STYLE = """
:root { color-scheme: light; --ink: #1f2328; --soft: #59636e; --line: #d9dde2; --paper: #fbfbfa; --mark: #eef3fc; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2.5rem 1.5rem 4rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; margin: 2.8rem 0 .7rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.8rem 0 .5rem; }
p { max-width: 46rem; margin: .5rem 0 1rem; } p.note { color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; background: #fff;
  border: 1px solid var(--line); }
th, td { padding: .36rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } thead th { font-weight: 600; background: #f3f4f5; }
tbody tr:last-child td { border-bottom: 0; } tr.mark td { background: var(--mark); font-weight: 600; }
tr.soft td { color: var(--soft); } td b { font-weight: 700; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.plots figure { flex: 0 1 22rem; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 1rem;
  align-items: start; }
figure { margin: 0; background: #fff; border: 1px solid var(--line); padding: .6rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { font-size: .8125rem; color: var(--soft); padding-top: .45rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; font-size: .875rem; margin: 1rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
"""


@dataclass(slots=True)
class Page:
    """A page that grows from top to bottom; all text is escaped. Each method returns the page."""

    title: str
    parts: list[str] = field(default_factory=list)

    def heading(self, text: str, *, level: int = 2) -> Self:
        """Add a heading."""
        return self._add(f"<h{level}>{html.escape(text)}</h{level}>")

    def text(self, text: str, *, is_note: bool = False) -> Self:
        """Add a paragraph."""
        return self._add(f"<p{' class=note' if is_note else ''}>{html.escape(text)}</p>")

    def facts(self, facts: Sequence[tuple[str, str]]) -> Self:
        """Add a list of names and what they are."""
        rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in facts)
        return self._add(f"<dl>{rows}</dl>")

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
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
        body = []
        for number, row in enumerate(rows):
            kind = " class=mark" if number in marked else " class=soft" if number in soft else ""
            cells = [html.escape(cell) for cell in row]
            cells = [f"<b>{cell}</b>" if (number, column) in bold else cell for column, cell in enumerate(cells)]
            body.append(f"<tr{kind}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        return self._add(
            f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        )

    def pictures(self, pictures: Sequence[tuple[bytes, str]], *, layout: str = "plots") -> Self:
        """Add PNG or JPEG files side by side with captions; `layout` is "plots" or "cases"."""
        figures = "".join(_figure(data, caption) for data, caption in pictures)
        return self._add(f'<div class="{layout}">{figures}</div>')

    def html(self) -> str:
        """Return the page."""
        title = html.escape(self.title)
        head = (
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{title}</title><style>{_STYLE}</style>"
        )
        body = "\n".join(self.parts)
        return (
            f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body></html>\n'
        )

    def _add(self, part: str) -> Self:
        self.parts.append(part)
        return self


def _figure(data: bytes, caption: str) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    text = html.escape(caption)
    below = f"<figcaption>{text}</figcaption>" if text else ""
    return f'<figure><img loading="lazy" alt="{text}" src="{source}">{below}</figure>'
