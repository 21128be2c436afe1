"""Repositories of the Hugging Face Hub as places of models, fetched by its own client into its own cache."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from anymask.checkpoints.hub import is_offline
from anymask.errors import CheckpointError, DownloadError, MissingPackageError

OWN_FILE = "anymask.safetensors"
"""Our file in a repository or a folder; it goes before a folder of transformers beside it."""

_NAME = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
_PATTERNS = ["*.safetensors", "*.json"]


def is_repository(name: str) -> bool:
    """Whether a name is one of a repository: org/name, perhaps with @revision; the suffixes of files are none."""
    return _NAME.fullmatch(name) is not None and not name.lower().endswith((".pth", ".pt", ".bin", ".safetensors"))


def fetch_repository(name: str, *, offline: bool = False) -> Path:
    """Return our file of a repository, or its folder where that is one of transformers; pickles are never fetched.

    Raises MissingPackageError without huggingface_hub, DownloadError where it cannot be fetched, and CheckpointError
    where it holds no model.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingPackageError(
            f"{name}: a repository of the Hub is fetched by huggingface_hub: pip install huggingface_hub; "
            "if you meant a path, there is no such file or folder"
        )
    from huggingface_hub import snapshot_download

    match = _NAME.fullmatch(name)
    assert match is not None
    alone = offline or is_offline()
    try:
        folder = snapshot_download(
            match["repository"], revision=match["revision"], allow_patterns=_PATTERNS, local_files_only=alone
        )
    except Exception as error:  # its client raises those of several packages
        reason = " ".join(str(error).split())[:200]
        where = "is not in this machine's cache, and the network is not to be touched" if alone else "cannot be fetched"
        raise DownloadError(
            f"{name}: there is no such file or folder, and as a repository of the Hub it {where} "
            f"({type(error).__name__}: {reason})"
        ) from error
    return model_in(Path(folder), name)


def model_in(folder: Path, name: str) -> Path:
    """Return our file in a folder, the folder itself if it is one of transformers, or its only file of weights.

    Raises CheckpointError where there is none of them.
    """
    own = folder / OWN_FILE
    if own.is_file():
        return own
    if (folder / "config.json").is_file():
        return folder
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    held = ", ".join(path.name for path in found) or "no .safetensors"
    raise CheckpointError(f"{name}: holds {held}; {OWN_FILE}, one other file, or a config.json would tell its model")
