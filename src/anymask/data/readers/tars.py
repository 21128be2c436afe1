"""Tars of SA-1B's pairs, `<name>.jpg` beside `<name>.json`: read at random from anywhere, or streamed."""

from __future__ import annotations

import logging
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

import numpy as np

from anymask.data.cache import ImageCache
from anymask.data.files import cache_folder
from anymask.data.images import read_header
from anymask.data.listing import IMAGE_SUFFIXES
from anymask.data.readers.pairs import parse_sample, read_annotations
from anymask.data.sample import ImageAnnotations, Sample, Skipped, fingerprint
from anymask.data.tar_access import LocalTar, Range, RemoteTar, kept_index, read_index, tar_place, write_index
from anymask.errors import AnymaskError, DataError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """Where a pair lies: the tar's number, and offset and length of each file in it."""

    tar: int
    key: str
    image: tuple[int, int]
    json: tuple[int, int] | None


class TarFiles:
    """Tars with random access: an index of offsets, no member read before it is asked for.

    They lie on this machine or at URLs that fsspec knows (the extra `train`; s3:// needs s3fs); a remote tar's index is
    kept in `index_folder`, by default in the user's cache. With `labelled` False the tars hold pictures alone. Damaged
    stretches, cut-off ends and images without a JSON are logged and left out. Raises DataError where a tar is missing
    or is none, or no image is left.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        labelled: bool = True,
        cache: ImageCache | None = None,
        index_folder: Path | None = None,
    ) -> None:
        self.tars = [tar_place(path) for path in paths]
        names = Counter(tar.name for tar in self.tars)
        self._names = [str(tar) if names[tar.name] > 1 else tar.name for tar in self.tars]
        self.cache, self.left_out = cache, Skipped()
        folder = cache_folder() / "tars" if index_folder is None else index_folder
        self._members = [m for i, tar in enumerate(self.tars) for m in _members_of(i, tar, labelled, folder)]
        if not self._members:
            raise DataError(f"no image{' with its JSON' if labelled else ''} in {', '.join(map(str, self.tars))}")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._members)

    def key(self, index: int) -> str:
        """Return a name that is unique over the tars."""
        member = self._members[index]
        return f"{self._names[member.tar]}/{member.key}"

    def member(self, index: int) -> tuple[str, str]:
        """Return the name of an image's tar, and its own in it without the suffix."""
        found = self._members[index]
        return self.tars[found.tar].name, found.key

    def image_bytes(self, index: int) -> bytes:
        """Return the encoded image."""
        member = self._members[index]
        return self.tars[member.tar].read(member.image)

    def source(self, index: int) -> bytes:
        """Return the encoded image."""
        return self.image_bytes(index)

    def json_bytes(self, index: int) -> bytes:
        """Return the annotations as they are stored."""
        member = self._members[index]
        if member.json is None:
            raise DataError(f"{self.key(index)} has no JSON")
        return self.tars[member.tar].read(member.json)

    def fingerprint(self) -> str:
        """Return what changes where the images or their masks do."""
        return fingerprint([tar.identity() for tar in self.tars])

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image and its masks, or `max_masks` of them drawn at random."""
        pair = self.image_bytes(index), self.json_bytes(index)
        options: dict[str, Any] = {"cache": self.cache, "left_out": self.left_out}
        return parse_sample(self.key(index), *pair, max_masks=max_masks, rng=rng, **options)

    def annotations(self, index: int) -> ImageAnnotations:
        """Return what the JSON says of the image; none where there is no JSON. Raises DataError or ImageError."""
        size = read_header(self.image_bytes(index)).size
        if self._members[index].json is None:
            return ImageAnnotations(size=size, masks=[])
        return read_annotations(f"{self.key(index)}.json", self.json_bytes(index), size)


def _split(name: str) -> tuple[str, str]:
    """Split a member's name into its key and its suffix, in lower case and without the dot."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")), path.suffix.lower()[1:]


def _members_of(number: int, tar: LocalTar | RemoteTar, labelled: bool, folder: Path) -> Iterator[_Member]:
    """Yield the members of a tar; those of a remote one from its kept index, which is made where there is none."""
    kept = kept_index(tar, folder) if isinstance(tar, RemoteTar) else None
    rows = None if kept is None else read_index(kept)
    if rows is None:
        images, jsons = _index(tar, labelled)
        rows = [[key, *place, *jsons.get(key, ())] for key, place in images.items()]
        if kept is not None:
            write_index(kept, rows)
    for key, *places in rows:
        if len(places) == 4 or not labelled:
            annotated = (places[2], places[3]) if len(places) == 4 else None
            yield _Member(tar=number, key=key, image=(places[0], places[1]), json=annotated)


def _index(tar: LocalTar | RemoteTar, labelled: bool) -> tuple[dict[str, Range], dict[str, Range]]:
    """Return where a tar's images and their JSONs lie."""
    images: dict[str, Range] = {}
    jsons: dict[str, Range] = {}
    damages: list[Exception] = []
    try:
        with tar.open() as raw:
            for member in _members(_open_tar(raw, "r:", damages), damages):
                key, suffix = _split(member.name)
                place = (member.offset_data, member.size)
                if f".{suffix}" in IMAGE_SUFFIXES:
                    images[key] = place
                elif suffix == "json":
                    jsons[key] = place
    except FileNotFoundError as error:
        raise DataError(f"there is no tar {tar}") from error
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{tar} is not a readable tar: {error}") from error
    if damages and not images and not jsons:
        raise DataError(f"{tar} is not a readable tar: {damages[-1]}")
    for damage in damages:
        _LOG.warning("%s is damaged: %s", tar, damage)
    alone = [key for key in images if key not in jsons] if labelled else []
    if alone:
        _LOG.warning("%s: %d images have no JSON and are left out, such as %s", tar, len(alone), alone[0])
    return images, jsons


def _open_tar(handle: Any, mode: Literal["r:", "r|*"], damages: list[Exception]) -> tarfile.TarFile:
    """Open a tar that is read on behind headers which are damaged, each of them noted."""

    class Watched(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            try:
                return super().frombuf(buf, encoding, errors)
            except tarfile.HeaderError as error:
                if any(buf):  # zeros end a tar or fill it up
                    damages.append(error)
                raise

    return tarfile.open(fileobj=handle, mode=mode, ignore_zeros=True, tarinfo=Watched)


def _members(archive: tarfile.TarFile, damages: list[Exception]) -> Iterator[tarfile.TarInfo]:
    """Yield a tar's files; leave in `damages` one error for each stretch that is no tar, and for an early end."""
    last, found = "its beginning", 0
    try:
        for member in archive:
            if len(damages) > found:
                damages[found:] = [DataError(f"what stands between {last} and {member.name} is lost")]
            last, found = member.name, len(damages)
            is_hidden = PurePosixPath(member.name).name.startswith(".")  # macOS' tar packs ._x.jpg beside x.jpg
            if member.isfile() and not is_hidden:
                yield member
            archive.members = []  # type: ignore[attr-defined]  # as a stream need not remember
    except (tarfile.TarError, EOFError) as error:
        damages[found:] = [DataError(f"it ends after {last}: {error}")]
    if len(damages) > found and not isinstance(damages[-1], DataError):
        damages[found:] = [DataError(f"what stands after {last} is lost")]


def stream(urls: Sequence[str], *, skipped: Skipped | None = None) -> Iterator[Sample]:
    """Yield the samples of tars read front to back: local paths, http(s)://, s3:// or anything fsspec knows.

    What cannot be used (a tar out of reach or cut short, a corrupt member, an RLE of the wrong size, an image without
    masks) is skipped, counted and logged, never fatal. Needs the extra `train`; s3:// needs s3fs.
    """
    import fsspec

    tally = Skipped() if skipped is None else skipped
    for url in urls:
        try:
            with fsspec.open(url, "rb") as handle:
                yield from _stream_tar(url, handle, tally)
        except ImportError as error:
            raise DataError(f"{url} cannot be opened: {error}") from error
        except Exception as error:  # each file system of fsspec raises its own kinds
            tally.add(url, error)


def _stream_tar(url: str, handle: Any, skipped: Skipped) -> Iterator[Sample]:
    """Group a tar's members by webdataset's rules; its own reader of tars would end silently where one breaks."""
    from webdataset.tariterators import group_by_keys

    damages: list[Exception] = []

    def members() -> Iterator[dict[str, Any]]:
        archive = _open_tar(handle, "r|*", damages)
        for member in _members(archive, damages):
            file = archive.extractfile(member)
            assert file is not None  # which is so for files alone
            try:
                yield {"fname": member.name, "data": file.read(), "__url__": url}
            except tarfile.ReadError as error:
                damages.append(DataError(f"it ends in {member.name}: {error}"))
                return

    def count(error: Exception) -> bool:
        skipped.add(url, error)
        return True

    for pair in group_by_keys(members(), keys=_split, handler=count):
        key = f"{PurePosixPath(url).name}/{pair['__key__']}"
        try:
            image = next((value for name, value in pair.items() if f".{name}" in IMAGE_SUFFIXES), None)
            if image is None or "json" not in pair:
                raise DataError(f"{key} has no {'image' if image is None else 'JSON'} beside it")
            yield parse_sample(key, image, pair["json"])
        except AnymaskError as error:
            skipped.add(key, error)
    for damage in damages:
        skipped.add(url, damage)
