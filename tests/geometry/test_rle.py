from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from anymask.errors import DataError, InputError
from anymask.geometry import rle


def blob(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return ((x - width / 2) / width) ** 2 + ((y - height / 3) / height) ** 2 < 0.06


def test_a_known_mask() -> None:
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)
    encoded = rle.encode(mask)
    assert encoded == {"size": [2, 3], "counts": "2111"}
    assert rle.runs(encoded).tolist() == [2, 1, 1, 2]
    assert rle.area(encoded) == 3
    assert rle.bbox(encoded) == (1, 0, 2, 2)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (300, 500), (601, 47)])
@pytest.mark.parametrize("fill", ["blob", "empty", "full", "checkers", "last pixel"])
def test_equal_to_pycocotools(size: tuple[int, int], fill: str) -> None:
    mask = {
        "blob": blob(*size),
        "empty": np.zeros(size, bool),
        "full": np.ones(size, bool),
        "checkers": np.indices(size).sum(axis=0) % 2 == 0,
        "last pixel": np.arange(size[0] * size[1]).reshape(size) == size[0] * size[1] - 1,
    }[fill]
    peer = coco.encode(np.asfortranarray(mask, np.uint8))
    ours = rle.encode(mask)
    assert ours == {"size": list(size), "counts": peer["counts"].decode()}
    np.testing.assert_array_equal(rle.decode(ours), mask)
    assert rle.decode(ours).flags["C_CONTIGUOUS"]
    assert rle.area(ours) == coco.area(peer)
    assert rle.bbox(ours) == tuple(coco.toBbox(peer))


def test_masks_in_any_memory_order() -> None:
    mask = blob(40, 60)
    assert rle.encode(np.asfortranarray(mask)) == rle.encode(mask)
    assert rle.encode(np.repeat(mask, 2, axis=1)[:, ::2]) == rle.encode(mask)
    assert rle.encode(mask.astype(np.int64)) == rle.encode(mask)


def test_no_pixels_and_no_masks() -> None:
    for shape in [(0, 0), (0, 3), (3, 0)]:
        encoded = rle.encode(np.zeros(shape, bool))
        assert rle.decode(encoded).shape == shape
        assert rle.area(encoded) == 0
        assert rle.checked(encoded) == encoded
    assert rle.encode_many(np.zeros((0, 3, 4), bool)) == []


def test_a_crop_is_encoded_without_the_image() -> None:
    crop = blob(30, 20)
    far = rle.encode_at(crop, (59_000, 60_000), (65_000, 60_000))  # 3.9 gigapixels
    assert rle.bbox(far)[:2] == (rle.bbox(rle.encode(crop))[0] + 59_000, rle.bbox(rle.encode(crop))[1] + 60_000)
    assert rle.area(far) == crop.sum()
    np.testing.assert_array_equal(rle.decode_columns(far, 59_000, 59_020)[60_000:60_030], crop)


@pytest.mark.parametrize("offset", [(-1, 0), (0, -1), (3, 0), (0, 2)])
def test_a_crop_beyond_its_image_is_refused(offset: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="reaches beyond"):
        rle.encode_at(np.ones((4, 5), bool), offset, (5, 7))


def test_a_crop_in_its_image() -> None:
    crop = blob(6, 7)
    whole = np.zeros((20, 30), bool)
    whole[4:10, 3:10] = crop
    assert rle.encode_at(crop, (3, 4), (20, 30)) == rle.encode(whole)


def test_iou_and_merge_against_arrays() -> None:
    generator = np.random.default_rng(0)
    masks = generator.random((6, 9, 11)) < np.array([0, 0.2, 0.5, 0.8, 1, 0.3])[:, None, None]
    encoded = rle.encode_many(masks)
    iou = rle.pairwise_iou(encoded[:2], encoded)
    for i, j in np.ndindex(2, 6):
        union = (masks[i] | masks[j]).sum()
        assert iou[i, j] == ((masks[i] & masks[j]).sum() / union if union else 0)
    assert rle.merge(encoded[1:4]) == rle.encode(masks[1:4].any(axis=0))
    assert rle.merge(encoded[1:4], intersect=True) == rle.encode(masks[1:4].all(axis=0))
    assert rle.merge(encoded[2:3]) == encoded[2]


def test_set_operations_need_masks_of_one_size() -> None:
    small, large = rle.encode(blob(3, 3)), rle.encode(blob(4, 4))
    with pytest.raises(InputError, match="of one size"):
        rle.pairwise_iou([small], [large])
    with pytest.raises(InputError, match="of one size"):
        rle.merge([small, large])
    with pytest.raises(InputError, match="nothing to merge"):
        rle.merge([])
    assert rle.pairwise_iou([], [small]).shape == (0, 1)


def test_foreign_forms_become_the_stored_one() -> None:
    mask = blob(12, 8)
    stored = rle.encode(mask)
    runs = rle.runs(stored).tolist()
    assert rle.checked({"size": (12, 8), "counts": stored["counts"].encode()}) == stored
    assert rle.checked({"size": [12, 8], "counts": runs}) == stored
    assert rle.from_uncompressed(runs, (12, 8)) == stored
    assert rle.checked(stored, (12, 8)) == stored


def test_runs_of_no_length_are_merged() -> None:
    plain = rle.encode(np.array([[0, 0, 1, 1, 0]], bool))
    assert rle.from_uncompressed([1, 0, 1, 1, 0, 1, 1, 0, 0], (1, 5)) == plain
    assert rle.from_uncompressed([0, 0, 2, 2, 1], (1, 5)) == plain
    assert rle.from_uncompressed([0, 5], (1, 5)) == rle.encode(np.ones((1, 5), bool))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "an object with size and counts"),
        ("052", "an object with size and counts"),
        ({"size": [2, 3]}, "an object with size and counts"),
        ({"size": [2], "counts": "6"}, "size must be"),
        ({"size": [2.0, 3], "counts": "6"}, "size must be"),
        ({"size": [-2, -3], "counts": "6"}, "size must be"),
        ({"size": [2**16, 2**16], "counts": "6"}, "size must be"),
        ({"size": [3, 3], "counts": "6"}, "does not fit its image"),
        ({"size": [2, 3], "counts": ""}, "counts for 0 instead of 6"),
        ({"size": [2, 3], "counts": "7"}, "counts for 7 instead of 6"),
        ({"size": [2, 3], "counts": [2, 3]}, "counts for 5 instead of 6"),
        ({"size": [2, 3], "counts": [8, -2]}, "negative count"),
        ({"size": [2, 3], "counts": [2**63, 2**63, 6]}, "flat list of whole numbers"),
        ({"size": [2, 3], "counts": [2**80]}, "flat list of whole numbers"),
        ({"size": [2, 3], "counts": [3.0, 3.0]}, "flat list of whole numbers"),
        ({"size": [2, 3], "counts": [[1, 2], [3]]}, "flat list of whole numbers"),
        ({"size": [2, 3], "counts": 6}, "a string or a list"),
        ({"size": [2, 3], "counts": "6 "}, "outside COCO's alphabet"),
        ({"size": [2, 3], "counts": "6\x00"}, "outside COCO's alphabet"),
        ({"size": [2, 3], "counts": "6é"}, "outside COCO's alphabet"),
        ({"size": [2, 3], "counts": "6\ud800"}, "outside COCO's alphabet"),
        ({"size": [2, 3], "counts": "6oo"}, "cut short"),
        ({"size": [2, 3], "counts": "o" * 20 + "1"}, "more than 32 bits"),
        ({"size": [2, 3], "counts": "O7"}, "negative count"),
    ],
)
def test_malformed_ones_are_refused(source: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rle.checked(source, (2, 3))


def test_decoding_checks_for_itself() -> None:
    with pytest.raises(DataError, match="counts for 7"):
        rle.decode({"size": [2, 3], "counts": "7"})
    with pytest.raises(DataError, match="alphabet"):
        rle.area({"size": [2, 3], "counts": "~~"})


def test_a_grid_of_pixels_is_what_the_whole_mask_has_there() -> None:
    rng = np.random.default_rng(4)
    mask = rng.random((23, 31)) < 0.5
    rows, columns = np.array([0, 3, 3, 22]), np.array([30, 0, 7])
    assert np.array_equal(rle.decode_grid(rle.encode(mask), rows, columns), mask[np.ix_(rows, columns)])
    assert rle.decode_grid(rle.encode(mask), rows[:0], columns).shape == (0, 3)


def test_a_box_is_what_the_whole_mask_has_there() -> None:
    mask = np.zeros((9, 12), bool)
    mask[2:6, 3:10] = np.random.default_rng(0).random((4, 7)) < 0.5
    mask[2, 3] = mask[5, 9] = True
    stored = rle.encode(mask)
    np.testing.assert_array_equal(rle.decode_box(stored), mask[2:6, 3:10])
    np.testing.assert_array_equal(rle.decode_box(stored, (1, 0, 5, 4)), mask[:4, 1:6])
    assert rle.decode_box(rle.encode(np.zeros((9, 12), bool))).shape == (0, 0)


def test_more_pixels_than_run_lengths_count_are_refused() -> None:
    crop, wide = np.ones((2, 2), bool), (70_000, 70_000)
    with pytest.raises(InputError, match="masks of 70000 x 70000 pixels cannot be stored: 4,294,967,295"):
        rle.encode_at(crop, (69_000, 69_000), wide)
    with pytest.raises(DataError, match="too large"):
        rle.from_uncompressed([0, 4_900_000_000], wide)
    most = (65_535, 65_537)  # 2^32 - 1
    assert rle.bbox(rle.encode_at(crop, (65_535, 65_533), most)) == (65_535, 65_533, 2, 2)
