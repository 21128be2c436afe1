"""Whole predictions against Meta's segment_anything, same weights and pixels: Predictor, and the drop-in for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from anymask.checkpoints.load import load_model
from anymask.compat import segment_anything as drop_in
from anymask.inference import PLAIN, Masks, Predictor
from anymask.model import Sam

SIZES = [(1, 1), (1, 7), (7, 1), (37, 1000), (5000, 300), (640, 427), (256, 256), (200, 333), (1030, 1024)]
KINDS = ("point", "background point", "points", "box", "points and box", "mask", "point and mask", "everything")


@dataclass(frozen=True)
class Pair:
    """One set of weights in Meta's model and in ours."""

    package: ModuleType
    theirs: nn.Module
    ours: Sam
    path: Path


def pair(package: ModuleType, theirs: nn.Module, path: Path) -> Pair:
    theirs.eval()
    torch.save(theirs.state_dict(), path)
    return Pair(package, theirs, load_model(path), path)


@pytest.fixture(scope="module")
def small(meta_sam: ModuleType, randomise: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """ViT-B in miniature, for 256² pixels."""
    parts = meta_sam.modeling
    theirs = parts.Sam(
        image_encoder=parts.ImageEncoderViT(
            img_size=256,
            embed_dim=128,
            depth=4,
            num_heads=2,
            global_attn_indexes=(0, 1, 2, 3),
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=14,
        ),
        prompt_encoder=parts.PromptEncoder(
            embed_dim=256, image_embedding_size=(16, 16), input_image_size=(256, 256), mask_in_chans=16
        ),
        mask_decoder=parts.MaskDecoder(
            transformer_dim=256,
            transformer=parts.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
        ),
    )
    randomise(theirs)
    return pair(meta_sam, theirs, tmp_path_factory.mktemp("small") / "small.pth")


@pytest.fixture(scope="module")
def vit_b(meta_sam: ModuleType, randomise: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Pair:
    theirs = meta_sam.build_sam_vit_b()
    randomise(theirs)
    return pair(meta_sam, theirs, tmp_path_factory.mktemp("vit_b") / "vit_b.pth")


def picture(height: int, width: int) -> np.ndarray:
    """Waves of colour with noise over them."""
    rng = np.random.default_rng(height + width)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = np.stack([np.sin(a * x + b * y) for a, b in rng.uniform(3, 12, (3, 2))], -1)
    return (127 + 90 * waves + rng.uniform(-30, 30, waves.shape)).astype(np.uint8)


def prompt(kind: str, size: tuple[int, int], mask_size: int) -> dict[str, np.ndarray]:
    """A prompt as Meta's predictor takes it."""
    rng = np.random.default_rng(KINDS.index(kind))
    height, width = size
    given: dict[str, np.ndarray] = {}
    if "point" in kind or kind == "everything":
        count = 3 if "points" in kind or kind == "everything" else 1
        given["point_coords"] = rng.uniform(0, (width, height), (count, 2))
        given["point_labels"] = np.array([0] if "background" in kind else [1, 0, 1][:count])
    if "box" in kind or kind == "everything":
        given["box"] = np.array([0.1 * width, 0.2 * height, 0.7 * width, 0.9 * height])
    if "mask" in kind or kind == "everything":
        given["mask_input"] = 4 * rng.standard_normal((1, mask_size, mask_size)).astype(np.float32)
    return given


def assert_masks_agree(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Equal but for one pixel in a thousand; of masks of fewer pixels, equal."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype == np.bool_
    assert np.count_nonzero(ours != theirs) <= 1e-3 * theirs.size


def assert_logits_agree(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype == np.float32
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


def check_predictor(models: Pair, size: tuple[int, int], kinds: tuple[str, ...] = KINDS) -> None:
    image = picture(*size)
    reference, predictor = models.package.SamPredictor(models.theirs), Predictor(models.ours, refinement=PLAIN)
    reference.set_image(image)
    predictor.set_image(image)
    for kind in kinds:
        given = prompt(kind, size, models.ours.mask_size)
        names = {"point_coords": "points", "point_labels": "labels", "box": "box", "mask_input": "mask"}
        for multimask in (True, False):
            masks, scores, logits = reference.predict(**given, multimask_output=multimask)
            found = predictor.predict(**{names[name]: value for name, value in given.items()}, multimask=multimask)
            assert isinstance(found, Masks)
            order = np.argsort(-scores)
            assert_masks_agree(found.masks, masks[order])
            assert_allclose(found.scores, scores[order], rtol=1e-4, atol=1e-4)
            assert_logits_agree(found.logits, logits[order])


@pytest.mark.parametrize("size", SIZES)
def test_predictor_gives_metas_masks(small: Pair, size: tuple[int, int]) -> None:
    check_predictor(small, size)


@pytest.mark.long
def test_predictor_gives_metas_masks_with_vit_b_at_1024(vit_b: Pair) -> None:
    check_predictor(vit_b, (427, 640), ("point", "everything"))


@pytest.mark.long
def test_the_registry_loads_vit_b_as_metas_does(vit_b: Pair) -> None:
    sam = drop_in.sam_model_registry["vit_b"](checkpoint=str(vit_b.path))
    assert not sam.training
    features = torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(0))
    results = []
    for package, model in ((vit_b.package, vit_b.theirs), (drop_in, sam)):
        predictor = package.SamPredictor(model)
        # Scripts restore embeddings that they kept in just this way.
        predictor.features, predictor.is_image_set = features, True
        predictor.original_size, predictor.input_size = (300, 450), (683, 1024)
        results.append(predictor.predict(np.array([[225, 150]]), np.array([1])))
    (theirs, their_iou, their_logits), (ours, our_iou, our_logits) = results
    assert_masks_agree(ours, theirs)
    assert_allclose(our_iou, their_iou, rtol=1e-4, atol=1e-4)
    assert_logits_agree(our_logits, their_logits)


def script(package: Any, sam: nn.Module, size: tuple[int, int]) -> Iterator[Any]:
    """What people write for Meta's package, from the first line to the last; yields all it sees."""
    image = picture(*size)
    sam.to(device="cpu")
    yield sam.mask_threshold, sam.image_format, sam.image_encoder.img_size, str(sam.device)
    predictor = package.SamPredictor(sam)
    yield predictor.is_image_set
    for image_format in ("BGR", "RGB"):
        predictor.set_image(image, image_format=image_format)
        yield predictor.get_image_embedding()
    yield predictor.is_image_set, predictor.original_size, predictor.input_size, str(predictor.device)
    mask_size = 4 * predictor.features.shape[-1]
    for kind in KINDS:
        given = prompt(kind, size, mask_size)
        yield predictor.predict(**given)
        yield predictor.predict(**given, multimask_output=False)
        yield predictor.predict(**given, return_logits=True)
    yield predictor.predict()
    given = prompt("box", size, mask_size)
    yield predictor.predict(box=given["box"][None])
    _, scores, logits = predictor.predict(**prompt("point", size, mask_size))
    best = logits[[int(np.argmax(scores))]]
    yield predictor.predict(**prompt("points", size, mask_size), mask_input=best, multimask_output=False)

    height, width = size
    boxes = torch.tensor([[0.1, 0.1, 0.6, 0.5], [0.3, 0.2, 0.9, 0.8], [0, 0, 1, 1]]) * torch.tensor([width, height] * 2)
    moved = predictor.transform.apply_boxes_torch(boxes, image.shape[:2])
    points = predictor.transform.apply_coords_torch(boxes.reshape(3, 2, 2), image.shape[:2])
    yield moved, points
    yield predictor.predict_torch(None, None, boxes=moved, multimask_output=False)
    yield predictor.predict_torch(points, torch.tensor([[1, 0], [1, 1], [0, -1]]))
    low = predictor.predict_torch(None, None, moved, return_logits=True)[2][:, :1]
    yield predictor.predict_torch(points, torch.ones(3, 2), moved, low, multimask_output=True, return_logits=True)
    predictor.reset_image()
    yield predictor.is_image_set, predictor.features
    try:
        predictor.predict()
    except RuntimeError:
        yield "an image must be set"

    resized = predictor.transform.apply_image(image)
    yield resized, predictor.transform.target_length
    pixels = torch.as_tensor(resized).permute(2, 0, 1).contiguous()
    predictor.set_torch_image(pixels[None], image.shape[:2])
    yield predictor.get_image_embedding()
    records = [
        {"image": pixels, "boxes": moved, "original_size": image.shape[:2]},
        {"image": pixels, "point_coords": points, "point_labels": torch.ones(3, 2), "original_size": size},
        {"image": pixels, "mask_inputs": low, "original_size": size},
    ]
    for multimask in (False, True):
        for answer in sam(records, multimask_output=multimask):
            yield sorted(answer), answer["masks"], answer["iou_predictions"], answer["low_res_logits"]


def assert_alike(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, tuple | list):
        assert isinstance(ours, type(theirs)) and len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_alike(a, b)
    elif isinstance(theirs, torch.Tensor):
        assert isinstance(ours, torch.Tensor) and ours.dtype == theirs.dtype
        assert_alike(ours.numpy(), theirs.numpy())
    elif not isinstance(theirs, np.ndarray):
        assert ours == theirs
    elif theirs.dtype == np.bool_:
        assert_masks_agree(ours, theirs)
    elif theirs.dtype == np.float32 and theirs.ndim > 2:
        assert_logits_agree(ours, theirs)
    elif theirs.dtype == np.float32:
        assert ours.dtype == np.float32
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    else:
        assert ours.dtype == theirs.dtype
        assert_array_equal(ours, theirs)


@pytest.mark.parametrize("size", [(1, 7), (60, 100), (640, 427), (1500, 90)])
def test_a_script_runs_the_same_after_changing_the_import(small: Pair, size: tuple[int, int]) -> None:
    theirs = list(script(small.package, small.theirs, size))
    ours = list(script(drop_in, drop_in.Sam.of(small.ours), size))
    assert len(ours) == len(theirs) > 40
    for a, b in zip(ours, theirs, strict=True):
        assert_alike(a, b)


@pytest.mark.parametrize("size", [(1, 7), (333, 500), (4000, 3001)])
def test_transforms_are_metas(small: Pair, size: tuple[int, int]) -> None:
    theirs = small.package.utils.transforms.ResizeLongestSide(256)
    ours = drop_in.ResizeLongestSide(256)
    rng = np.random.default_rng(0)
    boxes = rng.integers(0, 1000, (5, 4))
    for values in (boxes, boxes.astype(np.float32), boxes / 7):
        for name in ("apply_boxes", "apply_coords"):
            given = values if name == "apply_boxes" else values.reshape(5, 2, 2)
            a, b = getattr(ours, name)(given, size), getattr(theirs, name)(given, size)
            assert a.dtype == b.dtype == np.float64
            assert_allclose(a, b, rtol=1e-15)
            a, b = (getattr(t, f"{name}_torch")(torch.from_numpy(given), size) for t in (ours, theirs))
            assert a.dtype == b.dtype
            assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)
    images = torch.rand(2, 3, 40, 70, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours.apply_image_torch(images), theirs.apply_image_torch(images))
    assert ours.get_preprocess_shape(*size, 256) == theirs.get_preprocess_shape(*size, 256)


@pytest.mark.parametrize("name", ["SamPredictor", "SamAutomaticMaskGenerator", "build_sam_vit_b"])
def test_parameters_are_metas(meta_sam: ModuleType, name: str) -> None:
    def parameters(function: Callable[..., object]) -> list[tuple[str, object]]:
        return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]

    theirs, ours = getattr(meta_sam, name), getattr(drop_in, name)
    assert parameters(ours) == parameters(theirs)
    if isinstance(theirs, type):
        methods = [key for key, value in vars(theirs).items() if callable(value) and not key.startswith("_")]
        for method in methods:
            if hasattr(ours, method):
                assert parameters(getattr(ours, method)) == parameters(getattr(theirs, method))
    assert set(drop_in.sam_model_registry) == set(meta_sam.sam_model_registry)
