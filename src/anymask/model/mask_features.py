"""What an image's embedding says of masks: features of each mask, for heads that judge it.

A mask's logits become the share of each embedding cell that it covers, and these the weights of three regions: its
inside, a ring around it and its boundary. Over each the embedding is averaged, in one matrix product for all masks.
Measures of the mask itself follow: size, stability, shape. `relations` says how the masks of one prompt nest.

Legend: B images, P prompts an image, M masks, L = H·W cells, C width, F features.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

REGIONS = ("inside", "ring", "boundary")
"""Where the embedding is averaged."""

CUTS = (-3.0, -1.0, 1.0, 3.0)
"""Logits at which a mask is cut otherwise than at 0, to see how stable it is."""

MEASURES = (*(f"area at {cut:+g}" for cut in CUTS), "side", "log area", "boundary share", "boundary length", "spread")
"""What is measured of the mask itself."""

RELATIONS = ("IoU", "share of the one in the other", "share of the other in the one")
"""What is measured of a pair of masks."""

_RING = 2
"""Cells by which a mask grows to hold its ring as well."""
_EPS = 1e-4


def num_features(width: int) -> int:
    """Return how many features `mask_features` gives of a mask on an embedding of that width."""
    return len(REGIONS) * width + len(MEASURES)


def covered_cells(logits: Float[Tensor, "b p m hm wm"], grid: tuple[int, int]) -> Float[Tensor, "b p m h w"]:
    """Return the share of each cell of the grid that a mask covers."""
    scale = (logits.shape[-2] // grid[0], logits.shape[-1] // grid[1])
    pixels = (logits + 0.5).clamp(0, 1)
    return F.avg_pool2d(pixels.flatten(0, 2), scale).unflatten(0, logits.shape[:3])


def mask_features(
    embedding: Float[Tensor, "b c h w"], logits: Float[Tensor, "b p m hm wm"], cells: Float[Tensor, "b p m h w"]
) -> Float[Tensor, "b p m f"]:
    """Return the features of masks: the embedding's mean over each region, then the measures.

    `cells` are from `covered_cells`. A region that is empty has the mean 0.
    """
    regions = torch.stack([cells, (_grown(cells) - cells).clamp(min=0), 4 * cells * (1 - cells)], 3).flatten(4)
    sizes = regions.sum(4)
    weights = regions / (sizes[..., None] + _EPS)
    means = (weights.flatten(1, 3) @ embedding.flatten(2).mT).unflatten(1, weights.shape[1:4])
    return torch.cat([means.flatten(3), _measures(logits, cells, sizes)], 3)


def relations(cells: Float[Tensor, "b p m h w"]) -> Float[Tensor, "b p m m 3"]:
    """Return for each mask (third axis) and each other (fourth) their IoU and how much of either lies in the other."""
    flat = cells.flatten(3)
    common, size = flat @ flat.mT, flat.square().sum(3)
    one, other = size[..., :, None] + _EPS, size[..., None, :] + _EPS
    return torch.stack([common / (one + other - common), common / one, common / other], 4)


def _grown(cells: Float[Tensor, "b p m h w"]) -> Float[Tensor, "b p m h w"]:
    """Let masks grow by the ring: a cell gets what the square of cells around it holds, at most one cell's worth."""
    height, width = cells.shape[-2:]
    grown = _near(height, cells) @ cells @ _near(width, cells)
    return grown.clamp(max=1)


def _near(side: int, like: Tensor) -> Float[Tensor, "s s"]:
    """Return the matrix that adds up each row's neighbours as far as the ring goes."""
    index = torch.arange(side, device=like.device)
    return ((index[:, None] - index).abs() <= _RING).to(like.dtype)


def _measures(
    logits: Float[Tensor, "b p m hm wm"], cells: Float[Tensor, "b p m h w"], sizes: Float[Tensor, "b p m r"]
) -> Float[Tensor, "b p m k"]:
    num_cells = cells.shape[-2] * cells.shape[-1]
    inside, _, boundary = sizes.unbind(3)
    share = inside / num_cells
    pixels = logits.flatten(3)
    cuts = [pixels.clamp(cut - 0.5, cut + 0.5).mean(3) - (cut - 0.5) for cut in CUTS]
    stable = [torch.log((area + _EPS) / (share + _EPS)) for area in cuts]
    spread = torch.stack([cells.amax(3).sum(3) * cells.amax(4).sum(3)], 3)[..., 0]
    return torch.stack(
        [
            *stable,
            share.sqrt(),
            (share + _EPS).log() / 4,
            boundary / (inside + 1),
            boundary / (inside + 1).sqrt() / 4,
            inside / (spread + 1),
        ],
        3,
    )
