"""Decoded images kept, so that no image is decoded twice: on disk, memory-mapped and shared by workers, or in RAM.

Worth its room where images are large: it saves 9 of 10 ms per image of 1500 × 2250 pixels, 1.2 of 1.5 ms at 640 × 640,
and next to nothing at 256 × 256, where masks take longer than the picture (one core, 2026).

An image is known by the hash of its file's bytes, so that nothing kept can be stale. Nothing is evicted: training
draws images at random, and a full cache that stays as it is is hit as often as one that swaps.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from anymask.data.files import write_bytes_atomic
from anymask.data.images import read_image
from anymask.errors import OutputError

_RECOUNT = 64  # images written between two looks at what the other workers have written


class ImageCache:
    """Decodes images, and keeps the pixels of those of at most `max_pixels` until `max_bytes` are kept.

    With a folder they are .npy files there, read through memory maps, by any number of processes at once, which may
    together exceed the bound by a few images each; without one, arrays in this process, a set for each worker. What
    is returned must not be written to. Raises OutputError if the folder cannot be made.
    """

    def __init__(self, max_bytes: int, folder: str | Path | None = None, *, max_pixels: int = 2**22) -> None:
        self.max_bytes, self.max_pixels = max_bytes, max_pixels
        self.folder = None if folder is None else Path(folder)
        self.hits = self.misses = 0
        self._arrays: dict[str, UInt8[np.ndarray, "h w 3"]] = {}
        self._bytes = self._written = 0
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"cannot make the cache's folder {folder}: {error.strerror}") from error
            self._bytes = self._on_disk(self.folder)

    def read(self, encoded: bytes) -> UInt8[np.ndarray, "h w 3"]:
        """Return the RGB pixels of an image file's bytes, read-only; raises ImageError as `read_image` does."""
        key = hashlib.blake2b(encoded, digest_size=16).hexdigest()
        kept = self._find(key)
        if kept is not None:
            self.hits += 1
            return kept
        self.misses += 1
        image = read_image(encoded)
        image.setflags(write=False)
        if image.shape[0] * image.shape[1] <= self.max_pixels and self._bytes + image.nbytes <= self.max_bytes:
            self._keep(key, image)
        return image

    def _find(self, key: str) -> UInt8[np.ndarray, "h w 3"] | None:
        if self.folder is None:
            return self._arrays.get(key)
        try:
            image: UInt8[np.ndarray, "h w 3"] = np.load(self.folder / f"{key}.npy", mmap_mode="r")
        except (OSError, ValueError):  # not there, or not ours: decoded again
            return None
        return image

    def _keep(self, key: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        self._bytes += image.nbytes
        if self.folder is None:
            self._arrays[key] = image
            return
        packed = io.BytesIO()
        np.save(packed, image)
        try:
            write_bytes_atomic(self.folder / f"{key}.npy", packed.getvalue())
        except OutputError:  # a full disk costs time, not the run
            self.max_bytes = 0
            return
        self._written += 1
        if self._written % _RECOUNT == 0:
            self._bytes = self._on_disk(self.folder)

    @staticmethod
    def _on_disk(folder: Path) -> int:
        return sum(file.stat().st_size for file in folder.glob("*.npy"))
