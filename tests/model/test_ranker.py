"""The ranker in the model: what it leaves alone, what it may depend on, and where its gradient ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from anymask.checkpoints.meta import check_expressible
from anymask.errors import CheckpointError
from anymask.model import SIZES, Embedding, Prompts, Sam, SamConfig, build_sam

PLAIN = SIZES["smoke"]
RANKED = replace(PLAIN, decoder=replace(PLAIN.decoder, ranker_width=24))


@pytest.fixture
def model(randomise: Callable[..., None]) -> Sam:
    torch.manual_seed(0)
    built = build_sam(RANKED).eval()
    randomise(built.mask_decoder)
    assert built.ranker is not None
    torch.nn.init.normal_(built.ranker.out.weight)
    return built


def asked(model: Sam) -> tuple[Embedding, Prompts]:
    generator = torch.Generator().manual_seed(2)
    side = model.embedding_size
    features = torch.randn(1, model.config.width, side, side, generator=generator)
    points = model.image_size * torch.rand(1, 3, 2, 2, generator=generator)
    return Embedding(features=features), Prompts.build(points=points, labels=torch.ones(1, 3, 2))


def scores(model: Sam, multimask: bool | None) -> Tensor:
    embedding, prompts = asked(model)
    with torch.no_grad():
        return model.decode(embedding, prompts, multimask=multimask)[1]


def test_a_new_ranker_changes_nothing() -> None:
    torch.manual_seed(0)
    ranked = build_sam(RANKED).eval()
    plain = build_sam(PLAIN).eval()
    plain.load_state_dict({name: x for name, x in ranked.state_dict().items() if not name.startswith("ranker.")})
    assert torch.equal(scores(ranked, None), scores(plain, None))


def test_a_candidate_has_one_score_whichever_are_asked_for(model: Sam) -> None:
    every = scores(model, None)
    assert torch.allclose(scores(model, False), every[..., :1], atol=1e-5)
    assert torch.allclose(scores(model, True), every[..., 1:], atol=1e-5)


def test_the_amortised_decoder_gives_the_same_scores(model: Sam) -> None:
    embedding, prompts = asked(model)
    with torch.no_grad():
        prepared = model.prepare(embedding)
        assert prepared.side is not None
        assert torch.allclose(model.decode(prepared, prompts)[1], scores(model, None), atol=1e-4)


def test_corrections_depend_on_the_embedding_and_on_the_other_candidates(model: Sam) -> None:
    assert model.ranker is not None
    features, iou, ambiguous = asked(model)[0].features, torch.full((1, 1, 3), 0.5), slice(1, None)
    logits = torch.full((1, 1, 3, model.mask_size, model.mask_size), -5.0)
    logits[0, 0, 0, 8:24, 8:24] = logits[0, 0, 1, 8:16, 8:16] = logits[0, 0, 2, 40:, 40:] = 5.0
    with torch.no_grad():
        first = model.ranker(features, logits, iou, ambiguous)
        elsewhere = model.ranker(features.flip(3), logits, iou, ambiguous)
        logits[:, :, 2] = logits[:, :, 0]
        beside = model.ranker(features, logits, iou, ambiguous)
    assert (first - elsewhere).abs().min() > 1e-3
    assert (first - beside).abs()[..., :2].min() > 1e-4


def test_its_gradient_reaches_nothing_but_itself(model: Sam) -> None:
    assert model.ranker is not None
    embedding, prompts = asked(model)
    features = embedding.features.requires_grad_()
    _, iou = model.decode(Embedding(features=features), prompts)
    (plain,) = torch.autograd.grad(iou.sum(), features, retain_graph=True)
    iou.sum().backward()
    assert all(parameter.grad is not None for parameter in model.ranker.parameters())
    assert features.grad is not None and torch.equal(features.grad, plain)
    model.ranker = None
    _, uncorrected = model.decode(Embedding(features=features), prompts)
    assert torch.equal(torch.autograd.grad(uncorrected.sum(), features)[0], plain)


def test_configs_without_a_ranker_stay_as_they_were_and_others_are_kept() -> None:
    assert "ranker_width" not in PLAIN.to_dict()["decoder"]
    assert SamConfig.from_dict(RANKED.to_dict()) == RANKED


def test_no_other_format_has_a_ranker() -> None:
    vit = SIZES["vit_b"]
    with pytest.raises(CheckpointError, match="ranker_width is 24"):
        check_expressible(replace(vit, decoder=replace(vit.decoder, ranker_width=24)))
