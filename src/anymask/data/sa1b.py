"""SA-1B's layout: tars of `<name>.jpg` beside `<name>.json`, read at random from disk or streamed from anywhere.

A pair is {"image": {image_id, width, height, file_name}, "annotations": [{segmentation (COCO compressed RLE), …}]}.
Annotations may carry two fields of ours, `level` (0 whole, 1 part, 2 subpart) and `parent` (index in the list).
"""

from __future__ import annotations

import json
import logging
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from anymask.data.images import read_image
from anymask.data.sample import Sample
from anymask.errors import AnymaskError, DataError
from anymask.geometry import rle

_LOG = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(slots=True)
class Skipped:
    """What a reader could not use: how many, why, and a line in the log for each."""

    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, key: str, error: Exception) -> None:
        """Count and log one sample that is left out."""
        self.reasons[type(error).__name__] += 1
        _LOG.warning("skipped %s: %s", key, error)

    @property
    def total(self) -> int:
        """How many samples were left out so far."""
        return sum(self.reasons.values())


def parse_sample(key: str, image_bytes: bytes, json_bytes: bytes, *, pick: Sequence[int] | None = None) -> Sample:
    """Decode one pair; `pick` decodes only those annotations.

    Raises DataError (or ImageError) for a broken image, broken JSON, RLEs of another size, or no masks at all.
    """
    annotations = _annotations(key, json_bytes)
    image = read_image(image_bytes)
    chosen = range(len(annotations)) if pick is None else pick
    size = (image.shape[0], image.shape[1])
    try:
        masks = [rle.decode(rle.checked(annotations[i]["segmentation"], size)) for i in chosen]
    except (KeyError, TypeError) as error:
        raise DataError(f"{key}: an annotation has no usable segmentation ({error})") from error
    levels = parents = None
    if all("level" in a for a in annotations):
        levels = np.array([annotations[i]["level"] for i in chosen], np.int8)
        position = {old: new for new, old in enumerate(chosen)}
        parents = np.array([position.get(annotations[i].get("parent", -1), -1) for i in chosen], np.int64)
    return Sample(key=key, image=image, masks=np.stack(masks), levels=levels, parents=parents)


def _annotations(key: str, json_bytes: bytes) -> list[dict[str, Any]]:
    try:
        annotations = json.loads(json_bytes)["annotations"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{key}: the JSON is not SA-1B's ({type(error).__name__}: {error})") from error
    if not isinstance(annotations, list) or not annotations:
        raise DataError(f"{key}: the image has no masks")
    return annotations


@dataclass(frozen=True, slots=True)
class _Member:
    tar: int
    key: str
    image: tuple[int, int]
    json: tuple[int, int] | None


class TarFiles:
    """Local tars with random access: an index of offsets, no member read before it is asked for.

    With `labelled` False the tars hold pictures alone. Raises DataError where a tar is missing or broken
    beyond its index.
    """

    def __init__(self, paths: Sequence[str | Path], *, labelled: bool = True) -> None:
        self.paths = [Path(p) for p in paths]
        self._members = [m for i, path in enumerate(self.paths) for m in _index(i, path, labelled)]
        self._handles: dict[int, Any] = {}
        if not self._members:
            raise DataError(f"no image{' with its JSON' if labelled else ''} in {', '.join(map(str, self.paths))}")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._members)

    def key(self, index: int) -> str:
        """Return a name that is unique over the tars."""
        member = self._members[index]
        return f"{self.paths[member.tar].name}/{member.key}"

    def image_bytes(self, index: int) -> bytes:
        """Return the encoded image."""
        member = self._members[index]
        return self._read(member.tar, member.image)

    def json_bytes(self, index: int) -> bytes:
        """Return the annotations as they are stored."""
        member = self._members[index]
        if member.json is None:
            raise DataError(f"{self.key(index)} has no JSON")
        return self._read(member.tar, member.json)

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image and its masks, or `max_masks` of them drawn at random."""
        json_bytes, pick = self.json_bytes(index), None
        if max_masks is not None:
            count = len(_annotations(self.key(index), json_bytes))
            if count > max_masks:
                pick = sorted((rng or np.random.default_rng()).choice(count, max_masks, replace=False).tolist())
        return parse_sample(self.key(index), self.image_bytes(index), json_bytes, pick=pick)

    def _read(self, tar: int, place: tuple[int, int]) -> bytes:
        handle = self._handles.get(tar)
        if handle is None:
            handle = self._handles[tar] = self.paths[tar].open("rb")
        handle.seek(place[0])
        data: bytes = handle.read(place[1])
        if len(data) != place[1]:
            raise DataError(f"{self.paths[tar]} ends in the middle of a member; copy it again")
        return data

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind, so that workers open their own."""
        return {**self.__dict__, "_handles": {}}


def _index(tar: int, path: Path, labelled: bool) -> Iterator[_Member]:
    images: dict[str, tuple[int, int]] = {}
    jsons: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if not member.isfile():
                    continue
                place = (member.offset_data, member.size)
                if name.suffix.lower() in IMAGE_SUFFIXES:
                    images[str(name.with_suffix(""))] = place
                elif name.suffix == ".json":
                    jsons[str(name.with_suffix(""))] = place
    except FileNotFoundError as error:
        raise DataError(f"there is no tar {path}") from error
    except tarfile.ReadError as error:
        if not images:
            raise DataError(f"{path} is not a readable tar: {error}") from error
        _LOG.warning("%s is cut short (%s); using its first %d images", path, error, len(images))
    for key, place in images.items():
        if not labelled:
            yield _Member(tar, key, place, None)
        elif key in jsons:
            yield _Member(tar, key, place, jsons[key])


def stream(urls: Sequence[str], *, skipped: Skipped | None = None) -> Iterator[Sample]:
    """Yield the samples of tars read front to back: local paths, http(s)://, s3:// or anything fsspec knows.

    What cannot be used (a corrupt member, an RLE of the wrong size, an image without masks) is skipped, counted
    and logged, never fatal. Needs the extra `train`.
    """
    import fsspec
    import webdataset as wds

    tally = Skipped() if skipped is None else skipped
    for url in urls:
        with fsspec.open(url, "rb") as stream_of_bytes:
            yield from _stream_tar(wds, url, stream_of_bytes, tally)


def _stream_tar(wds: Any, url: str, handle: Any, skipped: Skipped) -> Iterator[Sample]:
    def stop(error: Exception) -> bool:
        skipped.add(url, error)
        return False

    members = wds.tariterators.tar_file_iterator(handle, handler=stop)
    named = ({"fname": name, "data": data, "__url__": url} for name, data in members)
    for pair in wds.tariterators.group_by_keys(named, handler=stop):
        key = f"{PurePosixPath(url).name}/{pair['__key__']}"
        try:
            image = next((pair[s[1:]] for s in IMAGE_SUFFIXES if s[1:] in pair), None)
            if image is None or "json" not in pair:
                raise DataError(f"{key} has no {'image' if image is None else 'JSON'} beside it")
            yield parse_sample(key, image, pair["json"])
        except AnymaskError as error:
            skipped.add(key, error)
