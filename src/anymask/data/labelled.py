"""Names of before, kept for one version: data is opened by `anymask.data.open.open_data`."""

from __future__ import annotations

import warnings
from pathlib import Path

from anymask.data.channels import ChannelMapping
from anymask.data.open import open_data
from anymask.data.sample import AnnotatedSet


def open_labelled(
    images: str | Path, annotations: str | Path | None = None, *, channels: ChannelMapping | None = None
) -> AnnotatedSet:
    """Open data as `open_data` does, with a warning that names it."""
    warnings.warn("open_labelled is anymask.data.open.open_data now", DeprecationWarning, stacklevel=2)
    return open_data(images, annotations, channels=channels)
