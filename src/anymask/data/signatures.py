"""What tells one state of a data set from another, without reading what its files hold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def signature(*parts: object) -> str:
    """Return a hash of plain values, 24 hexadecimal digits.

    A path stands for its file's name, size and time of change; a file that is not there counts as such.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=_state).encode()).hexdigest()[:24]


def _state(path: object) -> list[str | int]:
    if not isinstance(path, Path):
        raise TypeError(f"{type(path).__name__} is no plain value")
    try:
        found = path.stat()
    except OSError:
        return [path.name]
    return [path.name, found.st_size, found.st_mtime_ns]
