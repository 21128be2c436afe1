"""Named checkpoints on this machine: found in the cache, downloaded into it once, verified before use."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from anymask.checkpoints.catalogue import CATALOGUE, ModelEntry, RemoteFile, find_entry
from anymask.data.files import cache_folder, write_text_atomic
from anymask.errors import DownloadError, OutputError

if TYPE_CHECKING:
    import httpx

    from anymask.checkpoints.transfer import Progress, Retry

__all__ = ["CATALOGUE", "ModelEntry", "RemoteFile", "cache_folder", "download", "find_entry", "is_offline", "locate"]

_log = logging.getLogger(__name__)


def is_offline() -> bool:
    """Whether $ANYMASK_OFFLINE forbids the network (1, true, yes or on)."""
    return os.environ.get("ANYMASK_OFFLINE", "").strip().lower() in ("1", "true", "yes", "on")


def locate(model: str | ModelEntry) -> Path | None:
    """The model's file, or folder of files, in the cache, if all of it is there and is what was published.

    A file is hashed when it comes; after that a note beside it (size, time, hash) is enough, until it changes.

    Raises:
        UnknownModelError: no model has that name.
    """
    entry = find_entry(model) if isinstance(model, str) else model
    folder = _model_folder(entry)
    if not all(_is_proved(file, folder / file.name) for file in entry.files):
        return None
    return folder if entry.is_folder else folder / entry.files[0].name


def download(
    model: str | ModelEntry,
    *,
    progress: Progress | None = None,
    offline: bool = False,
    client: httpx.Client | None = None,
    retry: Retry | None = None,
) -> Path:
    """The model's file or folder in the cache, downloaded if it is not there yet.

    An interrupted download is resumed, in this call or the next. Two processes that want the same model download it
    once: the second waits. `offline`, or ANYMASK_OFFLINE=1, never touches the network; $HF_ENDPOINT names a mirror of
    Hugging Face. `progress` is called with a file's name, the bytes that are there and the bytes in all where known.
    `client` and `retry` are for proxies, and for tests.

    Raises:
        UnknownModelError: no model has that name.
        DownloadError: not in the cache and offline, refused, interrupted too often, not what was published, or
            the cache cannot be written.
    """
    entry = find_entry(model) if isinstance(model, str) else model
    found = locate(entry)
    if found is not None:
        return found
    folder = _model_folder(entry)
    if offline or is_offline():
        raise DownloadError(
            f"{entry.name} is not in the cache ({folder}) and the network may not be used; "
            f"run `anymask models download {entry.name}` where there is one, or copy the file there"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _download_missing(entry, folder, progress, client, retry)
    except OSError as error:
        reason = error.strerror or error
        raise DownloadError(
            f"{entry.name}: the cache folder {folder} cannot be written ({reason}); set ANYMASK_HOME to one that can"
        ) from error
    return folder if entry.is_folder else folder / entry.files[0].name


def _download_missing(
    entry: ModelEntry,
    folder: Path,
    progress: Progress | None,
    client: httpx.Client | None,
    retry: Retry | None,
) -> None:
    # Imported here: whoever has the weights already need not pay for an HTTP client.
    import filelock
    import httpx

    from anymask.checkpoints.transfer import Retry, fetch

    own_client = None if client else httpx.Client(timeout=httpx.Timeout(30.0, connect=15.0))
    http = client or own_client
    assert http is not None
    lock = filelock.FileLock(folder / ".lock")
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            _log.warning("%s: another process is downloading it; waiting", entry.name)
            lock.acquire()
        for file in entry.files:
            target = folder / file.name
            if not _is_proved(file, target):
                fetch(_mirrored(file), target, client=http, progress=progress, retry=retry or Retry())
                _write_proof(file, target)
    finally:
        lock.release()
        if own_client is not None:
            own_client.close()


def _model_folder(entry: ModelEntry) -> Path:
    return cache_folder() / "models" / entry.name.replace("/", "--")


def _mirrored(file: RemoteFile) -> RemoteFile:
    """The same file at $HF_ENDPOINT, where that is set; its hash does not change."""
    mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    official = "https://huggingface.co/"
    if not mirror or not file.url.startswith(official):
        return file
    return RemoteFile(url=f"{mirror}/{file.url.removeprefix(official)}", sha256=file.sha256, size=file.size)


def _is_proved(file: RemoteFile, path: Path) -> bool:
    """Whether `path` is the published file, by the note beside it or, without one, by its content."""
    try:
        if not path.is_file():
            return False
        if _read_proof(path) == _proof(file, path):
            return True
        if file.mismatch(path):
            return False
    except PermissionError:  # what cannot be read is as good as absent
        return False
    _write_proof(file, path)
    return True


def _proof(file: RemoteFile, path: Path) -> Mapping[str, object]:
    status = path.stat()
    return {"sha256": file.sha256, "size": status.st_size, "modified_ns": status.st_mtime_ns}


def _proof_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.verified")


def _read_proof(path: Path) -> object:
    try:
        return json.loads(_proof_path(path).read_bytes())
    except (OSError, ValueError):
        return None


def _write_proof(file: RemoteFile, path: Path) -> None:
    try:
        write_text_atomic(_proof_path(path), json.dumps(_proof(file, path)))
    except OutputError as error:  # a cache that is shared and read-only: hash again next time
        _log.debug("%s", error)
