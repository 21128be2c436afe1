"""A name of before, kept for one version: the reader of COCO's files is `anymask.data.readers.coco`."""

from __future__ import annotations

import warnings

from anymask.data.readers.coco import CocoFiles as _CocoFiles


def __getattr__(name: str) -> type[_CocoFiles]:
    if name != "CocoFiles":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    warnings.warn("CocoFiles is in anymask.data.readers.coco now", DeprecationWarning, stacklevel=2)
    return _CocoFiles
