import numpy as np
import pytest

import nested_samples
from anymask.data.sample import nested
from anymask.data.synthetic import SceneConfig, generate
from anymask.errors import DataError


def test_chains_are_whole_part_subpart_whatever_their_order() -> None:
    masks = nested_samples.chain()
    (chain,) = nested(nested_samples.sample(masks[[2, 0, 1]], [2, 0, 1], [2, -1, 1]))
    np.testing.assert_array_equal(chain, masks)


def test_a_part_that_is_nearly_its_whole_makes_no_chain() -> None:
    masks = nested_samples.chain()
    masks[1] = masks[0]
    masks[1, 2] = False
    assert list(nested(nested_samples.sample(masks, [0, 1, 2], [-1, 0, 1]))) == []


def test_a_part_without_subpart_makes_no_chain() -> None:
    assert list(nested(nested_samples.sample(nested_samples.chain()[:2], [0, 1], [-1, 0]))) == []


def test_scenes_can_be_asked_to_nest() -> None:
    config = SceneConfig(size=128, nested=True)
    for index in range(4):
        sample = generate(np.random.default_rng([11, index]), config)
        whole, part, subpart = next(nested(sample))
        assert not (subpart & ~part).any() and not (part & ~whole).any()


def test_limits_that_allow_no_nested_object_are_named() -> None:
    with pytest.raises(DataError, match="without an object with a part and a subpart: a min_area of 900"):
        generate(np.random.default_rng(0), SceneConfig(size=32, min_area=900, nested=True))
