"""Run a program in a process in which torch cannot be imported: `python without_torch.py hidden|broken PROGRAM …`.

`hidden` is as if torch were not installed; `broken` finds it, and fails when it is imported. The program is a file of
Python, or the command's name and its arguments.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class NoTorch(MetaPathFinder, Loader):
    def __init__(self, *, is_hidden: bool) -> None:
        self.is_hidden = is_hidden

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] != "torch":
            return None
        if self.is_hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return ModuleSpec(name, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        raise ImportError(f"{spec.name} is imported")


if __name__ == "__main__":
    how, program, *sys.argv[1:] = sys.argv[1:]
    sys.meta_path.insert(0, NoTorch(is_hidden=how == "hidden"))
    if program == "anymask":
        from anymask.cli import main

        sys.exit(main())
    runpy.run_path(program, run_name="__main__")
