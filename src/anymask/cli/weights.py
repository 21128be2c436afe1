"""Models as the command line names them: loaded, and downloaded first where that is needed and allowed."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from anymask.cli.terminal import download_progress
from anymask.errors import InputError

if TYPE_CHECKING:
    import torch

    from anymask.model import Sam


Device = Annotated[
    str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, mps; auto is a GPU where there is one, else the CPU.")
]


RuntimeName: TypeAlias = Literal["auto", "torch", "onnxruntime", "openvino"]
"""Those of `anymask.inference.runtimes`, which is not imported for --help; a test compares them."""

Runtime = Annotated[
    RuntimeName,
    typer.Option("--runtime", help="What computes on the CPU; auto is what `anymask models tune` found to be fastest."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, help="Threads that an image or a click is computed by.")
]


def open_model(
    name: str,
    *,
    offline: bool = False,
    device: str = "auto",
    runtime: RuntimeName = "torch",
    threads: int | None = None,
    image_size: int | None = None,
) -> Sam:
    """Load a model by name or path, its download shown, and choose its runtime and this process's threads.

    `image_size` is for images of another side than the file says. Raises CheckpointError, and InputError for the
    device or the runtime.
    """
    import torch

    from anymask.checkpoints import load_model
    from anymask.checkpoints.hub import CATALOGUE, download
    from anymask.checkpoints.repositories import fetch_repository, is_repository
    from anymask.inference.runtimes import use

    if threads is not None:
        torch.set_num_threads(threads)
    target = pick_device(device)
    if name not in CATALOGUE and is_repository(name) and not Path(name).exists():
        return use(load_model(fetch_repository(name, offline=offline), device=target, image_size=image_size), runtime)
    if name not in CATALOGUE:
        return use(load_model(name, device=target, image_size=image_size), runtime)
    with download_progress() as report:
        path = download(name, progress=report, offline=offline)
    return use(load_model(path, device=target, image_size=image_size), runtime)


def embedded_path(name: str) -> Path | None:
    """Return the file of a model that comes with the package, or None if this build has no such file."""
    from anymask.checkpoints.load import EMBEDDED

    if name not in EMBEDDED:
        return None
    path = Path(str(resources.files("anymask"))) / "weights" / EMBEDDED[name]
    return path if path.is_file() else None


def device_name(name: str) -> str:
    """Return what `pick_device` picks, as text."""
    return str(pick_device(name))


def pick_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is the first GPU, or the CPU. Raises InputError."""
    import torch

    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise InputError(f"there is no device {name!r}; auto, cpu, cuda, cuda:1 and mps name one")
    device = torch.device(name)
    if device.type == "mps" and not has_mps:
        raise InputError("the device mps is not available here; use cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"the device {name} is not here: torch sees {torch.cuda.device_count()} CUDA devices")
    return device
