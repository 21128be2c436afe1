"""Mixing a tuned model with the model before, by as much as held-out data ask for.

Weights between the two often keep the old skill and nearly all of the new one (Wortsman et al. 2022, sec. 4).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from anymask.model import Sam

SHARES = (1.0, 0.75, 0.5, 0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a mixture with `share` of the tuned weights reached on the new data and on the data from before."""

    share: float
    new: float
    old: float


@torch.no_grad()
def mix(before: Sam, after: Sam, share: float) -> Sam:
    """Return a model of `share` of the one's weights and the rest of the other's; whole numbers are `after`'s."""
    mixed = copy.deepcopy(after)
    start = before.state_dict()
    for name, tensor in mixed.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(start[name].lerp(tensor, share))
    return mixed


def choose_share(
    before: Sam,
    after: Sam,
    score: Callable[[Sam], tuple[float, float]],
    *,
    tolerance: float,
    shares: Sequence[float] = SHARES,
) -> tuple[float, list[Trial]]:
    """Return the share that is best on the new data of those that lose at most `tolerance` on the old, and all trials.

    `score` gives a model's mark on the new data and on the old. The share is 0 where no other gains on the new data.
    """
    trials = [Trial(share=0.0, new=(found := score(before))[0], old=found[1])]
    for share in shares:
        new, old = score(mix(before, after, share))
        trials.append(Trial(share=share, new=new, old=old))
    kept = [trial for trial in trials if trial.old >= trials[0].old - tolerance]
    return max(kept, key=lambda trial: trial.new).share, trials
