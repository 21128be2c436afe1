"""Drawing points and boxes from masks, for a whole batch at once on the device.

Masks live on a grid of cells that covers the padded model frame, a square of `image_size` pixels. Pixel i is
centred at coordinate i, so cell c of stride s covers the coordinates c·s − 0.5 to (c + 1)·s − 0.5.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_DRAWS = 2**62  # far above any number of cells, so that the remainder below is uniform


def sample_cells(
    region: Bool[Tensor, "*masks h w"], generator: torch.Generator
) -> tuple[Int[Tensor, "*masks"], Bool[Tensor, "*masks"]]:
    """Draw one cell uniformly from each region: its flat index, and whether there was one to draw.

    Exact in integers for maps of any size: the cell of uniformly drawn rank among the region's own. The
    generator must be on the region's device. An empty region gives an arbitrary index and False.
    """
    ranks = region.flatten(-2).cumsum(dim=-1, dtype=torch.int32)
    count = ranks[..., -1].contiguous()
    draw = torch.randint(_DRAWS, count.shape, generator=generator, device=region.device)
    wanted = (draw % count.clamp(min=1) + 1).to(torch.int32)
    index = torch.searchsorted(ranks, wanted[..., None])[..., 0]
    return index.clamp(max=ranks.shape[-1] - 1), count > 0


def click_cells(
    regions: Bool[Tensor, "*masks k h w"], centre: float, generator: torch.Generator
) -> tuple[Int[Tensor, "*masks"], Bool[Tensor, "*masks"]]:
    """A cell of the k regions of each mask: drawn uniformly, or with a chance of `centre` the most central one.

    That is what lies deepest within a region of its own, by `depth`; among cells as deep as each other one is drawn.
    Returns its flat index, and whether there was one.
    """
    index, found = sample_cells(regions.any(dim=-3), generator)
    if centre <= 0:
        return index, found
    depths = depth(regions).amax(dim=-3).flatten(-2)
    tie = torch.rand(depths.shape, generator=generator, device=depths.device)
    is_central = torch.rand(index.shape, generator=generator, device=index.device) < centre
    return torch.where(is_central & found, (depths + 0.5 * tie).argmax(dim=-1), index), found


def depth(region: Bool[Tensor, "*masks h w"]) -> Float[Tensor, "*masks h w"]:
    """City-block distance of each cell to the nearest one outside its region; what lies beyond the grid is outside.

    Exact, by four running minima: along each axis the nearest of all cells that come before, and after.
    """
    distance = torch.where(region, float(sum(region.shape[-2:])), 0.0)
    for axis in (-1, -2):
        length = region.shape[axis]
        place = torch.arange(1.0, length + 1, device=region.device)
        place = place if axis == -1 else place[:, None]
        ahead = torch.minimum((distance - place).cummin(axis).values + place, place)
        behind = (distance + place).flip(axis).cummin(axis).values.flip(axis) - place
        distance = torch.minimum(torch.minimum(ahead, behind), length + 1 - place)
    return distance


def cells_to_points(
    index: Int[Tensor, "*masks"], grid: tuple[int, int], image_size: int, generator: torch.Generator
) -> Float[Tensor, "*masks 2"]:
    """Points (x, y), pixels of the padded frame, uniform in the cells of that flat index on a (h, w) grid."""
    height, width = grid
    corner = torch.stack((index % width, index // width), dim=-1).float()
    inside = torch.rand(corner.shape, generator=generator, device=index.device)
    stride = corner.new_tensor((image_size / width, image_size / height))
    return ((corner + inside) * stride - 0.5).clamp(0.0, image_size - 1.0)


def masks_to_boxes(masks: Bool[Tensor, "*masks h w"], image_size: int) -> Float[Tensor, "*masks 4"]:
    """Boxes xyxy round masks, pixels of the padded frame, edge to edge as COCO's; zeros round an empty
    one."""
    x0, x1 = _extent(masks.any(dim=-2))
    y0, y1 = _extent(masks.any(dim=-1))
    height, width = masks.shape[-2:]
    scale_x, scale_y = image_size / width, image_size / height
    return torch.stack((x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y), dim=-1)


def jitter_boxes(
    boxes: Float[Tensor, "b p 4"],
    *,
    std: float,
    max_noise: float,
    limit: Float[Tensor, "b 2"],
    generator: torch.Generator,
) -> Float[Tensor, "b p 4"]:
    """Boxes whose every coordinate is moved by normal noise (SAM, app. A).

    The noise's standard deviation is `std` of the box's side along that axis; noise beyond `max_noise` pixels
    is cut there. Boxes are clipped to 0 and `limit`, the (width, height) of each image in the padded frame.
    """
    side = (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)
    noise = torch.randn(boxes.shape, generator=generator, device=boxes.device) * side * std
    moved = boxes + noise.clamp(-max_noise, max_noise)
    limit_B14 = limit.repeat(1, 2)[:, None]
    moved = torch.minimum(moved.clamp(min=0.0), limit_B14)
    low, high = torch.minimum(moved[..., :2], moved[..., 2:]), torch.maximum(moved[..., :2], moved[..., 2:])
    return torch.cat((low, high), dim=-1)


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First occupied cell, and one past the last, along the last axis; 0, 0 where there is none."""
    length = occupied.shape[-1]
    flags = occupied.to(torch.uint8)
    first = flags.argmax(dim=-1)
    end = length - flags.flip(-1).argmax(dim=-1)
    return first.float(), torch.where(occupied.any(dim=-1), end, 0).float()
