"""A sample refuses arrays that do not fit together."""

from typing import Any

import numpy as np
import pytest

from anymask.data.sample import Sample
from anymask.errors import DataError

GOOD: dict[str, Any] = {
    "key": "street",
    "image": np.zeros((4, 5, 3), np.uint8),
    "masks": np.zeros((2, 4, 5), bool),
    "levels": np.array([0, 1], np.int8),
    "parents": np.array([-1, 0]),
}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("image", np.zeros((4, 5, 3)), r"image is float64 \(4, 5, 3\)"),
        ("image", np.zeros((4, 5), np.uint8), "image"),
        ("masks", np.zeros((2, 5, 4), bool), r"expected bool \(m, 4, 5\)"),
        ("masks", np.zeros((2, 4, 5), np.uint8), "masks are uint8"),
        ("levels", np.zeros(3, np.int8), r"levels has shape \(3,\); expected \(2,\)"),
        ("parents", np.array([-1, 2]), "parents must be -1 or an index below 2"),
        ("parents", np.array([-2, 0]), "got -2 to 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name: str, value: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        Sample(**GOOD | {name: value})
    assert "street" in str(caught.value)


def test_the_hierarchy_may_be_unknown_and_masks_may_be_none() -> None:
    empty = GOOD | {"masks": np.zeros((0, 4, 5), bool), "levels": np.zeros(0, np.int8), "parents": np.zeros(0, int)}
    assert len(Sample(**empty).masks) == 0
    assert Sample(**GOOD | {"levels": None, "parents": None}).parents is None
