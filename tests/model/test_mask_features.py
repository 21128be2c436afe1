"""Features of masks: regions where they should be, means of the embedding over them, how masks nest."""

from __future__ import annotations

import torch
from torch import Tensor

from anymask.model.mask_features import MEASURES, REGIONS, mask_features

GRID = (12, 10)


def logits_of(rows: slice, columns: slice, height: float = 8.0) -> Tensor:
    """Logits of a rectangle of cells, four pixels per side each."""
    logits = torch.full((4 * GRID[0], 4 * GRID[1]), -height)
    logits[4 * rows.start : 4 * rows.stop, 4 * columns.start : 4 * columns.stop] = height
    return logits


def test_each_region_has_the_mean_of_its_cells() -> None:
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(10.0), indexing="ij")
    is_inside = (rows >= 4) & (rows < 7) & (columns >= 3) & (columns < 6)
    near = (rows >= 2) & (rows < 9) & (columns >= 1) & (columns < 8)
    embedding = torch.stack([is_inside.float(), (near & ~is_inside).float(), rows])[None]
    logits = logits_of(slice(4, 7), slice(3, 6))[None, None, None]
    inside, ring, boundary = mask_features(embedding, logits).means[0, 0, 0].unflatten(0, (len(REGIONS), 3))
    assert torch.allclose(inside, torch.tensor([1.0, 0.0, 5.0]), atol=1e-3)
    assert torch.allclose(ring[:2], torch.tensor([0.0, 1.0]), atol=1e-3)
    assert torch.equal(boundary, torch.zeros(3))  # no cell is covered in part


def test_the_boundary_is_where_cells_are_covered_in_part() -> None:
    embedding = torch.zeros(1, 1, *GRID)
    embedding[0, 0, :, 5] = 1
    logits = torch.full((1, 1, 1, 48, 40), -8.0)
    logits[..., :22] = 8  # the edge halves the cells of the sixth column
    means = mask_features(embedding, logits).means[0, 0, 0]
    assert torch.isclose(means[2], torch.tensor(1.0), atol=1e-3)


def test_measures_are_of_size_shape_and_stability() -> None:
    steady, unsure = logits_of(slice(4, 8), slice(2, 8)), logits_of(slice(4, 8), slice(2, 8), height=0.6)
    logits = torch.stack([steady, unsure, torch.full_like(steady, -8.0)])[None, None]
    measures = mask_features(torch.zeros(1, 2, *GRID), logits).measures[0, 0]
    assert measures.shape == (3, len(MEASURES)) and torch.isfinite(measures).all()
    area, _, box, outer, inner = measures[0]
    assert torch.isclose(area, torch.tensor(24 / 120).log(), atol=1e-3)
    assert torch.allclose(torch.stack([box, outer, inner]), torch.zeros(3), atol=1e-3)
    assert measures[1, 3] > 0.5 and measures[1, 4] < -0.5


def test_relations_are_iou_and_containment() -> None:
    whole, part, apart = (
        logits_of(slice(0, 8), slice(0, 4)),
        logits_of(slice(0, 4), slice(0, 4)),
        logits_of(slice(9, 12), slice(6, 10)),
    )
    logits = torch.stack([whole, part, apart])[None, None]
    iou, one, other = mask_features(torch.zeros(1, 1, *GRID), logits).relations[0, 0].unbind(-1)
    half = torch.tensor(0.5)
    assert torch.isclose(iou[0, 1], half, atol=1e-3) and torch.equal(iou, iou.T)
    assert torch.isclose(one[0, 1], half, atol=1e-3) and torch.isclose(other[0, 1], torch.tensor(1.0), atol=1e-3)
    assert torch.equal(one, other.T)
    assert iou[0, 2] == one[0, 2] == 0
    assert torch.allclose(iou.diagonal(), torch.ones(3), atol=1e-3)


def test_a_mask_has_the_same_features_alone_and_among_others() -> None:
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(2, 5, *GRID, generator=generator)
    logits = 4 * torch.randn(2, 3, 4, 48, 40, generator=generator)
    together, alone = mask_features(embedding, logits), mask_features(embedding[1:], logits[1:, 2:, 3:])
    assert torch.allclose(together.means[1, 2, 3], alone.means[0, 0, 0], atol=1e-5)
    assert torch.allclose(together.measures[1, 2, 3], alone.measures[0, 0, 0], atol=1e-5)
