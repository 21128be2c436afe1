"""SAM 2's parts on models small enough to compute: what is shared, what is learned, what is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from anymask.errors import CheckpointError
from anymask.model import Answer, Prompts, Sam, SamConfig, hiera
from anymask.model.mask_decoder import settled
from sam2_models import ENCODERS, small


@pytest.fixture(params=list(ENCODERS))
def model(request: pytest.FixtureRequest, randomise: Callable[..., None]) -> Sam:
    built = small(request.param)
    randomise(built)
    return built


def pictures(model: Sam, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, model.image_size, model.image_size, generator=generator)


def clicks(count: int = 3) -> Prompts:
    points = 90 * torch.rand(2, count, 2, 2, generator=torch.Generator().manual_seed(2))
    return Prompts.build(points=points, labels=torch.tensor([[[1, 0]]]).expand(2, count, 2))


def agree(one: Answer, other: Answer) -> None:
    for left, right in zip(one, other, strict=True):
        assert left is not None and right is not None
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("multimask", [True, False, None])
def test_what_prompts_share_changes_no_answer(model: Sam, multimask: bool | None) -> None:
    with torch.no_grad():
        plain = model.encode(pictures(model))
        prepared = model.prepare(plain)
        assert prepared.side is not None
        agree(model.answer(prepared, clicks(), multimask=multimask), model.answer(plain, clicks(), multimask=multimask))


def test_many_prompts_are_answered_in_chunks_alike(model: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    from anymask.model import amortised

    with torch.no_grad():
        prepared = model.prepare(model.encode(pictures(model)))
        together = model.answer(prepared, clicks(5))
        monkeypatch.setattr(amortised, "_CHUNK", 1)
        agree(model.answer(prepared, clicks(5)), together)


def test_a_box_gets_the_padding_point_too(model: Sam) -> None:
    box = torch.tensor([[[10.0, 20.0, 60.0, 70.0]]])
    padded = Prompts(
        points=torch.cat([box.unflatten(-1, (2, 2)), torch.zeros(1, 1, 1, 2)], 2), labels=torch.tensor([[[2, 3, -1]]])
    )
    with torch.no_grad():
        embedding = model.encode(pictures(model, 1))
        agree(model.answer(embedding, Prompts.build(boxes=box)), model.answer(embedding, padded))
        point = torch.tensor([[[[30.0, 40.0]]]])
        alone = model.answer(embedding, Prompts.build(points=point, labels=torch.tensor([[[1]]])))
        mixed = Prompts(
            points=torch.cat([torch.cat([point, torch.zeros(1, 1, 1, 2)], 2), box.unflatten(-1, (2, 2))], 1),
            labels=torch.tensor([[[1, -1], [2, 3]]]),
        )
        both = model.answer(embedding, mixed)
        torch.testing.assert_close(both.logits[:, :1], alone.logits, rtol=1e-4, atol=1e-4)


def test_every_parameter_learns(model: Sam) -> None:
    model.train()
    prompts = clicks()
    masks = torch.randn(2, 3, model.mask_size, model.mask_size, generator=torch.Generator().manual_seed(3))
    answer = model.answer(model.encode(pictures(model)), replace(prompts, masks=masks))
    assert answer.object_score is not None
    (answer.logits.square().mean() + answer.iou.mean() + answer.object_score.mean()).backward()
    unused = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert all(
        "no_mask_embed" in name or "point_embeddings" in name or name.endswith("k_proj.bias") for name in unused
    ), unused


def test_recomputed_activations_change_no_gradient(model: Sam) -> None:
    model.train()
    images, gradients = pictures(model), []
    for recomputed in (False, True):
        model.image_encoder.checkpointing = recomputed
        model.zero_grad()
        state = {name: buffer.clone() for name, buffer in model.named_buffers()}
        model.encode(images).features.square().mean().backward()
        for name, buffer in model.named_buffers():
            buffer.copy_(state[name])
        gradients.append([parameter.grad for parameter in model.image_encoder.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch, randomise: Callable[..., None]) -> None:
    trunk = hiera.Hiera(ENCODERS["hiera"]).eval()
    randomise(trunk)
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        together = trunk(images)
        monkeypatch.setattr(hiera, "_STRIP", 1)
        for one, other in zip(trunk(images), together, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_levels_need_an_even_grid() -> None:
    with pytest.raises(CheckpointError, match="multiple of 32"):
        SamConfig(encoder=ENCODERS["hiera"], image_size=80)


def test_a_stable_mask_stays_and_an_unstable_one_gives_way() -> None:
    logits = torch.full((1, 2, 4, 2, 2), -1.0)
    logits[0, 0, 0] = torch.tensor([[5.0, 5.0], [5.0, -5.0]])
    logits[0, 1, 0] = torch.tensor([[0.01, -0.01], [5.0, -5.0]])  # one pixel sure of three
    logits[0, :, 2] = 3.0
    iou = torch.tensor([[[0.3, 0.2, 0.9, 0.4]] * 2])
    answer = settled(Answer(logits, iou), 0.98, 0.05)
    torch.testing.assert_close(answer.logits[0, 0, 0], logits[0, 0, 0])
    torch.testing.assert_close(answer.logits[0, 1, 0], logits[0, 1, 2])
    assert answer.iou[0, :, 0].tolist() == pytest.approx([0.3, 0.9])
    torch.testing.assert_close(answer.logits[:, :, 1:], logits[:, :, 1:])
