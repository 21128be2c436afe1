"""What an image's embedding says of masks: features of each mask, for heads that judge it.

A mask's logits become the share of each embedding cell that it covers, and these the weights of three regions: its
inside, a ring around it and its boundary. Over each the embedding is averaged, in one matrix product for all masks.
Measures of the mask itself follow: size, shape, stability. Further features say how the masks of one prompt nest.

The ranker corrects the decoder's predicted IoUs by them: the decoder's IoU token never sees the mask that it judges.
The ranker does, and sees the other candidates beside it: what they are on average, and how they nest.

Legend: B images, P prompts per image, M masks (of the ranker, candidates), R regions, L = H·W cells, C width, W the
ranker's width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.model.config import SamConfig

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


class MaskRanker(nn.Module):
    """Corrects predicted IoUs; one of random weights leaves them as they are."""

    compared: Tensor
    """Weights of the candidates (columns) that each candidate (row) is compared with: of those of an ambiguous prompt
    the others. The answer to a clear prompt stands alone: scores are the same whichever candidates are asked for."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        width, decoder = config.decoder.ranker_width, config.decoder
        assert width is not None
        self.norm = nn.LayerNorm(len(REGIONS) * config.width)
        self.candidate = nn.Embedding(decoder.num_multimask + 1, width)
        self.own = nn.Linear(len(REGIONS) * config.width + len(MEASURES) + 1, width)
        self.joined = nn.Linear(2 * width + len(RELATIONS), width)
        self.out = nn.Linear(width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        compared = torch.zeros(decoder.num_multimask + 1, decoder.num_multimask + 1, device="cpu")
        compared[1:, 1:] = (1 - torch.eye(decoder.num_multimask, device="cpu")) / max(decoder.num_multimask - 1, 1)
        self.register_buffer("compared", compared, persistent=False)

    def forward(
        self,
        embedding: Float[Tensor, "b c h w"],
        logits: Float[Tensor, "b p m hm wm"],
        iou: Float[Tensor, "b p m"],
        candidates: slice,
    ) -> Float[Tensor, "b p m"]:
        """Return what is to be added to the predicted IoUs of the chosen candidates' masks."""
        seen = mask_features(embedding, logits)
        known = torch.cat([self.norm(seen.means), seen.measures, iou[..., None]], 3)
        own = F.relu(self.own(known) + self.candidate.weight[candidates])
        weights = self.compared[candidates, candidates]
        nested = (seen.relations * weights[..., None]).sum(3)
        joined = F.relu(self.joined(torch.cat([own, weights @ own, nested], 3)))
        correction: Tensor = self.out(joined)
        return correction[..., 0]
