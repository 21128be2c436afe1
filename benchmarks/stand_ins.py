"""timm and what transformers builds on it, imported where torchvision is absent: neither needs it to run a network."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from importlib.machinery import ModuleSpec
from types import ModuleType
from unittest import mock


class _Anything(ModuleType):
    """A module that has whatever is asked of it: classes by capital names, modules by others."""

    __path__: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "InterpolationMode":
            value: object = Enum(name, "NEAREST BILINEAR BICUBIC BOX HAMMING LANCZOS NEAREST_EXACT")
        else:
            value = type(name, (), {}) if name[0].isupper() else _Anything(f"{self.__name__}.{name}")
        setattr(self, name, value)
        return value


class _TorchvisionOfAnything(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds torchvision and all in it, for timm, which reads its names when it is imported."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        is_torchvision = fullname.partition(".")[0] == "torchvision"
        return ModuleSpec(fullname, self, is_package=True) if is_torchvision else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Anything(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave it as it is."""


def import_timm() -> ModuleType:
    """Import timm; where torchvision is absent, it is stood in for meanwhile, and gone at once."""
    if "timm" in sys.modules or importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("timm")
    with mock.patch.object(sys, "meta_path", [_TorchvisionOfAnything(), *sys.meta_path]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what torch means to drop
        package = importlib.import_module("timm")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    return package


@contextmanager
def transformers_with_timm() -> Iterator[ModuleType]:
    """Yield transformers, which takes timm for absent where torchvision is, though no layer needs that."""
    import_timm()
    transformers = importlib.import_module("transformers")
    utils = transformers.utils
    mapping = utils.import_utils.BACKENDS_MAPPING
    with ExitStack() as patches:
        for module in (utils, utils.import_utils):
            patches.enter_context(mock.patch.object(module, "is_timm_available", lambda: True))
        patches.enter_context(mock.patch.dict(mapping, {"timm": (lambda: True, mapping["timm"][1])}))
        yield transformers
