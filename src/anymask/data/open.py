"""The one way to open data: of any kind, by where it lies; several places are one set."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from anymask.data.cache import ImageCache
from anymask.data.channels import ChannelMapping
from anymask.data.json_files import read_json
from anymask.data.listing import is_hidden, list_images
from anymask.data.readers.coco import CocoFiles
from anymask.data.readers.coco_document import is_document
from anymask.data.readers.folder import FolderFiles
from anymask.data.readers.images import ImageSet, JoinedImages, ListedImages, UnlabelledView
from anymask.data.readers.label_studio import LabelStudioFiles, tasks_of
from anymask.data.readers.labelme import LabelMeFiles, shapes_of
from anymask.data.readers.pairs import PairFiles
from anymask.data.readers.tars import TarFiles
from anymask.data.sample import AnnotatedSet, ImageAnnotations, Sample, fingerprint
from anymask.data.tar_access import is_url
from anymask.errors import DataError

Where = str | Path | Sequence[str | Path]
"""A file, a folder or an address; or several of one set."""

KINDS = (
    "a tar or a folder of tars of SA-1B's layout, a folder of images with their JSONs (SA-1B's or LabelMe's), a folder "
    "of images and masks, a JSON file of COCO's, LVIS', LabelMe's or Label Studio's, or a folder that has COCO's "
    "beside its images"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    channels: ChannelMapping | None = None
    strict: bool = True
    unlabelled: bool = False
    crowds: bool = False
    every_entry: bool = False
    """Whether images without masks are kept where a file lists them, whatever `unlabelled` says."""
    cache: ImageCache | None = None


def open_data(
    where: Where,
    annotations: str | Path | None = None,
    *,
    channels: ChannelMapping | None = None,
    strict: bool = True,
    unlabelled: bool = False,
    crowds: bool = False,
    cache: ImageCache | None = None,
) -> AnnotatedSet:
    """Open labelled images of any kind; several places are one set, in their order.

    `where` is a tar or a folder of tars of SA-1B's layout (or their addresses), a folder of images with their JSONs
    (SA-1B's or LabelMe's), a folder of images and masks, a JSON of COCO's, LVIS', LabelMe's or Label Studio's, or a
    folder that has COCO's beside its images. `annotations` says what is where they lie apart: a JSON, or a folder of
    masks or of JSONs; with a JSON as `where` it is the folder of its images.

    `strict` refuses a COCO file that does not belong to its images, which is reported image by image otherwise;
    `unlabelled` keeps images without masks, `crowds` masks of groups. `channels` says how images are read, but for
    those in tars, which are RGB; `cache` keeps decoded images. Raises DataError.
    """
    places = [where] if isinstance(where, str | Path) else list(where)
    options = _Options(channels=channels, strict=strict, unlabelled=unlabelled, crowds=crowds, cache=cache)
    if len(places) == 1:
        return _open(places[0], annotations, options)
    if annotations is not None:
        raise DataError(f"{annotations}: annotations of their own go with one place, not with {len(places)}")
    if places and all(is_url(place) or _is_tar(Path(place)) for place in places):
        return _open_tars(places, options)
    return JoinedFiles([_open(place, None, options) for place in places])


def open_sets(
    paths: Sequence[str | Path],
    *,
    images: str | Path | None = None,
    channels: ChannelMapping | None = None,
    everything: bool = False,
) -> dict[str, AnnotatedSet]:
    """Open data sets to measure on, each named by its file or folder without "-val" or "-train".

    A folder of tars is a set for each tar. `images` is where the images of annotation files lie. With `everything`
    images without masks and masks of crowds are kept. Raises DataError for what is no data, and for two of one name.
    """
    opened: dict[str, AnnotatedSet] = {}
    for where in (part for given in paths for part in _parts(given)):
        path = Path(where)
        name = (path.resolve().name if path.is_dir() else path.stem).removesuffix("-val").removesuffix("-train")
        if name in opened:
            raise DataError(f"two data sets are named {name!r}, the second from {where}: rename one")
        beside = images if path.suffix.lower() == ".json" and path.is_file() else None
        options = _Options(channels=channels, strict=False, crowds=everything, every_entry=everything)
        opened[name] = _open(where, beside, options)
    return opened


def open_images(where: Where) -> ImageSet:
    """Open images alone: those of folders, of tars, and of files of annotations, whose masks are not read.

    Several places are one set, in their order. Raises DataError where a place is missing or has no image.
    """
    places = [where] if isinstance(where, str | Path) else list(where)
    if not places:
        raise DataError("no place of images was given; give folders, tars or files of annotations")
    if all(is_url(place) or _is_tar(Path(place)) for place in places):
        return TarFiles(places, labelled=False)
    sets = [_open_images(place) for place in places]
    return sets[0] if len(sets) == 1 else JoinedImages(sets)


def _open(where: str | Path, annotations: str | Path | None, options: _Options) -> AnnotatedSet:
    if is_url(where):
        return _open_tars([where], options)
    place = _existing(where)
    if annotations is not None:
        return _open_apart(place, _existing(annotations), options)
    if place.is_file() and place.suffix.lower() == ".json":
        return _open_json(place, None, options)
    tars = _tars(place)
    if tars:
        return _open_tars(tars, options)
    first, kind = _first_json(place)
    if kind == "pairs":
        return PairFiles(place, channels=options.channels, unlabelled=options.unlabelled)
    if kind and not _has_masks(place):
        if kind == "coco":
            return _open_json(first, place, options)
        return LabelMeFiles(place, channels=options.channels, unlabelled=options.unlabelled)
    return FolderFiles([place], channels=options.channels, unlabelled=options.unlabelled, cache=options.cache)


def _open_tars(tars: Sequence[str | Path], options: _Options) -> TarFiles:
    if options.channels is not None and options.strict:
        raise DataError(f"{tars[0]}: channels can be stated for files in a folder, not for pictures in tars")
    return TarFiles(tars, labelled=not options.unlabelled, cache=options.cache)


def _open_apart(place: Path, annotations: Path, options: _Options) -> AnnotatedSet:
    """Open images and what is said of them, which lie apart, in either order."""
    if place.is_file() and place.suffix.lower() == ".json" and annotations.is_dir():
        place, annotations = annotations, place
    if annotations.is_file():
        return _open_json(annotations, place, options)
    _, kind = _first_json(annotations)
    if kind == "labelme":
        return LabelMeFiles(annotations, images=place, channels=options.channels, unlabelled=options.unlabelled)
    if kind == "pairs":
        return PairFiles(place, annotations=annotations, channels=options.channels, unlabelled=options.unlabelled)
    return FolderFiles(
        [place],
        masks=annotations,
        channels=options.channels,
        unlabelled=options.unlabelled,
        cache=options.cache,
    )


def _open_json(path: Path, images: Path | None, options: _Options) -> AnnotatedSet:
    document = read_json(path)
    if shapes_of(document) is not None:
        return LabelMeFiles(path, images=images, channels=options.channels, unlabelled=options.unlabelled)
    if tasks_of(document) is not None:
        return LabelStudioFiles(
            path,
            images=images,
            channels=options.channels,
            unlabelled=options.unlabelled or options.every_entry,
            document=document,
        )
    return CocoFiles(
        images,
        path,
        document=document,
        channels=options.channels,
        strict=options.strict,
        unlabelled=options.unlabelled or options.every_entry,
        crowds=options.crowds,
        cache=options.cache,
    )


def _open_images(where: str | Path) -> ImageSet:
    if is_url(where):
        return TarFiles([where], labelled=False)
    place = _existing(where)
    if place.is_file() and place.suffix.lower() == ".json":
        return UnlabelledView(_open_json(place, None, _Options(unlabelled=True)))
    found = list_images(place) if place.is_dir() else []
    if not found and (place / "images").is_dir():
        found = list_images(place / "images")
    if found:
        return ListedImages(found)
    tars = _tars(place)
    if tars:
        return TarFiles(tars, labelled=False)
    if _first_json(place)[1] == "labelme":  # whose files may hold their pictures themselves
        return UnlabelledView(LabelMeFiles(place, unlabelled=True))
    raise DataError(f"no image in {place}")


def _existing(where: str | Path) -> Path:
    place = Path(where)
    try:
        is_there = place.exists()
    except (OSError, ValueError):
        is_there = False
    if not is_there:
        raise DataError(f"there is no file or folder {where}")
    return place


def _is_tar(place: Path) -> bool:
    return place.is_file() and place.suffix.lower() != ".json"


def _tars(place: Path) -> list[Path]:
    """Return the tar that a place is, or those in it."""
    if not place.is_dir():
        return [place]
    return sorted(path for path in place.glob("*.tar") if not is_hidden(path.relative_to(place)))


def _parts(where: str | Path) -> Sequence[str | Path]:
    return _tars(Path(where)) or [where] if Path(where).is_dir() else [where]


def _first_json(folder: Path) -> tuple[Path, str]:
    """Return a JSON of a folder that says which kind of data lies there, and the kind: coco, labelme, pairs or ''."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; data is {KINDS}")
    damaged: list[DataError] = []
    for path in _documents(folder):
        try:
            document = read_json(path)
        except DataError as error:
            damaged.append(error)
            continue
        if is_document(document):
            return path, "coco"
        if isinstance(document, dict) and isinstance(document.get("shapes"), list):
            return path, "labelme"
        if isinstance(document, dict) and isinstance(document.get("annotations"), list):
            return path, "pairs"
    if damaged and not _has_masks(folder):
        raise damaged[0]
    return folder, ""


def _documents(folder: Path) -> Iterator[Path]:
    found = [path for path in folder.iterdir() if path.suffix.lower() == ".json" and path.is_file()]
    yield from sorted(path for path in found if not is_hidden(path.relative_to(folder)))


def _has_masks(folder: Path) -> bool:
    """Whether a folder is one of images and masks, whatever JSON lies there besides."""
    if (folder / "masks").is_dir():
        return True
    stems = [path.stem for path in list_images(folder)]
    num_masks = sum((folder / stem).is_dir() for stem in set(stems)) + len(stems) - len(set(stems))
    return 0 < len(stems) <= 3 * num_masks


class JoinedFiles:
    """Labelled sets, one after the other. Raises DataError where there is none."""

    def __init__(self, sets: Sequence[AnnotatedSet]) -> None:
        if not sets:
            raise DataError("no place of labelled images was given")
        self.sets = list(sets)
        self._ends = list(accumulate(len(each) for each in self.sets))

    def __len__(self) -> int:
        """Return the number of images."""
        return self._ends[-1]

    def key(self, index: int) -> str:
        """Return the image's name in its set."""
        files, place = self._place(index)
        return files.key(place)

    def fingerprint(self) -> str:
        """Return what changes where the images or their masks do."""
        return fingerprint([each.fingerprint() for each in self.sets])

    def source(self, index: int) -> Path | bytes:
        """Return where the image's file lies, or what is in it; raises DataError."""
        files, place = self._place(index)
        return files.source(place)

    def annotations(self, index: int) -> ImageAnnotations:
        """Return what is said of an image; raises AnymaskError."""
        files, place = self._place(index)
        return files.annotations(place)

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image and its masks, or `max_masks` of them drawn at random; raises AnymaskError."""
        files, place = self._place(index)
        return files.sample(place, max_masks=max_masks, rng=rng)

    def _place(self, index: int) -> tuple[AnnotatedSet, int]:
        number = bisect_right(self._ends, index)
        return self.sets[number], index - (self._ends[number - 1] if number else 0)
