"""A conversation about one image: each prompt joins those before it, and every step can be taken back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

from anymask.errors import PromptError
from anymask.inference.answers import EncodedImage, Masks, answer
from anymask.inference.prompts import Prompt, to_model
from anymask.inference.refinement import Refinement
from anymask.inference.runtimes import AnyModel


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One step: all that was asked so far, the answer, and which of its masks goes on."""

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    result: Masks
    chosen: int = 0


class Session:
    """Clicks, boxes and masks about one image, the logits of the chosen mask fed into each next round.

    Coordinates are pixels of the original image. A prompt that cannot be answered raises PromptError and
    leaves everything as it was. Undo and redo recompute nothing.
    """

    def __init__(self, model: AnyModel, image: EncodedImage, *, refinement: Refinement | None = None) -> None:
        self._model = model
        self._image = image
        self._refinement = refinement or Refinement()
        self._steps: tuple[Step, ...] = ()
        self._position = 0

    @property
    def history(self) -> tuple[Step, ...]:
        """The steps that stand, oldest first."""
        return self._steps[: self._position]

    @property
    def result(self) -> Masks | None:
        """The answer to all so far, best first; None before the first step."""
        return self._last.result if self._last else None

    @property
    def chosen(self) -> int:
        """Which of the result's masks goes on: the best, 0, until `choose` says another."""
        return self._last.chosen if self._last else 0

    @property
    def selected(self) -> Bool[np.ndarray, "h w"] | None:
        """The mask that goes on; None before the first step."""
        return self._last.result.masks[self._last.chosen] if self._last else None

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return self._position > 0

    @property
    def can_redo(self) -> bool:
        """Whether a step was taken back and none was added since."""
        return self._position < len(self._steps)

    def click(self, x: float, y: float, label: int = 1) -> Masks:
        """Add a point, label 1 on the object, 0 off it."""
        points, labels = (self._last.points, self._last.labels) if self._last else ((), ())
        return self._ask((*points, (x, y)), (*labels, label), self._last.box if self._last else None)

    def box(self, x0: float, y0: float, x1: float, y1: float) -> Masks:
        """Set the box, in place of an earlier one."""
        points, labels = (self._last.points, self._last.labels) if self._last else ((), ())
        return self._ask(points, labels, (x0, y0, x1, y1))

    def mask(self, mask: ArrayLike) -> Masks:
        """Go on from a mask (logits or binary, as in `Prompt`) in place of the chosen one; the rest stays."""
        points, labels = (self._last.points, self._last.labels) if self._last else ((), ())
        return self._ask(points, labels, self._last.box if self._last else None, mask)

    def choose(self, index: int) -> Masks:
        """Let another mask of the result go on, by its place in it; this is a step like any other."""
        if self._last is None:
            raise PromptError("there is no mask to choose from yet: click first")
        count = len(self._last.result)
        if not 0 <= index < count:
            raise PromptError(f"there is no mask {index} to choose: the result has masks 0 to {count - 1}")
        return self._add(replace(self._last, chosen=index))

    def undo(self) -> Masks | None:
        """Take the last step back, if there is one; return the result before it."""
        self._position = max(0, self._position - 1)
        return self.result

    def redo(self) -> Masks | None:
        """Take again the step last taken back, if there is one; return its result."""
        self._position = min(len(self._steps), self._position + 1)
        return self.result

    @property
    def _last(self) -> Step | None:
        return self._steps[self._position - 1] if self._position else None

    def _ask(
        self,
        points: tuple[tuple[float, float], ...],
        labels: tuple[int, ...],
        box: tuple[float, float, float, float] | None,
        mask: ArrayLike | None = None,
    ) -> Masks:
        if mask is None and self._last is not None:
            mask = self._last.result.logits[self._last.chosen]
        prompt = Prompt(points=points or None, labels=labels or None, box=box, mask=mask)
        checked = to_model(prompt, self._image.frame, self._model.mask_size)
        result = next(answer(self._model, self._image, [checked], multimask=None, refinement=self._refinement))
        return self._add(Step(points=points, labels=labels, box=box, result=result))

    def _add(self, step: Step) -> Masks:
        """Append a step after those that stand; steps taken back are gone."""
        self._steps = (*self.history, step)
        self._position = len(self._steps)
        return step.result
