"""One model of the mean parameters of several that were trained from the same weights.

Source: Wortsman et al. 2022, "Model soups": models at the ends of separate runs from one start lie in one basin, and
the mean of their weights is as fast as one of them and often better than each.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from anymask.errors import CheckpointError, InputError
from anymask.model import Sam


def average_models(models: Sequence[Sam]) -> Sam:
    """Return a new model on the first's device with the mean of the models' parameters and buffers.

    What is not a floating-point tensor is the first's. It helps only where the models were trained from the same
    weights. Raises InputError for fewer than two models, CheckpointError where they are not of one configuration.
    """
    if len(models) < 2:
        raise InputError(f"the mean of {len(models)} models was asked for; at least two are needed")
    first = models[0]
    for place, other in enumerate(models[1:], 2):
        if other.config != first.config:
            raise CheckpointError(
                f"model {place} has another configuration than the first; only like models have a mean"
            )
    mean = copy.deepcopy(first)
    states = [model.state_dict() for model in models]
    with torch.no_grad():
        for name, tensor in mean.state_dict().items():
            if tensor.is_floating_point():
                parts = [state[name].to(tensor.device, torch.float64) for state in states]
                tensor.copy_(torch.stack(parts).mean(0))
    return mean
