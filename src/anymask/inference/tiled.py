"""Masks of images too large to be seen at once, such as aerial and microscopy ones: tile by tile, then joined.

Tiles overlap. What two tiles see of one object agrees in the zone that they share, so masks are matched by their IoU
there and joined across any number of tiles. Only windows of the image go to the model, and masks are run lengths
throughout: no array of the image's size is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
from jaxtyping import Bool, UInt8

from anymask.data.images import ImageSource
from anymask.errors import InputError
from anymask.geometry import boxes as box_geometry
from anymask.geometry import crops, nms, rle
from anymask.inference.answers import read
from anymask.inference.automatic import AutomaticMasks
from anymask.inference.automatic_options import AutomaticOptions, is_number, is_whole
from anymask.inference.mask_record import MaskRecord
from anymask.inference.pieces import Piece, join_pieces
from anymask.model import Sam

OnTile: TypeAlias = Callable[[int, int], object]
"""Told how many tiles are done, and of how many."""


class Windows(Protocol):
    """An image of which only parts are read."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""

    def read(self, box: crops.Box) -> UInt8[np.ndarray, "h w 3"]:
        """Return the RGB pixels of an xyxy box."""


class TiledMasks:
    """Makes masks of everything in an image of any size, tile by tile.

    `tile` is the tiles' side and `overlap` what neighbours share at least, in pixels of the image. Masks of two tiles
    are of one object if their IoU in the zone that both tiles see is at least `merge_iou`; a mask is matched with one
    mask of another tile at most, and two masks of one tile that overlap are never joined. Of one object's masks the
    best that no inner border of its tile cuts is taken where it is about all of the object, else their union.

    A mask that an inner border cuts and that no other tile's continues is kept if at least `min_own` of its pixels
    are seen by its own tile alone; otherwise another tile sees more of that place, and did not find the mask. 0
    keeps all of them, and above 1 drops all.

    `max_area_fraction` is of the image, not of a tile. An image may have `rle.MAX_PIXELS`, 2^32 - 1, at most. Raises
    InputError for numbers that make no sense.
    """

    def __init__(
        self,
        model: Sam,
        options: AutomaticOptions | None = None,
        *,
        tile: int = 1024,
        overlap: int = 256,
        merge_iou: float = 0.5,
        min_own: float = 0.5,
        **overrides: Any,
    ) -> None:
        if not (is_whole(tile) and is_whole(overlap) and 0 <= overlap < tile):
            raise InputError(f"tiles of {tile} pixels cannot overlap by {overlap}: give 0 to the tile's side - 1")
        if not (is_number(merge_iou) and is_number(min_own) and 0 < merge_iou <= 1 and min_own >= 0):
            raise InputError(
                f"merge_iou is {merge_iou} and min_own {min_own}; the first must be above 0 and at most 1, "
                "the second 0 or more"
            )
        self.options = (options or AutomaticOptions()).replace(**overrides)
        self.automatic = AutomaticMasks(model, replace(self.options, max_area_fraction=1.0))
        self.tile, self.overlap = int(tile), int(overlap)
        self.merge_iou, self.min_own = float(merge_iou), float(min_own)

    def generate(self, image: ImageSource | Windows, *, on_tile: OnTile | None = None) -> list[MaskRecord]:
        """Return the masks of one image, in its own frame; an empty list where none is confident.

        A uint8 array (a `numpy.memmap` too), any array where the model has a mapping of channels, and a `Windows` are
        read window by window; what else the model reads is decoded first. `crop_box` is the part of the image that the
        tiles saw together. Raises ImageError, or InputError for an image of too many pixels.
        """
        source = as_windows(self.automatic.model, image)
        rle.check_pixels(source.size)
        tiles = crops.tiles(source.size, self.tile, self.overlap)
        pieces: list[Piece] = []
        found = self.automatic.generate_many(source.read(box) for box in tiles)
        for number, (box, records) in enumerate(zip(tiles, found, strict=True)):
            cut = self._cut(records, box, source.size)
            pieces += [
                Piece(record=record, tile=number, is_cut=bool(is_cut))
                for record, is_cut in zip(records, cut, strict=True)
            ]
            if on_tile is not None:
                on_tile(number + 1, len(tiles))
        joined = join_pieces(pieces, tiles, source.size, merge_iou=self.merge_iou, min_own=self.min_own)
        largest = self.options.max_area_fraction * source.size[0] * source.size[1]
        small = [record for record in joined if self.options.max_area_fraction == 1 or record.area < largest]
        return self._without_repeats(small) if len(tiles) > 1 else small

    def _cut(self, records: list[MaskRecord], box: crops.Box, size: tuple[int, int]) -> Bool[np.ndarray, " n"]:
        """Say which masks come so near to an inner border of their tile that it may cut them.

        Near is two cells of the model's masks: so far may an outline be off that ends at the border.
        """
        cell = max(box[2] - box[0], box[3] - box[1]) / self.automatic.model.mask_size
        found = box_geometry.xywh_to_xyxy(np.array([record.bbox for record in records], np.int64).reshape(-1, 4))
        return box_geometry.is_near_crop_edge(found, box, (0, 0, size[1], size[0]), tolerance=2 * cell)

    def _without_repeats(self, records: list[MaskRecord]) -> list[MaskRecord]:
        """Drop masks that overlap a more confident one though nothing joined them, as those of crops are dropped."""
        scores = np.array([record.predicted_iou for record in records], np.float64)
        threshold = self.options.crop_nms_thresh
        if self.options.nms == "mask":
            kept = nms.mask_nms([record.rle for record in records], scores, threshold)
        else:
            corners = box_geometry.xywh_to_xyxy(np.array([record.bbox for record in records], np.int64).reshape(-1, 4))
            kept = nms.box_nms(corners, scores, threshold)
        return [records[index] for index in sorted(kept.tolist())]


@dataclass(frozen=True, slots=True)
class _ArrayWindows:
    """Windows of an array, each read as the model does."""

    model: Sam
    pixels: np.ndarray[Any, Any]

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]

    def read(self, box: crops.Box) -> UInt8[np.ndarray, "h w 3"]:
        x0, y0, x1, y1 = box
        return read(self.model, np.ascontiguousarray(self.pixels[y0:y1, x0:x1]))


def as_windows(model: Sam, image: ImageSource | Windows) -> Windows:
    """Return what reads windows of an image, in colours as the model wants them. Raises ImageError.

    Arrays of 8 bits, and all arrays where the model has a mapping of channels, are left where they are; without one
    the brightness of deeper ones depends on all of the image.
    """
    if isinstance(image, np.ndarray):
        by_pixel = image.dtype == np.uint8 or model.channels is not None
        sound = by_pixel and image.ndim in (2, 3) and image.size > 0
        return _ArrayWindows(model, image if sound else read(model, image))
    if hasattr(image, "size") and hasattr(image, "read") and isinstance(image.size, tuple):
        return image  # type: ignore[return-value]  # a PIL image has a size and no read
    return _ArrayWindows(model, read(model, image))  # type: ignore[arg-type]
