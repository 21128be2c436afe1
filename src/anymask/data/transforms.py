"""From a sample to what a model of size S sees: jitter of scale and place, flips, colour, padding.

Legend: S model size, M masks, G side of the grid of mask logits. Frames: the item is in the padded model frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from anymask.data.sample import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformConfig:
    """What is varied. `scale` is the range of large-scale jitter relative to fitting the long side (SAM, app. A)."""

    scale: tuple[float, float] = (1.0, 1.0)
    aspect: float = 0.0
    """Largest relative change of the aspect ratio, as a log factor."""
    flip: bool = False
    turn: float = 0.0
    """Chance of a rotation by a quarter turn or of a vertical flip."""
    color: float = 0.0
    """Strength of brightness, contrast, saturation and hue jitter, 0 to 1."""
    gray: float = 0.0
    blur: float = 0.0
    """Chance of a Gaussian blur."""
    min_cells: int = 8
    """Masks that cover fewer cells of the logits' grid are dropped."""
    max_share: float = 0.9
    """Masks that cover more of the visible image are dropped (SAM, app. A)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A sample as the model sees it: padded image, masks on the logits' grid, and the grid cells inside the image."""

    image: UInt8[np.ndarray, "s s 3"]
    size: tuple[int, int]
    """Height and width of the part of the square that is image, in pixels."""
    masks: Bool[np.ndarray, "m g g"]
    valid: Bool[np.ndarray, "g g"]
    key: str


def transform(
    sample: Sample, config: TransformConfig, *, image_size: int, mask_size: int, rng: np.random.Generator
) -> Item | None:
    """Resize (with jitter), crop or pad to the model's square, vary; drop masks that are too small or too large.

    None if no mask is left, as happens when a crop misses every object.
    """
    matrix, size = _placement(sample.image.shape[:2], config, image_size, rng)
    image = _warp_image(sample.image, matrix, size)
    image = _vary_color(image, config, rng)
    valid = np.zeros((mask_size, mask_size), bool)
    cells = mask_size / image_size
    valid[: max(1, round(size[0] * cells)), : max(1, round(size[1] * cells))] = True
    masks = _warp_masks(sample.masks, matrix, cells, mask_size) & valid
    areas = masks.sum((1, 2))
    kept = masks[(areas >= config.min_cells) & (areas <= config.max_share * valid.sum())]
    if not len(kept):
        return None
    image = np.pad(image, ((0, image_size - size[0]), (0, image_size - size[1]), (0, 0)))
    if config.turn and rng.random() < config.turn and size == (image_size, image_size):
        image, kept = _turn(image, kept, rng)
    return Item(image=np.ascontiguousarray(image), size=size, masks=kept, valid=valid, key=sample.key)


def _placement(
    original: tuple[int, int], config: TransformConfig, image_size: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "2 3"], tuple[int, int]]:
    """Draw the affine map from the original's pixels to the model's, and the size of the visible part."""
    height, width = original
    low, high = config.scale
    factor = image_size / max(height, width) * float(np.exp(rng.uniform(np.log(low), np.log(high))))
    stretch = float(np.exp(rng.uniform(-config.aspect, config.aspect) / 2)) if config.aspect else 1.0
    scale_x, scale_y = factor * stretch, factor / stretch
    full_h, full_w = max(1, round(height * scale_y)), max(1, round(width * scale_x))
    size = (min(full_h, image_size), min(full_w, image_size))
    top, left = rng.integers(0, full_h - size[0] + 1), rng.integers(0, full_w - size[1] + 1)
    scale_x, scale_y = full_w / width, full_h / height
    matrix = np.array([[scale_x, 0.0, -float(left)], [0.0, scale_y, -float(top)]])
    if config.flip and rng.random() < 0.5:
        matrix = np.array([[-scale_x, 0.0, size[1] + float(left)], [0.0, scale_y, -float(top)]])
    return matrix, size


def _warp_image(
    image: UInt8[np.ndarray, "h w 3"], matrix: Float[np.ndarray, "2 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "p q 3"]:
    shrink = max(abs(matrix[0, 0]), abs(matrix[1, 1]))
    if shrink < 0.75:  # area-average first, so that the warp does not alias
        small = (max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink)))
        ratio = np.array([image.shape[1] / small[0], image.shape[0] / small[1], 1.0])
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        matrix = matrix * ratio
    warped = cv2.warpAffine(
        image, _center(matrix), (size[1], size[0]), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(warped, np.uint8)


def _warp_masks(
    masks: Bool[np.ndarray, "m h w"], matrix: Float[np.ndarray, "2 3"], cells: float, mask_size: int
) -> Bool[np.ndarray, "m g g"]:
    """Warp to the logits' grid; a cell belongs to a mask if half of it does."""
    to_grid = matrix * cells
    shrink = max(abs(to_grid[0, 0]), abs(to_grid[1, 1]))
    out = np.empty((len(masks), mask_size, mask_size), bool)
    for i, mask in enumerate(masks):
        share = mask.view(np.uint8) * 255
        scaled = to_grid
        if shrink < 0.75:
            small = (max(1, round(mask.shape[1] * shrink)), max(1, round(mask.shape[0] * shrink)))
            scaled = to_grid * np.array([mask.shape[1] / small[0], mask.shape[0] / small[1], 1.0])
            share = cv2.resize(share, small, interpolation=cv2.INTER_AREA)
        out[i] = cv2.warpAffine(share, _center(scaled), (mask_size, mask_size), flags=cv2.INTER_LINEAR) > 127
    return out


def _center(matrix: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "2 3"]:
    """Turn a map of pixel edges into one of pixel centres, which is what OpenCV wants."""
    centered = matrix.copy()
    centered[:, 2] += 0.5 * (matrix[:, :2].sum(1) - 1.0)
    return centered


def _turn(
    image: UInt8[np.ndarray, "s s 3"], masks: Bool[np.ndarray, "m g g"], rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "s s 3"], Bool[np.ndarray, "m g g"]]:
    quarters = int(rng.integers(1, 4))
    return np.rot90(image, quarters), np.rot90(masks, quarters, (1, 2)).copy()


def _vary_color(
    image: UInt8[np.ndarray, "h w 3"], config: TransformConfig, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    strength = config.color
    if strength:
        gain = np.exp(rng.normal(0, 0.25 * strength)) * np.exp(rng.normal(0, 0.12 * strength, 3))
        contrast = np.exp(rng.normal(0, 0.2 * strength))
        gamma = np.exp(rng.normal(0, 0.2 * strength))
        levels = (np.linspace(0, 1, 256)[:, None] ** gamma - 0.5) * contrast + 0.5
        table = np.clip(levels * gain * 255, 0, 255).astype(np.uint8)
        image = np.asarray(cv2.LUT(image, table[None].repeat(1, 0).reshape(1, 256, 3)), np.uint8)
        if rng.random() < 0.5 * strength:
            gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            share = float(rng.uniform(-0.5, 0.8))
            image = np.asarray(cv2.addWeighted(image, 1 - share, gray, share, 0), np.uint8)
    if config.gray and rng.random() < config.gray:
        image = np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)
    if config.blur and rng.random() < config.blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.5))), np.uint8)
    return image
