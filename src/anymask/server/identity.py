"""What tells a project from any other that is served at the same address."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from anymask.data.files import write_text_atomic

FILE = "project.id"
_ID = re.compile(r"[0-9a-f]{32}")


def project_id(folder: Path) -> str:
    """Return the id of the project in a folder; made when first asked for, and kept with it.

    Raises OutputError if it cannot be written.
    """
    path = folder / FILE
    kept = path.read_text(errors="replace").strip() if path.is_file() else ""
    if not _ID.fullmatch(kept):
        kept = uuid.uuid4().hex
        write_text_atomic(path, f"{kept}\n")
    return kept
