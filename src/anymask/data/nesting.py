"""Objects within objects: the chains of whole, part and subpart in a sample."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from anymask.data.sample import SUBPART, Sample

MIN_SHARE = 0.002
"""Of the image: the least area of a subpart."""
MAX_RATIO = 0.7
"""The most of a parent's area that a child may have: else the two are one answer."""


def nested(sample: Sample) -> Iterator[Bool[np.ndarray, "3 h w"]]:
    """Yield whole, part and subpart of every chain of masks that are distinct enough to be told apart."""
    if sample.levels is None or sample.parents is None:
        return
    areas = sample.masks.sum((1, 2))
    for index in np.flatnonzero(sample.levels == SUBPART).tolist():
        chain = [index]
        while sample.parents[chain[-1]] >= 0:
            chain.append(int(sample.parents[chain[-1]]))
        distinct = all(areas[a] <= MAX_RATIO * areas[b] for a, b in zip(chain, chain[1:], strict=False))
        if len(chain) == 3 and distinct and areas[index] >= MIN_SHARE * sample.masks[0].size:
            yield sample.masks[chain[::-1]]
