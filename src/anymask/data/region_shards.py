"""Photographs with what was found in them, written as tars in SA-1B's layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool, UInt8

from anymask.data.files import make_folder
from anymask.data.images import read_image
from anymask.data.regions import stable_regions
from anymask.data.sa1b import IMAGE_SUFFIXES, Skipped, TarFiles
from anymask.data.sa1b_writer import write_tar
from anymask.data.sample import Sample
from anymask.errors import DataError, ImageError

Finder = Callable[[UInt8[np.ndarray, "h w 3"]], Bool[np.ndarray, "m h w"]]
"""What looks for masks in an RGB photograph; none where it finds nothing."""


class Photographs:
    """The pictures of tars and of folders, by number: tars first, then folders by their files' names.

    Raises DataError where a path is neither, or there is no picture.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        folders = [Path(path) for path in paths if Path(path).is_dir()]
        tars = [path for path in paths if not Path(path).is_dir()]
        self._tars = TarFiles(tars, labelled=False) if tars else None
        files = (file for folder in folders for file in sorted(folder.iterdir()))
        self._files = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
        if not len(self):
            raise DataError(f"no picture in {', '.join(map(str, paths)) or 'no place at all'}; give tars or folders")

    def __len__(self) -> int:
        """Return the number of pictures."""
        return self._in_tars + len(self._files)

    def key(self, index: int) -> str:
        """Return where a picture comes from."""
        if self._tars is not None and index < self._in_tars:
            return self._tars.key(index)
        return str(self._files[index - self._in_tars])

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Decode a picture. Raises ImageError (or DataError) where it is broken."""
        if self._tars is not None and index < self._in_tars:
            return read_image(self._tars.image_bytes(index))
        return read_image(self._files[index - self._in_tars])

    @property
    def _in_tars(self) -> int:
        return 0 if self._tars is None else len(self._tars)


def write_regions(
    photographs: Photographs,
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
    photographs: Photographs, indices: Iterable[int], find: Finder, source: str, skipped: Skipped
) -> Iterator[Sample]:
    """Yield the photographs in which something is found, under keys that no two of them share."""
    for index in indices:
        origin = photographs.key(index)
        try:
            image = photographs.read(index)
        except (ImageError, DataError) as error:
            skipped.add(origin, error)
            continue
        masks = find(image)
        if len(masks):
            yield Sample(key=f"{index:06d}-{PurePosixPath(origin).stem}", image=image, masks=masks, source=source)
