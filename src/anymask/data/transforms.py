"""From a sample to what a model of size S sees: jitter of scale and place, flips, colour, padding.

Legend: S model size, M masks, G side of the grid of mask logits. Frames: the item is in the padded model frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from anymask.data.sample import Sample
from anymask.geometry.frames import Fit


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformConfig:
    """What is varied. `scale` is the range of large-scale jitter relative to fitting the long side (SAM, app. A)."""

    scale: tuple[float, float] = (1.0, 1.0)
    aspect: float = 0.0
    """Largest relative change of the aspect ratio, as a log factor."""
    flip: bool = False
    turn: float = 0.0
    """Chance of a rotation by one, two or three quarter turns."""
    color: float = 0.0
    """Strength of brightness, contrast, saturation and hue jitter, 0 to 1."""
    gray: float = 0.0
    blur: float = 0.0
    """Chance of a Gaussian blur, from 0 to 1."""
    min_cells: int = 8
    """Masks that cover fewer cells of the logits' grid are dropped."""
    max_share: float = 0.9
    """Masks that cover more of the visible image are dropped (SAM, app. A)."""

    def __post_init__(self) -> None:
        """Reject invalid ranges and chances; raises ValueError."""
        low, high = self.scale
        if not 0 < low <= high:
            raise ValueError(f"scale is {self.scale}; it must be a low and a high factor above 0")
        for name in ("turn", "color", "gray", "blur", "max_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        if self.aspect < 0 or self.min_cells < 1:
            raise ValueError(f"aspect is {self.aspect} and min_cells {self.min_cells}; at least 0 and 1 are needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class VariedSample:
    """A sample as the model sees it: padded image, masks on the logits' grid, and the grid cells inside the image."""

    image: UInt8[np.ndarray, "s s 3"]
    size: tuple[int, int]
    """Height and width of the part of the square that is image, in pixels."""
    masks: Bool[np.ndarray, "m g g"]
    valid: Bool[np.ndarray, "g g"]
    key: str


def transform(
    sample: Sample,
    config: TransformConfig,
    *,
    image_size: int,
    mask_size: int,
    rng: np.random.Generator,
    fit: Fit = "pad",
) -> VariedSample | None:
    """Resize (with jitter), crop or pad to the model's square, vary; drop masks that are too small or too large.

    None if no mask is left, as happens when a crop misses every object.
    """
    quarters = int(rng.integers(1, 4)) if rng.random() < config.turn else 0
    matrix, size = _placement(sample.image.shape[:2], quarters, config, image_size, fit, rng)
    image = _vary_color(_warp_image(sample.image, matrix, size), config, rng)
    valid = np.zeros((mask_size, mask_size), bool)
    cells = mask_size / image_size
    valid[: _rounded(size[0] * cells), : _rounded(size[1] * cells)] = True
    masks = _warp_masks(sample.masks, matrix, cells, mask_size) & valid
    areas = masks.sum((1, 2))
    kept = masks[(areas >= config.min_cells) & (areas <= config.max_share * valid.sum())]
    if not len(kept):
        return None
    image = np.pad(image, ((0, image_size - size[0]), (0, image_size - size[1]), (0, 0)))
    return VariedSample(image=image, size=size, masks=kept, valid=valid, key=sample.key)


def _placement(
    original: tuple[int, int],
    quarters: int,
    config: TransformConfig,
    image_size: int,
    fit: Fit,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "2 3"], tuple[int, int]]:
    """Draw the affine map from the original's pixel edges to the model's, and the size of the visible part.

    In this order: quarter turns, scale and stretch, a window no larger than the model's square, a flip.
    """
    height, width = original[::-1] if quarters % 2 else original
    low, high = config.scale
    jitter = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    longest = max(height, width)
    across, down = (image_size / (side if fit == "stretch" else longest) * jitter for side in (width, height))
    stretch = float(np.exp(rng.uniform(-config.aspect, config.aspect) / 2)) if config.aspect else 1.0
    full_h, full_w = _rounded(height * down / stretch), _rounded(width * across * stretch)
    size = (min(full_h, image_size), min(full_w, image_size))
    top, left = rng.integers(0, full_h - size[0] + 1), rng.integers(0, full_w - size[1] + 1)
    scale_x, scale_y = full_w / width, full_h / height
    matrix = np.array([[scale_x, 0.0, -float(left)], [0.0, scale_y, -float(top)]])
    if config.flip and rng.random() < 0.5:
        matrix[0] = [-scale_x, 0.0, size[1] + float(left)]
    return matrix @ _turned(original, quarters), size


def _rounded(side: float) -> int:
    """Round a side as inference does: half up, at least one pixel."""
    return max(int(side + 0.5), 1)


def _turned(original: tuple[int, int], quarters: int) -> Float[np.ndarray, "3 3"]:
    """Map pixel edges of an image to those of the same image after `quarters` turns, as numpy's rot90 turns it."""
    matrix = np.eye(3)
    height, width = original
    for _ in range(quarters):  # (x, y) → (y, width - x)
        matrix = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, width], [0.0, 0.0, 1.0]]) @ matrix
        height, width = width, height
    return matrix


def _shrunk(
    pixels: UInt8[np.ndarray, "h w *c"], matrix: Float[np.ndarray, "2 3"]
) -> tuple[UInt8[np.ndarray, "p q *c"], Float[np.ndarray, "2 3"]]:
    """Average areas first where a map shrinks, so that its bilinear warp does not alias; return the rest of the map."""
    shrink_x, shrink_y = np.hypot(matrix[0, :2], matrix[1, :2]).clip(max=1).tolist()
    if min(shrink_x, shrink_y) >= 0.75:
        return pixels, matrix
    height, width = pixels.shape[:2]
    small = (_rounded(width * shrink_x), _rounded(height * shrink_y))
    averaged = np.asarray(cv2.resize(pixels, small, interpolation=cv2.INTER_AREA), np.uint8)
    return averaged, matrix * np.array([width / small[0], height / small[1], 1.0])


def _warp_image(
    image: UInt8[np.ndarray, "h w 3"], matrix: Float[np.ndarray, "2 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "p q 3"]:
    image, matrix = _shrunk(image, matrix)
    flags, border = cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101
    return np.asarray(cv2.warpAffine(image, _center(matrix), size[::-1], flags=flags, borderMode=border), np.uint8)


def _warp_masks(
    masks: Bool[np.ndarray, "m h w"], matrix: Float[np.ndarray, "2 3"], cells: float, mask_size: int
) -> Bool[np.ndarray, "m g g"]:
    """Warp to the logits' grid; a cell belongs to a mask if half of it does."""
    out = np.empty((len(masks), mask_size, mask_size), bool)
    for i, mask in enumerate(masks):
        share, rest = _shrunk(mask.view(np.uint8) * np.uint8(255), matrix * cells)
        border = cv2.BORDER_REPLICATE  # or half of the cells along the image's border would lose their masks
        grid = (mask_size, mask_size)
        out[i] = cv2.warpAffine(share, _center(rest), grid, flags=cv2.INTER_LINEAR, borderMode=border) > 127
    return out


def _center(matrix: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "2 3"]:
    """Turn a map of pixel edges into one of pixel centres, which is what OpenCV wants."""
    centered = matrix.copy()
    centered[:, 2] += 0.5 * (matrix[:, :2].sum(1) - 1.0)
    return centered


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
