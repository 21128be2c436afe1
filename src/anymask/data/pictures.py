"""Images alone, as samples whose one mask is the whole image, so that they can be varied and batched as any others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from anymask.data.cache import ImageCache
from anymask.data.folder import IMAGE_SUFFIXES
from anymask.data.images import read_image
from anymask.data.sample import Sample
from anymask.data.signatures import signature
from anymask.errors import DataError


class ImageFiles(Protocol):
    """Encoded images with random access, such as `TarFiles(..., labelled=False)`."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def key(self, index: int) -> str:
        """Return an image's name."""
        ...

    def signature(self) -> str:
        """Return what changes where the images do."""
        ...

    def image_bytes(self, index: int) -> bytes:
        """Return the encoded image."""
        ...


class FolderImages:
    """The images of folders, in the order of their names; raises DataError where a folder is missing or has none."""

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self._paths: list[Path] = []
        for folder in map(Path, folders):
            if not folder.is_dir():
                raise DataError(f"there is no folder {folder}")
            self._paths += sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES)
        if not self._paths:
            raise DataError(f"no image in {', '.join(map(str, folders))}")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._paths)

    def key(self, index: int) -> str:
        """Return the image's path."""
        return str(self._paths[index])

    def signature(self) -> str:
        """Return what changes where the images do."""
        return signature(self._paths)

    def image_bytes(self, index: int) -> bytes:
        """Return the encoded image; raises DataError."""
        try:
            return self._paths[index].read_bytes()
        except OSError as error:
            raise DataError(f"{self._paths[index]} cannot be read: {error.strerror or error}") from error


class Pictures:
    """Images as samples of one mask that covers everything; annotations beside them are not read."""

    def __init__(self, files: ImageFiles, *, cache: ImageCache | None = None) -> None:
        self.files, self.cache = files, cache

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def key(self, index: int) -> str:
        """Return an image's name."""
        return self.files.key(index)

    def signature(self) -> str:
        """Return what changes where the images or their masks do."""
        return self.files.signature()

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image; raises AnymaskError for one that is broken."""
        encoded = self.files.image_bytes(index)
        image = read_image(encoded) if self.cache is None else self.cache.read(encoded)
        return Sample(key=self.key(index), image=image, masks=np.ones((1, *image.shape[:2]), bool))
