import numpy as np
import pytest

from anymask.errors import InputError
from anymask.geometry import crops


def test_layers_double_a_side() -> None:
    found = crops.layered((1500, 2250), 2)
    assert [sum(crop.layer == layer for crop in found) for layer in range(3)] == [1, 4, 16]
    assert found[0].box == (0, 0, 2250, 1500)
    assert found[1].box == (0, 0, 1381, 1006)  # 512 shared: (2250 + 512) / 2, (1500 + 512) / 2
    assert found[2].box == (0, 494, 1381, 1500)  # column by column


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (3, 2), (5, 7)])
def test_tiny_images_have_no_crop_without_area(size: tuple[int, int]) -> None:
    for crop in crops.layered(size, 3):
        x0, y0, x1, y1 = crop.box
        assert 0 <= x0 < x1 <= size[1] and 0 <= y0 < y1 <= size[0]


def test_tiles_share_at_least_the_overlap_and_end_at_the_border() -> None:
    assert crops.tiles((10, 25), 10, 2) == [(0, 0, 10, 10), (8, 0, 18, 10), (15, 0, 25, 10)]
    assert crops.tiles((10, 18), 10, 2) == [(0, 0, 10, 10), (8, 0, 18, 10)]
    assert crops.tiles((4, 7), 10, 0) == [(0, 0, 7, 4)]


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (4, 4), (4, -1)])
def test_impossible_tiles(tile: int, overlap: int) -> None:
    with pytest.raises(InputError, match="cannot overlap"):
        crops.tiles((10, 10), tile, overlap)


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_images_without_pixels(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        crops.layered(size, 1)
    with pytest.raises(InputError, match="at least 1"):
        crops.tiles(size, 4, 1)


def test_the_way_back() -> None:
    crop = (3, 1, 7, 4)
    assert crops.uncrop_boxes(np.array([0, 0, 4, 3]), crop).tolist() == list(crop)
