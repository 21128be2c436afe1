"""Images alone, with random access: encoded, as they lie in files, or as samples whose one mask is the whole image."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np

from anymask.data.cache import ImageCache
from anymask.data.images import read_image
from anymask.data.sample import AnnotatedSet, Sample, fingerprint
from anymask.errors import DataError


class ImageSet(Protocol):
    """Encoded images with random access, such as `TarFiles(..., labelled=False)`."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def key(self, index: int) -> str:
        """Return an image's name."""
        ...

    def fingerprint(self) -> str:
        """Return what changes where the images do."""
        ...

    def image_bytes(self, index: int) -> bytes:
        """Return the encoded image; raises DataError."""
        ...


class ListedImages:
    """Images by their paths."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._paths)

    def key(self, index: int) -> str:
        """Return the image's path."""
        return str(self._paths[index])

    def fingerprint(self) -> str:
        """Return what changes where the images do."""
        return fingerprint(self._paths)

    def image_bytes(self, index: int) -> bytes:
        """Return the encoded image; raises DataError."""
        return _bytes(self._paths[index])


class UnlabelledView:
    """The images of a labelled set."""

    def __init__(self, files: AnnotatedSet) -> None:
        self.files = files

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def key(self, index: int) -> str:
        """Return the image's name in the set."""
        return self.files.key(index)

    def fingerprint(self) -> str:
        """Return what changes where the images or their masks do."""
        return self.files.fingerprint()

    def image_bytes(self, index: int) -> bytes:
        """Return the encoded image; raises DataError."""
        source = self.files.source(index)
        return source if isinstance(source, bytes) else _bytes(source)


class JoinedImages:
    """Sets of images, one after the other."""

    def __init__(self, sets: Sequence[ImageSet]) -> None:
        self.sets = list(sets)
        self._ends = list(accumulate(len(each) for each in self.sets))

    def __len__(self) -> int:
        """Return the number of images."""
        return self._ends[-1] if self._ends else 0

    def key(self, index: int) -> str:
        """Return the image's name in its set."""
        files, place = self._place(index)
        return files.key(place)

    def fingerprint(self) -> str:
        """Return what changes where the images do."""
        return fingerprint([each.fingerprint() for each in self.sets])

    def image_bytes(self, index: int) -> bytes:
        """Return the encoded image; raises DataError."""
        files, place = self._place(index)
        return files.image_bytes(place)

    def _place(self, index: int) -> tuple[ImageSet, int]:
        number = bisect_right(self._ends, index)
        return self.sets[number], index - (self._ends[number - 1] if number else 0)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


class Pictures:
    """Images as samples of one mask that covers everything; annotations beside them are not read."""

    def __init__(self, files: ImageSet, *, cache: ImageCache | None = None) -> None:
        self.files, self.cache = files, cache

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def key(self, index: int) -> str:
        """Return an image's name."""
        return self.files.key(index)

    def fingerprint(self) -> str:
        """Return what changes where the images or their masks do."""
        return self.files.fingerprint()

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image; raises AnymaskError for one that is broken."""
        encoded = self.files.image_bytes(index)
        image = read_image(encoded) if self.cache is None else self.cache.read(encoded)
        return Sample(key=self.key(index), image=image, masks=np.ones((1, *image.shape[:2]), bool))
