"""Modules that the documentation named and that have moved: importable for one version, with a warning.

A finder at the end of `sys.meta_path` is asked for what no other finder knows. It makes a module of the former name,
whose names are those of the module that replaced it.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED: Mapping[str, str] = {
    "anymask.data.coco": "anymask.data.readers.coco",
    "anymask.data.coco_writer": "anymask.data.writers.coco",
    "anymask.data.labelled": "anymask.data.open",
    "anymask.data.sa1b": "anymask.data.readers.tars",
    "anymask.data.sa1b_writer": "anymask.data.writers.sa1b",
    "anymask.engine.pairs": "anymask.engine.formats.pairs",
    "anymask.evaluation.model_segmenter": "anymask.evaluation.single_point",
    "anymask.inference.label_maps": "anymask.inference.automatic.label_maps",
    "anymask.inference.text": "anymask.inference.words.text",
    "anymask.inference.tiled": "anymask.inference.automatic.tiled",
    "anymask.inference.tree": "anymask.inference.automatic.tree",
    "anymask.inference.word_detector": "anymask.inference.words.detector",
}
"""Former names of modules, and where their names are now."""
RENAMED: Mapping[str, Mapping[str, str]] = {
    "anymask.data.labelled": {"open_labelled": "open_data"},
}
"""Former names of functions and classes within modules that have moved, and what they are called now."""


class _Moved(MetaPathFinder, Loader):
    """Finds and makes modules of former names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for a module that has moved, None for any other."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Warn, and give the module the names of the one that replaced it."""
        place = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} is {place} now", DeprecationWarning, stacklevel=2)
        found = vars(importlib.import_module(place))
        vars(module).update({name: value for name, value in found.items() if not name.startswith("__")})
        vars(module).update({old: found[new] for old, new in RENAMED.get(module.__name__, {}).items()})


def install() -> None:
    """Let modules of former names be imported; once, however often it is called."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
