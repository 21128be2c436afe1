"""Weights from files, folders and published names, and back into files.

The functions are imported when they are first used: torch comes with them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from anymask.checkpoints.places import EMBEDDED

if TYPE_CHECKING:
    from anymask.checkpoints.average import average_models
    from anymask.checkpoints.load import (
        Format,
        Kind,
        load_model,
        model_hash,
        read_checkpoint,
        read_memory,
        save_model,
    )

__all__ = [
    "EMBEDDED",
    "Format",
    "Kind",
    "average_models",
    "load_model",
    "model_hash",
    "read_checkpoint",
    "read_memory",
    "save_model",
]


def __getattr__(name: str) -> object:
    """Import a function from its home (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'anymask.checkpoints' has no attribute {name!r}")
    home = "average" if name == "average_models" else "load"
    return getattr(importlib.import_module(f"anymask.checkpoints.{home}"), name)
