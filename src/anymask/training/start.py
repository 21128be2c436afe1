"""What a run begins with: a trained model, or random weights in which a pre-trained part takes its place."""

from __future__ import annotations

import torch

from anymask.checkpoints import load_model
from anymask.checkpoints.efficientnet import load_trunk, read_efficientnet
from anymask.checkpoints.mae import load_mae_encoder, read_mae
from anymask.model import Sam, build_sam
from anymask.training.config import ModelConfig
from anymask.training.sources import expanded


def build_start(config: ModelConfig, *, seed: int) -> Sam | None:
    """Return the model that training begins with; None where the recipe names no weights.

    Random weights are those of the seed.

    Raises:
        CheckpointError: the weights cannot be read, or are not of the recipe's size.
    """
    name = expanded(config.start)
    plain = read_mae(name) if name else None
    trunk = read_efficientnet(name) if name and plain is None else None
    if name and plain is None and trunk is None:
        return load_model(name)
    if not name and not config.rest:
        return None
    torch.manual_seed(seed)
    model = build_sam(config.build())
    if config.rest:
        take_over(model, load_model(config.rest))
    if plain is not None:
        load_mae_encoder(model, plain)
    if trunk is not None:
        load_trunk(model, trunk)
    return model


def take_over(model: Sam, other: Sam) -> list[str]:
    """Copy the other model's tensors where names and shapes agree, and return these names."""
    own = model.state_dict()
    alike = {name: x for name, x in other.state_dict().items() if name in own and own[name].shape == x.shape}
    model.load_state_dict(own | alike)
    return list(alike)
