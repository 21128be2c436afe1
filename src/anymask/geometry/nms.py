"""Non-maximum suppression of boxes and of masks: keep the best, drop what overlaps it, go on with the next
best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Int, Shaped

from anymask.errors import InputError
from anymask.geometry import boxes, rle

_BLOCK = 32  # rows of overlaps computed at a time: enough to amortise numpy's calls, small enough for the cache


def box_nms(
    candidates: Shaped[np.ndarray, "n 4"],
    scores: Shaped[np.ndarray, " n"],
    threshold: float,
    categories: Int[np.ndarray, " n"] | None = None,
) -> Int[np.ndarray, " k"]:
    """Return the indices of the boxes to keep, by falling score; on a tie the earlier one comes first.

    A box goes if its IoU with a kept one is above `threshold` and, where `categories` are given, they share
    one. IoU is computed in float32 unless the boxes are float64. Raises InputError if the lengths differ.
    """
    corners = candidates if candidates.dtype == np.float64 else candidates.astype(np.float32)

    def overlap(rows: Int[np.ndarray, " r"], columns: Int[np.ndarray, " c"]) -> Bool[np.ndarray, "r c"]:
        above = boxes.pairwise_iou(corners[rows], corners[columns]) > threshold
        return above if categories is None else above & (categories[rows, None] == categories[None, columns])

    return _greedy(_by_falling_score(scores, len(candidates)), overlap)


def mask_nms(
    candidates: Sequence[rle.RLE] | Bool[np.ndarray, "n h w"], scores: Shaped[np.ndarray, " n"], threshold: float
) -> Int[np.ndarray, " k"]:
    """Return the indices of the masks to keep, by falling score; on a tie the earlier one comes first.

    A mask goes if its IoU with a kept one is above `threshold`. Boolean masks are encoded first. Raises
    InputError if the lengths or the masks' sizes differ.
    """
    encoded = rle.encode_many(candidates) if isinstance(candidates, np.ndarray) else candidates

    def overlap(rows: Int[np.ndarray, " r"], columns: Int[np.ndarray, " c"]) -> Bool[np.ndarray, "r c"]:
        return rle.pairwise_iou([encoded[i] for i in rows], [encoded[i] for i in columns]) > threshold

    return _greedy(_by_falling_score(scores, len(encoded)), overlap)


def _by_falling_score(scores: Shaped[np.ndarray, " n"], num_candidates: int) -> Int[np.ndarray, " n"]:
    if len(scores) != num_candidates:
        raise InputError(f"{num_candidates} candidates need as many scores, not {len(scores)}")
    return np.argsort(-np.asarray(scores, np.float64), kind="stable")


def _greedy(
    order: Int[np.ndarray, " n"],
    overlap: Callable[[Int[np.ndarray, " r"], Int[np.ndarray, " c"]], Bool[np.ndarray, "r c"]],
) -> Int[np.ndarray, " k"]:
    """Go through `order` in blocks: settle each block within itself, then drop what its winners overlap."""
    kept = [order[:0]]
    while order.size:
        block, order = order[:_BLOCK], order[_BLOCK:]
        within = overlap(block, block)
        wins = np.ones(block.size, bool)
        for i in np.flatnonzero(np.triu(within, 1).any(axis=1)):
            if wins[i]:
                wins[i + 1 :] &= ~within[i, i + 1 :]
        winners = block[wins]
        kept.append(winners)
        if order.size:
            order = order[~overlap(winners, order).any(axis=0)]
    return np.concatenate(kept)
