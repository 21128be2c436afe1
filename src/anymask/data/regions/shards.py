"""Photographs with what was found in them, written as tars in SA-1B's layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool, UInt8

from anymask.data.files import make_folder
from anymask.data.images import read_image
from anymask.data.readers.images import ImageSet
from anymask.data.regions.stable import stable_regions
from anymask.data.sample import Sample, Skipped
from anymask.data.writers.sa1b import write_tar
from anymask.errors import DataError, ImageError

Finder = Callable[[UInt8[np.ndarray, "h w 3"]], Bool[np.ndarray, "m h w"]]
"""What looks for masks in an RGB photograph; none where it finds nothing."""


def write_regions(
    photographs: ImageSet,
    folder: str | Path,
    *,
    find: Finder = stable_regions,
    name: str = "regions",
    per_shard: int = 200,
    skipped: Skipped | None = None,
) -> Iterator[Path]:
    """Write `<name>-00000.tar` and on, `per_shard` photographs to each, and yield each path when it is whole.

    `find` says what is a region. Tars that are there already are passed over. Photographs in which nothing is found are
    left out, broken ones counted and named in the log. Raises OutputError for a folder that cannot be written to.
    """
    target, tally = make_folder(folder), Skipped() if skipped is None else skipped
    for shard, start in enumerate(range(0, len(photographs), per_shard)):
        path = target / f"{name}-{shard:05d}.tar"
        if path.exists():
            continue
        indices = range(start, min(start + per_shard, len(photographs)))
        write_tar(path, _found(photographs, indices, find, name, tally))
        yield path


def _found(
    photographs: ImageSet, indices: Iterable[int], find: Finder, source: str, skipped: Skipped
) -> Iterator[Sample]:
    """Yield the photographs in which something is found, under keys that no two of them share."""
    for index in indices:
        origin = photographs.key(index)
        try:
            image = read_image(photographs.image_bytes(index))
        except (ImageError, DataError) as error:
            skipped.add(origin, error)
            continue
        masks = find(image)
        if len(masks):
            yield Sample(key=f"{index:06d}-{PurePosixPath(origin).stem}", image=image, masks=masks, source=source)
