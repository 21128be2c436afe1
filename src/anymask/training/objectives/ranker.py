"""One step of training the ranker alone: the rest is frozen, and plays the rounds as it would for a person.

The ranker learns two things of each answer: the IoU that every candidate has, and which candidate is the best.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from anymask.data.loader import Batch
from anymask.errors import CheckpointError
from anymask.model import Sam
from anymask.task import RoundsConfig, SimulatedPrompts, simulate
from anymask.task.losses import true_iou
from anymask.training.config import RankerConfig, Recipe
from anymask.training.loop import Objective, new_state
from anymask.training.objectives.sam import preprocess
from anymask.training.sources import build_stream


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerResult:
    """Means over the masks of a batch, on the device; `iou_first` is of the candidate ranked first at the first prompt,
    `iou_oracle` of the best one."""

    loss: Tensor
    iou_error: Tensor
    iou_first: Tensor
    iou_oracle: Tensor


def ranker_step(
    model: Sam,
    batch: Batch,
    *,
    rounds: RoundsConfig,
    loss: RankerConfig,
    generator: torch.Generator,
    precision: torch.dtype = torch.float32,
    scale: float = 1.0,
) -> RankerResult:
    """Play the rounds on a batch and leave `scale` times the gradient of their mean loss in the ranker's parameters.

    `precision` is the frozen image encoder's; all else is computed in float32. The model is put into evaluation mode.
    """
    model.eval()
    with torch.no_grad(), torch.autocast(batch.images.device.type, precision, enabled=precision != torch.float32):
        embedding = model.encode(preprocess(model, batch))
    embedding = embedding.map(Tensor.float)

    def decoder(prompts: SimulatedPrompts) -> tuple[Tensor, Tensor]:
        return model.decode(embedding, prompts)

    played = simulate(
        decoder,
        batch.masks,
        rounds,
        image_size=model.image_size,
        mask_size=model.mask_size,
        valid=batch.valid,
        generator=generator,
    )
    logged: list[Tensor] = []
    firsts: list[Tensor] = []
    for turn in played:
        true = true_iou(turn.logits, batch.masks[:, :, None], valid=batch.valid[:, None, None])
        total, error = ranking_loss(turn.iou, true, turn.candidates, loss)
        (total * scale / rounds.num_rounds).backward()
        logged.append(torch.stack([total.detach(), error.detach()]))
        if turn.index == 0:
            firsts = [
                true.gather(2, turn.chosen[..., None]).mean(),
                true.masked_fill(~turn.candidates, 0).amax(2).mean(),
            ]
    mean, error = torch.stack(logged).mean(0).unbind()
    return RankerResult(loss=mean, iou_error=error, iou_first=firsts[0], iou_oracle=firsts[1])


def ranking_loss(
    iou: Float[Tensor, "b p m"], true: Float[Tensor, "b p m"], candidates: Bool[Tensor, "b p m"], config: RankerConfig
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the loss, and the squared error of the predicted IoUs that is part of it; both count `candidates` alone.

    Beside the error stands the cross-entropy of which candidate is the best: both IoUs become chances by a softmax over
    the candidates, at the config's temperature.
    """
    error = ((iou - true).square() * candidates).sum() / candidates.sum()
    given, wanted = (x.masked_fill(~candidates, -torch.inf) / config.temperature for x in (iou, true))
    by_candidate = wanted.softmax(2) * given.log_softmax(2).masked_fill(~candidates, 0)
    return error - config.ranking * by_candidate.sum(2).mean(), error


def ranker_objective(recipe: Recipe, start: Sam | None) -> Objective[Sam]:
    """Return the training of the ranker of `start`, or of a new one on it.

    Raises:
        CheckpointError: there is no model to start from, or neither it nor the recipe has a ranker.
    """
    if start is None:
        raise CheckpointError("a ranker is trained on a model that is trained: the recipe's model.start must name one")
    if recipe.model.build(start.config).decoder.ranker_width is None:
        raise CheckpointError(
            "the model to start from has no ranker: the recipe's model.ranker_width must say how wide one is"
        )

    def step(model: Sam, batch: Batch, generator: torch.Generator, scale: float) -> RankerResult:
        precision = getattr(torch, recipe.run.precision)
        return ranker_step(
            model,
            batch,
            rounds=recipe.rounds,
            loss=recipe.ranker,
            generator=generator,
            precision=precision,
            scale=scale,
        )

    return Objective(
        build=lambda: new_state(recipe, start, trained="ranker"),
        stream=lambda step: build_stream(recipe, start=step),
        step=step,
    )
