"""Where weights lie: with the package, in the cache of downloads, or where a path says."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from anymask.checkpoints.hub import CATALOGUE, download, find_entry, locate
from anymask.checkpoints.repositories import OWN_FILE, fetch_repository, is_repository
from anymask.errors import CheckpointError, UnknownModelError

EMBEDDED = {"anymask-s": "anymask-s.safetensors"}
"""Models that come with the package, by the names of their files in `weights/`."""

_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")


def embedded_path(name: str) -> Path | None:
    """Return the file of a model that comes with the package, or None if this build has no such file."""
    if name not in EMBEDDED:
        return None
    path = Path(str(files("anymask"))) / "weights" / EMBEDDED[name]
    return path if path.is_file() else None


def find_weights(name_or_path: str | Path) -> Path | None:
    """Return the file or folder of a model by its name or path if it is on this machine; nothing is downloaded."""
    name = str(name_or_path)
    if isinstance(name_or_path, str) and name in EMBEDDED:
        return embedded_path(name)
    if isinstance(name_or_path, str) and name in CATALOGUE:
        return locate(name)
    return Path(name_or_path) if Path(name_or_path).exists() else None


def resolve(name_or_path: str | Path) -> Path:
    """Return the file or folder of a model by its name or path; a published one is downloaded if it is not there.

    Raises:
        UnknownModelError: it is neither a model's name nor a file or folder.
        CheckpointError: there is no such file or folder.
        DownloadError: it is not on this machine and cannot be fetched.
    """
    name, path = str(name_or_path), Path(name_or_path)
    if isinstance(name_or_path, str) and name in EMBEDDED:
        embedded = embedded_path(name)
        if embedded is None:
            raise CheckpointError(
                f"{name}: its weights are not in this build of anymask; name a published model, such as "
                f"mobile-sam, or give a checkpoint's path"
            )
        return embedded
    if isinstance(name_or_path, str) and name in CATALOGUE:
        return download(name)
    if path.is_dir() and (path / OWN_FILE).is_file():
        return path / OWN_FILE
    if path.exists() or isinstance(name_or_path, Path):
        return path
    if is_repository(name):
        return fetch_repository(name)
    if os.sep in name or "/" in name or path.suffix.lower() in _SUFFIXES:
        raise CheckpointError(f"{name}: there is no such file or folder")
    try:
        return download(find_entry(name))
    except UnknownModelError as error:
        raise UnknownModelError(f"{error}; {', '.join(EMBEDDED)} is built in; a path would do as well") from error
