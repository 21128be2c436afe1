"""The graphs of a model: exported once into the cache folder by a process of its own; the embedded model's come along.

A folder for each version of anymask and hash of a model, with `encoder.onnx`, `image.onnx`, `prompt.onnx` and
`model.json`, which describes them. Which file or folder of weights they are of is noted beside the folders: so they are
found without reading the weights.
"""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import anymask
from anymask.checkpoints.places import EMBEDDED, find_weights
from anymask.data.files import cache_folder, make_folder, write_text_atomic
from anymask.errors import AnymaskError, InputError, OutputError
from anymask.model import SamConfig

if TYPE_CHECKING:
    from anymask.model import Sam

logger = logging.getLogger("anymask")

Part: TypeAlias = Literal["encoder", "click", "batch"]
PARTS: tuple[Part, ...] = get_args(Part)
"""What an engine is chosen for: an image, one prompt on it, and several at once."""

_GRAPHS: dict[Part, str] = {"encoder": "encoder", "click": "prompt", "batch": "prompt"}
"""Name of the exported graph of each part (`anymask.export.parts`)."""
_EXPORTED = ("encoder", "image", "prompt")
IMAGE_FILE = "image.onnx"
"""What makes of an embedding what all prompts share."""
DESCRIPTION = "model.json"
"""What describes exported files (`anymask.export.description`)."""
FORMAT = 2
"""Of what describes them; it rises whenever files are taken in another way. 2: `prompt` takes any number of prompts."""
SOURCE_HASH = "weights.sha256"
"""Of the file of weights that the package's graphs are of, beside them."""
_SOURCES = "sources.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What is known of a model by its graphs."""

    config: SamConfig
    hash: str
    channels: dict[str, Any] | None


def graphs_folder(model: Sam) -> Path:
    """Return where the graphs of a model are, or would be: with the package, or in the cache folder."""
    from anymask.checkpoints.load import model_hash

    packaged, hash = read_exported(packaged_folder()), model_hash(model)
    return packaged_folder() if packaged is not None and packaged.hash == hash else graphs_home() / hash


def graphs_home() -> Path:
    """Return where this version's graphs of all models are; where none was exported, there is no such folder."""
    return cache_folder() / "runtimes" / anymask.__version__


def packaged_folder() -> Path:
    """Return where the embedded model's graphs are, if this build of anymask has them."""
    return Path(str(files("anymask"))) / "weights" / "onnx"


def are_exported(folder: Path) -> bool:
    """Whether all graphs are there."""
    return all((folder / f"{name}.onnx").is_file() for name in _EXPORTED)


def graph_path(folder: Path, part: Part) -> Path:
    """Return the file of a part's graph."""
    return folder / f"{_GRAPHS[part]}.onnx"


def read_exported(folder: Path) -> Exported | None:
    """Read what describes the graphs of a folder; None where some are missing, or another version described them."""
    if not are_exported(folder):
        return None
    values = _read_json(folder / DESCRIPTION)
    try:
        if values["format"] != FORMAT:
            return None
        return Exported(
            config=SamConfig.from_dict(values["config"]), hash=str(values["hash"]), channels=values.get("channels")
        )
    except (AnymaskError, KeyError, TypeError):
        return None


def find_exported(name_or_path: str | Path) -> Path | None:
    """Return the folder of the graphs of a model by its name or path, None where they were not exported.

    Weights are not read, but for those in the package, whose hash must be that of which its graphs were made.
    """
    try:
        weights = find_weights(name_or_path)
    except AnymaskError:  # whoever loads it says what is wrong
        return None
    if isinstance(name_or_path, str) and name_or_path in EMBEDDED and _are_of(packaged_folder(), weights):
        return packaged_folder()
    if weights is None:
        return None
    noted = _read_json(graphs_home() / _SOURCES).get(str(weights.resolve()))
    if not isinstance(noted, dict) or noted.get("state") != _state(weights):
        return None
    folder = graphs_home() / str(noted.get("hash"))
    return folder if read_exported(folder) is not None else None


def note_source(name_or_path: str | Path, folder: Path) -> None:
    """Note of which file or folder of weights the graphs of a folder of the cache are, for `find_exported`."""
    weights = find_weights(name_or_path)
    if weights is None or folder.parent != graphs_home():
        return
    noted = _read_json(graphs_home() / _SOURCES)
    noted[str(weights.resolve())] = {"state": _state(weights), "hash": folder.name}
    try:
        write_text_atomic(graphs_home() / _SOURCES, json.dumps(noted, indent=1) + "\n")
    except OutputError as error:  # they are found by the weights' own hash all the same
        logger.debug("%s", error)


def export_graphs(model: Sam) -> Path:
    """Export the graphs of a model unless they are there, and return their folder.

    This takes from ten seconds to minutes and the packages of the extra `export`, but only once. Raises InputError
    if the model cannot be exported, OutputError if the cache folder cannot be written to.
    """
    from filelock import FileLock

    from anymask.checkpoints.load import save_model

    folder = graphs_folder(model)
    if folder == packaged_folder():
        return folder
    make_folder(folder)
    with FileLock(folder / ".lock"):  # of several processes one exports, and the others wait for it
        if read_exported(folder) is None:
            logger.info("exporting the graphs of a model into %s", folder)
            with tempfile.TemporaryDirectory(prefix=".weights-", dir=folder) as staging:
                weights = Path(staging) / "model.safetensors"
                save_model(model, weights)
                _export(weights, folder)
    return folder


def _export(weights: Path, folder: Path) -> None:
    parts = [argument for name in _EXPORTED for argument in ("--part", name)]
    command = [sys.executable, "-m", "anymask", "export", "onnx", str(weights), "-o", str(folder), *parts, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        said = ended.stderr.strip().splitlines()
        reason = said[-1].removeprefix("anymask: ") if said else f"the process ended with {ended.returncode}"
        raise InputError(f"the model's graphs cannot be exported ({reason}); the runtime torch needs none")


def _are_of(folder: Path, weights: Path | None) -> bool:
    """Whether the package's graphs are those of its weights, or there are no weights to compare with."""
    if read_exported(folder) is None:
        return False
    if weights is None:
        return True
    try:
        kept = (folder / SOURCE_HASH).read_text().strip()
    except OSError:
        return False
    return kept == file_hash(weights)


def file_hash(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state(weights: Path) -> list[list[Any]]:
    """Return what changes when a file, or those of a folder, are replaced."""
    parts = sorted(weights.iterdir()) if weights.is_dir() else [weights]
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in parts if path.is_file()]


def _read_json(path: Path) -> dict[str, Any]:
    """Read an object; an empty one where there is no such file, or a damaged one."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
