"""Masks of everything in an image: a grid of points asked, good answers kept, duplicates dropped (SAM, app. B)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from anymask.data.images import ImageSource
from anymask.inference.automatic_options import AutomaticOptions
from anymask.inference.mask_record import MaskRecord
from anymask.model import Sam


class AutomaticMasks:
    """Makes masks of everything in an image, without prompts.

    `overrides` replace single options. Raises InputError for options that make no sense.
    """

    def __init__(self, model: Sam, options: AutomaticOptions | None = None, **overrides: Any) -> None:
        self.model = model
        self.options = (options or AutomaticOptions()).replace(**overrides)

    def generate(self, image: ImageSource) -> list[MaskRecord]:
        """Return the masks of one image; an empty list where none is confident. Raises ImageError."""
        return next(self.generate_many([image]))

    def generate_many(self, images: Iterable[ImageSource], *, batch_size: int = 4) -> Iterator[list[MaskRecord]]:
        """Yield the masks of each image, in their order, `batch_size` images encoded at a time."""
        raise NotImplementedError
