"""Polygons, regions, points and suppression against plain definitions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import pixel_regions
from anymask.geometry import boxes, nms, points, polygons, regions, rle

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=10))


@given(masks)
def test_outlines_give_the_mask_back(mask: np.ndarray) -> None:
    found = polygons.from_mask(mask)
    np.testing.assert_array_equal(polygons.to_mask(found, mask.shape), mask)
    assert len(found) == pixel_regions.count(mask)
    for piece in found:
        alone = polygons.to_mask([piece], mask.shape)
        assert pixel_regions.count(alone) == 1
        for ring in (piece.exterior, *piece.holes):
            steps = ring - np.roll(ring, 1, axis=0)
            assert ((steps != 0).sum(axis=1) == 1).all(), "edges follow the pixels' and bend at every corner"
    if not any(piece.holes for piece in found):
        assert polygons.from_coco(polygons.to_coco(found), mask.shape) == rle.encode(mask)


@given(masks, st.floats(0, 5))
def test_simplified_outlines_keep_every_piece(mask: np.ndarray, tolerance: float) -> None:
    exact, simple = polygons.from_mask(mask), polygons.from_mask(mask, tolerance)
    assert len(simple) == len(exact)
    for before, after in zip(exact, simple, strict=True):
        assert 3 <= len(after.exterior) <= len(before.exterior)
    assert polygons.to_mask(simple, mask.shape).shape == mask.shape


@given(arrays(np.float64, st.tuples(st.integers(0, 7), st.just(2)), elements=st.floats(-5, 15)))
def test_filling_is_even_odd_at_pixel_centres(ring: np.ndarray) -> None:
    filled = polygons.to_mask([polygons.Polygon(exterior=ring)], (8, 9))
    for row, column in np.ndindex(8, 9):
        x, y, inside = column + 0.5, row + 0.5, False
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if (y0 <= y) != (y1 <= y):
                inside ^= bool(x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x)
        assert filled[row, column] == inside


def flood(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """Regions by flooding, one pixel after the other."""
    left, found = {(int(y), int(x)) for y, x in np.argwhere(mask)}, []
    while left:
        region, front = set(), [left.pop()]
        while front:
            y, x = front.pop()
            region.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            front.extend(near)
        found.append(region)
    return found


@given(masks, st.integers(0, 12))
def test_regions_by_flooding(mask: np.ndarray, min_area: int) -> None:
    islands, holes = flood(mask), flood(~mask)
    assert sorted(regions.components(mask)[1].tolist()) == sorted(map(len, islands))
    filled, changed = regions.remove_small(mask, min_area, "holes")
    assert changed == any(len(hole) < min_area for hole in holes)
    assert {tuple(p) for p in np.argwhere(filled & ~mask).tolist()} == set().union(
        *(hole for hole in holes if len(hole) < min_area)
    )
    kept, _ = regions.remove_small(mask, min_area, "islands")
    expected = [len(island) for island in islands if len(island) >= min_area]
    assert sorted(map(len, flood(kept))) == sorted(expected or [max(map(len, islands))] if islands else [])
    assert regions.largest_component(mask).sum() == max(map(len, islands), default=0)


@given(masks)
def test_the_centre_is_the_farthest_from_any_pixel_outside(mask: np.ndarray) -> None:
    outside = np.argwhere(~np.pad(mask, 1)) - 1
    best = max(
        (float(np.sqrt(((outside - (y, x)) ** 2).sum(axis=1).min())) for y, x in np.argwhere(mask)), default=None
    )
    found = points.centre(mask)
    if best is None:
        assert found is None
    else:
        assert found is not None and mask[found[1], found[0]]
        distance = np.sqrt(((outside - (found[1], found[0])) ** 2).sum(axis=1).min())
        assert abs(distance - best) < 1e-4


@given(masks, st.data())
def test_a_click_lies_in_the_error_it_names(truth: np.ndarray, data: st.DataObject) -> None:
    prediction = data.draw(arrays(bool, truth.shape))
    click = points.next_click(prediction, truth)
    if click is None:
        assert (prediction == truth).all()
    else:
        (x, y), label = click
        assert truth[y, x] == (label == 1) and prediction[y, x] == (label == 0)


@given(masks, st.integers(0, 2**32 - 1))
def test_a_random_point_lies_in_the_mask(mask: np.ndarray, seed: int) -> None:
    found = points.random_point(mask, np.random.default_rng(seed))
    assert (found is None) == (not mask.any())
    assert found is None or mask[found[1], found[0]]


@given(st.integers(0, 90), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_what_is_kept_does_not_overlap_and_what_goes_does(n: int, threshold: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    corner = generator.integers(0, 20, (n, 2)).astype(np.float32)
    candidates = np.concatenate([corner, corner + generator.integers(0, 12, (n, 2)).astype(np.float32)], axis=1)
    scores = generator.integers(0, 5, n).astype(np.float32)
    kept = nms.box_nms(candidates, scores, threshold)
    iou = boxes.pairwise_iou(candidates, candidates)
    assert (np.triu(iou[np.ix_(kept, kept)], 1) <= threshold).all()
    rank = np.empty(n, np.int64)
    rank[np.argsort(-scores, kind="stable")] = np.arange(n)
    assert (np.diff(rank[kept]) > 0).all()
    for i in set(range(n)) - set(kept.tolist()):
        assert any(iou[i, j] > threshold and rank[j] < rank[i] for j in kept)
