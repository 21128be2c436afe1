"""Formats that have masks as pictures: label maps and cut-outs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Shaped

from anymask.engine.formats.item import ClassNumbers, File, Item, Writer
from anymask.engine.store import Class
from anymask.errors import DataError, ImageError
from anymask.geometry import rle
from anymask.inference.automatic.label_maps import label_map

Values = Literal["instance", "class"]
_MAX_WORDS = 60
"""Characters of a name that go into a file's."""


class LabelMapWriter(Writer):
    """A PNG for each image: 0 where nothing is, else the object's place in the list or its class's, both counted from
    1.

    Where objects overlap the smaller is on top. 8 bits where they suffice, else 16. With `with_images` images are in
    `images` and the maps in `masks`, in a folder of their split.
    """

    def __init__(self, classes: Sequence[Class], *, with_images: bool, values: Values = "instance") -> None:
        self._classes, self._with_images, self._values = ClassNumbers(classes), with_images, values

    def add(self, item: Item) -> Iterator[File]:
        """Give the image's map, and its file; raises DataError for more masks than 16 bits can number."""
        if len(item.annotations) >= 1 << 16:
            raise DataError(f"{item.image.name}: has more masks than the 65,535 that a label map can number")
        painted = label_map([annotation.rle for annotation in item.annotations], item.size)
        if self._values == "class":
            of_class = [self._classes.place(annotation) + 1 for annotation in item.annotations]
            painted = np.array([0, *of_class])[painted]
        deep = np.uint8 if painted.max(initial=0) < 256 else np.uint16
        if self._with_images:
            yield f"{item.folder}images/{item.file_name}", item.file.content
        masks = "masks/" if self._with_images else ""
        yield f"{item.folder}{masks}{item.stem}.png", png(painted.astype(deep))


class CutOutWriter(Writer):
    """A PNG for each object: its box cut out of the image, transparent outside the mask."""

    def __init__(self, classes: Sequence[Class]) -> None:
        self._classes = ClassNumbers(classes)

    def add(self, item: Item) -> Iterator[File]:
        """Give the image's objects; raises ImageError where it cannot be read or has another size by now."""
        if not item.annotations:
            return
        pixels = item.read_pixels()
        if pixels.shape[:2] != item.size:
            raise ImageError(f"{item.image.name}: has another size than when it was annotated")
        for number, annotation in enumerate(item.annotations, 1):
            x, y, width, height = rle.bbox(annotation.rle)
            if not width:
                continue
            alpha = rle.decode_box(annotation.rle)
            cut = cv2.cvtColor(pixels[y : y + height, x : x + width], cv2.COLOR_RGB2BGRA)
            cut[..., 3] = alpha * np.uint8(255)
            cut[~alpha] = 0
            known = self._classes.known(annotation)
            said = annotation.name or ("" if known is None else self._classes.names[known])
            yield f"{item.folder}{item.stem}_{number}{_words(said)}.png", png(cut)


def _words(said: str) -> str:
    """Return what an object is called as the end of its file's name.

    It is no number and has no "_": whichever images there are, `a` with an object 1 called "1" and `a_1` with an
    object 1 among them, no two of their cut-outs have one name.
    """
    plain = "".join("-" if letter == "_" else letter for letter in said if letter.isalnum() or letter in "-_ ")
    plain = plain.strip()[:_MAX_WORDS].strip()
    if not plain:
        return ""
    return f"-{plain}" if plain[0] in "0123456789" else f"_{plain}"


def png(pixels: Shaped[np.ndarray, "h w *c"]) -> bytes:
    """Return grey, BGR or BGRA pixels as a PNG."""
    done, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise ImageError(f"pixels of shape {pixels.shape} do not fit into a PNG")
    return encoded.tobytes()
