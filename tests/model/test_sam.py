"""The whole network, in small: gradients, prompts of any length, sizes it was not made for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from anymask.errors import CheckpointError
from anymask.model import (
    SIZES,
    CompactConfig,
    DecoderConfig,
    PointLabel,
    Prompts,
    Sam,
    SamConfig,
    TinyViTConfig,
    ViTConfig,
    build_sam,
)

_DECODER = DecoderConfig(mlp_dim=64, iou_hidden=32)
_VIT = ViTConfig(width=32, depth=3, num_heads=2, global_blocks=(1,), window_size=3, position_grid=4)
_TINY = TinyViTConfig(widths=(32, 32, 48, 64), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2))
ENCODERS = {
    "vit": _VIT,
    "tiny_vit": _TINY,
    "compact": CompactConfig(widths=(8, 16, 16, 32), depths=(1, 1, 1), num_heads=2),
}
CONFIGS = {
    name: SamConfig(encoder=encoder, decoder=_DECODER, width=64, image_size=64) for name, encoder in ENCODERS.items()
}
CONFIGS["hq"] = replace(CONFIGS["vit"], decoder=replace(_DECODER, hq_feature_width=32))
CONFIGS["light hq"] = replace(CONFIGS["tiny_vit"], decoder=replace(_DECODER, hq_feature_width=48))


@pytest.fixture(params=list(CONFIGS))
def model(request: pytest.FixtureRequest, randomise: Callable[..., None]) -> Sam:
    model = build_sam(CONFIGS[request.param]).eval()
    randomise(model)
    return model


def images(model: Sam, batch: int = 2, seed: int = 0) -> Tensor:
    side = model.image_size
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


def everything(model: Sam) -> list[Prompts]:
    """Prompts that between them use every part of the prompt encoder."""
    generator = torch.Generator().manual_seed(1)
    points = 64 * torch.rand(2, 3, 2, 2, generator=generator)
    labels = torch.tensor([0, 1]).expand(2, 3, 2)
    masks = torch.randn(2, 3, model.mask_size, model.mask_size, generator=generator)
    boxes = torch.tensor([4.0, 8.0, 40.0, 60.0]).expand(2, 3, 4)
    return [Prompts.build(points=points, labels=labels), Prompts.build(boxes=boxes, masks=masks)]


@pytest.mark.parametrize("training", [True, False])
def test_gradients_reach_every_parameter(model: Sam, training: bool) -> None:
    model.train(training)
    embedding = model.encode(images(model))
    total = torch.zeros(())
    for prompts in everything(model):
        logits, iou = model.decode(embedding, prompts)
        total = total + logits.square().mean() + iou.square().mean()
    total.backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A bias of all keys alike shifts every logit of a query alike, which softmax ignores.
    assert [name for name in silent if not name.endswith("k_proj.bias")] == []


def test_gradients_change_nothing(model: Sam) -> None:
    prompts = everything(model)[0]
    with_gradients = model(images(model), prompts)
    with torch.no_grad():
        without = model(images(model), prompts)
    for one, other in zip(with_gradients, without, strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=1e-4, atol=1e-4)


def test_absent_points_change_nothing(model: Sam) -> None:
    generator = torch.Generator().manual_seed(2)
    points = 64 * torch.rand(2, 3, 4, 2, generator=generator)
    labels = torch.randint(0, 2, (2, 3, 4), generator=generator)
    lengths = torch.tensor([[1, 2, 4], [4, 3, 1]])
    ragged = torch.where(torch.arange(4) < lengths[..., None], labels, int(PointLabel.ABSENT))
    with torch.no_grad():
        embedding = model.encode(images(model))
        together, iou = model.decode(embedding, Prompts.build(points=points, labels=ragged))
        for b in range(2):
            one_image = model.encode(images(model)[b : b + 1])
            for p in range(3):
                cut = (slice(b, b + 1), slice(p, p + 1), slice(0, int(lengths[b, p])))
                alone, alone_iou = model.decode(one_image, Prompts.build(points=points[cut], labels=labels[cut]))
                torch.testing.assert_close(together[b, p], alone[0, 0], rtol=1e-5, atol=1e-4)
                torch.testing.assert_close(iou[b, p], alone_iou[0, 0], rtol=1e-5, atol=1e-5)


def test_masks_of_some_prompts_only(model: Sam) -> None:
    points, labels = torch.tensor([[[[9.0, 9.0]]] * 2]), torch.ones(1, 2, 1, dtype=torch.long)
    masks = torch.randn(1, 2, model.mask_size, model.mask_size)
    mixed = Prompts.build(points=points, labels=labels, masks=masks, has_mask=torch.tensor([[True, False]]))
    with torch.no_grad():
        embedding = model.encode(images(model, 1))
        logits, _ = model.decode(embedding, mixed)
        masked, _ = model.decode(embedding, Prompts.build(points=points, labels=labels, masks=masks))
        bare, _ = model.decode(embedding, Prompts.build(points=points, labels=labels))
    torch.testing.assert_close(logits[:, 0], masked[:, 0], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(logits[:, 1], bare[:, 1], rtol=1e-5, atol=1e-4)


def test_candidates_are_slices_of_all_four(model: Sam) -> None:
    prompts = everything(model)[0]
    with torch.no_grad():
        embedding = model.encode(images(model))
        every, iou = model.decode(embedding, prompts)
        three, three_iou = model.decode(embedding, prompts, multimask=True)
        one, one_iou = model.decode(embedding, prompts, multimask=False)
    assert every.shape == (2, 3, 4, model.mask_size, model.mask_size)
    torch.testing.assert_close(torch.cat([one, three], 2), every, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.cat([one_iou, three_iou], 2), iou)


@pytest.mark.parametrize("image_size", [32, 96, 112])
def test_sizes_that_the_weights_were_not_made_for(model: Sam, image_size: int) -> None:
    other = build_sam(replace(model.config, image_size=image_size)).eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        logits, iou = other(images(other, 1), Prompts.build(boxes=torch.tensor([[[1.0, 1.0, 20.0, 20.0]]])))
    assert logits.shape[-2:] == (other.mask_size, other.mask_size)
    assert logits.isfinite().all() and iou.isfinite().all()


def test_batch_statistics_vanish_outside_training(randomise: Callable[..., None]) -> None:
    """TinyViT folds them into its convolutions; torch's own modules must agree."""
    encoder = build_sam(CONFIGS["tiny_vit"]).eval().image_encoder
    randomise(encoder)
    for layer in (
        encoder.layers[0].blocks[0].conv2,
        encoder.layers[1].blocks[0].local_conv,
        encoder.layers[0].downsample.conv2,
    ):
        x = torch.randn(2, 5, 7, layer.c.in_channels)
        expected = layer.bn(layer.c(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_preprocess_pads_below_and_right(model: Sam) -> None:
    image = torch.full((1, 3, 40, 64), 255, dtype=torch.uint8)
    x = model.preprocess(image)
    assert x.shape == (1, 3, 64, 64)
    assert float(x[..., :40, :].min()) > 2
    assert not x[..., 40:, :].any()
    with pytest.raises(ValueError, match="65×3"):
        model.preprocess(torch.zeros(1, 3, 65, 3))


@pytest.mark.parametrize("name", list(SIZES))
def test_configs_survive_plain_values(name: str) -> None:
    assert SamConfig.from_dict(SIZES[name].to_dict()) == SIZES[name]


@pytest.mark.parametrize("image_size", [0, -16, 1000])
def test_image_sizes_that_cannot_be(image_size: int) -> None:
    with pytest.raises(CheckpointError, match="positive multiple of 16, the encoder's largest stride"):
        replace(SIZES["vit_b"], image_size=image_size)
