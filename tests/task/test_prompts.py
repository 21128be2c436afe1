"""Simulated prompts: where they fall, how they are spread, and what they look like to a decoder."""

import pytest
import torch
from scipy import ndimage, stats

from anymask.task import PromptConfig, SimulatedPrompts, correction_points, initial_prompts
from anymask.task.degraded import degrade_masks
from anymask.task.prompts import scribble_points
from anymask.task.sampling import click_cells, depth, jitter_boxes, masks_to_boxes, sample_cells

SIZE = 128  # pixels of the padded frame; the truths below have 32 cells of 4 pixels per side


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def ring(side=32):
    """A ring: no convex hull, no row and no column of it is all in it."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    radius = ((x - side * 0.55).square() + (y - side * 0.45).square()).sqrt()
    return (radius < side * 0.4) & (radius > side * 0.25)


def blobs(b=2, p=5, side=32, seed=0):
    """Varied truths: rectangles of all sizes from one cell up, the first one empty, the last one a ring."""
    masks = torch.zeros(b, p, side, side, dtype=torch.bool)
    draw = torch.randint(0, side, (b, p, 4), generator=rng(seed)).sort(dim=-1).values
    for i in range(b):
        for j in range(p):
            x0, x1, y0, y1 = draw[i, j, [0, 2, 1, 3]].tolist()
            masks[i, j, y0 : y1 + 1, x0 : x1 + 1] = True
    masks[0, 0] = False
    masks[-1, -1] = ring(side)
    return masks


def cells_at(points, side=32):
    """Row and column of the cell that each point lies in."""
    cell = ((points + 0.5) / (SIZE / side)).floor().long()
    return cell[..., 1], cell[..., 0]


def lies_in(points, masks):
    """Whether each point (b, p, n, 2) lies in its prompt's mask."""
    row, column = cells_at(points, masks.shape[-1])
    b, p = masks.shape[:2]
    return masks[torch.arange(b)[:, None, None], torch.arange(p)[:, None], row, column]


def test_cells_are_drawn_uniformly_from_the_region_and_from_nowhere_else():
    region = ring(16)
    index, found = sample_cells(region.expand(20_000, 16, 16), rng())
    counts = torch.bincount(index, minlength=256)
    assert found.all()
    assert not counts[~region.flatten()].any()
    assert stats.chisquare(counts[region.flatten()].numpy()).pvalue > 1e-3


def test_a_single_cell_anywhere_is_found():
    masks = torch.eye(64, dtype=torch.bool).view(64, 8, 8)
    index, found = sample_cells(masks, rng())
    assert torch.equal(index, torch.arange(64)) and found.all()


def test_an_empty_region_is_reported():
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[1, 2, 3] = True
    index, found = sample_cells(masks, rng())
    assert found.tolist() == [False, True]
    assert index[1] == 11 and 0 <= index[0] < 16


def test_large_maps_reach_their_first_and_last_cells():
    masks = torch.zeros(24, 1024, 1024, dtype=torch.bool)
    masks[:, 0, 0] = masks[:, -1, -1] = True
    index, _ = sample_cells(masks, rng())
    assert set(index.tolist()) == {0, 1024 * 1024 - 1}


@pytest.mark.parametrize("shape", [(3, 17, 23), (2, 40, 9), (1, 1, 1)])
def test_depth_is_scipy_s_city_block_distance_with_all_beyond_the_grid_outside(shape):
    region = torch.rand(shape, generator=rng(1)) > 0.15
    region[-1] = True
    framed = torch.nn.functional.pad(region, (1, 1, 1, 1)).numpy()
    expected = [ndimage.distance_transform_cdt(frame, "taxicab")[1:-1, 1:-1] for frame in framed]
    assert depth(region).numpy().tolist() == [e.tolist() for e in expected]


def test_central_cells_are_the_deepest_of_any_one_region_and_ties_are_drawn():
    regions = torch.zeros(2000, 2, 20, 20, dtype=torch.bool)
    regions[:, 0, 2:7, 2:7] = True  # two neighbours: together the deepest cell would lie between them
    regions[:, 1, 2:7, 7:12] = True
    index, found = click_cells(regions, 1.0, rng())
    assert found.all()
    assert set(index.tolist()) == {4 * 20 + 4, 4 * 20 + 9}
    assert 900 < (index == 4 * 20 + 4).sum() < 1100


def test_half_of_the_cells_are_central_where_half_are_asked_for():
    region = ring(32).expand(4000, 1, 32, 32)
    deep = depth(region[0, 0]).flatten()
    index, _ = click_cells(region, 0.5, rng())
    share = (deep[index] == deep.max()).float().mean()
    by_chance = (deep[ring(32).flatten()] == deep.max()).float().mean()
    assert 0.47 < (share - by_chance) / (1 - by_chance) < 0.53


def test_empty_regions_have_no_central_cell():
    _, found = click_cells(torch.zeros(3, 2, 8, 8, dtype=torch.bool), 1.0, rng())
    assert not found.any()


def test_central_corrections_go_to_the_middle_of_the_largest_error():
    truth = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    truth[..., 4:20, 4:20] = True
    logits = torch.where(truth, 5.0, -5.0)
    logits[..., 5:8, 5:8] = -5.0  # missing, 3 × 3
    logits[..., 22:29, 20:27] = 5.0  # too much, 7 × 7
    points, labels = correction_points(logits, truth, image_size=SIZE, centre=1.0, generator=rng())
    row, column = cells_at(points)
    assert (row.item(), column.item(), labels.item()) == (25, 23, 0)


@pytest.mark.parametrize("grid", [(8, 8), (128, 128), (16, 32)])
def test_first_points_are_uniform_over_the_mask_and_not_only_at_cell_centres(grid):
    truth = torch.ones(1, 4000, *grid, dtype=torch.bool)
    prompts = initial_prompts(truth, PromptConfig(box=0.0), image_size=SIZE, generator=rng())
    points = prompts.points[0, :, 0]
    assert prompts.labels[0].tolist() == [[1, -1]] * 4000
    assert prompts.single.all() and prompts.masks is None
    for axis in (0, 1):
        assert stats.kstest((points[:, axis] + 0.5) / SIZE, "uniform").pvalue > 1e-3


def test_first_points_lie_in_their_own_masks():
    truth = blobs().repeat(20, 1, 1, 1)
    prompts = initial_prompts(truth, PromptConfig(box=0.0), image_size=SIZE, generator=rng())
    filled = truth.flatten(2).any(2)
    assert torch.equal(lies_in(prompts.points[:, :, :1], truth)[..., 0], filled)
    assert torch.equal(prompts.labels[..., 0] == 1, filled)
    assert (prompts.labels[~filled] == -2).all()


def test_boxes_without_noise_are_the_masks_own():
    truth = blobs()
    prompts = initial_prompts(truth, PromptConfig(point=0.0, box_noise=0.0), image_size=SIZE, generator=rng())
    for i in range(truth.shape[0]):
        for j in range(truth.shape[1]):
            rows, columns = truth[i, j].nonzero(as_tuple=True)
            if not len(rows):
                assert prompts.labels[i, j].tolist() == [-2, -2]
                continue
            corners = [[columns.min() * 4, rows.min() * 4], [columns.max() * 4 + 4, rows.max() * 4 + 4]]
            assert prompts.points[i, j].tolist() == corners
            assert prompts.labels[i, j].tolist() == [2, 3]
    assert not prompts.single.any()


def test_box_noise_is_a_tenth_of_its_own_side():
    box = torch.tensor([400.0, 300.0, 500.0, 350.0]).expand(1, 20_000, 4)
    limit = torch.tensor([[1024.0, 1024.0]])
    noise = jitter_boxes(box, std=0.1, max_noise=1e9, limit=limit, generator=rng()) - box
    torch.testing.assert_close(noise.std(1)[0], torch.tensor([10.0, 5.0, 10.0, 5.0]), rtol=0.03, atol=0)
    assert noise.mean(1).abs().max() < 0.3
    assert stats.kstest(noise[0, :, 0] / 10, "norm").pvalue > 1e-3
    assert torch.corrcoef(noise[0].T).fill_diagonal_(0).abs().max() < 0.03


def test_box_noise_ends_at_twenty_pixels_of_the_paper_s_frame():
    truth = torch.zeros(1, 2000, 64, 64, dtype=torch.bool)
    truth[..., 10:54, 10:54] = True
    for image_size, most in ((1024, 20.0), (256, 5.0)):
        config = PromptConfig(point=0.0)
        corners = initial_prompts(truth, config, image_size=image_size, generator=rng()).points
        scale = image_size / 64
        noise = (corners - corners.new_tensor([[10 * scale] * 2, [54 * scale] * 2])).abs()
        assert noise.max() == pytest.approx(most, abs=1e-3)
        assert 0.3 < (noise > most * 0.999).float().mean() < 0.9


def test_noisy_boxes_stay_in_the_image_and_in_order():
    truth = torch.zeros(2, 500, 32, 32, dtype=torch.bool)
    truth[:, :250, :20, :] = truth[:, 250:, 19, 31] = True
    valid = torch.zeros(2, 32, 32, dtype=torch.bool)
    valid[:, :20] = True
    config = PromptConfig(point=0.0, box_noise=0.5, max_box_noise=1000.0)
    box = initial_prompts(truth, config, image_size=SIZE, valid=valid, generator=rng()).points.flatten(2)
    assert box.min() >= 0
    assert box[..., 0::2].max() <= 128 and box[..., 1::2].max() <= 80
    assert (box[..., :2] <= box[..., 2:]).all()


def test_kinds_are_drawn_for_each_mask_by_their_weights():
    truth = torch.ones(4, 2000, 8, 8, dtype=torch.bool)
    config = PromptConfig(point=1.0, box=1.0, scribble=2.0, mask=4.0)
    prompts = initial_prompts(truth, config, image_size=SIZE, generator=rng())
    first, third = prompts.labels[..., 0], prompts.labels[..., 2]
    counts = [(first == 1) & (third == -2), first == 2, (first == 1) & (third == 1), prompts.has_mask]
    assert torch.stack(counts).sum(0).eq(1).all()
    observed = [int(kind.sum()) for kind in counts]
    assert stats.chisquare(observed, [1000, 1000, 2000, 4000]).pvalue > 1e-3
    assert torch.equal(prompts.single, counts[0])
    assert (prompts.labels[prompts.has_mask] == -2).all()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (PromptConfig(point=0.0, box=0.0), "one must be positive"),
        (PromptConfig(point=-1.0), "none may be negative"),
        (PromptConfig(scribble=1.0, scribble_length=1), "at least 2 points"),
    ],
)
def test_senseless_configs_are_refused(config, words):
    with pytest.raises(ValueError, match=words):
        initial_prompts(blobs(), config, image_size=SIZE, generator=rng())


def test_corrections_fall_in_the_error_and_say_of_which_sign_it_is():
    truth = blobs(b=6, p=8)
    logits = torch.randn(6, 8, 32, 32, generator=rng(1))
    for seed in range(20):
        points, labels = correction_points(logits, truth, image_size=SIZE, generator=rng(seed))
        assert lies_in(points[:, :, None], (logits > 0) != truth).all()
        assert torch.equal(labels == 1, lies_in(points[:, :, None], truth)[..., 0])
        assert set(labels.unique().tolist()) == {0, 1}


def test_corrections_are_uniform_over_false_positives_and_negatives_alike():
    truth, predicted = ring(), ring().roll((6, 3), (0, 1))
    logits = torch.where(predicted, 2.0, -1.0).expand(1, 20_000, 32, 32)
    points, _ = correction_points(logits, truth.expand(1, 20_000, 32, 32), image_size=SIZE, generator=rng())
    row, column = cells_at(points[0])
    counts = torch.bincount(row * 32 + column, minlength=1024)
    error = (truth ^ predicted).flatten()
    assert not counts[~error].any()
    assert stats.chisquare(counts[error].numpy()).pvalue > 1e-3


def test_a_perfect_prediction_is_confirmed_by_a_point_of_the_truth_and_an_empty_truth_by_none():
    truth = blobs()
    points, labels = correction_points(torch.where(truth, 3.0, -3.0), truth, image_size=SIZE, generator=rng())
    filled = truth.flatten(2).any(2)
    assert torch.equal(labels, torch.where(filled, 1, -2))
    assert torch.equal(lies_in(points[:, :, None], truth)[..., 0], filled)


def test_padding_is_never_corrected():
    truth = torch.zeros(1, 300, 32, 32, dtype=torch.bool)
    truth[..., 4:8, 4:8] = True
    valid = torch.zeros(1, 32, 32, dtype=torch.bool)
    valid[:, :20] = True
    points, labels = correction_points(torch.ones(1, 300, 32, 32), truth, image_size=SIZE, valid=valid, generator=rng())
    row, _ = cells_at(points)
    assert row.max() == 19
    assert (labels == 0).all()


def test_corrections_on_a_finer_truth_see_the_logits_interpolated():
    truth = torch.zeros(1, 200, 64, 64, dtype=torch.bool)
    truth[..., :32] = True
    logits = torch.full((1, 200, 16, 16), -4.0)
    logits[..., :4] = 4.0
    points, labels = correction_points(logits, truth, image_size=SIZE, generator=rng())
    _, column = cells_at(points, side=64)
    assert column.min() >= 16 and column.max() < 32
    assert (labels == 1).all()


def test_a_click_after_a_lone_mask_comes_with_the_token_that_every_lone_point_has():
    truth = blobs()
    config = PromptConfig(point=1.0, box=1.0, mask=1.0)
    prompts = initial_prompts(truth, config, image_size=SIZE, generator=rng(3))
    points, labels = correction_points(prompts.masks, truth, image_size=SIZE, generator=rng())
    clicked = prompts.with_masks(prompts.masks).with_point(points, labels)
    assert prompts.has_mask.any() and clicked.has_mask is None
    for label in clicked.labels.flatten(0, 1).tolist():
        has_click, has_box = 1 in label or 0 in label, 2 in label
        assert label.count(-1) == (has_click and not has_box)
    assert torch.equal(clicked.labels[..., 0], prompts.labels[..., 0])
    assert not clicked.single.any()


def test_scribbles_stay_in_their_masks_and_move():
    truth = blobs(b=8, p=8)
    points = scribble_points(truth, 6, image_size=SIZE, generator=rng())
    filled = truth.flatten(2).any(2)
    assert lies_in(points, truth)[filled].all()
    row, column = cells_at(points)
    cells = row * 32 + column
    steps = (points[:, :, 1:] - points[:, :, :-1]).norm(dim=-1)
    size = truth.flatten(2).sum(2).float().sqrt()
    longest = (0.35 * size.clamp(min=3) + 3)[..., None] * (SIZE / 32)
    assert (steps <= longest)[filled].all()
    distinct = torch.tensor([[len(set(stroke)) for stroke in image] for image in cells.tolist()])
    assert (distinct[size > 10] >= 3).all() and distinct[size > 10].float().mean() > 5


def test_degraded_masks_are_plausible_logits_of_something_near_the_truth():
    truth = blobs(b=40, p=5)
    truth = truth[truth.flatten(2).sum(2) >= 25][None]
    logits = degrade_masks(truth, generator=rng())
    predicted = logits > 0
    iou = (predicted & truth).sum((2, 3)) / (predicted | truth).sum((2, 3))
    assert logits.isfinite().all() and logits.abs().max() <= 1.5 * 15
    assert 0.6 < iou.mean() < 0.9
    assert (iou > 0.95).any() and (iou < 0.6).any()
    assert (iou > 0.2).float().mean() > 0.95
    two_levels = (logits.abs() == logits.abs().amax((2, 3), keepdim=True)).flatten(2).all(2)
    assert 0.15 < two_levels.float().mean() < 0.5


def test_degraded_empty_masks_stay_finite():
    masks = torch.zeros(1, 3, 16, 16, dtype=torch.bool)
    assert degrade_masks(masks, generator=rng()).isfinite().all()


def test_mask_prompts_take_the_decoder_s_size():
    config = PromptConfig(point=0.0, box=0.0, mask=1.0)
    prompts = initial_prompts(blobs(), config, image_size=SIZE, mask_size=16, generator=rng())
    assert prompts.masks.shape == (2, 5, 16, 16)
    assert prompts.has_mask.all() and (prompts.labels == -2).all()


def test_one_seed_gives_one_set_of_prompts():
    config = PromptConfig(scribble=1.0, mask=1.0)

    def draw(seed) -> SimulatedPrompts:
        return initial_prompts(blobs(), config, image_size=SIZE, generator=rng(seed))

    first, again, other = draw(5), draw(5), draw(6)
    assert torch.equal(first.points, again.points) and torch.equal(first.masks, again.masks)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.points, other.points)


def test_boxes_of_masks_match_their_extents_on_any_grid():
    masks = torch.zeros(3, 8, 16, dtype=torch.bool)
    masks[0, 2:5, 3:9] = True
    masks[1, 7, 15] = True
    boxes = masks_to_boxes(masks, 64)
    assert boxes.tolist() == [[12, 16, 36, 40], [60, 56, 64, 64], [0, 0, 0, 0]]
