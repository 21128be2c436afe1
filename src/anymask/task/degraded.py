"""Mask prompts: the truth spoilt as a user's or another model's mask is, as logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from anymask.task.sampling import masks_to_boxes

_COARSENESS = (1, 2, 4, 8)  # cells averaged along each axis
_MAX_SHIFT = 0.08  # of the object's own size, standard deviation
_MAX_OFFSET = 0.5  # of the level at which the smoothed mask is cut: grows or shrinks it
_MAX_BLOBS = 1.2  # amplitude of the low-frequency noise; where it exceeds 1 it makes holes and islands
_BLOB_REACH = 0.6  # of the object's sides, standard deviation of the window outside which that noise dies down
_BLOB_CELLS = 8  # side of the grid on which that noise is drawn
_GAIN = (3.0, 15.0)  # logits of a sure pixel, as decoders give them
_BINARY_SHARE = 0.3  # of the masks are cut to two levels, as a mask from a file is


@torch.no_grad()
def degrade_masks(masks: Bool[Tensor, "b p h w"], *, generator: torch.Generator) -> Float[Tensor, "b p h w"]:
    """Logits of each mask after a shift, a loss of resolution, growth or shrinkage, holes and islands.

    Each degradation has its own strength for each mask, from none to strong; small objects are shifted and
    coarsened in proportion, so that something of them is left. Positive where the spoilt mask is. For square
    grids.
    """
    size = masks.flatten(2).sum(dim=2).float().clamp(min=1.0).sqrt()

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*masks.shape[:2], *shape, generator=generator, device=masks.device)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*masks.shape[:2], *shape, generator=generator, device=masks.device)

    level = _shift(masks, normal(2) * (size * _MAX_SHIFT * uniform())[..., None])
    level = _coarsen(level, uniform(), size) * 2 - 1
    blobs = F.interpolate(normal(_BLOB_CELLS, _BLOB_CELLS), size=masks.shape[-2:], mode="bicubic")
    strength = _MAX_BLOBS * uniform().square() * (size / 8).clamp(max=1.0)
    level = level + strength[..., None, None] * blobs * _window(masks)
    level = level + (_MAX_OFFSET * (2 * uniform() - 1) * (size / 8).clamp(max=1.0))[..., None, None]
    binary = uniform() < _BINARY_SHARE
    level = torch.where(binary[..., None, None], level.sign(), level.clamp(-1.5, 1.5))
    return level * (_GAIN[0] + (_GAIN[1] - _GAIN[0]) * uniform())[..., None, None]


def _shift(masks: Tensor, cells: Tensor) -> Tensor:
    """Masks (b, p, h, w), in float, moved by (x, y) cells, (b, p, 2), with linear interpolation."""
    height, width = masks.shape[-2:]
    flat = masks.flatten(0, 1)[:, None].float()
    offset = -2 * cells.flatten(0, 1) / cells.new_tensor((width, height))
    identity = torch.eye(2, device=masks.device).expand(len(flat), 2, 2)
    grid = F.affine_grid(torch.cat((identity, offset[..., None]), dim=2), list(flat.shape), align_corners=False)
    return F.grid_sample(flat, grid, align_corners=False).view_as(masks)


def _coarsen(level: Tensor, draw: Tensor, size: Tensor) -> Tensor:
    """Level map averaged over square cells and interpolated back; `draw` says how coarse, up to half
    `size`."""
    finest = (size / 2).log2().floor().clamp(0, len(_COARSENESS) - 1)
    choice = (draw * (finest + 1)).floor()
    for i, cells in enumerate(_COARSENESS[1:], start=1):
        coarse = F.avg_pool2d(level, cells, ceil_mode=True, count_include_pad=False)
        coarse = F.interpolate(coarse, size=level.shape[-2:], mode="bilinear", align_corners=False)
        level = torch.where((choice == i)[..., None, None], coarse, level)
    return level


def _window(masks: Tensor) -> Tensor:
    """Gaussian bump (b, p, h, w) of height 1 over each mask's box."""
    side = masks.shape[-1]
    box = masks_to_boxes(masks, side)[..., None]
    cells = torch.arange(side, device=masks.device) + 0.5
    centre = (box[:, :, :2] + box[:, :, 2:]) / 2
    reach = _BLOB_REACH * (box[:, :, 2:] - box[:, :, :2]).clamp(min=1.0)
    bump = (-0.5 * ((cells - centre) / reach).square()).exp()
    return bump[:, :, 1, :, None] * bump[:, :, 0, None, :]
