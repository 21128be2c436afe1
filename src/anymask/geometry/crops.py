"""Crops of an image, for zooming in and for tiling, and the way back from a crop to its image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Shaped

from anymask.errors import InputError

DEFAULT_OVERLAP = 512 / 1500  # of the image's short side (SAM's public code)

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A part of an image: its xyxy `box` in the image's pixels, and its `layer`, 0 being the image itself."""

    box: Box
    layer: int


def layered(size: tuple[int, int], num_layers: int, overlap: float = DEFAULT_OVERLAP) -> list[Crop]:
    """Return the whole image of `size` = (height, width) and, for each further layer i, 2^i x 2^i overlapping
    crops.

    `overlap` is the overlap in the first layer as a fraction of the short side; it halves with each layer.
    Crops go column by column. In images with fewer pixels than crops the public SAM code gives some crops no
    area; those are left out here (SAM, app. B).
    """
    height, width = size
    if height < 1 or width < 1:
        raise InputError(f"cannot crop an image of {height} x {width} pixels: every side must be at least 1")
    crops = [Crop(box=(0, 0, width, height), layer=0)]
    for layer in range(1, num_layers + 1):
        per_side = 2**layer
        shared = int(overlap * min(size) * (2 / per_side))
        crop_width, crop_height = (math.ceil((shared * (per_side - 1) + side) / per_side) for side in (width, height))
        for column, row in product(range(per_side), repeat=2):
            x0, y0 = column * (crop_width - shared), row * (crop_height - shared)
            if x0 < width and y0 < height:
                box = (x0, y0, min(x0 + crop_width, width), min(y0 + crop_height, height))
                crops.append(Crop(box=box, layer=layer))
    return crops


def tiles(size: tuple[int, int], tile: int, overlap: int) -> list[Box]:
    """Return the xyxy boxes, row by row, of tiles that cover an image of `size` = (height, width).

    All tiles are `tile` pixels square, unless the image is smaller; neighbours share at least `overlap`
    pixels, the last of a row or column more, since it ends at the image's border. Raises InputError unless 0
    <= overlap < tile.
    """
    if not 0 <= overlap < tile:
        raise InputError(f"tiles of {tile} pixels cannot overlap by {overlap}: give 0 to {tile - 1}")
    height, width = size
    return [
        (x0, y0, min(x0 + tile, width), min(y0 + tile, height))
        for y0 in _starts(height, tile, overlap)
        for x0 in _starts(width, tile, overlap)
    ]


def _starts(side: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles along one side begin."""
    if side < 1:
        raise InputError(f"cannot tile an image with a side of {side} pixels: every side must be at least 1")
    return [*range(0, side - tile, tile - overlap), max(side - tile, 0)]


def uncrop_boxes(boxes: Shaped[np.ndarray, "*n 4"], crop: Box) -> Shaped[np.ndarray, "*n 4"]:
    """Move xyxy boxes from a crop's frame to its image's."""
    return np.asarray(boxes + np.array([crop[0], crop[1], crop[0], crop[1]], boxes.dtype))
