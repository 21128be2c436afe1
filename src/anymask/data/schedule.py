"""Which sample the n-th item of an endless stream is: a function of the seed and n alone.

Sources take turns by their weights, and each is gone through in a new random order every epoch. Whoever reads any part
of the stream, in whatever number of processes, finds every sample of a source once an epoch and none twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int, UInt32

_PERIOD = 1000
"""Items over which the weights are met exactly, but for rounding; no source with a weight gets none."""


class Schedule:
    """The order of samples drawn from sources of some lengths by some weights."""

    def __init__(self, lengths: Sequence[int], weights: Sequence[float], seed: int) -> None:
        self._lengths, self._seed = list(lengths), seed
        shares = np.asarray(weights, float) / sum(weights)
        turns = np.repeat(np.arange(len(shares)), _turns(shares))
        self._turns: Int[np.ndarray, " period"] = np.random.default_rng((seed, 0)).permutation(turns)
        is_source = self._turns[:, None] == np.arange(len(shares))
        self._counts: Int[np.ndarray, " sources"] = is_source.sum(0)
        self._earlier: Int[np.ndarray, "period sources"] = is_source.cumsum(0) - is_source
        self._order = lru_cache(maxsize=2 * len(shares))(self._new_order)  # two: at an epoch's border both are in use

    def __call__(self, n: int) -> tuple[int, int]:
        """Return the source of item n, and the index of its sample there."""
        period, turn = divmod(n, len(self._turns))
        source = int(self._turns[turn])
        drawn = period * int(self._counts[source]) + int(self._earlier[turn, source])
        epoch, place = divmod(drawn, self._lengths[source])
        return source, int(self._order(source, epoch)[place])

    def _new_order(self, source: int, epoch: int) -> UInt32[np.ndarray, " n"]:
        rng = np.random.default_rng((self._seed, 1 + source, epoch))
        order: UInt32[np.ndarray, " n"] = rng.permutation(np.arange(self._lengths[source], dtype=np.uint32))
        return order

    def __getstate__(self) -> dict[str, object]:
        """Leave the cached orders behind, which a worker makes for itself."""
        return {name: value for name, value in self.__dict__.items() if name != "_order"}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Begin with no cached order."""
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2 * len(self._counts))(self._new_order)


def _turns(shares: np.ndarray) -> Int[np.ndarray, " sources"]:
    """Turns of each source in a period: its share, rounded, but at least one for a share above 0."""
    turns = np.rint(shares * _PERIOD).astype(int)
    at_least: Int[np.ndarray, " sources"] = np.maximum(turns, shares > 0)
    return at_least
