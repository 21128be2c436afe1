"""Graphs of models, each traced once in a run of the tests: tracing is nearly all of an export's time."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx_ir as ir
from filelock import FileLock
from torch import nn

from anymask.checkpoints.load import model_hash
from anymask.export.parts import Part
from anymask.export.tracing import trace


class KeptTraces:
    """Does as `anymask.export.tracing.trace`, in whichever process a graph is first asked for; later ones read it.

    A graph is known by all it is made of: the module's settings, its model, the names of its outputs and the opset.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def __call__(self, part: Part, opset: int) -> ir.Model:
        path = self._folder / f"{_fingerprint(part, opset)}.onnx"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                ir.save(trace(part, opset), path)
        return ir.load(path)


def _fingerprint(part: Part, opset: int) -> str:
    branches = [_described(module) for module in (part.module, part.without_mask) if module is not None]
    return hashlib.sha256(repr((branches, part.outputs, opset)).encode()).hexdigest()


def _described(module: nn.Module) -> tuple[object, ...]:
    settings = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return type(module).__name__, settings, model_hash(module.model)
