"""What BSDS500 measures of edges: ODS, OIS, AP and R50, from counts of matched pixels.

Source: Arbeláez, Maire, Fowlkes and Malik, 2011, and the public code of Dollár and Zitnick, 2015, which added R50.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from anymask.errors import DataError, InputError
from anymask.evaluation.edges.matching import HumanEdges
from anymask.geometry.edges import thin

_BETWEEN = 100
"""Points between two thresholds at which the best F is sought."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EdgeCounts:
    """Pixels of one image, or summed over images, at each threshold."""

    human_matched: Int[np.ndarray, " t"]
    """Human pixels that have a partner, summed over humans."""
    human: Int[np.ndarray, " t"]
    machine_matched: Int[np.ndarray, " t"]
    """Machine pixels that have a partner among any human's."""
    machine: Int[np.ndarray, " t"]

    def to_dict(self) -> dict[str, list[int]]:
        """Return plain lists, for JSON."""
        return {name: getattr(self, name).tolist() for name in self.__slots__}

    @property
    def recall(self) -> Float[np.ndarray, " t"]:
        """0 where there is nothing to find."""
        return np.asarray(self.human_matched / np.maximum(self.human, 1))

    @property
    def precision(self) -> Float[np.ndarray, " t"]:
        """0 where nothing was found."""
        return np.asarray(self.machine_matched / np.maximum(self.machine, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeScores:
    """The measures of a data set, each from 0 to 1."""

    ods: float
    """The best F, with one threshold for all images."""
    ois: float
    """F with the best threshold for each image."""
    ap: float
    """Average precision: the area under precision over recall."""
    r50: float
    """Recall at a precision of one half."""
    threshold: float
    """The threshold at which ODS is reached, between those that were tried."""


def count_matches(
    maps: Iterable[Bool[np.ndarray, "h w"]], humans: Sequence[Bool[np.ndarray, "h w"]], tolerance: float = 0.0075
) -> EdgeCounts:
    """Thin each map, one per threshold, and match it with the edges of each human.

    `tolerance` is the largest distance of a match as a share of the image's diagonal. Raises InputError where sizes
    differ or there is no human.
    """
    if not humans:
        raise InputError("nobody drew edges to compare with: give those of one human or more")
    reach = tolerance * float(np.hypot(*humans[0].shape))
    drawn = [HumanEdges(edges, reach) for edges in humans]
    total = sum(human.count for human in drawn)
    rows: list[tuple[int, int, int, int]] = []
    before: Bool[np.ndarray, "h w"] | None = None
    for edges in maps:
        thinned = thin(edges)
        if before is None or not np.array_equal(before, thinned):
            matched = np.stack([human.match(thinned) for human in drawn])
            row = (int(matched.sum()), total, int(matched.any(axis=0).sum()), matched.shape[1])
        rows.append(row)
        before = thinned
    human_matched, human, machine_matched, machine = np.array(rows, np.int64).reshape(-1, 4).T
    return EdgeCounts(human_matched=human_matched, human=human, machine_matched=machine_matched, machine=machine)


def measure(counts: Sequence[EdgeCounts], levels: Sequence[float]) -> EdgeScores:
    """Return the measures over images, each counted at the same levels.

    F is sought between levels too, precision and recall interpolated, and precision is averaged over recalls of
    0, 0.01, …, 1, those beyond the curve's ends counting 0. Both as in the public code, but for a curve that is one
    point, as of a map without grey: there the code has no AP and R50, and here AP is precision × recall.
    Raises DataError without images.
    """
    if not counts:
        raise DataError("no image was evaluated: give at least one")
    total = _sum(counts)
    recall, precision = total.recall, total.precision
    ods, threshold = _best(recall, precision, np.asarray(levels, np.float64))
    best = [len(levels) - 1 - int(np.argmax(_f(c.recall, c.precision)[::-1])) for c in counts]
    chosen = _sum([_at(c, index) for c, index in zip(counts, best, strict=True)])
    return EdgeScores(
        ods=ods,
        ois=float(_f(chosen.recall, chosen.precision)[0]),
        ap=_average_precision(recall, precision),
        r50=_recall_at_half(recall, precision),
        threshold=threshold,
    )


def total_counts(counts: Sequence[EdgeCounts]) -> EdgeCounts:
    """Return the sums over images, of which the curve of precision and recall is made."""
    return _sum(counts)


def _sum(counts: Sequence[EdgeCounts]) -> EdgeCounts:
    return EdgeCounts(**{name: np.sum([getattr(c, name) for c in counts], axis=0) for name in EdgeCounts.__slots__})


def _at(counts: EdgeCounts, index: int) -> EdgeCounts:
    return EdgeCounts(**{name: getattr(counts, name)[index : index + 1] for name in EdgeCounts.__slots__})


def _f(recall: Float[np.ndarray, " n"], precision: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the harmonic means, 0 where both are 0."""
    both = recall + precision
    return np.asarray(2 * recall * precision / np.where(both > 0, both, 1))


def _best(
    recall: Float[np.ndarray, " t"], precision: Float[np.ndarray, " t"], levels: Float[np.ndarray, " t"]
) -> tuple[float, float]:
    """Return the highest F on the lines between levels, and the level where it is."""
    at = np.linspace(0, len(levels) - 1, (len(levels) - 1) * _BETWEEN + 1)
    places = np.arange(len(levels))
    f = _f(np.interp(at, places, recall), np.interp(at, places, precision))
    best = int(np.argmax(f))
    return float(f[best]), float(np.interp(at[best], places, levels))


def _average_precision(recall: Float[np.ndarray, " t"], precision: Float[np.ndarray, " t"]) -> float:
    known, first = np.unique(recall, return_index=True)
    if len(known) == 1:
        return float(known[0] * precision[first[0]])
    at = np.interp(np.linspace(0, 1, 101), known, precision[first], left=0.0, right=0.0)
    return min(float(at.sum() / 100), 1.0)  # 101 recalls over 100


def _recall_at_half(recall: Float[np.ndarray, " t"], precision: Float[np.ndarray, " t"]) -> float:
    known, first = np.unique(precision, return_index=True)
    return 0.0 if known[-1] < 0.5 else float(np.interp(max(known[0], 0.5), known, recall[first]))
