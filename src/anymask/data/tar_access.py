"""Where a tar lies, here or on a server: opened once to be indexed, then read a range of bytes at a time.

A remote tar's index is kept on this machine; making it takes a small request for each member's header.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from anymask.data.files import make_folder, write_text_atomic
from anymask.data.sample import fingerprint
from anymask.errors import DataError

Range = tuple[int, int]
"""Offset and length, in bytes."""

_HEADERS = 1 << 15
"""Bytes asked for at a time while a remote tar is indexed."""


class LocalTar:
    """A file, read through a memory map: one has no position, which forked workers and threads would share."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        self._map: mmap.mmap | None = None

    def __str__(self) -> str:
        """Return the path."""
        return str(self.path)

    def identity(self) -> str:
        """Name this state of the tar: its file's name, size and time of change."""
        return fingerprint(self.path)

    def open(self) -> Any:
        """Open the file."""
        return self.path.open("rb")

    def read(self, place: Range) -> bytes:
        """Return a range of the file."""
        if self._map is None:
            try:
                with self.path.open("rb") as file:
                    self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise DataError(f"{self.path} cannot be read: {error}") from error
        data = self._map[place[0] : place[0] + place[1]]
        if len(data) != place[1]:
            raise DataError(f"{self.path} ends in the middle of a member; copy it again")
        return data

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the map; another process makes its own."""
        return {**self.__dict__, "_map": None}


class RemoteTar:
    """A tar at a URL of any kind that fsspec knows: https://, s3:// (with s3fs), gs:// (with gcsfs) and others."""

    def __init__(self, url: str) -> None:
        self.url, self.name = url, PurePosixPath(url).name
        self._opened: tuple[int, Any, str] | None = None

    def __str__(self) -> str:
        """Return the URL."""
        return self.url

    def open(self) -> Any:
        """Open it, to be read a few headers at a time."""
        system, path = self._system()
        return system.open(path, "rb", block_size=_HEADERS)

    def read(self, place: Range) -> bytes:
        """Return a range of it, in one request."""
        system, path = self._system()
        try:
            data: bytes = system.cat_file(path, start=place[0], end=place[0] + place[1])
        except Exception as error:  # each file system of fsspec raises its own kinds
            raise DataError(f"{self.url} cannot be read: {type(error).__name__}: {error}") from error
        if len(data) != place[1]:
            raise DataError(f"{self.url} gave {len(data)} bytes for {place[1]}: has it changed since it was indexed?")
        return data

    def identity(self) -> str:
        """Name this state of the tar: its URL, its size, and its tag or date where the server tells them."""
        system, path = self._system()
        try:
            found = system.info(path)
        except FileNotFoundError as error:
            raise DataError(f"there is no tar {self.url}") from error
        except Exception as error:  # each file system of fsspec raises its own kinds
            raise DataError(f"{self.url} cannot be reached: {type(error).__name__}: {error}") from error
        told = [found.get(name) for name in ("size", "ETag", "etag", "LastModified", "mtime")]
        return hashlib.sha256(json.dumps([self.url, *map(str, told)]).encode()).hexdigest()[:24]

    def _system(self) -> tuple[Any, str]:
        """Return the file system and the path in it; a forked process opens its own."""
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                import fsspec

                system, path = fsspec.core.url_to_fs(self.url, skip_instance_cache=True)
            except (ImportError, ValueError) as error:
                raise DataError(f"{self.url} cannot be opened: {error}") from error
            self._opened = os.getpid(), system, path
        return self._opened[1], self._opened[2]

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the connection; another process makes its own."""
        return {**self.__dict__, "_opened": None}


def tar_place(path: str | Path) -> LocalTar | RemoteTar:
    """Tell a URL from a path."""
    return RemoteTar(str(path)) if is_url(path) else LocalTar(Path(path))


def is_url(path: str | Path) -> bool:
    """Whether it names something on a server."""
    return isinstance(path, str) and "://" in path


def kept_index(tar: RemoteTar, folder: Path) -> Path:
    """Return the file of a remote tar's index, there or not."""
    return folder / f"{PurePosixPath(tar.name).stem}-{tar.identity()}.json"


def read_index(path: Path) -> list[list[Any]] | None:
    """Return the rows of an index, or None where there is none that can be read."""
    try:
        rows = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return rows if isinstance(rows, list) else None


def write_index(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    """Keep an index."""
    make_folder(path.parent)
    write_text_atomic(path, json.dumps(rows))
