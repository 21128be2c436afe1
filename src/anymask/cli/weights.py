"""Models as the command line names them: loaded, and downloaded first where that is needed and allowed."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, overload

import typer

from anymask.cli.terminal import download_progress
from anymask.errors import InputError

if TYPE_CHECKING:
    import torch

    from anymask.inference.runtimes import AnyModel
    from anymask.model import Sam


Model = Annotated[str, typer.Option(metavar="NAME", help="A name of `anymask models list`, or a checkpoint's path.")]
Device = Annotated[
    str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, mps; auto is a GPU where there is one, else the CPU.")
]


RuntimeName: TypeAlias = Literal["auto", "torch", "onnxruntime", "openvino"]
"""Those of `anymask.inference.runtimes`, which is not imported for --help; a test compares them."""

Runtime = Annotated[
    RuntimeName,
    typer.Option("--runtime", help="What computes on the CPU; auto is what `anymask models tune` found to be fastest."),
]
Zoom = Annotated[
    bool | None,
    typer.Option(
        "--zoom/--no-zoom",
        help="Look at small objects in crops around them. By default with models of a small input, as anymask-s.",
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, help="Threads that an image or a click is computed by.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Never touch the network.")]


@overload
def open_model(
    name: str,
    *,
    offline: bool = False,
    device: str = "auto",
    runtime: Literal["torch"] = "torch",
    threads: int | None = None,
    image_size: int | None = None,
) -> Sam: ...


@overload
def open_model(
    name: str,
    *,
    offline: bool = False,
    device: str = "auto",
    runtime: RuntimeName,
    threads: int | None = None,
) -> AnyModel: ...


def open_model(
    name: str,
    *,
    offline: bool = False,
    device: str = "auto",
    runtime: RuntimeName = "torch",
    threads: int | None = None,
    image_size: int | None = None,
) -> AnyModel:
    """Load a model by name or path, its download shown, and choose its runtime and this process's threads.

    Where its exported graphs answer for it on the CPU, torch is not imported. `image_size` is for images of another
    side than the file says. Raises CheckpointError, and InputError for the device or the runtime.
    """
    from anymask.checkpoints.hub import CATALOGUE, download
    from anymask.checkpoints.repositories import fetch_repository, is_repository
    from anymask.inference.loading import has_torch, load, load_exported

    on_cpu = device == "cpu" or (device == "auto" and not may_have_gpu())
    if on_cpu and image_size is None:
        exported = load_exported(name, runtime, threads=threads)
        if exported is not None:
            return exported
    path: str | Path = name
    if name in CATALOGUE:
        with download_progress() as report:
            path = download(name, progress=report, offline=offline)
    elif is_repository(name) and not Path(name).exists():
        path = fetch_repository(name, offline=offline)
    if has_torch():
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        target: str | torch.device = pick_device(device)
    else:
        target = "cpu" if device == "auto" else device
    return load(path, device=target, image_size=image_size, runtime=runtime, threads=threads)


def may_have_gpu() -> bool:
    """Whether torch might find a GPU here; it is not imported to be sure."""
    from anymask.inference.loading import has_torch

    if not has_torch() or version("torch").endswith("+cpu"):
        return False
    if sys.platform != "linux":
        return True
    return any(Path(name).exists() for name in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


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
