"""Losses against slow references in plain Python, and what the minimum over candidates lets through."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anymask.task import LossConfig, binary_cross_entropy, dice_loss, focal_loss, mask_loss, true_iou


def case(seed=0, b=2, p=3, m=3, h=6, w=5, scale=3.0):
    rng = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(b, p, m, h, w, generator=rng)
    truth = torch.rand(b, p, h, w, generator=rng) > 0.6
    valid = torch.ones(b, h, w, dtype=torch.bool)
    valid[0, :, w - 2 :] = False
    valid[1, h - 1 :] = False
    iou = torch.rand(b, p, m, generator=rng)
    return logits, iou, truth, valid


def pixels(logits, truth, valid):
    """Valid pixels of one mask as (probability, truth) pairs of Python numbers."""
    rows = zip(logits.tolist(), truth.tolist(), valid.tolist(), strict=True)
    return [(1 / (1 + math.exp(-x)), t) for xs, ts, vs in rows for x, t, v in zip(xs, ts, vs, strict=True) if v]


def slow_focal(cells, alpha=0.25, gamma=2.0):
    terms = [
        -(alpha if t else 1 - alpha) * (1 - (q if t else 1 - q)) ** gamma * math.log(q if t else 1 - q)
        for q, t in cells
    ]
    return sum(terms) / len(cells)


def slow_bce(cells):
    return -sum(math.log(q if t else 1 - q) for q, t in cells) / len(cells)


def slow_dice(cells):
    overlap = sum(q for q, t in cells if t)
    return 1 - (2 * overlap + 1) / (sum(q for q, _ in cells) + sum(t for _, t in cells) + 1)


def slow_iou(cells):
    both = sum(q > 0.5 and t for q, t in cells)
    either = sum(q > 0.5 or t for q, t in cells)
    return both / either if either else 1.0


def over_masks(slow, logits, truth, valid):
    """That slow loss of every mask: (b, p, m)."""
    b, p, m = logits.shape[:3]
    return torch.tensor(
        [[[slow(pixels(logits[i, j, k], truth[i, j], valid[i])) for k in range(m)] for j in range(p)] for i in range(b)]
    )


@pytest.mark.parametrize(
    ("fast", "slow"),
    [
        (focal_loss, slow_focal),
        (binary_cross_entropy, slow_bce),
        (dice_loss, slow_dice),
        (true_iou, slow_iou),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_each_loss_agrees_with_its_plain_reference(fast, slow, masked):
    logits, _, truth, valid = case()
    if not masked:
        valid = torch.ones_like(valid)
    got = fast(logits, truth[:, :, None], valid=valid[:, None, None] if masked else None)
    torch.testing.assert_close(got, over_masks(slow, logits, truth, valid), rtol=1e-5, atol=1e-6)


def test_focal_loss_follows_its_alpha_and_gamma():
    logits, _, truth, valid = case(1)
    got = focal_loss(logits, truth[:, :, None], alpha=0.7, gamma=0.5, valid=valid[:, None, None])
    expected = over_masks(lambda cells: slow_focal(cells, 0.7, 0.5), logits, truth, valid)
    torch.testing.assert_close(got, expected)


def test_focal_loss_with_no_focus_and_even_weight_is_half_the_cross_entropy():
    logits, _, truth, _ = case(2)
    focal = focal_loss(logits, truth[:, :, None], alpha=0.5, gamma=0.0)
    torch.testing.assert_close(focal, 0.5 * binary_cross_entropy(logits, truth[:, :, None]))


@pytest.mark.parametrize("loss", [focal_loss, dice_loss, binary_cross_entropy])
def test_a_sure_and_right_mask_costs_nothing_and_the_opposite_much(loss):
    _, _, truth, _ = case(3)
    logits = torch.where(truth, 50.0, -50.0)
    assert loss(logits, truth).max() < 1e-4
    assert loss(-logits, truth).min() > 0.5


@pytest.mark.parametrize("loss", [focal_loss, dice_loss, binary_cross_entropy])
@pytest.mark.parametrize("magnitude", [0.0, 1e4])
@pytest.mark.parametrize("filled", [False, True])
def test_extreme_logits_and_empty_truths_give_finite_losses_and_gradients(loss, magnitude, filled):
    truth = torch.full((1, 2, 4, 4), filled)
    signs = torch.tensor([1.0, -1.0])[None, :, None, None].expand(1, 2, 4, 4)
    logits = (signs * magnitude).requires_grad_()
    value = loss(logits, truth)
    value.sum().backward()
    assert value.isfinite().all() and logits.grad.isfinite().all()


def test_dice_is_a_mask_s_own_whatever_the_batch():
    logits, _, truth, _ = case(4)
    alone = dice_loss(logits[1, 2, 0], truth[1, 2])
    torch.testing.assert_close(dice_loss(logits, truth[:, :, None])[1, 2, 0], alone)


@pytest.mark.parametrize("loss", [focal_loss, dice_loss, binary_cross_entropy, true_iou])
def test_what_is_outside_the_image_counts_for_nothing(loss):
    logits, _, truth, valid = case(5)
    outside = ~valid[:, None, None]
    before = loss(logits, truth[:, :, None], valid=~outside)
    moved = torch.where(outside, 7.0 - logits, logits)
    flipped = truth ^ ~valid[:, None]
    torch.testing.assert_close(loss(moved, flipped[:, :, None], valid=~outside), before)


@pytest.mark.parametrize("loss", [focal_loss, dice_loss, binary_cross_entropy])
def test_half_precision_logits_are_reduced_in_float32(loss):
    logits, _, truth, _ = case(6, h=64, w=64)
    half = logits.bfloat16()
    got = loss(half, truth[:, :, None])
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, loss(half.float(), truth[:, :, None]))


def reference_total(logits, iou, truth, valid, config, allowed, present):
    """Total loss with loops over every mask, and the best candidates."""
    terms, best = [], torch.zeros(present.shape, dtype=torch.long)
    for i in range(present.shape[0]):
        for j in range(present.shape[1]):
            costs = {}
            for k in range(logits.shape[2]):
                if allowed[i, j, k]:
                    cells = pixels(logits[i, j, k], truth[i, j], valid[i])
                    costs[k] = (
                        config.focal * slow_focal(cells) + config.dice * slow_dice(cells) + config.bce * slow_bce(cells)
                    )
            best[i, j] = k = min(costs, key=costs.get)
            true = {c: slow_iou(pixels(logits[i, j, c], truth[i, j], valid[i])) for c in costs}
            judged = [k] if config.iou_on == "best" else list(costs)
            error = sum((iou[i, j, c].item() - true[c]) ** 2 for c in judged) / len(judged)
            if present[i, j]:
                terms.append(costs[k] + config.iou * error)
    return sum(terms) / len(terms), best


@pytest.mark.parametrize("iou_on", ["best", "all"])
@pytest.mark.parametrize("bce", [0.0, 2.0])
def test_total_agrees_with_loops_over_every_mask(iou_on, bce):
    logits, iou, truth, valid = case(7, m=4)
    config = LossConfig(bce=bce, iou_on=iou_on)
    allowed = torch.tensor([[0, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 1]]).bool().expand(2, 3, 4)
    present = torch.tensor([[True, True, False], [True, True, True]])
    got = mask_loss(logits, iou, truth, config, candidates=allowed, valid=valid, present=present)
    expected, best = reference_total(logits, iou, truth, valid, config, allowed, present)
    assert got.total.item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(got.best, best)
    parts = config.focal * got.focal + config.dice * got.dice + config.bce * got.bce + config.iou * got.iou
    torch.testing.assert_close(parts, got.total.detach())


@pytest.mark.parametrize("iou_on", ["best", "all"])
def test_only_the_lowest_loss_candidate_of_present_prompts_is_back_propagated(iou_on):
    logits, iou, truth, valid = case(8)
    present = torch.tensor([[True, False, True], [True, True, True]])
    logits.requires_grad_()
    iou.requires_grad_()
    result = mask_loss(logits, iou, truth, LossConfig(iou_on=iou_on), valid=valid, present=present)
    result.total.backward()
    is_best = torch.nn.functional.one_hot(result.best, 3).bool() & present[..., None]
    moved = (logits.grad != 0) & valid[:, None, None]
    assert torch.equal(moved.flatten(3).any(3), is_best)
    assert not (logits.grad * ~valid[:, None, None]).any()
    judged = is_best if iou_on == "best" else present[..., None].expand_as(is_best)
    assert torch.equal(iou.grad != 0, judged)


def test_the_best_candidate_is_that_of_lowest_loss_not_of_highest_predicted_iou():
    _, _, truth, _ = case(9)
    right = torch.where(truth, 4.0, -4.0)
    logits = torch.stack((-right, right, 0 * right), dim=2)
    iou = torch.tensor([0.9, 0.1, 0.5]).expand(2, 3, 3)
    result = mask_loss(logits, iou, truth, LossConfig())
    assert (result.best == 1).all()
    assert torch.equal(result.true_iou[..., 1], torch.ones(2, 3))
    assert result.iou.item() == pytest.approx(0.81)


def test_the_gradient_of_the_iou_loss_does_not_reach_the_masks():
    logits, iou, truth, _ = case(10)
    logits.requires_grad_()
    iou.requires_grad_()
    mask_loss(logits, iou, truth, LossConfig(focal=0.0, dice=0.0, iou=1.0)).total.backward()
    assert logits.grad is None
    assert iou.grad.any()


def test_gradient_is_that_of_the_best_candidate_alone():
    logits, iou, truth, valid = case(11)
    logits.requires_grad_()
    result = mask_loss(logits, iou, truth, LossConfig(), valid=valid)
    result.total.backward()
    alone = logits.detach()[torch.arange(2)[:, None], torch.arange(3), result.best].requires_grad_()
    inside = valid[:, None]
    (20 * focal_loss(alone, truth, valid=inside) + dice_loss(alone, truth, valid=inside)).mean().backward()
    got = logits.grad[torch.arange(2)[:, None], torch.arange(3), result.best]
    torch.testing.assert_close(got, alone.grad)


def test_no_present_prompt_gives_a_zero_loss_that_still_back_propagates():
    logits, iou, truth, _ = case(12)
    logits.requires_grad_()
    result = mask_loss(logits, iou, truth, LossConfig(), present=torch.zeros(2, 3, dtype=torch.bool))
    result.total.backward()
    assert result.total.item() == 0
    assert not logits.grad.any()


def test_a_truth_on_another_grid_is_refused():
    logits, iou, truth, _ = case(13)
    with pytest.raises(ValueError, match=r"grid \(3, 5\).*\(6, 5\)"):
        mask_loss(logits, iou, truth[:, :, ::2], LossConfig())


def test_autocast_changes_nothing_but_the_logits_rounding():
    logits, iou, truth, valid = case(14)
    half = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = mask_loss(half, iou.bfloat16(), truth, LossConfig(bce=1.0), valid=valid)
    outside = mask_loss(half.float(), iou.bfloat16().float(), truth, LossConfig(bce=1.0), valid=valid)
    assert inside.total.dtype == torch.float32
    torch.testing.assert_close(inside.total, outside.total)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), m=st.integers(1, 4), weight=st.floats(0, 30))
def test_more_candidates_never_cost_more(seed, m, weight):
    logits, iou, truth, _ = case(seed, m=m + 1)
    config = replace(LossConfig(), focal=weight, iou=0.0)
    every = mask_loss(logits, iou, truth, config).total
    fewer = mask_loss(logits[:, :, :m], iou[:, :, :m], truth, config).total
    assert every <= fewer + 1e-5


def slow_best_way(costs, weights):
    """Least weighted cost over all ways to give answers different candidates; costs (m, t)."""
    ways = itertools.permutations(range(len(costs)), len(weights))
    return min(ways, key=lambda way: sum(w * costs[way[t]][t] for t, w in enumerate(weights) if w))


@pytest.mark.parametrize("focal", [0.0, 20.0])
@pytest.mark.parametrize("num_candidates", [3, 4])
def test_other_right_answers_take_candidates_of_their_own_in_the_cheapest_way(focal, num_candidates):
    logits, iou, truth, valid = case(b=2, p=3, m=num_candidates)
    others = torch.rand(2, 3, 2, 6, 5, generator=torch.Generator().manual_seed(5)) > 0.5
    there = torch.tensor([[[True, True], [True, False], [False, False]], [[False, True], [True, True], [True, True]]])
    config = LossConfig(focal=focal, bce=2.0, dice=1.0, iou=0.0, ambiguity=0.5)
    candidates = torch.ones(2, 3, num_candidates, dtype=torch.bool)
    candidates[1, 2, 0] = num_candidates == 3
    logits.requires_grad_(True)
    result = mask_loss(logits, iou, truth, config, candidates=candidates, valid=valid, others=(others, there))
    result.total.backward()

    total, taught = 0.0, torch.zeros(2, 3, num_candidates, dtype=torch.bool)
    for i, j in itertools.product(range(2), range(3)):
        answers = [truth[i, j], *others[i, j]]
        weights = [1.0, *(0.5 * there[i, j]).tolist()]
        costs = []
        for k in range(num_candidates):
            cells = [pixels(logits[i, j, k].detach(), answer, valid[i]) for answer in answers]
            each = [focal * slow_focal(c) + 2 * slow_bce(c) + slow_dice(c) for c in cells]
            costs.append(each if candidates[i, j, k] else [math.inf] * 3)
        way = slow_best_way(costs, weights)
        total += sum(w * costs[way[t]][t] for t, w in enumerate(weights) if w) / 6
        assert result.best[i, j] == way[0]
        taught[i, j, [way[t] for t, w in enumerate(weights) if w]] = True
    assert result.total.item() == pytest.approx(total, rel=1e-4)
    assert torch.equal(logits.grad.flatten(3).abs().sum(3) > 0, taught)


def test_without_weight_other_answers_change_nothing():
    logits, iou, truth, valid = case()
    others = torch.ones(2, 3, 2, 6, 5, dtype=torch.bool), torch.ones(2, 3, 2, dtype=torch.bool)
    plain = mask_loss(logits, iou, truth, LossConfig(), valid=valid)
    assert torch.equal(plain.total, mask_loss(logits, iou, truth, LossConfig(), valid=valid, others=others).total)


def test_more_right_answers_than_candidates_are_refused():
    logits, iou, truth, _ = case(m=2)
    others = torch.ones(2, 3, 2, 6, 5, dtype=torch.bool), torch.ones(2, 3, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="3 right answers and 2 candidates"):
        mask_loss(logits, iou, truth, LossConfig(ambiguity=1.0), others=others)
