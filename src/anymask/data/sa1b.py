"""A name of before, kept for one version: the reader of tars is `anymask.data.readers.tars`."""

from __future__ import annotations

import warnings

from anymask.data.readers.tars import TarFiles as _TarFiles


def __getattr__(name: str) -> type[_TarFiles]:
    if name != "TarFiles":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    warnings.warn("TarFiles is in anymask.data.readers.tars now", DeprecationWarning, stacklevel=2)
    return _TarFiles
