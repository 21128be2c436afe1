"""The graphs of a model in the cache folder: exported once, by a process of its own.

A folder for each version of anymask and hash of a model, with `encoder.onnx`, `prompt.onnx` and what describes them.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import anymask
from anymask.checkpoints.load import model_hash, save_model
from anymask.data.files import cache_folder, make_folder
from anymask.errors import InputError
from anymask.model import Sam

logger = logging.getLogger("anymask")

Part: TypeAlias = Literal["encoder", "click", "batch"]
PARTS: tuple[Part, ...] = get_args(Part)
"""What an engine is chosen for: an image, one prompt on it, and several at once."""

_FILES: dict[Part, str] = {"encoder": "encoder", "click": "prompt", "batch": "prompt"}
"""Name of the exported graph of each part (`anymask.export.parts`)."""


def graphs_folder(model: Sam) -> Path:
    """Return where the graphs of a model are, or would be."""
    return graphs_home() / model_hash(model)


def graphs_home() -> Path:
    """Return where this version's graphs of all models are; where none was exported, there is no such folder."""
    return cache_folder() / "runtimes" / anymask.__version__


def are_exported(folder: Path) -> bool:
    """Whether all graphs are there."""
    return all(graph_path(folder, part).is_file() for part in PARTS)


def graph_path(folder: Path, part: Part) -> Path:
    """Return the file of a part's graph."""
    return folder / f"{_FILES[part]}.onnx"


def export_graphs(model: Sam) -> Path:
    """Export the graphs of a model unless they are there, and return their folder.

    This takes from ten seconds to minutes and the packages of the extra `export`, but only once. Raises InputError
    if the model cannot be exported, OutputError if the cache folder cannot be written to.
    """
    from filelock import FileLock

    folder = make_folder(graphs_folder(model))
    with FileLock(folder / ".lock"):  # of several processes one exports, and the others wait for it
        if not are_exported(folder):
            logger.info("exporting the graphs of a model into %s", folder)
            with tempfile.TemporaryDirectory(prefix=".weights-", dir=folder) as staging:
                weights = Path(staging) / "model.safetensors"
                save_model(model, weights)
                _export(weights, folder)
    return folder


def _export(weights: Path, folder: Path) -> None:
    parts = [argument for name in sorted(set(_FILES.values())) for argument in ("--part", name)]
    command = [sys.executable, "-m", "anymask", "export", "onnx", str(weights), "-o", str(folder), *parts, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        said = ended.stderr.strip().splitlines()
        reason = said[-1].removeprefix("anymask: ") if said else f"the process ended with {ended.returncode}"
        raise InputError(f"the model's graphs cannot be exported ({reason}); the runtime torch needs none")
