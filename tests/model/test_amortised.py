import dataclasses

import pytest
import torch
from torch import nn

from anymask.model import SIZES, Embedding, Prompts, Sam, SamConfig, build_sam

_SMALL_HQ = dataclasses.replace(
    SIZES["compact"], decoder=dataclasses.replace(SIZES["compact"].decoder, hq_feature_width=16), image_size=64
)


def _model(config: SamConfig) -> Sam:
    torch.manual_seed(0)
    model = build_sam(config).eval()
    for parameter in model.mask_decoder.parameters():
        if parameter.ndim == 1:  # biases and norms start at 0 and 1, where mistakes would hide
            nn.init.normal_(parameter, std=0.3)
    return model


def _embedding(model: Sam, images: int) -> Embedding:
    return Embedding.from_tensors({name: torch.randn(images, *s) for name, s in model.embedding_shapes().items()})


@pytest.mark.parametrize(
    "config",
    [
        dataclasses.replace(SIZES["compact"], image_size=64),
        dataclasses.replace(SIZES["vit_b"], image_size=128),
        _SMALL_HQ,
        dataclasses.replace(SIZES["lite0"], image_size=64),
    ],
    ids=["width-128", "width-256", "hq", "skips"],
)
@pytest.mark.parametrize("num_points", [1, 2, 9])
@pytest.mark.parametrize("with_mask", [False, True])
def test_prepared_embedding_gives_the_plain_decoders_answer(
    config: SamConfig, num_points: int, with_mask: bool
) -> None:
    model = _model(config)
    embedding = _embedding(model, images=2)
    points = torch.rand(2, 3, num_points, 2) * model.image_size
    masks = torch.randn(2, 3, model.mask_size, model.mask_size) if with_mask else None
    prompts = Prompts.build(points=points, labels=torch.randint(0, 2, points.shape[:3]), masks=masks)
    with torch.inference_mode():
        plain, plain_iou = model.decode(embedding, prompts)
        prepared, iou = model.decode(model.prepare(embedding), prompts)
    scale = float(plain.abs().max())
    torch.testing.assert_close(prepared, plain, atol=1e-5 * scale, rtol=0)
    torch.testing.assert_close(iou, plain_iou, atol=1e-5, rtol=0)


def test_prompts_of_ragged_length_take_the_plain_form() -> None:
    model = _model(dataclasses.replace(SIZES["compact"], image_size=64))
    embedding = _embedding(model, images=1)
    prompts = Prompts(points=torch.rand(1, 2, 2, 2) * 64, labels=torch.tensor([[[1, -1], [1, -2]]]))
    with torch.inference_mode():
        plain, _ = model.decode(embedding, prompts)
        prepared, _ = model.decode(model.prepare(embedding), prompts)
    torch.testing.assert_close(prepared, plain)


def test_preparing_twice_changes_nothing() -> None:
    model = _model(dataclasses.replace(SIZES["compact"], image_size=64))
    once = model.prepare(_embedding(model, images=1))
    assert model.prepare(once) is once
