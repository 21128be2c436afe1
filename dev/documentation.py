"""MkDocs' hook for what the site takes from elsewhere in the repository, so that nothing is written twice.

- Papers: Markdown files of the repository become pages; links to files that are no pages become plain text.
- `<!-- README: Title -->` in a page becomes the text of that section of the README.
- Notebooks become pages, with their outputs, and the examples' source a page.
- The reference of the command line is written from the verbs themselves, a page per verb of `anymask`.
"""

from __future__ import annotations

import base64
import html
import inspect
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from anymask.cli import build_app

ROOT = Path(__file__).parents[1]
PAPERS = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "dev/log.md": "project/log.md",
    "src/anymask/weights/README.md": "results/model-card.md",
    "recipes/README.md": "guides/recipes.md",
    "recipes/anymask-s/README.md": "guides/recipes-anymask-s.md",
}
"""Files of the repository, and the pages that they become."""
PICTURES = {
    "src/anymask/weights/calibration.png": "results/calibration.png",
    "dev/images/mae-start.png": "project/images/mae-start.png",
}
EXAMPLES = ROOT / "examples"
NOTEBOOKS = tuple(EXAMPLES / "notebooks" / f"{name}.ipynb" for name in ("predictor", "automatic_masks", "finetuning"))
_TYPES = {"float": "NUMBER", "int": "INTEGER", "integer": "INTEGER", "text": "TEXT", "path": "PATH"}
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?://|#)([^)#\s]+)(#[^)\s]*)?\)")
_SECTION = re.compile(r"<!-- README: (.+?) -->")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages into the navigation."""
    assert config.nav is not None
    for entry in config.nav:
        if "Reference" in entry:
            entry["Reference"].append({"Command line": [f"reference/cli/{name}.md" for name in _verbs()]})
        if "Examples" in entry:
            entry["Examples"] += ["examples/scripts.md", *(f"examples/{path.stem}.md" for path in NOTEBOOKS)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for source, target in PAPERS.items():
        files.append(
            File.generated(config, target, content=_relinked((ROOT / source).read_text("utf-8"), source, target))
        )
    for source, target in PICTURES.items():
        files.append(File.generated(config, target, content=(ROOT / source).read_bytes()))
    for name, command in _verbs().items():
        files.append(File.generated(config, f"reference/cli/{name}.md", content=_verb_page(name, command)))
    files.append(File.generated(config, "examples/scripts.md", content="\n".join(_scripts())))
    for path in NOTEBOOKS:
        for name, content in _notebook(path):
            files.append(File.generated(config, f"examples/{name}", content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put sections of the README where a page names them."""
    return _SECTION.sub(lambda found: _relinked(_readme_section(found[1]), "README.md", page.file.src_uri), markdown)


def _readme_section(title: str) -> str:
    """Return the text under one of the README's second-level headings."""
    parts = re.split(r"^## (.+)$", (ROOT / "README.md").read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[title].strip()


def _relinked(text: str, source: str, target: str) -> str:
    """Return Markdown of a file of the repository with links that lead to pages of the site, or to nothing at all."""

    def link(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[2]))
        page = PAPERS.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if page is None:
            return found[1]
        return f"[{found[1]}]({posixpath.relpath(page, posixpath.dirname(target) or '.')}{found[3] or ''})"

    return _LINK.sub(link, text)


def _verbs() -> dict[str, Any]:
    """Return the verbs of `anymask`, groups among them, by name."""
    commands: dict[str, Any] = typer.main.get_command(build_app()).commands  # type: ignore[attr-defined]
    return dict(sorted(commands.items()))


def _verb_page(name: str, command: Any) -> str:
    return f"# anymask {name}\n\n" + "\n".join(_described(f"anymask {name}", command, level=1))


def _described(path: str, command: Any, level: int) -> Iterator[str]:
    """Yield the lines of a verb: what it does, its usage, an example, arguments and options; then its own verbs."""
    context = command.make_context(path, [], resilient_parsing=True)
    if level > 1:
        yield f"{'#' * level} {path}\n"
    yield f"{html.escape(inspect.cleandoc(command.help or ''), quote=False)}\n"
    inner = getattr(command, "commands", {})
    if not inner:
        usage = " ".join(command.collect_usage_pieces(context)).replace("{", "").replace("}", "")
        yield f"```sh\n{path} {usage}\n```\n"
        if command.epilog:
            yield f"Example:\n\n```sh\n{command.epilog.removeprefix('Example: ')}\n```\n"
        shown = [each for each in command.params if not each.hidden]
        for panel in dict.fromkeys(_panel(each) for each in shown):
            yield f"**{panel}**\n"
            yield from (_parameter(each, context) for each in shown if _panel(each) == panel)
    for name, each in inner.items():
        yield from _described(f"{path} {name}", each, level + 1)


def _panel(parameter: Any) -> str:
    return parameter.rich_help_panel or f"{parameter.param_type_name.capitalize()}s"


def _parameter(parameter: Any, context: Any) -> str:
    """Return an entry of a definition list: how it is written and what it takes; what it means, and its default."""
    is_option, default = parameter.param_type_name == "option", parameter.default
    kind = parameter.display_type(context).strip("<>").removesuffix(" range")
    takes = parameter.metavar or _TYPES.get(kind) or kind.removeprefix("list")
    written = ", ".join((*parameter.opts, *parameter.secondary_opts)) if is_option else takes
    if is_option and not parameter.is_flag:
        written = f"{written} {takes}"
    notes = ["required"] if is_option and parameter.required else []
    if default not in (None, False, ()) and not callable(default):
        notes.append(f"default: `{getattr(default, 'value', default)}`")
    detail = f" *({', '.join(notes)})*" if notes else ""
    meaning = html.escape(" ".join((parameter.help or "").split()), quote=False)
    return f"`{written}`\n:   {meaning}{detail}\n"


def _scripts() -> Iterator[str]:
    """Yield a page of the examples' source."""
    yield "# Scripts\n\nAt most 40 lines each, from the folder `examples/` of the repository.\n"
    for path in sorted(EXAMPLES.glob("*.py")):
        title = path.stem.replace("_", " ").capitalize().replace("onnx", "ONNX").replace("Onnx", "ONNX")
        yield f'## {title}\n\n```python title="{path.name}"\n{path.read_text("utf-8").strip()}\n```\n'


def _notebook(path: Path) -> Iterator[tuple[str, str | bytes]]:
    """Yield a page of a notebook's cells and outputs, and the pictures in it, by name."""
    lines, number = [], 0
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        lines.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/jpeg" in data:
                number += 1
                name = f"{path.stem}-{number}.jpg"
                yield name, base64.b64decode("".join(data["image/jpeg"]))
                lines.append(f"![Output of the cell above]({name})")
            elif text := "".join(output.get("text", data.get("text/plain", []))).rstrip():
                lines.append(f"```text\n{text}\n```")
    yield f"{path.stem}.md", "\n\n".join(lines) + "\n"
