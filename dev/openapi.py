"""Keep the description of the server's API, from which the page's types are made: `python dev/openapi.py [--check]`.

Writes `web/openapi.json`; then `npm run types` in `web/` makes `src/api/schema.ts` of it. With `--check` nothing is
written: status 1 says that the file is not what the server says of itself by now. `npm run check` says the same of the
types.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from anymask.engine.store import open_project
from anymask.model import SIZES, build_sam
from anymask.server.app import create_app

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "web" / "openapi.json"


def document() -> str:
    """Return what the server says of its API, as text: without its version, and whatever the order of its routes."""
    with tempfile.TemporaryDirectory() as folder, open_project(Path(folder) / "project") as project:
        described = create_app(project, build_sam(SIZES["smoke"]), model_name="smoke").openapi()
    described["info"]["version"] = ""
    described["paths"] = dict(sorted(described["paths"].items()))
    return json.dumps(described, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the file, or compare it; return the exit status."""
    found = document()
    if "--check" not in sys.argv[1:]:
        PLACE.write_text(found, encoding="utf-8")
        return 0
    if PLACE.exists() and PLACE.read_text(encoding="utf-8") == found:
        return 0
    print(
        f"{PLACE.relative_to(ROOT)} is not what the server says by now, and the page's types with it: run "
        "`python dev/openapi.py`, and `npm run types` in web/",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
