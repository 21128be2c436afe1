"""One-to-one matching between the edge pixels of a machine and of a human, within a distance.

Source: Martin, Fowlkes and Malik, 2004. Their code solves an assignment of least cost, in which leaving a pixel out
costs a hundred times the largest distance; so it matches as many pixels as can be matched, and of all such matchings
takes the shortest. Here too as many are matched as can be: near pairs first, then more by augmenting paths, as few as
it takes. The counts for one human are therefore the same; the sum of distances is not surely the least, so which
machine pixels have a partner, and how many have one with *any* human, may differ slightly.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

from anymask.errors import InputError

_NONE = -1


class HumanEdges:
    """The edge pixels of one human, ready to be matched with many maps.

    `max_distance` is in pixels, between centres, and is near enough itself. Raises InputError if it is negative.
    """

    def __init__(self, edges: Bool[np.ndarray, "h w"], max_distance: float) -> None:
        if not max_distance >= 0:
            raise InputError(f"the largest distance is {max_distance} pixels; give 0 or more")
        self._shape = edges.shape
        self._reach = int(max_distance)
        self._steps = _steps(max_distance, edges.shape[1] + 2 * self._reach)
        self._numbers, self._at = self._numbered(edges)
        self.count = len(self._at)
        """Number of edge pixels."""

    def match(self, machine: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, " n"]:
        """Match as many pixels as can be; return which of the machine's, row by row, have a partner.

        As each partner is another one, as many pixels of the human are matched as of the machine. Raises InputError
        for a map of another size.
        """
        if machine.shape != self._shape:
            raise InputError(f"a map of {machine.shape} cannot be matched with edges of {self._shape}: use one size")
        numbers, at = self._numbered(machine)
        if len(at) <= self.count:  # the search goes from the side that has fewer pixels to leave out
            near = self._numbers.ravel()[at + self._steps[:, None]]
            return np.asarray(_maximum(near, self.count) != _NONE)
        near = numbers.ravel()[self._at + self._steps[:, None]]
        partners = _maximum(near, len(at))
        matched = np.zeros(len(at), bool)
        matched[partners[partners != _NONE]] = True
        return matched

    def _numbered(self, edges: Bool[np.ndarray, "h w"]) -> tuple[Int[np.ndarray, "hp wp"], Int[np.ndarray, " n"]]:
        """Return a map of the pixels' numbers, with a margin as wide as the reach, and their places in it, raveled."""
        reach = self._reach
        padded = np.pad(edges, reach)
        at = np.flatnonzero(padded)
        numbers = np.full(padded.shape, _NONE, np.int32)
        numbers.ravel()[at] = np.arange(len(at), dtype=np.int32)
        return numbers, at


def _steps(max_distance: float, width: int) -> Int[np.ndarray, " k"]:
    """Return the steps in a raveled map of that width to all pixels in reach, from near to far."""
    reach = int(max_distance)
    y, x = (axis.ravel() for axis in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    squared = x * x + y * y
    order = np.argsort(squared, kind="stable")
    order = order[squared[order] <= max_distance**2]
    return np.asarray(y[order] * width + x[order])


def _maximum(near: Int[np.ndarray, "k n"], num_others: int) -> Int[np.ndarray, " n"]:
    """Return the partner of each of n pixels, or −1: `near` has its candidates, −1 for none, from near to far."""
    partner = np.full(near.shape[1], _NONE, np.int32)
    owner = np.full(num_others, _NONE, np.int32)
    free = np.flatnonzero((near != _NONE).any(axis=0))
    for candidates in near:
        other = candidates[free]
        # Of two pixels one step leads to two different ones, so no candidate is wanted twice at once.
        wins = (other != _NONE) & (owner[other] == _NONE)
        partner[free[wins]], owner[other[wins]] = other[wins], free[wins]
        free = free[~wins]
    while free.size and _augment(near, partner, owner, free):
        free = free[partner[free] == _NONE]
    return partner


def _augment(
    near: Int[np.ndarray, "k n"],
    partner: Int[np.ndarray, " n"],
    owner: Int[np.ndarray, " m"],
    free: Int[np.ndarray, " f"],
) -> bool:
    """Grow trees of alternating paths from all free pixels at once, and switch one path of each that ends free.

    Trees share no pixel, so neither do their paths. Returns whether any was found; if none was, none is left.
    """
    parent = np.full(len(owner), _NONE, np.int32)
    root = np.full(len(owner), _NONE, np.int32)
    done = np.zeros(len(partner), bool)
    frontier, roots, ends = free, free, []
    while frontier.size:
        others = near[:, frontier]
        fresh = (others != _NONE) & (parent[others] == _NONE)
        _, column = np.nonzero(fresh)
        reached = others[fresh]
        parent[reached] = frontier[column]  # of several, the last: any will do, if the root is that one's
        root[reached] = roots[column]
        # Both assignments run in one order, so that parent and root of a pixel come from the same tree.
        reached = reached[parent[reached] == frontier[column]]
        is_end = owner[reached] == _NONE
        if is_end.any():
            found, first = np.unique(root[reached[is_end]], return_index=True)
            done[found] = True
            ends.append(reached[is_end][first])
        onward = reached[~is_end & ~done[root[reached]]]
        frontier, roots = owner[onward], root[onward]
    if not ends:
        return False
    other = np.concatenate(ends)
    while other.size:
        one = parent[other]
        before = partner[one]
        partner[one], owner[other] = other, one
        other = before[before != _NONE]
    return True
