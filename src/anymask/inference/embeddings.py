"""Image embeddings kept on disk: an image that was encoded once is not encoded again.

In the cache, one safetensors file per image and model, float16. Several processes may share a folder: files appear
whole (written beside, then renamed), never change, and may vanish at any time. For other programs, single ones as .npy.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from anymask.data.files import write_bytes_atomic
from anymask.errors import ImageError, OutputError
from anymask.geometry import arrays
from anymask.geometry.arrays import Array
from anymask.model import Embedding

_SUFFIX = ".safetensors"
_UNFINISHED = ".unfinished"
_ABANDONED_SECONDS = 3600.0
"""An unfinished file older than this belongs to a process that died."""


def embedding_key(image: UInt8[np.ndarray, "h w 3"], model: str) -> str:
    """Return the name of an image's embedding: a hash of its size, its pixels, and what `model` says."""
    digest = hashlib.sha256(f"{image.shape} {model} ".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


class EmbeddingCache:
    """Embeddings in a folder, the least recently used deleted beyond `limit_bytes`.

    A damaged entry counts as missing and is deleted. float16 keeps three digits, which moves masks by less
    than one pixel in a thousand. Raises `OutputError` if the folder cannot be made or written to; if it can no
    longer be written to later, embeddings are only not kept, with one warning.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        limit_bytes: int = 10 * 2**30,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if limit_bytes <= 0:
            raise OutputError(f"the embedding cache is limited to {limit_bytes} bytes: give it at least 1")
        self.folder = Path(folder)
        self.limit_bytes = limit_bytes
        self._clock = clock
        self._warned = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(f"{self.folder}: no folder to keep embeddings in ({reason})") from error

    def get(self, key: str) -> Embedding | None:
        """Return an embedding as NumPy's arrays of float16, or None; it then counts as just used."""
        from safetensors import SafetensorError

        path = self._path(key)
        try:
            tensors = _read(path)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, SafetensorError, ValueError):  # RuntimeError: evicted while it was being opened
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            self._touch(path)
        return Embedding.from_tensors(tensors)

    def put(self, key: str, embedding: Embedding) -> None:
        """Keep an embedding, unless it alone is over the limit or beyond float16's range."""
        from safetensors.numpy import save

        halves = {name: _half(tensor) for name, tensor in embedding.tensors().items()}
        if not all(np.isfinite(half).all() for half in halves.values()):
            return
        data = save(halves, metadata={"crc32": str(_checksum(halves))})
        if len(data) > self.limit_bytes:
            return
        try:
            self._write(self._path(key), data)
            self._evict()
        except OSError as error:
            if not self._warned:
                self._warned = True
                warnings.warn(f"{self.folder}: embeddings are not kept ({error.strerror or error})", stacklevel=2)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _write(self, path: Path, data: bytes) -> None:
        handle, name = tempfile.mkstemp(suffix=_UNFINISHED, dir=self.folder)
        unfinished = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            self._touch(unfinished)
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def _touch(self, path: Path) -> None:
        """Note the time of use as the time of modification: many file systems do not note the time of access."""
        now = self._clock()
        os.utime(path, (now, now))

    def _evict(self) -> None:
        """Delete the least recently used entries beyond the limit; another process may be doing the same."""
        entries: list[tuple[float, int, str]] = []
        with os.scandir(self.folder) as found:
            for entry in found:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat()
                    if entry.name.endswith(_SUFFIX):
                        entries.append((status.st_mtime, status.st_size, entry.path))
                    elif entry.name.endswith(_UNFINISHED) and status.st_mtime < self._clock() - _ABANDONED_SECONDS:
                        os.unlink(entry.path)
        excess = sum(size for _, size, _ in entries) - self.limit_bytes
        for _, size, path in sorted(entries):
            if excess <= 0:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            excess -= size


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Read an entry's tensors; raises ValueError or SafetensorError where they are not what was written."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        stored = (file.metadata() or {}).get("crc32")
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    if "features" not in tensors or stored != str(_checksum(tensors)):
        raise ValueError(f"{path}: damaged")
    return tensors


def _half(tensor: Array) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # whoever asks looks for what is not finite
        return np.ascontiguousarray(arrays.to_numpy(arrays.float32(tensor)), np.float16)


def _checksum(tensors: dict[str, NDArray[Any]]) -> int:
    """CRC of all bytes: a safetensors file has none, and would not notice a flipped bit."""
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].data, crc)
    return crc


def check_npy_name(path: str | os.PathLike[str]) -> None:
    """Raise OutputError unless the file's name ends in .npy."""
    if Path(path).suffix.lower() != ".npy":
        raise OutputError(f"{path}: an embedding is written as .npy; give a name that ends so")


def write_npy(path: str | os.PathLike[str], embedding: Embedding) -> list[Path]:
    """Write an embedding as float32 .npy of shape (b, c, h, w), and what more a model has of an image beside it.

    That is <stem>_hq.npy of SAM-HQ, <stem>_skip2.npy and <stem>_skip4.npy of models with skips. Returns the paths;
    raises OutputError.
    """
    check_npy_name(path)
    written = []
    for name, tensor in embedding.tensors().items():
        stored = io.BytesIO()
        np.save(stored, arrays.to_numpy(arrays.float32(tensor)))
        written.append(_npy_path(path, name))
        write_bytes_atomic(written[-1], stored.getvalue())
    return written


def read_npy(path: str | os.PathLike[str]) -> Embedding:
    """Read what `write_npy` wrote, or any .npy of one embedding; raises ImageError if it is none."""
    beside = {name: _npy_path(path, name) for name in ("hq", "skip2", "skip4")}
    found = {name: _array(place) for name, place in beside.items() if place.is_file()}
    if ("skip2" in found) != ("skip4" in found):
        raise ImageError(f"{path}: of {beside['skip2'].name} and {beside['skip4'].name} one is missing")
    return Embedding.from_tensors({"features": _array(Path(path)), **found})


def _npy_path(path: str | os.PathLike[str], name: str) -> Path:
    return Path(path) if name == "features" else Path(path).with_name(f"{Path(path).stem}_{name}.npy")


def _array(path: Path) -> NDArray[np.float32]:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"{path}: cannot be read as .npy ({' '.join(str(error).split())})") from error
    if not isinstance(values, np.ndarray) or values.ndim != 4 or values.dtype.kind != "f":
        raise ImageError(f"{path}: holds no embedding, which is an array (1, channels, height, width) of floats")
    return values.astype(np.float32)
