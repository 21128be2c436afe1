"""A step's gradient: that of the rounds' mean loss, however it is brought together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from anymask.data.loader import Batch
from anymask.model import SIZES, Embedding, Prompts, Sam, build_sam
from anymask.task import LossConfig, RoundsConfig, mask_loss, rounds_with_loss, simulate
from anymask.training.objectives.sam import preprocess, sam_step

ROUNDS = RoundsConfig(num_corrections=2, num_refinements=1)


@pytest.fixture
def model(randomise: Callable[[nn.Module], None]) -> Sam:
    """The smoke size, far from its first values, its batch normalisation fixed: it would tie images together."""
    built = build_sam(SIZES["smoke"])
    randomise(built)
    return built.eval()


def make_batch(count: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 255, (count, 3, 128, 128), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(count, 3, 64, 64, dtype=torch.bool)
    for index in range(count):
        for k in range(3):
            masks[index, k, 5 + 10 * k : 18 + 10 * k, 8 + 9 * index : 40] = True
    valid = torch.ones(count, 64, 64, dtype=torch.bool)
    valid[:, 50:] = False
    return Batch(images=images, masks=masks, known=masks, valid=valid, keys=tuple("ab"[:count]))


def gradients(model: Sam, call: Callable[[], object]) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    call()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def assert_close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.allclose(value, b[name], rtol=1e-3, atol=1e-5 * float(b[name].abs().max())), name


def test_round_by_round_is_the_gradient_of_the_mean_over_rounds(model: Sam) -> None:
    batch = make_batch()

    def at_once() -> None:
        embedding = model.encode(preprocess(model, batch))

        def decoder(prompts: object) -> tuple[torch.Tensor, torch.Tensor]:
            fields = {name: getattr(prompts, name) for name in ("points", "labels", "masks", "has_mask")}
            return model.decode(Embedding(features=embedding.features), Prompts(**fields))

        rounds = simulate(
            decoder, batch.masks, ROUNDS, image_size=128, mask_size=64, valid=batch.valid, generator=generator()
        )
        losses = [
            mask_loss(r.logits, r.iou, batch.masks, LossConfig(), candidates=r.candidates, valid=batch.valid).total
            for r in rounds
        ]
        assert len(losses) == 4
        torch.stack(losses).mean().backward()

    together = gradients(model, at_once)
    apart = gradients(model, lambda: sam_step(model, batch, rounds=ROUNDS, loss=LossConfig(), generator=generator()))
    assert_close(apart, together)
    assert any(name.startswith("image_encoder") for name in apart)


def test_rounds_that_are_only_played_leave_no_gradient(model: Sam) -> None:
    batch, rounds = make_batch(), RoundsConfig(num_corrections=3, num_refinements=0, num_loss_rounds=1)

    def at_once() -> None:
        embedding, drawn = model.encode(preprocess(model, batch)), generator()
        has_loss = rounds_with_loss(rounds, drawn)

        def decoder(prompts):  # type: ignore[no-untyped-def]
            return model.decode(embedding, Prompts(points=prompts.points, labels=prompts.labels, masks=prompts.masks))

        played = simulate(
            decoder, batch.masks, rounds, image_size=128, mask_size=64, valid=batch.valid, generator=drawn
        )
        losses = [
            mask_loss(t.logits, t.iou, batch.masks, LossConfig(), candidates=t.candidates, valid=batch.valid).total
            for t in played
        ]
        sum(loss for loss, with_loss in zip(losses, has_loss, strict=True) if with_loss).div(2).backward()

    def by_round() -> None:
        sam_step(model, batch, rounds=rounds, loss=LossConfig(), generator=generator())

    assert_close(gradients(model, at_once), gradients(model, by_round))


def test_two_halves_of_weight_one_half_are_one_whole(model: Sam) -> None:
    batch = make_batch()

    def step(scale: float) -> None:
        sam_step(model, batch, rounds=ROUNDS, loss=LossConfig(), generator=generator(), scale=scale)

    def twice() -> None:
        step(0.5)
        step(0.5)

    assert_close(gradients(model, twice), gradients(model, lambda: step(1.0)))


def test_a_frozen_encoder_gets_no_gradient(model: Sam) -> None:
    def step() -> None:
        batch = make_batch()
        sam_step(model, batch, rounds=ROUNDS, loss=LossConfig(), generator=generator(), train_encoder=False)

    names = gradients(model, step)
    assert names and not any(name.startswith("image_encoder") for name in names)


def test_padding_is_zero_as_in_inference(model: Sam) -> None:
    batch = make_batch(1)
    images = preprocess(model, batch)
    cut = model.preprocess(batch.images[:, :, :100])
    assert torch.equal(images, cut)


def test_what_is_logged_is_in_range_and_detached(model: Sam) -> None:
    result = sam_step(model, make_batch(), rounds=ROUNDS, loss=LossConfig(), generator=generator())
    for name in ("iou_first", "iou_last", "iou_oracle"):
        assert 0 <= float(getattr(result, name)) <= 1
    assert float(result.iou_oracle) >= float(result.iou_first)
    assert not result.loss.requires_grad
    parts = 20 * result.focal + result.dice + result.iou_error
    assert float(result.loss) == pytest.approx(float(parts), rel=1e-4)
