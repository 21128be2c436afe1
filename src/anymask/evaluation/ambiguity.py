"""Is ambiguity real? Whether one click in a nested object gets its whole, part and subpart among the three masks.

Source: SAM, sec. 3, "Resolving ambiguity". The scenes are generated, as photographs with nested masks are rare.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Bool

from anymask.data.sample import Sample, nested
from anymask.geometry import masks as mask_geometry
from anymask.geometry import points
from anymask.inference import Predictor
from anymask.model import Sam


@dataclass(frozen=True, slots=True, kw_only=True)
class AmbiguityResult:
    """Over the clicks made: how often each level, and all three, are among the masks at the IoU asked for."""

    num_clicks: int
    whole: float
    part: float
    subpart: float
    all_three: float


def found(truth: Bool[np.ndarray, "3 h w"], answers: Bool[np.ndarray, "m h w"], iou: float) -> tuple[bool, bool, bool]:
    """Match levels to answers one to one, and say which levels are met at that IoU."""
    reached = mask_geometry.pairwise_iou(truth, answers) >= iou
    orders = permutations(range(len(answers)), 3)
    best = max(orders, key=lambda order: sum(reached[level, answer] for level, answer in enumerate(order)))
    whole, part, subpart = (bool(reached[level, answer]) for level, answer in enumerate(best))
    return whole, part, subpart


def measure_ambiguity(
    model: Sam, samples: Iterable[Sample], *, iou: float = 0.5, max_clicks_per_image: int = 3
) -> AmbiguityResult:
    """Click the centre of subparts, and look for their whole, part and subpart among the three masks."""
    predictor = Predictor(model)
    met: list[tuple[bool, bool, bool]] = []
    for sample in samples:
        chains = list(nested(sample))[:max_clicks_per_image]
        if not chains:
            continue
        predictor.set_image(sample.image)
        for chain in chains:
            click = points.centre(chain[2])
            assert click is not None
            answer = predictor.predict(points=[click], multimask=True)
            met.append(found(chain, answer.masks, iou))
    levels = np.array(met, float).reshape(-1, 3)
    whole, part, subpart = levels.mean(0).tolist() if len(met) else (0.0, 0.0, 0.0)
    return AmbiguityResult(
        num_clicks=len(met),
        whole=whole,
        part=part,
        subpart=subpart,
        all_three=float(levels.all(1).mean()) if len(met) else 0.0,
    )
