"""Masks of images too large to be seen at once, such as aerial and microscopy ones: tile by tile, then joined.

Tiles overlap. What two tiles see of one object agrees in the zone that they share, so masks are matched by their IoU
there and joined across any number of tiles. Only windows of the image go to the model, and masks are run lengths
throughout: no array of the image's size is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
from jaxtyping import Bool, UInt8
from pycocotools import mask as coco

from anymask.data.images import ImageSource
from anymask.errors import InputError
from anymask.geometry import boxes as box_geometry
from anymask.geometry import crops, nms, rle
from anymask.inference.answers import read
from anymask.inference.automatic.masks import AutomaticMasks, MaskRecord
from anymask.inference.automatic.options import AutomaticOptions, is_number, is_whole
from anymask.inference.runtimes import AnyModel

OnTile: TypeAlias = Callable[[int, int], object]
"""Called with the number of tiles done, and of all."""


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
    InputError for invalid numbers.
    """

    def __init__(
        self,
        model: AnyModel,
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
        pieces: list[TilePiece] = []
        found = self.automatic.generate_many(source.read(box) for box in tiles)
        for number, (box, records) in enumerate(zip(tiles, found, strict=True)):
            cut = self._cut(records, box, source.size)
            pieces += [
                TilePiece(record=record, tile=number, is_cut=bool(is_cut))
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

    model: AnyModel
    pixels: np.ndarray[Any, Any]

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]

    def read(self, box: crops.Box) -> UInt8[np.ndarray, "h w 3"]:
        x0, y0, x1, y1 = box
        return read(self.model, np.ascontiguousarray(self.pixels[y0:y1, x0:x1]))


def as_windows(model: AnyModel, image: ImageSource | Windows) -> Windows:
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


_APART = 0.1
"""Two masks of one tile that share more than this of the smaller one are different things, such as whole and part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePiece:
    """A mask in the frame of its tile; `is_cut` says whether the object may go on beyond it."""

    record: MaskRecord
    tile: int
    is_cut: bool


def join_pieces(
    pieces: Sequence[TilePiece],
    tiles: Sequence[crops.Box],
    size: tuple[int, int],
    *,
    merge_iou: float,
    min_own: float,
) -> list[MaskRecord]:
    """Return one mask for each object, in the frame of the image of `size` = (height, width).

    The rules are those of `TiledMasks`. Pieces come in the order of their tiles.
    """
    groups = _Groups(pieces)
    for _, one, other in sorted(_matches(pieces, tiles, merge_iou), key=lambda match: -match[0]):
        groups.join(one, other)
    records = []
    for members in groups.members():
        if len(members) == 1:
            piece = members[0]
            if piece.is_cut and _own_share(piece, tiles) < min_own:
                continue
            records.append(_placed(piece, tiles[piece.tile], size))
        else:
            records.append(_joined(members, tiles, size, merge_iou))
    return records


def _matches(pieces: Sequence[TilePiece], tiles: Sequence[crops.Box], least: float) -> Iterator[tuple[float, int, int]]:
    """Yield (IoU in the shared zone, piece, piece) of every two tiles that overlap, each piece once for two tiles."""
    of_tile: list[list[int]] = [[] for _ in tiles]
    for index, piece in enumerate(pieces):
        of_tile[piece.tile].append(index)
    for second, box in enumerate(tiles):
        for first in range(second):
            zone = _intersection(tiles[first], box)
            if zone is None:
                continue
            ones, others = (_in_zone(pieces, of_tile[number], tiles[number], zone) for number in (first, second))
            if not ones or not others:
                continue
            agreement = rle.pairwise_iou(list(ones.values()), list(others.values()))
            names = list(ones), list(others)
            # The best first; a piece that has its counterpart in the other tile takes no second one.
            for flat in np.argsort(-agreement, axis=None, kind="stable").tolist():
                row, column = divmod(flat, len(others))
                if agreement[row, column] < least:
                    break
                yield float(agreement[row, column]), names[0][row], names[1][column]
                agreement[row, :] = agreement[:, column] = 0


def _intersection(a: crops.Box, b: crops.Box) -> crops.Box | None:
    x0, y0, x1, y1 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _in_zone(pieces: Sequence[TilePiece], members: list[int], tile: crops.Box, zone: crops.Box) -> dict[int, rle.RLE]:
    """Return what each piece of a tile has in a zone of the image, for those that have something there."""
    x0, y0, x1, y1 = zone[0] - tile[0], zone[1] - tile[1], zone[2] - tile[0], zone[3] - tile[1]
    found = {}
    for index in members:
        left, top, width, height = pieces[index].record.bbox
        if left < x1 and top < y1 and left + width > x0 and top + height > y0:
            part = rle.decode_box(pieces[index].record.rle, (x0, y0, x1 - x0, y1 - y0))
            if part.any():
                found[index] = rle.encode(part)
    return found


class _Groups:
    """Union-find of pieces, in which two masks of one tile that overlap stay apart."""

    def __init__(self, pieces: Sequence[TilePiece]) -> None:
        self._pieces = pieces
        self._leader = list(range(len(pieces)))
        self._members = {index: [index] for index in range(len(pieces))}

    def join(self, one: int, other: int) -> None:
        """Join the groups of two pieces, unless that would join different things."""
        a, b = self._find(one), self._find(other)
        if a == b or self._clash(self._members[a], self._members[b]):
            return
        self._leader[b] = a
        self._members[a] += self._members.pop(b)

    def members(self) -> list[list[TilePiece]]:
        """Return each group's pieces, in the order of the pieces."""
        groups = sorted(sorted(members) for members in self._members.values())
        return [[self._pieces[index] for index in members] for members in groups]

    def _find(self, index: int) -> int:
        while self._leader[index] != index:
            self._leader[index] = self._leader[self._leader[index]]
            index = self._leader[index]
        return index

    def _clash(self, ones: list[int], others: list[int]) -> bool:
        by_tile: dict[int, list[int]] = {}
        for index in ones:
            by_tile.setdefault(self._pieces[index].tile, []).append(index)
        for other in others:
            for one in by_tile.get(self._pieces[other].tile, ()):
                small, large = sorted((self._pieces[i].record for i in (one, other)), key=lambda record: record.area)
                # With a crowd pycocotools divides the intersection by the first mask's area alone.
                if float(np.asarray(coco.iou([small.rle], [large.rle], [True]))[0, 0]) > _APART:
                    return True
        return False


def _own_share(piece: TilePiece, tiles: Sequence[crops.Box]) -> float:
    """Return the share of a piece's pixels that no other tile sees."""
    tile = tiles[piece.tile]
    own = rle.decode(piece.record.rle)
    for number, other in enumerate(tiles):
        zone = _intersection(tile, other) if number != piece.tile else None
        if zone is not None:
            own[zone[1] - tile[1] : zone[3] - tile[1], zone[0] - tile[0] : zone[2] - tile[0]] = False
    return float(own.sum() / max(piece.record.area, 1))


def _placed(piece: TilePiece, tile: crops.Box, size: tuple[int, int]) -> MaskRecord:
    """Return a piece's record in the frame of the image."""
    record = piece.record
    x, y, width, height = record.bbox
    part = rle.decode_box(record.rle, record.bbox)
    return MaskRecord(
        rle=rle.encode_at(part, (tile[0] + x, tile[1] + y), size),
        bbox=(tile[0] + x, tile[1] + y, width, height),
        area=record.area,
        predicted_iou=record.predicted_iou,
        stability_score=record.stability_score,
        point_coords=tuple((px + tile[0], py + tile[1]) for px, py in record.point_coords),
        crop_box=_moved(record.crop_box, tile),
    )


def _moved(box: tuple[int, int, int, int], tile: crops.Box) -> tuple[int, int, int, int]:
    return box[0] + tile[0], box[1] + tile[1], box[2], box[3]


def _joined(
    members: Sequence[TilePiece], tiles: Sequence[crops.Box], size: tuple[int, int], merge_iou: float
) -> MaskRecord:
    """Return one record for the pieces of an object."""
    placed = [_placed(piece, tiles[piece.tile], size) for piece in members]
    union = rle.merge([record.rle for record in placed])
    area = rle.area(union)
    whole = [record for record, piece in zip(placed, members, strict=True) if not piece.is_cut]
    if whole:
        best = max(whole, key=lambda record: record.predicted_iou)
        if best.area >= merge_iou * area:
            return best
    weights = np.array([record.area for record in placed], np.float64)
    seen = box_geometry.xywh_to_xyxy(np.array([record.crop_box for record in placed]))
    x0, y0 = seen[:, :2].min(axis=0).tolist()
    x1, y1 = seen[:, 2:].max(axis=0).tolist()
    return MaskRecord(
        rle=union,
        bbox=rle.bbox(union),
        area=area,
        predicted_iou=float(np.average([record.predicted_iou for record in placed], weights=weights)),
        stability_score=float(np.average([record.stability_score for record in placed], weights=weights)),
        point_coords=tuple(dict.fromkeys(point for record in placed for point in record.point_coords)),
        crop_box=(x0, y0, x1 - x0, y1 - y0),
    )
