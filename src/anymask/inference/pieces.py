"""Pieces of objects that different tiles of an image saw: matched where tiles overlap, and joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco

from anymask.geometry import boxes as box_geometry
from anymask.geometry import crops, rle
from anymask.inference.mask_record import MaskRecord

_APART = 0.1
"""Two masks of one tile that share more than this of the smaller one are different things, such as whole and part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A mask in the frame of its tile; `is_cut` says whether the object may go on beyond it."""

    record: MaskRecord
    tile: int
    is_cut: bool


def join_pieces(
    pieces: Sequence[Piece],
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


def _matches(pieces: Sequence[Piece], tiles: Sequence[crops.Box], least: float) -> Iterator[tuple[float, int, int]]:
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


def _in_zone(pieces: Sequence[Piece], members: list[int], tile: crops.Box, zone: crops.Box) -> dict[int, rle.RLE]:
    """Return what each piece of a tile has in a zone of the image, for those that have something there."""
    x0, y0, x1, y1 = zone[0] - tile[0], zone[1] - tile[1], zone[2] - tile[0], zone[3] - tile[1]
    found = {}
    for index in members:
        left, top, width, height = pieces[index].record.bbox
        if left < x1 and top < y1 and left + width > x0 and top + height > y0:
            part = rle.decode_columns(pieces[index].record.rle, x0, x1)[y0:y1]
            if part.any():
                found[index] = rle.encode(part)
    return found


class _Groups:
    """Union-find of pieces, in which two masks of one tile that overlap stay apart."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
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

    def members(self) -> list[list[Piece]]:
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


def _own_share(piece: Piece, tiles: Sequence[crops.Box]) -> float:
    """Return the share of a piece's pixels that no other tile sees."""
    tile = tiles[piece.tile]
    own = rle.decode(piece.record.rle)
    for number, other in enumerate(tiles):
        zone = _intersection(tile, other) if number != piece.tile else None
        if zone is not None:
            own[zone[1] - tile[1] : zone[3] - tile[1], zone[0] - tile[0] : zone[2] - tile[0]] = False
    return float(own.sum() / max(piece.record.area, 1))


def _placed(piece: Piece, tile: crops.Box, size: tuple[int, int]) -> MaskRecord:
    """Return a piece's record in the frame of the image."""
    record = piece.record
    x, y, width, height = record.bbox
    part = rle.decode_columns(record.rle, x, x + width)[y : y + height]
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
    members: Sequence[Piece], tiles: Sequence[crops.Box], size: tuple[int, int], merge_iou: float
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
