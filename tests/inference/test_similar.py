"""More like this: on a model whose embedding is the image itself, what is found is known."""

from __future__ import annotations

import numpy as np
import pytest

from anymask.errors import InputError, PromptError
from anymask.geometry import rle
from anymask.inference import AutomaticMasks, Predictor, Prompt
from anymask.inference.answers import encode
from anymask.inference.similar import Similar, SimilarOptions
from anymask.model import Sam

RED, BLUE = (250, 60, 60), (60, 60, 250)


def _picture(*things: tuple[int, int, tuple[int, int, int]], size: tuple[int, int] = (128, 128)) -> np.ndarray:
    """Squares of 24 pixels on black, each (x, y, colour)."""
    image = np.zeros((*size, 3), np.uint8)
    for x, y, color in things:
        image[y : y + 24, x : x + 24] = color
    return image


def _square(x: int, y: int, size: tuple[int, int] = (128, 128)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y : y + 24, x : x + 24] = True
    return mask


def test_things_of_the_examples_colour_are_found_and_others_are_not(scene_sam: Sam) -> None:
    search = Similar(scene_sam, SimilarOptions(min_similarity=0.8))
    example = search.example(_picture((10, 10, RED), (60, 70, BLUE)), Prompt(points=[(20, 20)]))
    assert (example.mask == _square(10, 10)).mean() > 0.97
    size = (100, 128)
    found = search.find(_picture((4, 60, RED), (50, 8, BLUE), (90, 40, RED), size=size), example)
    assert len(found) == 2
    for square in (_square(4, 60, size), _square(90, 40, size)):
        ious = [(rle.decode(r.rle) & square).sum() / (rle.decode(r.rle) | square).sum() for r in found]
        assert max(ious) > 0.7
    assert all(region.similarity >= 0.8 for region in found)
    assert found[0].similarity >= found[1].similarity
    assert [search.find(picture, example) for picture in (_picture((4, 60, BLUE)), _picture())] == [[], []]


def test_a_binary_mask_is_the_example_itself(scene_sam: Sam) -> None:
    image = _picture((10, 10, RED), (60, 70, BLUE))
    search = Similar(scene_sam, SimilarOptions(min_similarity=0.8))
    example = search.example(image, Prompt(mask=_square(60, 70)))
    assert (example.mask == _square(60, 70)).all()
    (found,) = search.find(image, example)
    assert (rle.decode(found.rle) & _square(60, 70)).sum() > 400
    for given in (np.uint8(255) * _square(60, 70), _square(60, 70).astype(np.int64), _square(60, 70)[None]):
        assert (search.example(image, Prompt(mask=given)).mask == _square(60, 70)).all()


def test_the_best_are_kept_where_there_are_too_many(scene_sam: Sam) -> None:
    image = _picture((10, 10, RED), (60, 10, RED), (10, 70, RED), (100, 100, BLUE))
    search = Similar(scene_sam, SimilarOptions(min_similarity=0.8, max_results=2))
    assert len(search.find(image, search.example(image, Prompt(points=[(20, 20)])))) == 2


def test_what_makes_no_sense_is_refused(scene_sam: Sam) -> None:
    search = Similar(scene_sam)
    with pytest.raises(PromptError, match="empty"):
        search.example(_picture((10, 10, RED)), Prompt(mask=np.zeros((128, 128), bool)))
    with pytest.raises(PromptError, match="empty"):
        search.example(_picture((10, 10, RED)), Prompt())
    with pytest.raises(PromptError, match="is not binary"):
        search.example(_picture((10, 10, RED)), Prompt(mask=np.uint8(7) * _square(10, 10)))
    with pytest.raises(PromptError, match="mask has shape"):
        search.example(_picture((10, 10, RED)), Prompt(mask=_square(10, 10)[:100]))
    with pytest.raises(InputError, match="at least 1"):
        SimilarOptions(max_results=0)
    with pytest.raises(InputError, match="min_similarity"):
        SimilarOptions(min_similarity=2)


def test_several_examples_find_what_is_like_any_and_leave_out_what_is_taken(scene_sam: Sam) -> None:
    image = _picture((10, 10, RED), (60, 10, RED), (10, 70, BLUE), (90, 90, BLUE))
    predictor = Predictor(scene_sam)
    predictor.set_image(image)
    red, blue = (predictor.example(Prompt(mask=_square(*corner))) for corner in ((10, 10), (10, 70)))
    options = SimilarOptions(min_similarity=0.8)
    assert len(predictor.similar(red, options=options)) == 2
    assert len(predictor.similar([red, blue], options=options)) == 4
    taken = [rle.encode(_square(10, 10)), rle.encode(_square(10, 70))]
    left = predictor.similar([red, blue], taken=taken, options=options)
    assert {(region.point[0] > 50, region.point[1] > 50) for region in left} == {(True, False), (True, True)}
    with pytest.raises(PromptError, match="no example"):
        predictor.similar([])


def test_regions_need_be_no_surer_than_the_example(scene_sam: Sam) -> None:
    image = _picture((10, 10, RED), (60, 70, RED))
    search = Similar(scene_sam)
    example = search.example(image, Prompt(mask=_square(10, 10)))
    assert example.sureness is not None and min(example.sureness) > 0.9
    nothing_like_it = np.zeros((128, 128), bool)
    nothing_like_it[:, ::2] = True
    assert search.example(image, Prompt(mask=nothing_like_it)).sureness is None
    sure = Similar(scene_sam, SimilarOptions(min_similarity=0.8, min_iou=1.0))
    assert search.find(image, example) and sure.find(image, example) == []


def test_a_region_of_quite_another_size_is_not_like_it(scene_sam: Sam) -> None:
    image = _picture((4, 4, RED))
    image[32:] = RED
    search = Similar(scene_sam, SimilarOptions(min_similarity=0.5))
    (found,) = search.find(image, search.example(image, Prompt(mask=_square(4, 4))))
    assert rle.area(found.rle) < 1000
    assert search.find(np.zeros((64, 64, 3), np.uint8), search.example(image, Prompt(mask=_square(4, 4)))) == []


def test_masks_of_everything_are_the_same_of_an_image_encoded_before(scene_sam: Sam, scene: np.ndarray) -> None:
    everything = AutomaticMasks(scene_sam, points_per_side=8)
    (encoded,) = encode(scene_sam, [scene])
    assert everything.of_encoded(encoded) == everything.generate(scene) != []
    with pytest.raises(InputError, match="crop_n_layers is 1"):
        AutomaticMasks(scene_sam, points_per_side=8, crop_n_layers=1).of_encoded(encoded)
