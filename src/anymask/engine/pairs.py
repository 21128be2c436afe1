"""Names of before, kept for one version: pairs of SA-1B's layout are in `anymask.engine.formats.pairs`."""

from __future__ import annotations

import warnings
from typing import Any

from anymask.engine.formats import pairs as _pairs


def __getattr__(name: str) -> Any:
    if name.startswith("_") or not hasattr(_pairs, name):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    warnings.warn(f"{name} is in anymask.engine.formats.pairs now", DeprecationWarning, stacklevel=2)
    return getattr(_pairs, name)
