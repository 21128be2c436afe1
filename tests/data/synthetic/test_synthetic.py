"""The generator's scenes: deterministic, exact, hierarchical, of any size, with and without pictures."""

import numpy as np
import pytest

from anymask.data.sample import Sample
from anymask.data.synthetic import SceneConfig, cut_out, generate
from anymask.errors import DataError


def pictures() -> SceneConfig:
    rng = np.random.default_rng(5)
    photographs = [rng.integers(0, 256, (90, 120, 3), dtype=np.uint8) for _ in range(2)]
    cutouts = []
    for radius in (20, 30):
        y, x = np.mgrid[-40:40, -32:32]
        alpha = np.where(x**2 + y**2 < radius**2, 255, 0).astype(np.uint8)
        cutouts.append(np.dstack([rng.integers(0, 256, (80, 64, 3), dtype=np.uint8), alpha]))
    return SceneConfig(size=96, photographs=photographs, cutouts=cutouts)


CONFIGS = {"bare": SceneConfig(size=96), "pictures": pictures(), "large": SceneConfig(size=200, min_area=100)}


def scenes(name: str, count: int = 25) -> list[Sample]:
    return [generate(np.random.default_rng([3, index]), CONFIGS[name]) for index in range(count)]


@pytest.mark.parametrize("name", CONFIGS)
def test_masks_keep_their_limits_and_are_unique(name: str) -> None:
    config = CONFIGS[name]
    for sample in scenes(name):
        assert sample.image.shape == (config.size, config.size, 3)
        areas = sample.masks.sum(axis=(1, 2))
        assert 1 <= len(areas) <= config.max_masks
        assert areas.min() >= config.min_area
        assert areas.max() <= 0.9 * config.size**2
        assert len({mask.tobytes() for mask in sample.masks}) == len(sample.masks)


@pytest.mark.parametrize("name", CONFIGS)
def test_parts_lie_in_their_parents_and_siblings_apart(name: str) -> None:
    seen = np.zeros(3, int)
    for sample in scenes(name):
        assert sample.levels is not None and sample.parents is not None
        seen += np.bincount(sample.levels, minlength=3)
        claimed: dict[int, np.ndarray] = {}
        for mask, level, parent in zip(sample.masks, sample.levels, sample.parents, strict=True):
            if parent < 0:
                assert level == 0
            else:
                assert level == min(2, sample.levels[parent] + 1)
                assert not (mask & ~sample.masks[parent]).any()
            others = claimed.setdefault(int(parent), np.zeros_like(mask))
            assert not (mask & others).any()
            others |= mask
    assert seen.min() > 0


def test_same_seed_same_scene() -> None:
    first, again, other = (generate(np.random.default_rng(seed), CONFIGS["pictures"]) for seed in (1, 1, 2))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.image, other.image)


def test_most_edges_of_masks_can_be_seen() -> None:
    contrasts = []
    for sample in scenes("bare"):
        image = sample.image.astype(float)
        for mask in sample.masks:
            inside = mask[:, 1:] != mask[:, :-1]
            if inside.any():
                contrasts.append(np.abs(np.diff(image, axis=1)).sum(axis=2)[inside].mean())
    assert np.median(contrasts) > 20


def test_senseless_configs_are_refused() -> None:
    with pytest.raises(DataError, match="size"):
        SceneConfig(size=8)
    with pytest.raises(DataError, match=r"cutout 0 is uint8 \(4, 4, 3\)"):
        SceneConfig(cutouts=[np.zeros((4, 4, 3), np.uint8)])


def test_cut_out_keeps_the_object_and_nothing_else() -> None:
    image = np.full((20, 30, 3), 7, np.uint8)
    mask = np.zeros((20, 30), bool)
    mask[5:11, 8:20] = True
    cut = cut_out(image, mask, margin=2)
    assert cut.shape == (10, 16, 4)
    assert np.array_equal(cut[:, :, 3] >= 128, np.pad(np.ones((6, 12), bool), 2))
    with pytest.raises(DataError, match="empty"):
        cut_out(image, np.zeros((20, 30), bool))
