"""Models between others: the mean parameters of several, or a share of one and the rest of another.

Sources: Wortsman et al. 2022, "Model soups": models at the ends of separate runs from one start lie in one basin, and
the mean of their weights is as fast as one of them and often better than each; and "Robust fine-tuning of zero-shot
models": between the weights before and after a fine-tuning lie models that keep what was known before.
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
    for place, other in enumerate(models[1:], 2):
        if other.config != models[0].config:
            raise CheckpointError(
                f"model {place} has another configuration than the first; only models of one configuration have a mean"
            )
    return _combine(models, [1 / len(models)] * len(models))


def mix_models(before: Sam, after: Sam, share: float) -> Sam:
    """Return a model of `share` of `after`'s weights and the rest of `before`'s; whole numbers are `after`'s."""
    return _combine([after, before], [share, 1 - share])


@torch.no_grad()
def _combine(models: Sequence[Sam], shares: Sequence[float]) -> Sam:
    """Return a copy of the first model whose floating-point tensors are the weighted sums of all models'."""
    mixed = copy.deepcopy(models[0])
    states = [model.state_dict() for model in models]
    for name, tensor in mixed.state_dict().items():
        if tensor.is_floating_point():
            parts = [
                share * state[name].to(tensor.device, torch.float64)
                for share, state in zip(shares, states, strict=True)
            ]
            tensor.copy_(torch.stack(parts).sum(0))
    return mixed
