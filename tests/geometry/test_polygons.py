from typing import Any

import numpy as np
import pytest

from anymask.errors import DataError, InputError
from anymask.geometry import polygons, rle
from anymask.geometry.polygons import Polygon


def drawn(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


def test_the_outline_of_one_pixel() -> None:
    (piece,) = polygons.from_mask(drawn("...", "..#"))
    assert piece.exterior.tolist() == [[2, 1], [3, 1], [3, 2], [2, 2]]
    assert piece.holes == ()


def test_a_hole_runs_the_other_way() -> None:
    (piece,) = polygons.from_mask(drawn("###", "#.#", "###"))
    assert piece.exterior.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert [hole.tolist() for hole in piece.holes] == [[[1, 1], [1, 2], [2, 2], [2, 1]]]


def test_pieces_and_their_holes_stay_together() -> None:
    mask = drawn(".......", "#######", "#.#...#", "###.#.#", "#.#...#", "#######", ".......", "###....")
    first, island, last = polygons.from_mask(mask)
    assert len(first.holes) == 3
    assert island.exterior.tolist() == [[4, 3], [5, 3], [5, 4], [4, 4]]
    assert last.exterior.tolist() == [[0, 7], [3, 7], [3, 8], [0, 8]]
    np.testing.assert_array_equal(polygons.to_mask([first], (8, 7)) | polygons.to_mask([island, last], (8, 7)), mask)


def test_pixels_that_touch_at_a_corner_are_one_piece() -> None:
    for mask in (drawn("#.", ".#"), drawn(".#", "#.")):
        (piece,) = polygons.from_mask(mask)
        assert len(piece.exterior) == 8
        np.testing.assert_array_equal(polygons.to_mask([piece], (2, 2)), mask)


def test_no_polygons_for_an_empty_mask() -> None:
    for shape in [(0, 0), (0, 4), (3, 4)]:
        assert polygons.from_mask(np.zeros(shape, bool)) == []
        assert not polygons.to_mask([], shape).any()


def test_a_tolerance_saves_points_and_stays_close() -> None:
    y, x = np.mgrid[:200, :300]
    mask = ((x - 150) / 120) ** 2 + ((y - 100) / 80) ** 2 < 1
    mask[95:105, 140:160] = False
    exact, simple = polygons.from_mask(mask)[0], polygons.from_mask(mask, tolerance=1.5)[0]
    assert len(simple.exterior) < len(exact.exterior) / 10
    assert len(simple.holes) == 1
    again = polygons.to_mask([simple], mask.shape)
    assert (again & mask).sum() / (again | mask).sum() > 0.98


def test_a_tolerance_may_lose_a_hole_but_never_a_piece() -> None:
    mask = np.ones((30, 30), bool)
    mask[10, 10] = False
    mask[:, 20:] = False
    mask[25, 25] = True
    large, small = polygons.from_mask(mask, tolerance=3)
    assert large.holes == ()
    assert len(small.exterior) >= 3
    assert polygons.to_mask([small], (30, 30))[25, 25]


def test_a_pixel_is_inside_if_its_centre_is() -> None:
    slanted = Polygon(exterior=np.array([[0, 0], [4, 0], [0, 4]]))
    np.testing.assert_array_equal(polygons.to_mask([slanted], (4, 4)), drawn("###.", "##..", "#...", "...."))
    through_centres = Polygon(exterior=np.array([[0.5, 0.5], [2.5, 0.5], [2.5, 2.5], [0.5, 2.5]]))
    np.testing.assert_array_equal(polygons.to_mask([through_centres], (4, 4)), drawn("##..", "##..", "....", "...."))


def test_beyond_the_image_is_cut_off() -> None:
    around = Polygon(exterior=np.array([[-9, -9], [99, -9], [99, 99], [-9, 99]]))
    assert polygons.to_mask([around], (3, 4)).all()
    outside = Polygon(exterior=np.array([[-9, 0], [-1, 0], [-1, 3]]))
    assert not polygons.to_mask([outside], (3, 4)).any()
    with pytest.raises(InputError, match="finite"):
        polygons.to_mask([Polygon(exterior=np.array([[0, 0], [1, np.nan], [1, 1]]))], (3, 4))


def test_overlapping_polygons_are_united_and_degenerate_ones_empty() -> None:
    square = Polygon(exterior=np.array([[0, 0], [2, 0], [2, 2], [0, 2]]))
    assert polygons.to_mask([square, square], (2, 2)).all()
    line = Polygon(exterior=np.array([[0, 0], [2, 2]]))
    nothing = Polygon(exterior=np.zeros((0, 2)))
    assert not polygons.to_mask([line, nothing], (2, 2)).any()


def test_coco_lists_of_masks_without_holes_are_exact() -> None:
    mask = drawn("##...", "##.##", "....#", "#...#")
    flat = polygons.to_coco(polygons.from_mask(mask))
    assert all(len(ring) % 2 == 0 for ring in flat)
    assert polygons.from_coco(flat, (4, 5)) == rle.encode(mask)


def test_coco_segmentations_of_all_three_kinds() -> None:
    mask = drawn(".##", ".##")
    stored = rle.encode(mask)
    for segmentation in ([[1, 0, 3, 0, 3, 2, 1, 2]], stored, {"size": [2, 3], "counts": [2, 4]}):
        assert polygons.from_coco(segmentation, (2, 3)) == stored
    assert polygons.from_coco([], (2, 3)) == rle.encode(np.zeros((2, 3), bool))


@pytest.mark.parametrize(
    "segmentation",
    [
        [[0, 0, 1, 1]],
        [[0, 0, 1, 1, 2]],
        [[0, 0, 1, 1, 2, 2, 3]],
        [0, 0, 1, 1, 2, 2],
        [[[0, 0], [1, 1], [2, 2]]],
        [["a"] * 6],
        [[0, 0, 1, 1, 2, float("nan")]],
        [[0, 0, 1, 1, 2, 1e9]],
        "polygon",
        {"size": [9, 9], "counts": [81]},
    ],
)
def test_malformed_coco_segmentations_are_refused(segmentation: Any) -> None:
    with pytest.raises(DataError):
        polygons.from_coco(segmentation, (2, 3))
