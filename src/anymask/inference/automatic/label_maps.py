"""One number per pixel: masks laid over each other without overlap, and without a gap where that is asked for.

A mask's number is its place in the list + 1; 0 is no mask. Masks are painted run by run, none is decoded: memory is
two maps of two bytes per pixel (one is turned into the other), and what filling gaps takes, which is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt16

from anymask.errors import InputError
from anymask.geometry import rle

OnTop = Literal["small", "confident"]
Labels = UInt16[np.ndarray, "h w"] | Int[np.ndarray, "h w"]

_EXACT_PIXELS = 1 << 24
"""Gaps of larger maps are filled on a reduced map, of about this many pixels."""
_BAND_ROWS = 512


def label_map(
    masks: Sequence[rle.RLE],
    size: tuple[int, int],
    *,
    scores: Sequence[float] | Float[np.ndarray, " n"] | None = None,
    on_top: OnTop = "small",
    cover: bool = False,
) -> Labels:
    """Return the map of an image of `size` = (height, width): uint16, or int32 beyond 65,535 masks.

    Where masks overlap, the smaller is on top, so that parts show on their wholes; or, by "confident", the one of the
    higher score. On a tie the other of the two decides, then the earlier mask wins. A mask wholly below others
    has no pixels. With `cover` a pixel of no mask takes the number of the nearest one; beyond 16 megapixels nearest
    is to within the few pixels by which the map is reduced. Without any mask the map is 0.

    Raises InputError if a mask is of another size, or the scores are missing or do not match.
    """
    if any(tuple(mask["size"]) != tuple(size) for mask in masks):
        raise InputError(f"every mask must be of the map's size, {size[0]} x {size[1]}")
    if scores is None and on_top == "confident":
        raise InputError("the more confident mask can only be on top where scores are given")
    if scores is not None and len(scores) != len(masks):
        raise InputError(f"{len(masks)} masks need as many scores, not {len(scores)}")
    height, width = size
    # In the order of run lengths: down the columns.
    columns = np.zeros((width, height), np.uint16 if len(masks) < 1 << 16 else np.int32)
    flat = columns.reshape(-1)
    for index in _bottom_to_top(masks, scores, on_top):
        edges = np.cumsum(rle.runs(masks[index])).tolist()
        for start, stop in zip(edges[::2], edges[1::2], strict=False):
            flat[start:stop] = index + 1
    labels = np.ascontiguousarray(columns.T)
    if cover and labels.any():
        _fill_gaps(labels)
    return labels


def _bottom_to_top(
    masks: Sequence[rle.RLE], scores: Sequence[float] | Float[np.ndarray, " n"] | None, on_top: OnTop
) -> list[int]:
    smallness = -np.array([rle.area(mask) for mask in masks], np.float64)
    confidence = np.zeros(len(masks)) if scores is None else np.asarray(scores, np.float64)
    first, second = (smallness, confidence) if on_top == "small" else (confidence, smallness)
    earliness = -np.arange(len(masks))
    order: list[int] = np.lexsort((earliness, second, first)).tolist()
    return order


def _fill_gaps(labels: Labels) -> None:
    """Give each pixel without a label the nearest one's, in place."""
    height, width = labels.shape
    step = max(1, int(np.ceil(np.sqrt(labels.size / _EXACT_PIXELS))))
    # A cell of the reduced map has a label if any of its pixels does: no mask is too thin to be seen.
    rows, columns = np.arange(0, height, step), np.arange(0, width, step)
    reduced = labels
    if step > 1:
        reduced = np.maximum.reduceat(np.maximum.reduceat(labels, rows, axis=0), columns, axis=1)
    _, nearest = cv2.distanceTransformWithLabels(
        (reduced == 0).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # OpenCV numbers the labelled pixels from 1, row by row.
    number_to_label = np.concatenate([np.zeros(1, labels.dtype), reduced[reduced > 0]])
    for start in range(0, height, _BAND_ROWS):
        band = labels[start : start + _BAND_ROWS]
        at = np.ix_((start + np.arange(len(band))) // step, np.arange(width) // step)
        np.copyto(band, number_to_label[nearest[at]], where=band == 0)
