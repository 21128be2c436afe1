"""SA-1B's pairs of an image and a JSON, each a file of its own or in tars, as WebDataset has them too."""

from __future__ import annotations

import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from anymask.data.writers.sa1b import add_files, pair_document
from anymask.engine.formats.item import File, Item, Writer
from anymask.engine.formats.pairs import pair


class PairWriter(Writer):
    """A JSON file for each image, as SA-1B has them; with `with_images` the image beside it.

    A JSON without its image names the file by the name that it has in the project.
    """

    def __init__(self, *, with_images: bool) -> None:
        self._with_images = with_images

    def add(self, item: Item) -> Iterator[File]:
        """Give the image's JSON, and its file."""
        if self._with_images:
            yield from _pair(item, f"{item.folder}{item.stem}")
        else:
            document = pair_document(item.image.id, item.size, item.image.name, item.records)
            yield f"{item.folder}{item.stem}.json", document


@dataclass(slots=True, kw_only=True)
class _Tar:
    """A tar that is being written."""

    name: str
    path: Path
    file: tarfile.TarFile
    count: int = 0


class PairTarWriter(Writer):
    """Tars of `images_per_tar` images and their JSONs; SA-1B's and WebDataset's differ in nothing but their names.

    `pattern` names a tar by its `split` and its `number` in it; `scratch` is a folder for those that are being written.
    """

    def __init__(self, scratch: Path, pattern: str, *, images_per_tar: int) -> None:
        self._scratch, self._pattern, self._most = scratch, pattern, images_per_tar
        self._open: dict[str, _Tar] = {}
        self._numbers: dict[str, int] = {}

    def add(self, item: Item) -> Iterator[File]:
        """Append to the split's present tar, and give it where it is full."""
        split = item.split or "all"
        tar = self._open.get(split) or self._begin(split)
        add_files(tar.file, _pair(item, f"sa_{item.image.id:09d}"))  # WebDataset ends a name at its first dot
        tar.file.members.clear()  # type: ignore[attr-defined]  # it would keep the head of every file
        tar.count += 1
        if tar.count == self._most:
            yield self._end(split)

    def finish(self) -> Iterator[File]:
        """Give the tars that are not full."""
        for split in list(self._open):
            yield self._end(split)

    def close(self) -> None:
        """Close open tars."""
        for tar in self._open.values():
            tar.file.close()
        self._open.clear()

    def _begin(self, split: str) -> _Tar:
        number = self._numbers.get(split, 0)
        self._numbers[split] = number + 1
        path = self._scratch / f"{uuid.uuid4().hex}.tar"
        name = str(PurePosixPath(self._pattern.format(split=split, number=number)))
        self._open[split] = _Tar(name=name, path=path, file=tarfile.open(path, "w"))
        return self._open[split]

    def _end(self, split: str) -> File:
        tar = self._open.pop(split)
        tar.file.close()
        return tar.name, tar.path


def _pair(item: Item, stem: str) -> list[tuple[str, bytes]]:
    return pair(stem, item.file.suffix, item.file.content, item.size, item.image.id, item.records)
