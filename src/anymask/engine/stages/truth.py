"""True masks that the simulated annotator knows, by the name of the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool

from anymask.data.open import open_data
from anymask.data.sample import AnnotatedSet
from anymask.engine.store import StoredImage
from anymask.errors import DataError


class Truth:
    """True masks of images, in data of any kind (`anymask.data.open.open_data`).

    An image is known by its file's name, without folder and suffix. Raises DataError where two have one name.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._places: dict[str, tuple[AnnotatedSet, int]] = {}
        for each in map(open_data, paths):
            for index in range(len(each)):
                name = PurePosixPath(each.key(index)).stem
                if name in self._places:
                    raise DataError(f"two images of the true masks are called {name}: rename one")
                self._places[name] = (each, index)

    def __contains__(self, image: StoredImage) -> bool:
        """Whether the image's true masks are known."""
        return PurePosixPath(image.name).stem in self._places

    def masks(self, image: StoredImage) -> Bool[np.ndarray, "m h w"]:
        """Return an image's true masks, the largest first, which stand for the most prominent; raises DataError."""
        name = PurePosixPath(image.name).stem
        if name not in self._places:
            raise DataError(f"{image.name}: its true masks are not known; name the tar or folder that has them")
        files, index = self._places[name]
        found = files.sample(index).masks
        if found.shape[1:] != image.size:
            raise DataError(f"{image.name}: its true masks are of another size than the image")
        areas = found.sum((1, 2))
        order = [i for i in np.argsort(-areas, kind="stable").tolist() if areas[i]]
        return np.asarray(found[order])
