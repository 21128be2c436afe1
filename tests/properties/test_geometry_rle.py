"""Run lengths: round trips, agreement with pycocotools, and garbage that must not crash it."""

from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from anymask.errors import DataError
from anymask.geometry import rle

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))
stacks = arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=9))


# pycocotools' own decode has not yet followed numpy 2's __array__.
decodes_with_pycocotools = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def runs_by_hand(mask: np.ndarray) -> list[int]:
    pixels = [bool(mask[y, x]) for x in range(mask.shape[1]) for y in range(mask.shape[0])]
    lengths = [len(list(run)) for _, run in groupby(pixels)]
    return [0, *lengths] if pixels[0] else lengths


@decodes_with_pycocotools
@given(masks)
def test_round_trip_and_pycocotools(mask: np.ndarray) -> None:
    encoded = rle.encode(mask)
    peer = coco.encode(np.asfortranarray(mask, np.uint8))
    assert encoded["counts"] == peer["counts"].decode()
    assert rle.runs(encoded).tolist() == runs_by_hand(mask)
    np.testing.assert_array_equal(rle.decode(encoded), mask)
    np.testing.assert_array_equal(coco.decode(encoded), mask)
    assert rle.from_uncompressed(runs_by_hand(mask), mask.shape) == rle.checked(encoded) == encoded
    assert (rle.area(encoded), rle.bbox(encoded)) == (coco.area(peer), tuple(coco.toBbox(peer)))


@given(stacks)
def test_many_are_one_by_one(stack: np.ndarray) -> None:
    assert rle.encode_many(stack) == [rle.encode(mask) for mask in stack]


@given(masks, st.tuples(*[st.integers(0, 4)] * 4))
def test_a_crop_in_its_image(crop: np.ndarray, margins: tuple[int, int, int, int]) -> None:
    left, right, top, bottom = margins
    whole = np.pad(crop, ((top, bottom), (left, right)))
    assert rle.encode_at(crop, (left, top), whole.shape) == rle.encode(whole)
    assert rle.encode_at(crop, (left, top), whole.shape) == rle.encode(whole)


@given(masks, st.integers(-2, 14), st.integers(-2, 14))
def test_some_columns(mask: np.ndarray, start: int, stop: int) -> None:
    expected = mask[:, max(start, 0) : max(stop, 0)]
    np.testing.assert_array_equal(rle.decode_columns(rle.encode(mask), start, stop), expected)


@given(stacks, st.booleans())
def test_set_operations(stack: np.ndarray, intersect: bool) -> None:
    encoded = rle.encode_many(stack)
    merged = stack.all(axis=0) if intersect else stack.any(axis=0)
    assert rle.merge(encoded, intersect=intersect) == rle.encode(merged)
    iou = rle.pairwise_iou(encoded, encoded[:1])
    for i, mask in enumerate(stack):
        union = int((mask | stack[0]).sum())
        assert iou[i, 0] == (int((mask & stack[0]).sum()) / union if union else 0)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_any_runs_come_back_as_pixels(counts: list[int]) -> None:
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    encoded = rle.from_uncompressed(counts, (1, len(pixels)))
    np.testing.assert_array_equal(rle.decode(encoded)[0], pixels)
    assert encoded == rle.encode(pixels[None])


@decodes_with_pycocotools
@given(
    st.one_of(
        st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=12),
        st.text(max_size=8),
        st.binary(max_size=8),
        st.lists(st.one_of(st.integers(), st.floats(), st.none()), max_size=6),
    ),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_garbage_is_refused_or_safe(counts: Any, size: tuple[int, int]) -> None:
    try:
        encoded = rle.checked({"size": list(size), "counts": counts})
    except DataError:
        return
    mask = rle.decode(encoded)
    assert mask.shape == size and rle.encode(mask) == encoded
    np.testing.assert_array_equal(coco.decode(encoded), mask)
