"""Prompts as users write them, checked against their image and brought into the model's frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike, NDArray

from anymask.errors import PromptError
from anymask.geometry import arrays
from anymask.geometry.frames import Frame
from anymask.inference.resize import mask_to_logits
from anymask.model import PointLabel, Prompts

ReadWords = Callable[[str], Float[np.ndarray, " c"]]
"""Gives CLIP's embedding of a text; raises PromptError for one that it cannot read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prompt:
    """What to segment: any mix of points, a box and a mask, in pixels of the original image.

    points: (n, 2), each (x, y); labels: (n,), 1 on the object, 0 off it, all 1 if None; box: (x0, y0, x1, y1);
    mask: either the (h, w) float logits of an earlier answer, or a binary mask of the image's size (bool, or
    0 and 1, or 0 and 255). Where both sizes agree the dtype decides: floats are logits. text: words. A prompt
    is checked when it is used, since only the image tells what lies inside it.
    """

    points: ArrayLike | None = None
    labels: ArrayLike | None = None
    box: ArrayLike | None = None
    mask: ArrayLike | None = None
    text: str | None = None

    @property
    def is_words_alone(self) -> bool:
        """Whether it has words and nothing else."""
        return self.text is not None and all(part is None for part in (self.points, self.labels, self.box, self.mask))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelPrompt:
    """One checked prompt as tokens and logits, in the padded model frame."""

    points: Float[np.ndarray, "n 2"]
    """(x, y) pixels, float32: the points, then the box's corners, or the token that stands for no box."""
    labels: Int[np.ndarray, " n"]
    """A `PointLabel` for each point, int64."""
    mask: Float[np.ndarray, "hm wm"] | None
    is_lone_point: bool
    """One point and nothing else: the ambiguous prompt, which three masks answer (SAM, sec. 3)."""
    is_lone_box: bool = False
    """Whether the prompt is a box and nothing else."""
    text: Float[np.ndarray, " c"] | None = None
    """CLIP's embedding of the words, before the model's projection."""


def to_model(prompt: Prompt, frame: Frame, mask_size: int, read_words: ReadWords | None = None) -> ModelPrompt:
    """Check a prompt against its image and bring it into the model's frame; raises `PromptError`.

    `read_words` gives CLIP's embedding of a text; None where the model knows no words.
    """
    text = None
    if prompt.text is not None:
        if read_words is None:
            raise PromptError(
                "this model knows no words beside other prompts: give points, a box or a mask, "
                "or words alone to Predictor.predict or TextMasks, which ask a detector"
            )
        text = read_words(prompt.text)
    points, labels = _points(prompt.points, prompt.labels, frame.original)
    box = None if prompt.box is None else _box(prompt.box, frame.original)
    mask = None if prompt.mask is None else _mask(prompt.mask, frame, mask_size)
    if not len(points) and box is None and mask is None and text is None:
        raise PromptError("the prompt is empty: give at least one point, a box or a mask")
    coords, kinds = [frame.points_to_model(points)], [labels]
    if box is not None:
        coords.append(frame.boxes_to_model(box).reshape(2, 2))
        kinds.append(np.array([PointLabel.TOP_LEFT, PointLabel.BOTTOM_RIGHT], np.int64))
    elif len(points):
        coords.append(np.zeros((1, 2), np.float32))
        kinds.append(np.array([PointLabel.NOT_A_POINT], np.int64))
    return ModelPrompt(
        points=np.concatenate(coords),
        labels=np.concatenate(kinds),
        mask=mask,
        is_lone_point=len(points) == 1 and box is None and mask is None and text is None,
        is_lone_box=len(points) == 0 and box is not None and mask is None and text is None,
        text=text,
    )


def to_model_all(
    prompts: Sequence[Prompt], frame: Frame, mask_size: int, read_words: ReadWords | None = None
) -> list[ModelPrompt]:
    """Do `to_model` for each of several prompts; an error says which."""
    checked = []
    for index, prompt in enumerate(prompts):
        try:
            checked.append(to_model(prompt, frame, mask_size, read_words))
        except PromptError as error:
            raise PromptError(f"prompt {index}: {error}") from error
    return checked


def box_prompts(boxes: Float[np.ndarray, "k 4"] | ArrayLike) -> list[Prompt]:
    """Return a prompt for each of many boxes (x0, y0, x1, y1); raises `PromptError` for another shape."""
    rows = _numbers(boxes, "boxes")
    if rows.size == 0:
        return []
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise PromptError(f"boxes have shape {rows.shape}; (k, 4) was expected, one (x0, y0, x1, y1) for each box")
    return [Prompt(box=row) for row in rows]


def binary_mask(mask: ArrayLike, size: tuple[int, int], mask_size: int) -> Bool[np.ndarray, "h w"] | None:
    """Return a mask prompt that is a binary mask of an image of `size` = (height, width), or None where it is logits.

    Raises `PromptError` where it is neither.
    """
    values = _plane(mask)
    if values.dtype.kind == "f" and values.shape == (mask_size, mask_size):
        return None
    if values.shape != size:
        raise PromptError(
            f"mask has shape {values.shape} and dtype {values.dtype}; expected were logits, float, of "
            f"({mask_size}, {mask_size}), or a binary mask of the image's size, {size}"
        )
    return _binary(values)


def lone_points(points: Float[np.ndarray, "p 2"]) -> Prompts:
    """Batch points (x, y) in the padded model frame, float32, each a prompt of its own."""
    placed = np.stack([points, np.zeros_like(points)], 1)
    labels = np.array([PointLabel.FOREGROUND, PointLabel.NOT_A_POINT], np.int64)
    return Prompts(points=placed[None], labels=np.tile(labels, (1, len(points), 1)), padded=False)


def join(prompts: Sequence[ModelPrompt]) -> Prompts:
    """Batch prompts of one image, as NumPy's arrays; shorter ones are padded with points that change nothing.

    Either all have a mask or none has, and so for words.
    """
    longest = max(len(prompt.labels) for prompt in prompts)
    points = np.zeros((1, len(prompts), longest, 2), np.float32)
    labels = np.full((1, len(prompts), longest), int(PointLabel.ABSENT), np.int64)
    for row, prompt in enumerate(prompts):
        points[0, row, : len(prompt.labels)] = prompt.points
        labels[0, row, : len(prompt.labels)] = prompt.labels
    masks = [prompt.mask for prompt in prompts if prompt.mask is not None]
    texts = [prompt.text for prompt in prompts if prompt.text is not None]
    assert len(masks) in (0, len(prompts)) and len(texts) in (0, len(prompts))
    return Prompts(
        points=points,
        labels=labels,
        masks=np.stack(masks)[None] if masks else None,
        text=np.stack(texts)[None] if texts else None,
        padded=any(len(prompt.labels) < longest for prompt in prompts),
    )


def _points(
    points: ArrayLike | None, labels: ArrayLike | None, size: tuple[int, int]
) -> tuple[Float[np.ndarray, "n 2"], Int[np.ndarray, " n"]]:
    if points is None:
        if labels is not None:
            raise PromptError("labels were given without points: give one point (x, y) for each label")
        return np.zeros((0, 2)), np.zeros(0, np.int64)
    xy = _numbers(points, "points")
    if xy.size == 0:
        xy = np.zeros((0, 2))
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise PromptError(f"points have shape {xy.shape}; (n, 2) was expected, one (x, y) for each point")
    height, width = size
    for index, (x, y) in enumerate(xy.tolist()):
        if not (np.isfinite(x) and np.isfinite(y)):
            raise PromptError(f"point {index} is ({x:g}, {y:g}): both coordinates must be finite")
        if not (0 <= x <= width and 0 <= y <= height):
            raise PromptError(
                f"point {index} at ({x:g}, {y:g}) lies outside the image, which is {width} wide and {height} high"
            )
    return xy, _labels(labels, len(xy))


def _labels(labels: ArrayLike | None, count: int) -> Int[np.ndarray, " n"]:
    if labels is None:
        return np.ones(count, np.int64)
    values = _numbers(labels, "labels")
    if values.ndim != 1 or len(values) != count:
        raise PromptError(f"{count} points have labels of shape {values.shape}: give one label for each point")
    wrong = values[(values != 0) & (values != 1)]
    if wrong.size:
        raise PromptError(f"label {wrong[0]:g} is unknown: 1 marks a point on the object, 0 one off it")
    return values.astype(np.int64)


def _box(box: ArrayLike, size: tuple[int, int]) -> Float[np.ndarray, " 4"]:
    corners = _numbers(box, "box")
    if corners.ndim == 2 and corners.shape[1] == 4 and len(corners) > 1:
        raise PromptError(f"{len(corners)} boxes are {len(corners)} prompts: give them to predict_boxes")
    if corners.shape not in ((4,), (1, 4)):
        raise PromptError(f"box has shape {corners.shape}; four numbers (x0, y0, x1, y1) were expected")
    corners = corners.reshape(4)
    x0, y0, x1, y1 = corners.tolist()
    name = f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
    if not np.isfinite(corners).all():
        raise PromptError(f"{name} is not finite: all four numbers must be")
    if not (x0 < x1 and y0 < y1):
        raise PromptError(f"{name} has no area: (x0, y0) must be its top left corner, (x1, y1) its bottom right one")
    height, width = size
    if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
        raise PromptError(f"{name} reaches outside the image, which is {width} wide and {height} high: clip it first")
    return corners


def _mask(mask: ArrayLike, frame: Frame, mask_size: int) -> Float[np.ndarray, "hm wm"]:
    inside = binary_mask(mask, frame.original, mask_size)
    if inside is not None:
        return mask_to_logits(inside, frame, mask_size)
    with np.errstate(over="ignore"):
        logits = _plane(mask).astype(np.float32)
    if not np.isfinite(logits).all():
        raise PromptError("the mask's logits hold NaN or infinity: all must be finite")
    return logits


def _plane(mask: ArrayLike) -> NDArray[Any]:
    """Return a mask as an array, (h, w) where it came as (1, h, w)."""
    values = _array(mask, "mask")
    return values[0] if values.ndim == 3 and len(values) == 1 else values


def _binary(values: NDArray[Any]) -> Bool[np.ndarray, "h w"]:
    inside: Bool[np.ndarray, "h w"] = values != 0
    if values.dtype == np.bool_:
        return inside
    level = 1 if bool((values == 1).any()) else 255
    if not bool((values[inside] == level).all()):
        raise PromptError(
            f"the mask of the image's size, dtype {values.dtype}, is not binary: "
            "its values must be False and True, 0 and 1, or 0 and 255"
        )
    return inside


def _numbers(values: ArrayLike, what: str) -> Float[np.ndarray, "*shape"]:
    return _array(values, what).astype(np.float64)


def _array(values: ArrayLike, what: str) -> NDArray[Any]:
    """Return an array of numbers, whatever it came as; float64 stays on this side of the model."""
    tensor: Any = values
    if hasattr(tensor, "is_floating_point"):
        values = arrays.to_numpy(tensor.float() if tensor.is_floating_point() else tensor)
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{what} must be a regular array of numbers: rows differ in length, or are none") from error
    if array.dtype.kind not in "buif":
        raise PromptError(f"{what} must be numbers, but hold values of type {array.dtype}")
    return array
