"""Keep the description of the server's API, from which the page's types are made: `python dev/openapi.py [--check]`.

Writes `web/openapi.json`; then `npm run types` in `web/` makes `src/api/schema.ts` of it. With `--check` nothing is
written: status 1 says that the file is not what the server says of itself by now, or that the types lack a word of it.
`npm run check` compares the types in full.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from anymask.engine.store import open_project
from anymask.model import SIZES, build_sam
from anymask.server.app import create_app

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "web" / "openapi.json"
TYPES = ROOT / "web" / "src" / "api" / "schema.ts"


def document() -> str:
    """Return what the server says of its API, as text: without its version, and whatever the order of its routes."""
    with tempfile.TemporaryDirectory() as folder, open_project(Path(folder) / "project") as project:
        described = create_app(project, build_sam(SIZES["smoke"]), model_name="smoke").openapi()
    described["info"]["version"] = ""
    described["paths"] = dict(sorted(described["paths"].items()))
    return json.dumps(described, indent=1, ensure_ascii=False) + "\n"


def words(described: object) -> Iterator[str]:
    """Give what types made of a description contain: names of paths, models and fields, choices, lines of texts."""
    if isinstance(described, list):
        for each in described:
            yield from words(each)
    if not isinstance(described, dict):
        return
    for key, value in described.items():
        match key, value:
            case "itemSchema", _:  # of a stream's events, which have no types
                continue
            case "properties" | "schemas" | "paths", dict():
                yield from value
            case "description" | "summary", str():
                yield from value.split("\n")
            case "enum", list():
                yield from (json.dumps(each, ensure_ascii=False) for each in value)
        yield from words(value)


def main() -> int:
    """Write the file, or compare it; return the exit status."""
    found = document()
    if "--check" not in sys.argv[1:]:
        PLACE.write_text(found, encoding="utf-8")
        return 0
    types = TYPES.read_text(encoding="utf-8")
    missing = next((word.strip() for word in words(json.loads(found)) if word.strip() not in types), None)
    if not PLACE.exists() or PLACE.read_text(encoding="utf-8") != found:
        said = f"{PLACE.relative_to(ROOT)} is not what the server says by now"
    elif missing is not None:
        said = f"{TYPES.relative_to(ROOT)} lacks what {PLACE.name} has: {missing!r}"
    else:
        return 0
    print(f"{said}: run `python dev/openapi.py`, and `npm run types` in web/", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
