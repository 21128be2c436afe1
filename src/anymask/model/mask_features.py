"""What an image's embedding says of masks: features of each mask, for heads that judge it.

A mask's logits become the share of each embedding cell that it covers, and these the weights of three regions: its
inside, a ring around it and its boundary. Over each the embedding is averaged, in one matrix product for all masks.
Measures of the mask itself follow: size, shape, stability. Further features say how the masks of one prompt nest.

Legend: B images, P prompts per image, M masks, R regions, L = H·W cells, C width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

REGIONS = ("inside", "ring", "boundary")
"""Where the embedding is averaged."""

MEASURES = ("area", "boundary", "bounding box", "area cut at -1", "area cut at +1")
"""What is measured of a mask: the logarithm of its area's share of the frame, then of the others relative to that."""

RELATIONS = ("IoU", "share of the one in the other", "share of the other in the one")
"""What is measured of a pair of masks."""

_RING = 2
"""Cells by which a mask grows to hold its ring as well."""
_CUT = 1.0
_EPS = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskFeatures:
    """What is known of masks, for any number of heads."""

    means: Float[Tensor, "b p m rc"]
    """The embedding's mean over each region, one after the other; 0 where a region is empty."""
    measures: Float[Tensor, "b p m k"]
    relations: Float[Tensor, "b p m m 3"]
    """Of each mask (third axis) with each other (fourth) of the same prompt."""


def mask_features(embedding: Float[Tensor, "b c h w"], logits: Float[Tensor, "b p m hm wm"]) -> MaskFeatures:
    """Measure masks, given as logits at a multiple of the embedding's size."""
    cells = _covered_cells(logits, (embedding.shape[-2], embedding.shape[-1]))
    ring, boundary = _grown(cells) - cells, cells - cells.square()
    regions = torch.stack([cells, ring, boundary], 3).flatten(4)
    sizes = regions.sum(4)
    sums = (regions.flatten(1, 3) @ embedding.flatten(2).mT).unflatten(1, sizes.shape[1:])
    return MaskFeatures(
        means=(sums / (sizes[..., None] + _EPS)).flatten(3),
        measures=_measures(logits, cells, sizes),
        relations=_relations(regions[:, :, :, 0], sizes[..., 0] - sizes[..., 2]),
    )


def _covered_cells(logits: Float[Tensor, "b p m hm wm"], grid: tuple[int, int]) -> Float[Tensor, "b p m h w"]:
    """Return the share of each cell of the grid that a mask covers; its edge is a ramp one logit wide."""
    pixels = logits.clamp(-0.5, 0.5).unflatten(3, (grid[0], -1))
    sums: Tensor = pixels.sum(4).unflatten(4, (grid[1], -1)).sum(5)
    return sums * (grid[0] * grid[1] / logits[0, 0, 0].numel()) + 0.5


def _grown(cells: Float[Tensor, "b p m h w"]) -> Float[Tensor, "b p m h w"]:
    """Let masks grow by the ring: a cell gets what the square of cells around it holds, at most one cell's worth."""
    height, width = cells.shape[-2:]
    down = _near(height, cells)
    across = down if width == height else _near(width, cells)
    return (down @ cells @ across).clamp(max=1)


def _near(side: int, like: Tensor) -> Float[Tensor, "s s"]:
    """Return the matrix that adds up the neighbours of each row as far as the ring goes."""
    index = torch.arange(side, device=like.device)
    return ((index[:, None] - index).abs() <= _RING).to(like.dtype)


def _measures(
    logits: Float[Tensor, "b p m hm wm"], cells: Float[Tensor, "b p m h w"], sizes: Float[Tensor, "b p m r"]
) -> Float[Tensor, "b p m k"]:
    """Return the `MEASURES`."""
    num_cells = cells.shape[-2] * cells.shape[-1]
    pixels = logits.flatten(3)
    outer, inner = (pixels.clamp(cut - 0.5, cut + 0.5).mean(3) - (cut - 0.5) for cut in (-_CUT, _CUT))
    box = cells.amax(3).sum(3) * cells.amax(4).sum(3)
    shares = torch.stack([sizes[..., 0] / num_cells, sizes[..., 2] / num_cells, box / num_cells, outer, inner], 3)
    logarithms = (shares + _EPS).log()
    area, others = logarithms[..., :1], logarithms[..., 1:]
    return torch.cat([area, others - area], 3)


def _relations(cells: Float[Tensor, "b p m l"], squares: Float[Tensor, "b p m"]) -> Float[Tensor, "b p m m 3"]:
    """Return the `RELATIONS`; `squares` are the sums of the squared cells."""
    common, size = cells @ cells.mT, squares[..., None] + _EPS
    shares = common / size
    return torch.stack([common / (size + size.mT - common), shares, shares.mT], 4)
