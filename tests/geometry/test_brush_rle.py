from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from anymask.errors import DataError
from anymask.geometry import brush_rle


@given(arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)))
@settings(max_examples=60, deadline=None)
def test_a_mask_comes_back(mask: np.ndarray) -> None:
    assert (brush_rle.decode(brush_rle.encode(mask), mask.shape) == mask).all()


def test_runs_longer_than_a_length_says_are_split() -> None:
    mask = np.zeros((400, 300), bool)
    mask[100:390] = True
    encoded = brush_rle.encode(mask)
    assert len(encoded) < 60
    assert (brush_rle.decode(encoded, (400, 300)) == mask).all()


def test_bytes_of_a_small_mask_are_those_of_the_format() -> None:
    # 2 × 1 pixels: 8 bytes, values of 8 bits, lengths of 3, 4, 8 and 16; four times 0, four times 255.
    bits = f"{8:032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += "1" + "00" + f"{3:03b}" + f"{0:08b}" + "1" + "00" + f"{3:03b}" + f"{255:08b}"
    bits += "0" * (-len(bits) % 8)
    expected = [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]
    assert brush_rle.encode(np.array([[False], [True]])) == expected


def test_values_that_are_listed_are_read() -> None:
    # One pixel whose four bytes differ, as a canvas may give them: no repetition, length 4, then the values.
    bits = f"{4:032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += "0" + "00" + f"{3:03b}" + "".join(f"{value:08b}" for value in (1, 2, 3, 200))
    bits += "0" * (-len(bits) % 8)
    source = [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]
    assert brush_rle.decode(source, (1, 1)).tolist() == [[True]]


@pytest.mark.parametrize("damage", ["short", "size", "words", "text", "bytes"])
def test_what_is_malformed_is_refused(damage: str) -> None:
    encoded = brush_rle.encode(np.eye(20, dtype=bool))
    source, size = {
        "short": (encoded[: len(encoded) // 2], (20, 20)),
        "size": (encoded, (20, 21)),
        "words": ([*encoded[:4], 255, *encoded[5:]], (20, 20)),
        "text": ("no bytes", (20, 20)),
        "bytes": ([*encoded[:-1], 300], (20, 20)),
    }[damage]
    with pytest.raises(DataError, match="brush"):
        brush_rle.decode(source, size)


@given(st.binary(min_size=0, max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        assert brush_rle.decode(list(content), (3, 4)).shape == (3, 4)
    except DataError:
        pass
