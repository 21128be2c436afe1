"""Contact sheets: many images on one, each with a caption."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from anymask.errors import ImageError

_PAPER = (250, 250, 249)
_INK = (41, 37, 36)


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    columns: int,
    captions: Sequence[str] | None = None,
    *,
    cell: int | None = None,
    gap: int = 8,
) -> UInt8[np.ndarray, "h w 3"]:
    """Lay RGB images out row by row, centred in cells of one width, each above its caption.

    `cell` is the long side in pixels that images are scaled to; None keeps their sizes. Captions that are too long
    for their cell are cut. Raises ImageError where there is no image or no column, or captions do not match.
    """
    if not images or columns < 1:
        raise ImageError(f"a contact sheet of {len(images)} images in {columns} columns cannot be made; 1 is the least")
    if captions is not None and len(captions) != len(images):
        raise ImageError(f"{len(images)} images came with {len(captions)} captions: give one for each")
    fitted = [image if cell is None else _fit(image, cell) for image in images]
    columns = min(columns, len(images))
    rows = [fitted[start : start + columns] for start in range(0, len(fitted), columns)]
    width = max(image.shape[1] for image in fitted)
    heights = [max(image.shape[0] for image in row) for row in rows]
    font_size = int(np.clip(width / 26, 11, 30))
    line = 0 if captions is None else round(font_size * 1.7)
    size = (gap + columns * (width + gap), gap + sum(heights) + len(rows) * (line + gap))
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(font_size)
    top = gap
    for row, (height, members) in enumerate(zip(heights, rows, strict=True)):
        for column, image in enumerate(members):
            left = gap + column * (width + gap)
            offset = (left + (width - image.shape[1]) // 2, top + (height - image.shape[0]) // 2)
            sheet.paste(Image.fromarray(np.ascontiguousarray(image)), offset)
            if captions is not None:
                text = _cut(captions[row * columns + column], draw, font, width)
                draw.text((left + width / 2, top + height + line / 2), text, _INK, font, anchor="mm")
        top += height + line + gap
    return np.array(sheet)


def _fit(image: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "p q 3"]:
    """Scale to the long side, averaging where it shrinks."""
    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def _cut(
    caption: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> str:
    """Shorten a caption until it fits a cell."""
    text = " ".join(caption.split())
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"{text}...", font) > width:
        text = text[:-1]
    return f"{text}..."
