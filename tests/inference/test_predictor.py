from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.utils._python_dispatch import TorchDispatchMode

from anymask.errors import ImageError, PromptError
from anymask.inference import PLAIN, Masks, Predictor, Prompt, answers
from anymask.inference.prompts import join, to_model
from anymask.inference.runtimes import runtime_of
from anymask.model import SIZES, Embedding, Prompts, Sam, build_sam

Picture = Callable[..., np.ndarray]


def assert_same(a: Masks, b: Masks) -> None:
    assert a.masks.shape == b.masks.shape
    assert np.mean(a.masks != b.masks) <= 1e-3
    assert_allclose(a.scores, b.scores, rtol=1e-4, atol=1e-5)
    assert_allclose(a.logits, b.logits, rtol=1e-3, atol=1e-4 * np.abs(b.logits).max())


def test_masks_have_the_images_size_and_come_best_first(predictor: Predictor) -> None:
    masks = predictor.predict(points=[(52, 37)])
    side = predictor.model.mask_size
    assert masks.masks.shape == (3, 60, 100) and masks.masks.dtype == np.bool_
    assert masks.scores.shape == (3,) and masks.scores.dtype == np.float32
    assert masks.logits.shape == (3, side, side) and masks.logits.dtype == np.float32
    assert (np.diff(masks.scores) < 0).all()
    assert len(masks) == 3
    assert_array_equal(masks.best, masks.masks[0])
    assert len({mask.tobytes() for mask in masks.masks}) == 3


def test_each_score_and_logits_belong_to_their_mask(predictor: Predictor, small_sam: Sam) -> None:
    predictor.refinement = PLAIN
    masks = predictor.predict(points=[(52, 37)])
    image = predictor.image
    checked = to_model(Prompt(points=[(52, 37)]), image.frame, small_sam.mask_size)
    prompt = join([checked])
    with torch.inference_mode():
        logits, iou = runtime_of(small_sam).decode(image.embedding, prompt, multimask=True)
    for score, low in zip(masks.scores, masks.logits, strict=True):
        match = int((iou[0, 0] - float(score)).abs().argmin())
        assert_allclose(logits[0, 0, match].numpy(), low, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("prompt", "count"),
    [
        ({"points": [(5, 5)]}, 3),
        ({"points": [(5, 5)], "labels": [0]}, 3),
        ({"points": [(5, 5), (9, 9)]}, 1),
        ({"points": [(5, 5)], "box": (1, 1, 30, 30)}, 1),
        ({"box": (1, 1, 30, 30)}, 1),
        ({"points": [(5, 5)], "mask": np.zeros((60, 100), bool)}, 1),
        ({"mask": np.zeros((60, 100), bool)}, 1),
    ],
)
def test_only_a_lone_point_gives_three_masks(predictor: Predictor, prompt: dict[str, Any], count: int) -> None:
    assert len(predictor.predict(**prompt)) == count
    assert len(predictor.predict(**prompt, multimask=True)) == 3
    assert len(predictor.predict(**prompt, multimask=False)) == 1


def test_labels_are_foreground_by_default_and_matter(predictor: Predictor) -> None:
    points = [(20, 20), (70, 30)]
    assert_same(predictor.predict(points=points), predictor.predict(points=points, labels=[1, 1]))
    other = predictor.predict(points=points, labels=[1, 0])
    assert np.abs(other.logits - predictor.predict(points=points).logits).max() > 1e-3


def test_points_may_lie_on_the_images_border(predictor: Predictor) -> None:
    assert predictor.predict(points=[(0, 0), (100, 60)]).masks.shape == (1, 60, 100)


def test_logits_of_an_answer_are_the_next_prompts_mask(predictor: Predictor) -> None:
    first = predictor.predict(points=[(52, 37)])
    fed = predictor.predict(points=[(52, 37), (20, 20)], labels=[1, 0], mask=first.logits[0])
    unfed = predictor.predict(points=[(52, 37), (20, 20)], labels=[1, 0])
    assert np.abs(fed.logits - unfed.logits).max() > 1e-3
    as_tensor = predictor.predict(points=[(52, 37), (20, 20)], labels=[1, 0], mask=torch.from_numpy(first.logits[:1]))
    assert_same(fed, as_tensor)


@pytest.mark.parametrize(
    "form", [lambda m: m, lambda m: m.astype(np.uint8), lambda m: m.astype(np.uint8) * 255, lambda m: m.astype(float)]
)
def test_a_binary_mask_may_have_any_dtype(predictor: Predictor, form: Callable[[np.ndarray], np.ndarray]) -> None:
    mask = np.zeros((60, 100), bool)
    mask[10:40, 20:70] = True
    assert_same(predictor.predict(mask=form(mask)), predictor.predict(mask=mask))
    assert np.abs(predictor.predict(mask=~mask).logits - predictor.predict(mask=mask).logits).max() > 1e-3


def test_where_sizes_agree_the_dtype_tells_masks_from_logits(small_sam: Sam, picture: Picture) -> None:
    side = small_sam.mask_size
    predictor = Predictor(small_sam)
    predictor.set_image(picture(side, side))
    mask = np.zeros((side, side), np.uint8)
    mask[: side // 2] = 1
    binary, logits = predictor.predict(mask=mask), predictor.predict(mask=mask.astype(np.float32))
    assert np.abs(binary.logits - logits.logits).max() > 1e-3


BAD = {
    "outside": ({"points": [(5, 5), (100.5, 5)]}, r"point 1 at \(100\.5, 5\) lies outside .* 100 wide and 60 high"),
    "negative": ({"points": [(-1, 5)]}, "outside"),
    "nan": ({"points": [(5, np.nan)]}, r"point 0 is \(5, nan\): both coordinates must be finite"),
    "label": ({"points": [(5, 5)], "labels": [2]}, "label 2 is unknown"),
    "label nan": ({"points": [(5, 5)], "labels": [np.nan]}, "label nan is unknown"),
    "counts": ({"points": [(5, 5), (6, 6)], "labels": [1]}, "2 points have labels of shape"),
    "no points": ({"labels": [1]}, "labels were given without points"),
    "flat": ({"points": (5, 5)}, r"points have shape \(2,\); \(n, 2\) was expected"),
    "deep": ({"points": np.ones((1, 2, 2))}, r"points have shape \(1, 2, 2\)"),
    "ragged": ({"points": [(1, 2), (3,)]}, "points must be a regular array of numbers"),
    "words": ({"points": [("a", "b")]}, "points must be numbers"),
    "nothing": ({}, "the prompt is empty"),
    "empty": ({"points": []}, "the prompt is empty"),
    "text": ({"text": "a cat", "points": [(5, 5)]}, "knows no words beside other prompts"),
    "no area": ({"box": (5, 5, 5, 20)}, r"box \(5, 5, 5, 20\) has no area"),
    "crossed": ({"box": (30, 5, 10, 20)}, "has no area"),
    "box outside": ({"box": (5, 5, 10, 61)}, "reaches outside the image"),
    "box nan": ({"box": (5, 5, np.inf, 20)}, "is not finite"),
    "box shape": ({"box": (5, 5, 10)}, r"box has shape \(3,\)"),
    "boxes": ({"box": np.ones((3, 4))}, "3 boxes are 3 prompts: give them to predict_boxes"),
    "mask shape": ({"mask": np.zeros((59, 100), bool)}, r"mask has shape \(59, 100\) and dtype bool"),
    "mask transposed": ({"mask": np.zeros((100, 60), bool)}, r"expected were logits, float, of"),
    "mask deep": ({"mask": np.zeros((3, 60, 100), bool)}, r"mask has shape \(3, 60, 100\)"),
    "mask grey": ({"mask": np.full((60, 100), 7, np.uint8)}, "is not binary"),
    "mask levels": ({"mask": np.repeat(np.uint8([[0], [1], [255]]), 20, 0).repeat(100, 1)}, "is not binary"),
    "mask words": ({"mask": "mask.png"}, "mask must be numbers"),
}


@pytest.mark.parametrize(("prompt", "message"), BAD.values(), ids=BAD)
def test_bad_prompts_are_refused_in_one_clear_line(predictor: Predictor, prompt: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message) as caught:
        predictor.predict(**prompt)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_must_be_finite(predictor: Predictor, value: float) -> None:
    logits = np.zeros((predictor.model.mask_size,) * 2, np.float32)
    logits[0, 0] = value
    with pytest.raises(PromptError, match="NaN or infinity"):
        predictor.predict(mask=logits)


def test_an_image_must_be_set_first(small_sam: Sam, picture: Picture) -> None:
    predictor = Predictor(small_sam)
    with pytest.raises(PromptError, match="no image is set"):
        predictor.predict(points=[(1, 1)])
    predictor.set_image(picture(8, 8))
    predictor.predict(points=[(1, 1)])
    predictor.reset()
    with pytest.raises(PromptError, match="no image is set"):
        predictor.session()


def test_a_bad_image_leaves_the_one_before(predictor: Predictor) -> None:
    before = predictor.predict(points=[(52, 37)])
    with pytest.raises(ImageError):
        predictor.set_image(np.zeros((0, 5, 3), np.uint8))
    assert_array_equal(predictor.predict(points=[(52, 37)]).masks, before.masks)


def test_many_boxes_are_many_prompts(predictor: Predictor) -> None:
    boxes = np.array([[1, 1, 30, 30], [40, 10, 99, 59], [0, 0, 100, 60]], np.float32)
    found = predictor.predict_boxes(boxes)
    assert len(found) == 3
    for box, masks in zip(boxes, found, strict=True):
        assert_same(masks, predictor.predict(box=box))
    assert_same(predictor.predict(box=boxes[:1]), found[0])
    assert predictor.predict_boxes(np.zeros((0, 4))) == []
    with pytest.raises(PromptError, match=r"boxes have shape \(4,\)"):
        predictor.predict_boxes([1, 2, 3, 4])


def mixed_prompts() -> list[Prompt]:
    mask = np.zeros((60, 100), bool)
    mask[20:50, 30:80] = True
    return [
        Prompt(points=[(52, 37)]),
        Prompt(box=(3, 4, 50, 40)),
        Prompt(mask=mask),
        Prompt(points=[(10, 10), (30, 20), (90, 50)], labels=[1, 0, 1]),
        Prompt(points=[(5, 55)], labels=[0]),
        Prompt(points=[(52, 37)], box=(40, 20, 90, 60), mask=mask),
        Prompt(points=[(12, 37), (60, 20)], box=(0, 0, 100, 60)),
    ]


@pytest.mark.parametrize("budget", [1, 1 << 22, 1 << 30])
def test_any_mix_of_prompts_answers_as_one_by_one(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    monkeypatch.setattr(answers, "_DECODER_BYTES", budget)
    prompts = mixed_prompts()
    together = predictor.predict_many(prompts)
    assert [len(masks) for masks in together] == [3, 1, 1, 1, 3, 1, 1]
    for prompt, masks in zip(prompts, together, strict=True):
        alone = predictor.predict(points=prompt.points, labels=prompt.labels, box=prompt.box, mask=prompt.mask)
        assert_same(masks, alone)


def test_a_thousand_prompts_are_decoded_in_bounded_chunks(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_DECODER_BYTES", 100 * answers._DECODER_BYTES // answers.chunk_size(predictor.model))
    sizes = []
    ask = Sam.answer

    def spy(self: Sam, embedding: Embedding, prompts: Any, **kwargs: Any) -> Any:
        sizes.append(prompts.points.shape[1])
        return ask(self, embedding, prompts, **kwargs)

    monkeypatch.setattr(Sam, "answer", spy)
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 60, (1000, 1, 2))
    found = predictor.predict_many([Prompt(points=point) for point in points], multimask=False)
    assert len(found) == 1000 and sum(sizes) == 2000  # each is asked again
    assert max(sizes) <= 100 and len(sizes) <= 24
    assert_same(found[997], predictor.predict(points=points[997], multimask=False))


def test_all_prompts_are_checked_before_any_is_answered(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sam, "answer", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(PromptError, match="prompt 1: point 0 at"):
        predictor.iterate([Prompt(points=[(5, 5)]), Prompt(points=[(500, 5)])])


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_batches_of_images_answer_as_one_by_one(small_sam: Sam, batch_size: int, picture: Picture) -> None:
    images = [picture(60, 100), picture(33, 20, 1), picture(200, 150, 2)]
    prompts = [mixed_prompts()[:4], [], [Prompt(points=[(100, 180)])]]
    predictor = Predictor(small_sam)
    found = predictor.predict_batch(images, prompts, batch_size=batch_size)
    assert [len(masks) for masks in found] == [4, 0, 1]
    for image, image_prompts, answers_there in zip(images, prompts, found, strict=True):
        predictor.set_image(image)
        for prompt, masks in zip(image_prompts, answers_there, strict=True):
            assert_same(masks, predictor.predict_many([prompt])[0])


def test_batches_say_which_prompt_is_bad_and_keep_the_image_that_is_set(predictor: Predictor, picture: Picture) -> None:
    images = [picture(60, 100), picture(30, 30)]
    with pytest.raises(PromptError, match="image 1, prompt 0: point 0 at"):
        predictor.predict_batch(images, [[Prompt(points=[(5, 5)])], [Prompt(points=[(50, 5)])]])
    with pytest.raises(PromptError, match="2 images came with prompts for 1"):
        predictor.predict_batch(images, [[]])
    with pytest.raises(ImageError, match="batch_size is 0"):
        predictor.predict_batch(images, [[], []], batch_size=0)
    with pytest.raises(ImageError, match=r"image 1, the image array has dtype float64"):
        predictor.predict_batch([images[0], np.zeros((4, 4, 3))], [[], []])
    assert predictor.image.frame.original == (60, 100)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (37, 1000), (5000, 300), (3, 5000), (128, 128)])
def test_every_aspect_ratio_works(small_sam: Sam, size: tuple[int, int], picture: Picture) -> None:
    height, width = size
    predictor = Predictor(small_sam)
    predictor.set_image(picture(*size))
    mask = np.ones(size, bool)
    for masks in predictor.predict_many(
        [Prompt(points=[(width / 2, height / 2)]), Prompt(box=(0, 0, width, height)), Prompt(mask=mask)]
    ):
        assert masks.masks.shape[1:] == size
        assert np.isfinite(masks.logits).all() and np.isfinite(masks.scores).all()


def test_a_set_embedding_is_the_image(predictor: Predictor, small_sam: Sam) -> None:
    other = Predictor(small_sam)
    other.set_embedding(predictor.image.embedding, (60, 100))
    assert_array_equal(other.predict(points=[(52, 37)]).masks, predictor.predict(points=[(52, 37)]).masks)
    with pytest.raises(ImageError, match="embedding's features have shape"):
        other.set_embedding(Embedding(features=torch.zeros(1, 4, 4, 4)), (60, 100))
    for size in ((0, 100), (60,)):
        with pytest.raises(ImageError, match="the image's size is"):
            other.set_embedding(predictor.image.embedding, size)  # type: ignore[arg-type]
    assert other.image.frame.original == (60, 100)


def test_fine_features_of_another_shape_are_refused(predictor: Predictor, small_sam: Sam) -> None:
    config = small_sam.config
    fine = Predictor(build_sam(replace(config, decoder=replace(config.decoder, hq_feature_width=16))).eval())
    embedding = Embedding(features=predictor.image.embedding.features, hq=torch.zeros(1, 3, 8, 8))
    with pytest.raises(ImageError, match=r"embedding's hq have shape \(1, 3, 8, 8\)"):
        fine.set_embedding(embedding, (60, 100))
    expected = (1, config.width // 8, small_sam.mask_size, small_sam.mask_size)
    fine.set_embedding(replace(embedding, hq=torch.zeros(expected)), (60, 100))
    assert fine.predict(points=[(52, 37)]).best.shape == (60, 100)


class NoFloat64(TorchDispatchMode):
    """Fails at the first operation that takes or gives a float64 tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        leaves = torch.utils._pytree.tree_leaves((args, kwargs, result))
        assert not any(isinstance(x, torch.Tensor) and x.dtype == torch.float64 for x in leaves), func
        return result


def test_no_float64_reaches_the_device(small_sam: Sam, picture: Picture) -> None:
    with NoFloat64():
        predictor = Predictor(small_sam)
        predictor.set_image(picture(60, 100))
        predictor.predict_many(mixed_prompts())
        predictor.predict(points=np.array([[5.0, 5.0]]), labels=np.array([1.0]), box=np.array([1.0, 1, 50, 50]))
        predictor.predict(mask=np.zeros((predictor.model.mask_size,) * 2, np.float64))
        session = predictor.session()
        session.click(5, 5)
        session.click(50, 5, 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_answers_like_float32(predictor: Predictor, dtype: torch.dtype, picture: Picture) -> None:
    sam = build_sam(SIZES["smoke"])
    sam.load_state_dict(predictor.model.state_dict())
    # Asked once: which of three masks of random weights is ranked first, and refined, hangs on the last digit.
    half, full = (
        Predictor(sam, dtype=dtype, device="cpu", refinement=PLAIN),
        Predictor(predictor.model, refinement=PLAIN),
    )
    assert half.model.dtype == dtype
    for each in (half, full):
        each.set_image(picture(60, 100))
    for a, b in zip(half.predict_many(mixed_prompts()), full.predict_many(mixed_prompts()), strict=True):
        assert a.logits.dtype == np.float32 and a.scores.dtype == np.float32
        order = [int(np.abs(b.scores - score).argmin()) for score in a.scores]
        assert np.linalg.norm(a.logits - b.logits[order]) <= 0.1 * np.linalg.norm(b.logits)


def test_the_models_mode_is_left_as_it_was(small_sam: Sam, picture: Picture) -> None:
    sam = build_sam(SIZES["smoke"])
    sam.load_state_dict(small_sam.state_dict())
    sam.train()
    sam.image_encoder.eval()
    before = [module.training for module in sam.modules()]
    predictor = Predictor(sam)
    predictor.set_image(picture(60, 100))
    predictor.predict(points=[(52, 37)])
    assert [module.training for module in sam.modules()] == before
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_iterating_does_not_leave_inference_mode_on(predictor: Predictor) -> None:
    for _ in predictor.iterate(mixed_prompts()):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_answers_as_the_cpu(predictor: Predictor, picture: Picture) -> None:
    sam = build_sam(SIZES["smoke"])
    sam.load_state_dict(predictor.model.state_dict())
    on_gpu = Predictor(sam, device="cuda")
    image = picture(60, 100)
    on_gpu.set_image(image)
    predictor.set_image(image)
    for a, b in zip(on_gpu.predict_many(mixed_prompts()), predictor.predict_many(mixed_prompts()), strict=True):
        assert np.mean(a.masks != b.masks) < 0.02


def test_a_decoder_may_be_trained_on_an_embedding_encoded_once(predictor: Predictor) -> None:
    prompts = Prompts.build(points=torch.tensor([[[[5.0, 5.0]]]]), labels=torch.tensor([[[1]]]))
    predictor.model.decode(predictor.image.embedding, prompts, multimask=False)[0].sum().backward()
    assert any(parameter.grad is not None for parameter in predictor.model.mask_decoder.parameters())
    predictor.model.zero_grad()
