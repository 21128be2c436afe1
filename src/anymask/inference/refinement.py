"""What is made of the network's first answer, without training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from anymask.errors import InputError
from anymask.geometry import arrays, regions
from anymask.geometry.arrays import Array
from anymask.geometry.frames import Frame
from anymask.inference.automatic.upsampling import num_samples
from anymask.inference.prompts import ModelPrompt
from anymask.model import MASK_THRESHOLD, PointLabel


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """How the answer to a lone point or a lone box is made finer; later clicks and mask prompts are answered as before,
    but for `edges` and `zoom`, which are for all.

    Where the network gave three masks, the one that it ranks first is refined, and the three keep their scores and
    their order.
    """

    passes: int = 1
    """How often the network is asked again, at most, each time with the logits that it gave before.

    *Decision:* the logits alone go back, as in training's rounds without a new prompt. The mask's own box beside them
    costs more than the whole gain, its deepest point a fifth of it (docs/guides/evaluation.md).
    """
    agreement: float = 0.95
    """It is not asked again once an answer has at least this IoU with the one before, at low resolution."""
    tidy: bool = True
    """Whether crumbs are dropped and pinholes closed, of all masks (see `regions.tidy`)."""
    edges: bool = False
    """Whether masks, of any prompt, are drawn to the edges of the image's colours (`inference.edge_filter`). It takes
    some milliseconds per mask, and what is alike in colour runs together; an embedding without its image has none."""
    zoom: bool | None = None
    """Whether the mask ranked first of a small object, by any clicks or box, is drawn as a crop around it shows it
    (`inference.zoom`). It takes an encoding more for each new place; an embedding without its image has no crops.

    *Decision:* None zooms in with models whose input is at most 400 pixels, as anymask-s: small objects are lost at it,
    and an encoding takes a fraction of a second (docs/guides/evaluation.md has what it gives).
    """

    def __post_init__(self) -> None:
        """Reject invalid values; raises InputError."""
        if self.passes < 0 or not 0 <= self.agreement <= 1:
            raise InputError(
                f"{self.passes} passes until an agreement of {self.agreement}: give 0 passes or more, and 0 to 1"
            )

    def zooms(self, image_size: int) -> bool:
        """Whether a model whose input has this side in pixels zooms in."""
        return image_size <= _SMALL_INPUT if self.zoom is None else self.zoom


_SMALL_INPUT = 400

PLAIN = Refinement(passes=0, tidy=False, zoom=False)
"""The network's first answer as it is: what published figures are of, and Meta's package gives."""


def tidied(logits: Float[Array, "m hm wm"], prompt: ModelPrompt, frame: Frame) -> Float[Array, "m hm wm"]:
    """Return the logits of a prompt's masks without crumbs and pinholes: those of either with their sign turned.

    Done at low resolution, so that the mask at any size, and whatever is asked next with the logits, goes by it.
    """
    values = arrays.to_numpy(logits).copy()
    stride = frame.model_size / values.shape[-1]
    clicks = (prompt.points[prompt.labels == PointLabel.FOREGROUND] + 0.5) / stride
    height, width = num_samples(frame, values.shape[-1])
    for seen in values[:, :height, :width]:
        inside = np.asarray(seen > MASK_THRESHOLD)
        seen[regions.tidy(inside, clicks.tolist()) != inside] *= -1
    return arrays.like(values, logits)
