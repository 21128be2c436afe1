"""The other masks round a point: those that hold it, never the truth itself, at most two."""

import torch

from anymask.task import ambiguous_targets

SIZE = 64


def rectangles(*boxes, grid=16):
    masks = torch.zeros(len(boxes), grid, grid, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


WHOLE, PART, SUBPART, ELSEWHERE, ROUND_ALL = (
    (2, 2, 14, 14),
    (4, 4, 10, 10),
    (5, 5, 7, 7),
    (10, 10, 14, 14),
    (0, 0, 16, 16),
)


def others_of(point, truth, *known):
    """Indices among `known` of the masks found for a point in model pixels."""
    masks = rectangles(*known)
    found, there = ambiguous_targets(
        torch.tensor([[point]]),
        rectangles(truth)[None],
        masks[None],
        image_size=SIZE,
        generator=torch.Generator().manual_seed(0),
    )
    assert found.shape == (1, 1, 2, 16, 16)
    equal = [[torch.equal(mask, other) for other in masks] for mask in found[0, 0][there[0, 0]]]
    return {row.index(True) for row in equal}


def test_whole_and_part_are_the_other_answers_to_a_click_on_the_subpart():
    assert others_of((23.5, 23.5), SUBPART, WHOLE, PART, SUBPART, ELSEWHERE) == {0, 1}


def test_what_does_not_hold_the_point_is_no_answer():
    assert others_of((35.5, 35.5), PART, WHOLE, PART, SUBPART, ELSEWHERE) == {0}
    assert others_of((11.5, 11.5), WHOLE, WHOLE, PART, SUBPART, ELSEWHERE) == set()


def test_an_almost_equal_mask_counts_as_the_truth():
    assert others_of((35.5, 35.5), WHOLE, (2, 2, 14, 15), PART) == {1}


def test_two_are_drawn_from_more_and_each_in_its_turn():
    drawn = set()
    for seed in range(20):
        found, there = ambiguous_targets(
            torch.full((1, 1, 2), 23.5),
            rectangles(SUBPART)[None],
            rectangles(WHOLE, PART, ROUND_ALL)[None],
            image_size=SIZE,
            generator=torch.Generator().manual_seed(seed),
        )
        assert there.all()
        drawn.add(tuple(sorted(found[0, 0].flatten(1).sum(1).tolist())))
    assert drawn == {(36, 144), (36, 256), (144, 256)}


def test_one_known_mask_and_none_are_enough():
    assert others_of((23.5, 23.5), SUBPART, WHOLE) == {0}
    assert others_of((23.5, 23.5), SUBPART) == set()


def test_points_on_the_frames_edges_have_a_cell():
    assert others_of((63.0, 63.0), WHOLE, ROUND_ALL) == {0}
    assert others_of((0.0, 0.0), WHOLE, ROUND_ALL) == {0}
