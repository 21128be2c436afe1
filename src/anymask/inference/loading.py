"""Models by name or path, as what answers fastest: the network itself, or its exported graphs, which need no torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from anymask.errors import MissingPackageError
from anymask.inference.runtimes import AnyModel, ExportedModel, RuntimeName, use
from anymask.inference.runtimes.choice import check_name
from anymask.inference.runtimes.engines import EngineName, check_installed, installed
from anymask.inference.runtimes.figures import fastest
from anymask.inference.runtimes.graphs import PARTS, Part, export_graphs, find_exported, note_source
from anymask.threads import count_threads

if TYPE_CHECKING:
    import torch

    from anymask.model import Sam


@overload
def load(
    name_or_path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    image_size: int | None = None,
    runtime: Literal["auto", "torch"] = "auto",
    threads: int | None = None,
) -> Sam: ...


@overload
def load(
    name_or_path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    image_size: int | None = None,
    runtime: RuntimeName,
    threads: int | None = None,
) -> AnyModel: ...


def load(
    name_or_path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    image_size: int | None = None,
    runtime: RuntimeName = "auto",
    threads: int | None = None,
) -> AnyModel:
    """Load a model, ready for inference: see `anymask.checkpoints.load_model` for names, types and what it raises.

    `runtime` says what computes its answers on the CPU, by `threads` threads (torch's number if it is left out):

    - "torch": the network itself, a `Sam`.
    - "onnxruntime", "openvino": its graphs, which are exported once; torch is not imported where they are there. The
      answer is an `ExportedModel`, or a `Sam` that its graphs answer for where the model reads words, or another
      device, type or image size is asked for.
    - "auto": a `Sam`, for which the fastest answers by the figures of `anymask models tune`, else torch; where torch
      is not installed, its graphs in the engine that is.

    Raises also InputError for an unknown runtime or one that does not suit, and MissingPackageError where what computes
    is not installed.
    """
    check_name(runtime)
    is_plain = str(device) == "cpu" and dtype is None and image_size is None
    if runtime in ("onnxruntime", "openvino"):
        check_installed(runtime)
    if is_plain and (runtime in ("onnxruntime", "openvino") or not has_torch()):
        exported = load_exported(name_or_path, runtime, threads=threads)
        if exported is not None:
            return exported
    if not has_torch():
        raise MissingPackageError(
            f"{name_or_path}: no exported graphs of it are on this machine for the CPU, and without torch there is no "
            "other way: pip install torch, or export it where torch is (docs/guides/without-torch.md)"
        )
    from anymask.checkpoints.load import load_model

    model = use(load_model(name_or_path, device=device, dtype=dtype, image_size=image_size), runtime, threads=threads)
    if is_plain and runtime in ("onnxruntime", "openvino"):
        note_source(name_or_path, export_graphs(model))
        return load_exported(name_or_path, runtime, threads=threads) or model
    return model


def load_exported(
    name_or_path: str | Path, runtime: RuntimeName, *, threads: int | None = None
) -> ExportedModel | None:
    """Return a model's graphs in an engine; None where it was not exported, reads words, or torch should answer.

    "auto" takes the engines that were measured to be the fastest (None where that is torch), or where nothing was
    measured the first that is installed: it starts in a fraction of the time that importing torch takes.
    """
    folder = find_exported(name_or_path) if runtime != "torch" and installed() else None
    if folder is None:
        return None
    threads = threads or count_threads()
    engines = _engines(folder, runtime, threads)
    model = None if engines is None else ExportedModel(folder, engines, threads=threads)
    return None if model is None or model.config.text is not None else model


def has_torch() -> bool:
    """Whether torch is installed; it is not imported."""
    try:
        return find_spec("torch") is not None
    except ImportError:  # something keeps it from being found
        return False


def _engines(folder: Path, runtime: RuntimeName, threads: int) -> dict[Part, EngineName] | None:
    if runtime in ("onnxruntime", "openvino"):
        return dict.fromkeys(PARTS, runtime)
    measured = fastest(folder, threads)
    if measured is None:
        return dict.fromkeys(PARTS, installed()[0])
    if set(measured) == set(PARTS):
        return measured
    return None if has_torch() else dict.fromkeys(PARTS, installed()[0]) | measured
