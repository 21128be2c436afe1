"""Models as the command line names them: loaded, and downloaded first where that is needed and allowed."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anymask.cli.terminal import download_progress
from anymask.errors import InputError

if TYPE_CHECKING:
    import torch

    from anymask.model import Sam


Device = Annotated[
    str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, mps; auto is a GPU where there is one, else the CPU.")
]


def open_model(name: str, *, offline: bool = False, device: str = "auto", image_size: int | None = None) -> Sam:
    """Load a model by name or path, its download shown; raises CheckpointError, or InputError for the device.

    `image_size` is for images of another side than the file says.
    """
    from anymask.checkpoints import load_model
    from anymask.checkpoints.hub import CATALOGUE, download

    target = pick_device(device)
    if name not in CATALOGUE:
        return load_model(name, device=target, image_size=image_size)
    with download_progress() as report:
        path = download(name, progress=report, offline=offline)
    return load_model(path, device=target, image_size=image_size)


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
