"""Which runtime answers for a model: chosen by name, or by figures that were measured on this machine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args
from weakref import WeakKeyDictionary

from anymask.errors import InputError
from anymask.inference.runtimes.engines import Graph, check_installed
from anymask.inference.runtimes.exported import AnyModel, ExportedModel
from anymask.inference.runtimes.figures import fastest, open_graphs
from anymask.inference.runtimes.graphs import PARTS, Part, export_graphs, graphs_folder, graphs_home
from anymask.threads import count_threads

if TYPE_CHECKING:
    from anymask.inference.runtimes.runtime import Runtime
    from anymask.model import Sam

logger = logging.getLogger("anymask")

RuntimeName: TypeAlias = Literal["auto", "torch", "onnxruntime", "openvino"]

_chosen: WeakKeyDictionary[Sam, tuple[dict[Part, Graph], tuple[object, ...]]] = WeakKeyDictionary()
"""Of each model the graphs that answer for it, and its weights' versions when they were chosen; copies have none."""


def check_name(name: str) -> None:
    """Raise InputError unless a runtime is called so."""
    if name not in get_args(RuntimeName):
        raise InputError(f"there is no runtime {name!r}; there are {', '.join(get_args(RuntimeName))}")


def use(model: Sam, name: RuntimeName, *, threads: int | None = None) -> Sam:
    """Choose what answers for a model, in this process; returns the model.

    "onnxruntime" and "openvino" export its graphs where that was not done before (`export_graphs`). "auto" takes for
    encoder and decoder the fastest that `anymask models tune` has measured, and torch where nothing was measured or
    the model is not float32 on the CPU. `threads` is torch's number if it is left out.

    Raises:
        InputError: there is no such runtime, or the model is not float32 on the CPU or cannot be exported.
        MissingPackageError: the runtime is not installed.
    """
    check_name(name)
    _chosen.pop(model, None)
    if name == "torch":
        return model
    if name == "auto" and not (_suits(model) and graphs_home().is_dir()):
        return model  # the latter without the hash of its weights, which takes a while for a large one
    if not _suits(model):
        raise InputError(
            f"the runtime {name} answers for models in float32 on the CPU; this one is {model.dtype} on {model.device}"
        )
    threads = threads or count_threads()
    if name == "auto":
        folder = graphs_folder(model)
        engines = fastest(folder, threads) or {}
    else:
        check_installed(name)  # before a minute is spent on exporting
        folder = export_graphs(model)
        engines = dict.fromkeys(PARTS, name)
    _chosen[model] = (open_graphs(folder, engines, threads), _versions(model))
    return model


def runtime_of(model: AnyModel) -> Runtime | ExportedModel:
    """Return what answers for a model."""
    if isinstance(model, ExportedModel):
        return model
    from anymask.inference.runtimes.runtime import Runtime

    if model in _chosen:
        graphs, versions = _chosen[model]
        if _suits(model) and _versions(model) == versions:
            return Runtime(model=model, graphs=graphs)
        logger.warning("the model was changed since its runtime was chosen: torch answers for it from now on")
        del _chosen[model]
    return Runtime(model=model)


def _suits(model: Sam) -> bool:
    return model.device.type == "cpu" and str(model.dtype) == ExportedModel.dtype


def _versions(model: Sam) -> tuple[object, ...]:
    """Return what changes whenever a parameter is written to or replaced."""
    return tuple(
        (parameter.data_ptr(), None if parameter.is_inference() else parameter._version)
        for parameter in model.parameters()
    )
