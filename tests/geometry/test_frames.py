import numpy as np
import pytest

from anymask.errors import InputError
from anymask.geometry.frames import Frame, resized_size


@pytest.mark.parametrize(
    ("original", "resized"),
    [
        ((480, 640), (768, 1024)),
        ((640, 480), (1024, 768)),
        ((1024, 1024), (1024, 1024)),
        ((1, 1), (1024, 1024)),
        ((1200, 1801), (682, 1024)),  # 682.29
        ((3, 2048), (2, 1024)),  # 1.5 rounds up, not to the even neighbour as round() would for 2.5
        ((5, 2048), (3, 1024)),  # 2.5
    ],
)
def test_the_long_side_becomes_the_models(original: tuple[int, int], resized: tuple[int, int]) -> None:
    assert Frame(original, 1024).resized == resized


def test_no_side_is_ever_zero() -> None:
    assert resized_size((1, 5000), 1024) == (1, 1024)
    assert resized_size((5000, 1), 64) == (64, 1)


def test_corners_map_to_corners() -> None:
    frame = Frame((300, 5000), 1024)
    assert frame.resized == (61, 1024)
    assert frame.padding == (963, 0)
    np.testing.assert_array_equal(frame.points_to_model(np.array([[0, 0], [5000, 300]])), [[0, 0], [1024, 61]])
    np.testing.assert_array_equal(frame.boxes_to_model(np.array([0, 0, 5000, 300])), [0, 0, 1024, 61])


def test_any_leading_shape_and_no_points_at_all() -> None:
    frame = Frame((10, 20), 40)
    assert frame.points_to_model(np.zeros((0, 2))).shape == (0, 2)
    assert frame.boxes_to_original(np.zeros((2, 0, 4))).shape == (2, 0, 4)
    mapped = frame.points_to_model(np.ones((2, 3, 2), np.int64))
    assert mapped.shape == (2, 3, 2) and mapped.dtype == np.float32 and (mapped == 2).all()


@pytest.mark.parametrize(("original", "model_size"), [((0, 5), 64), ((5, -1), 64), ((5, 5), 0)])
def test_images_without_pixels_are_refused(original: tuple[int, int], model_size: int) -> None:
    with pytest.raises(InputError, match="no side may be below 1"):
        Frame(original, model_size)


def test_a_stretched_frame_has_a_scale_for_each_axis() -> None:
    frame = Frame((100, 400), 64, "stretch")
    assert frame.resized == (64, 64) and frame.padding == (0, 0) and frame.scale == (0.16, 0.64)
    np.testing.assert_allclose(frame.points_to_model(np.array([[400.0, 50.0]])), [[64.0, 32.0]])
    np.testing.assert_allclose(frame.boxes_to_original(np.array([[0.0, 0.0, 64.0, 32.0]])), [[0.0, 0.0, 400.0, 50.0]])
