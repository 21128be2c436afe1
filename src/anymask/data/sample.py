"""One image with its masks: the unit that every data source yields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int8, UInt8

from anymask.errors import DataError

WHOLE, PART, SUBPART = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An RGB image and its boolean masks, with their place in the whole/part/subpart hierarchy where it is known.

    Shapes: image (h, w, 3) uint8 RGB; masks (m, h, w) bool in the image's own frame; levels (m,) with 0 whole,
    1 part, 2 subpart; parents (m,) the index of the mask a mask belongs to, -1 for none. `levels` and `parents`
    are None where the source does not know them. Raises DataError when the shapes do not fit together.
    """

    key: str
    image: UInt8[np.ndarray, "h w 3"]
    masks: Bool[np.ndarray, "m h w"]
    levels: Int8[np.ndarray, " m"] | None = None
    parents: Int[np.ndarray, " m"] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        """Check that image, masks and hierarchy agree."""
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise DataError(
                f"sample {self.key!r}: the image is {self.image.dtype} {self.image.shape}; expected uint8 (h, w, 3)"
            )
        if self.masks.ndim != 3 or self.masks.dtype != np.bool_ or self.masks.shape[1:] != self.image.shape[:2]:
            raise DataError(
                f"sample {self.key!r}: the masks are {self.masks.dtype} {self.masks.shape}; expected bool "
                f"(m, {self.image.shape[0]}, {self.image.shape[1]})"
            )
        for name, values in (("levels", self.levels), ("parents", self.parents)):
            if values is not None and values.shape != (len(self.masks),):
                raise DataError(
                    f"sample {self.key!r}: {name} has shape {values.shape}; expected ({len(self.masks)},), one a mask"
                )
        if self.parents is not None and len(self.parents):
            if self.parents.min() < -1 or self.parents.max() >= len(self.masks):
                raise DataError(
                    f"sample {self.key!r}: parents must be -1 or an index below {len(self.masks)}, "
                    f"got {self.parents.min()} to {self.parents.max()}"
                )
