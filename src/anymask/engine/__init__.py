"""The data engine: projects, and what people and models leave in them.

What tells a folder for a project stands here: it is known without the packages that open one.
"""

from __future__ import annotations

from pathlib import Path

DATABASE = "project.sqlite"
PLACE = "project.json"


def is_project(folder: str | Path) -> bool:
    """Whether a folder holds a project."""
    return (Path(folder) / PLACE).exists() or (Path(folder) / DATABASE).exists()
