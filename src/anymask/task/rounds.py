"""The rounds of interactive segmentation that a model is trained on (SAM, app. A, "Training algorithm").

The task knows no model: it prompts whatever answers as a `PromptableDecoder`. Shape legend: B images, P
prompts per image, M candidate masks per prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from anymask.prompts import SimulatedPrompts
from anymask.task.prompts import PromptConfig, correction_points, initial_prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundsConfig:
    """How long an interaction is: a first prompt, `num_corrections` clicks, `num_refinements` without one.

    The last refinement comes last, each other one before a correction drawn at random; none is last when
    there are no refinements. The defaults are the paper's eleven rounds.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {"num_taught": "num_loss_rounds"}
    """Former keys of recipes, and what they are called now."""

    num_corrections: int = 8
    num_refinements: int = 2
    num_loss_rounds: int = 0
    """How many of the rounds after the first teach, drawn again for each batch: the others are only played, for a third
    of the cost, so that a model meets long interactions cheaply. 0, and the paper, is all.
    """
    prompts: PromptConfig = field(default_factory=PromptConfig)

    @property
    def num_rounds(self) -> int:
        """Rounds in all, the first included."""
        return 1 + self.num_corrections + self.num_refinements

    def __post_init__(self) -> None:
        """Refuse more rounds that teach than there are."""
        if not 0 <= self.num_loss_rounds < max(self.num_rounds, 1):
            raise ValueError(
                f"num_loss_rounds is {self.num_loss_rounds} of {self.num_rounds - 1} rounds after the first; "
                "0 is all of them"
            )


@runtime_checkable
class PromptableDecoder(Protocol):
    """Whatever turns prompts into masks: a mask decoder bound to the embeddings of the batch's images."""

    def __call__(self, prompts: SimulatedPrompts, /) -> tuple[Float[Tensor, "b p 4 hm wm"], Float[Tensor, "b p 4"]]:
        """Logits and predicted IoU of all four tokens: 0 the single-mask token, 1 to 3 the ambiguity's."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round: what was asked and what was answered, with its gradient.

    `logits` and `iou` hold the candidates that the round may use: the three of a lone point, the one of any
    other prompt, or all four where a batch has both kinds; `candidates` marks those that count for each
    prompt.
    """

    index: int
    adds_point: bool
    prompts: SimulatedPrompts
    logits: Float[Tensor, "b p m hm wm"]
    iou: Float[Tensor, "b p m"]
    candidates: Bool[Tensor, "b p m"]

    @property
    def chosen(self) -> Int[Tensor, "b p"]:
        """Index of the candidate of highest predicted IoU, the one passed on."""
        return self.iou.detach().float().masked_fill(~self.candidates, -torch.inf).argmax(dim=2)

    @property
    def passed_on(self) -> Float[Tensor, "b p hm wm"]:
        """Unthresholded logits of the chosen candidate, detached: the next round's mask prompt."""
        logits = self.logits.detach()
        if logits.shape[2] == 1:
            return logits[:, :, 0]
        index = self.chosen[:, :, None, None, None].expand(-1, -1, 1, *logits.shape[-2:])
        return logits.gather(2, index)[:, :, 0]


def simulate(
    decoder: PromptableDecoder,
    truth: Bool[Tensor, "b p h w"],
    config: RoundsConfig,
    *,
    image_size: int,
    mask_size: int | None = None,
    valid: Bool[Tensor, "b h w"] | None = None,
    first: SimulatedPrompts | None = None,
    generator: torch.Generator,
) -> Iterator[Round]:
    """Play the rounds against the truth, lazily: each is yielded before the next is asked.

    The caller may back-propagate a round's loss before taking the next, which bounds memory to one round;
    nothing but detached logits crosses from round to round. Points stay, and are joined by one more in each
    correction; the mask of highest predicted IoU is fed back and corrected. `truth` covers the padded square
    of `image_size` pixels on any grid, `mask_size` is the side of the decoder's mask prompts (by default the
    truth's), `valid` marks the image's cells in the padding. `first` takes the place of the first prompts that the
    config would draw; none of them is a lone point. Randomness comes from the generator, on the truth's device.
    """
    schedule = round_schedule(config, generator)
    prompts = first or initial_prompts(
        truth, config.prompts, image_size=image_size, mask_size=mask_size, valid=valid, generator=generator
    )
    kinds = config.prompts
    may_be_single = first is None and kinds.point > 0
    may_be_other = first is not None or kinds.box + kinds.scribble + kinds.mask > 0
    current = _ask(decoder, prompts, 0, True, may_be_single, may_be_other)
    yield current
    for index, adds_point in enumerate(schedule, start=1):
        passed_on = current.passed_on
        prompts = current.prompts.with_masks(passed_on)
        del current  # its graph, if the caller has let go of it too
        if adds_point:
            points, labels = correction_points(
                passed_on, truth, image_size=image_size, valid=valid, centre=kinds.centre, generator=generator
            )
            prompts = prompts.with_point(points, labels)
        current = _ask(decoder, prompts, index, adds_point, False, True)
        yield current


def round_schedule(config: RoundsConfig, generator: torch.Generator) -> tuple[bool, ...]:
    """Which of the rounds after the first add a point.

    *Decision:* "at a random place among the eight" is before any one of them, with equal chance, so that a
    click always follows and the two refinements are never neighbours.
    """
    corrections, refinements = config.num_corrections, config.num_refinements
    if corrections < 0 or refinements < 0:
        raise ValueError(f"{corrections} corrections, {refinements} refinements: neither may be negative")
    inner = (max(refinements - 1, 0),)
    places = torch.randint(max(corrections, 1), inner, generator=generator, device=generator.device).tolist()
    schedule: list[bool] = []
    for correction in range(corrections):
        schedule += [False] * places.count(correction) + [True]
    return tuple(schedule + [False] * (corrections + refinements - len(schedule)))


def rounds_with_loss(config: RoundsConfig, generator: torch.Generator) -> tuple[bool, ...]:
    """Which of all rounds teach: the first, and `num_loss_rounds` of the others, drawn at random; 0 is every one."""
    later = config.num_rounds - 1
    if not config.num_loss_rounds:
        return (True,) * (1 + later)
    drawn = torch.randperm(later, generator=generator, device=generator.device)[: config.num_loss_rounds].tolist()
    return (True, *(index in drawn for index in range(later)))


def _ask(
    decoder: PromptableDecoder,
    prompts: SimulatedPrompts,
    index: int,
    adds_point: bool,
    may_be_single: bool,
    may_be_other: bool,
) -> Round:
    """Ask the decoder, and keep the tokens that the single-or-multiple rule allows (SAM, sec. 3).

    Three masks for exactly one point and nothing else, the single-mask token for all else. Whether either can
    occur is known beforehand, so that the device is not asked.
    """
    logits, iou = decoder(prompts)
    if logits.shape[2] != 4 or iou.shape[2] != 4:
        raise ValueError(
            f"the decoder gave {logits.shape[2]} masks and {iou.shape[2]} IoUs a prompt: 4 of each are needed"
        )
    is_multimask_token = torch.arange(4, device=iou.device) > 0
    candidates = prompts.single[..., None] == is_multimask_token
    if not may_be_single:
        logits, iou, candidates = logits[:, :, :1], iou[:, :, :1], candidates[:, :, :1]
    elif not may_be_other:
        logits, iou, candidates = logits[:, :, 1:], iou[:, :, 1:], candidates[:, :, 1:]
    return Round(index=index, adds_point=adds_point, prompts=prompts, logits=logits, iou=iou, candidates=candidates)
