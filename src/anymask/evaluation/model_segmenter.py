"""A model as a `Segmenter`: answers what a person would get who clicks through the predictor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from anymask.evaluation.protocol import PreparedImage, Reply, Request
from anymask.inference import Predictor, Prompt, Refinement
from anymask.model import Sam

_PROMPTS_AT_ONCE = 8
"""More prompts a call make the decoder slower a prompt on a CPU, as its activations then leave the caches."""


class ModelSegmenter:
    """A model as a segmenter: the best mask's logits go back with every further click.

    The first click gets three masks, ranked by predicted IoU; everything else one (SAM, sec. 3). `refinement` is that
    of `Predictor`, and by default what people get.
    """

    def __init__(self, model: Sam, *, refinement: Refinement | None = None) -> None:
        self.model = model
        self.refinement = refinement or Refinement()

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> PreparedImage:
        """Encode the image."""
        predictor = Predictor(self.model, refinement=self.refinement)
        predictor.set_image(image)
        return EncodedForPrompts(predictor)


class EncodedForPrompts:
    """A predictor whose image is set, as a `PreparedImage`."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def segment(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Answer in batches of a few prompts, one full-size answer held at a time."""
        prompts = [
            Prompt(points=r.points, labels=r.labels, mask=_logits(r.memory)) if r.box is None else Prompt(box=r.box)
            for r in requests
        ]
        for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
            for answer in self._predictor.iterate(prompts[start : start + _PROMPTS_AT_ONCE]):
                yield Reply(masks=answer.masks, scores=answer.scores, memory=answer.logits[0])


def _logits(memory: object) -> Float[np.ndarray, "h w"] | None:
    assert memory is None or isinstance(memory, np.ndarray)
    return memory
