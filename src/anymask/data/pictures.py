"""Images alone, as samples whose one mask is the whole image, so that they can be varied and batched as any others."""

from __future__ import annotations

import numpy as np

from anymask.data.cache import ImageCache
from anymask.data.images import read_image
from anymask.data.readers.images import ImageSet
from anymask.data.sample import Sample


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

    def signature(self) -> str:
        """Return what changes where the images or their masks do."""
        return self.files.signature()

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image; raises AnymaskError for one that is broken."""
        encoded = self.files.image_bytes(index)
        image = read_image(encoded) if self.cache is None else self.cache.read(encoded)
        return Sample(key=self.key(index), image=image, masks=np.ones((1, *image.shape[:2]), bool))
