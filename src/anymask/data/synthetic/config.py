"""What a synthetic scene is made from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from anymask.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SceneConfig:
    """The side of the square image in pixels, the limits on its masks, and the pictures to draw on.

    `min_area` (pixels) and `max_masks` bound what is kept; `nested` keeps only scenes where an object has a part with
    a subpart, all distinct (about one in five). `photographs` (RGB) give backgrounds, textures and palettes, `cutouts`
    (RGBA) objects and silhouettes. Both may be empty. Raises DataError on senseless values.
    """

    size: int = 256
    min_area: int = 32
    max_masks: int = 200
    nested: bool = False
    photographs: list[UInt8[np.ndarray, "h w 3"]] = field(default_factory=list)
    cutouts: list[UInt8[np.ndarray, "h w 4"]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse sizes and pictures that cannot be used."""
        if self.size < 32:
            raise DataError(f"the scene's size is {self.size} pixels; expected at least 32")
        if self.min_area < 1 or self.max_masks < 1:
            raise DataError(f"min_area {self.min_area} and max_masks {self.max_masks} must be at least 1")
        for name, pictures, channels in (("photograph", self.photographs, 3), ("cutout", self.cutouts, 4)):
            for index, picture in enumerate(pictures):
                if picture.ndim != 3 or picture.shape[2] != channels or picture.dtype != np.uint8:
                    raise DataError(
                        f"{name} {index} is {picture.dtype} {picture.shape}; expected uint8 (h, w, {channels})"
                    )
