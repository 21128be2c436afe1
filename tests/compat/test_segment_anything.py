from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anymask.checkpoints.load import save_model
from anymask.compat import segment_anything as drop_in
from anymask.errors import CheckpointError, ImageError, PromptError
from anymask.model import SIZES, ViTConfig, build_sam


@pytest.fixture
def predictor() -> drop_in.SamPredictor:
    torch.manual_seed(0)
    made = drop_in.SamPredictor(build_sam(SIZES["smoke"]).eval())
    made.set_image(np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8))
    return made


def test_any_of_our_models_takes_the_face_and_stays_itself() -> None:
    ours = build_sam(SIZES["smoke"])
    sam = drop_in.Sam.of(ours)
    assert sam.image_encoder is ours.image_encoder
    assert sam.image_encoder.img_size == 128
    assert list(sam.state_dict()) == list(ours.state_dict())
    sam.to(torch.bfloat16)
    assert ours.dtype == torch.bfloat16
    assert isinstance(copy.deepcopy(sam), drop_in.Sam)


def test_a_builder_without_a_checkpoint_gives_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ViTConfig(width=32, depth=2, num_heads=2, global_blocks=(1,), position_grid=8)
    monkeypatch.setitem(SIZES, "vit_h", replace(SIZES["vit_h"], encoder=encoder, image_size=128))
    sam = drop_in.build_sam()
    assert sam.config.encoder == encoder and not sam.training
    assert drop_in.sam_model_registry["default"] is drop_in.build_sam is drop_in.build_sam_vit_h


def test_a_checkpoint_must_be_of_the_builders_size(tmp_path: Path) -> None:
    save_model(build_sam(SIZES["smoke"]), tmp_path / "smoke.safetensors")
    with pytest.raises(CheckpointError, match=r"smoke\.safetensors: does not hold a vit_l model"):
        drop_in.sam_model_registry["vit_l"](checkpoint=tmp_path / "smoke.safetensors")
    with pytest.raises(CheckpointError):
        drop_in.build_sam_vit_b(str(tmp_path / "none.pth"))


def test_what_cannot_be_used_is_refused(predictor: drop_in.SamPredictor) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ImageError, match="image_format is 'RGBA'"):
        predictor.set_image(image, "RGBA")
    with pytest.raises(ImageError, match=r"\(1, 3, h, w\) with a long side of 128 was expected"):
        predictor.set_torch_image(torch.zeros(1, 3, 64, 64), (8, 8))
    with pytest.raises(PromptError, match="point_coords came without point_labels"):
        predictor.predict(point_coords=np.zeros((1, 2)))
    with pytest.raises(PromptError, match="point_labels must be 1"):
        predictor.predict(point_coords=np.zeros((1, 2)), point_labels=np.array([2]))
    with pytest.raises(PromptError, match="predict takes one box, but got 2"):
        predictor.predict(box=np.ones((2, 4)))


def test_many_prompts_are_decoded_in_chunks(predictor: drop_in.SamPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.rand(50, 2, 2, generator=torch.Generator().manual_seed(0)) * 100
    labels = torch.ones(50, 2)
    low = torch.randn(50, 1, *(predictor.model.mask_size,) * 2, generator=torch.Generator().manual_seed(1))
    whole = predictor.predict_torch(points, labels, mask_input=low, return_logits=True)
    monkeypatch.setattr(drop_in, "chunk_size", lambda sam: 7)
    chunked = predictor.predict_torch(points, labels, mask_input=low, return_logits=True)
    for a, b in zip(whole, chunked, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_nothing_needs_a_gradient(predictor: drop_in.SamPredictor) -> None:
    masks, iou, low = predictor.predict_torch(torch.zeros(1, 1, 2), torch.ones(1, 1))
    assert not any(x.requires_grad for x in (masks, iou, low, predictor.get_image_embedding()))
    low.sum().add(torch.ones(1, requires_grad=True)).backward()  # they are ordinary tensors
