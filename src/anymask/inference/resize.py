"""Between an image's frames: pixels down to the model, logits up to the original, masks down to logits.

Frames: original image, resized (long side = model size), padded (`anymask.geometry.frames`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from anymask.geometry.frames import Frame

if TYPE_CHECKING:
    from torch import Tensor

_CERTAIN = 10.0
"""Logit of a pixel that a binary mask prompt is sure of; the network's own reach about as far."""


def resize_image(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "rh rw 3"]:
    """Resize an image to `size` = (height, width) with Pillow's antialiased bilinear filter.

    The public SAM code resizes just so, on uint8; another filter, or float pixels, would move the masks.
    """
    height, width = size
    resized = Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(resized)


def upsample_logits(
    logits: Float[Tensor, "b m hm wm"], *, model_size: int, resized: tuple[int, int], original: tuple[int, int]
) -> Float[Tensor, "b m h w"]:
    """Bring low-resolution logits of the padded frame to the original image's size, in float32.

    Bilinear to the padded square, cut to the resized size, bilinear to the original, as the public SAM code does. Peak
    memory is the result and one padded square per mask: hand in few masks at a time.
    """
    from torch.nn import functional as F

    square = F.interpolate(logits.float(), (model_size, model_size), mode="bilinear", align_corners=False)
    return F.interpolate(square[..., : resized[0], : resized[1]], original, mode="bilinear", align_corners=False)


def mask_to_logits(mask: Bool[np.ndarray, "h w"], frame: Frame, mask_size: int) -> Float[np.ndarray, "hm wm"]:
    """Turn a binary mask of the original image into the logits of a mask prompt, padded frame, float32.

    A cell that the mask covers wholly gets +10, one that it leaves out, as all padding, −10, and one on its
    edge what its share of the cell says; so that `upsample_logits` gives the mask back.
    """
    height, width = frame.resized
    shrinks = max(frame.original) > frame.model_size
    cover = cv2.resize(
        mask.astype(np.uint8) * np.uint8(255),
        (width, height),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    )
    cell = frame.model_size // mask_size
    # A cell that the image covers in part takes the share of that part.
    whole = np.pad(cover, ((0, -height % cell), (0, -width % cell)), mode="edge")
    rows, columns = whole.shape[0] // cell, whole.shape[1] // cell
    share = whole.reshape(rows, cell, columns, cell).mean(axis=(1, 3), dtype=np.float32) / 255
    logits = np.full((mask_size, mask_size), -_CERTAIN, np.float32)
    logits[:rows, :columns] = _CERTAIN * (2 * share - 1)
    return logits
