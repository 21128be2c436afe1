"""A COCO or LVIS file and the folder of its images: one reader, strict or lenient, for whoever needs them.

Both hold lists `images` and `annotations`; LVIS has no `file_name`, but an address that ends in it. Masks are polygons
or run lengths. Single entries that cannot be used are left out, counted and named in the log; whatever says that file
and images do not belong together is refused where the reader is strict, and reported image by image where it is not.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from anymask.data.cache import ImageCache
from anymask.data.channels import ChannelMapping, read_bands, read_mapped, stated
from anymask.data.images import read_header
from anymask.data.readers.coco_document import (
    CROWDS,
    EMPTY,
    MALFORMED,
    OUTSIDE,
    WITHOUT_MASK,
    CocoDocument,
    ImageEntry,
    ObjectEntry,
    read_document,
)
from anymask.data.readers.file_names import FileIndex
from anymask.data.sample import AnnotatedMask, ImageAnnotations, Sample, fingerprint, sample_indices
from anymask.errors import AnymaskError, DataError
from anymask.geometry import polygons, rle

_LOG = logging.getLogger(__name__)

_BEYOND = 2.0
"""Pixels that a polygon may reach beyond its image: annotation tools round."""
_TOLD = 3
"""Annotations that are named of those left out for one reason."""
_LOOKED_FOR = 20
"""How many images are looked for to tell the folder of a file's images."""
_IN_PART = "in part"


class CocoFiles:
    """The images of a COCO or LVIS file, in its order: those with masks, or with `unlabelled` all of them.

    `folder` holds the images, under their names in the file or without the folders that those begin with; None looks
    near the file. Sizes are in the frame of the image as it is shown, upright. `channels` says how images that are not
    plain pictures are read; `cache` keeps those that are; `document` is what the file holds, where it was read already.

    Where `strict`, all is checked before the first image is used: DataError names the entry by its id where an id is
    there twice, an image is missing or of another size, or half of the masks or more cannot be used. Otherwise images
    raise that when they are read, and bad masks are counted, however many.
    """

    def __init__(
        self,
        folder: str | Path | None,
        annotations: str | Path,
        *,
        channels: ChannelMapping | None = None,
        strict: bool = True,
        unlabelled: bool = False,
        crowds: bool = False,
        cache: ImageCache | None = None,
        document: object = None,
    ) -> None:
        self.channels, self.strict, self.cache, self.path = channels, strict, cache, Path(annotations)
        self.document = read_document(self.path, document, strict=strict)
        self.folder = find_images_folder(self.document, folder)
        self._names = FileIndex(self.folder, [image.file_name for image in self.document.images])
        self._keeps_crowds = crowds
        objects = self._objects(self.document)
        images = [image for image in self.document.images if unlabelled or image.id in objects]
        self._images = self._checked(images, objects) if strict else images
        self._kept = objects
        if strict:
            self._images = [image for image in self._images if unlabelled or objects[image.id]]
        if not self._images and strict:
            raise DataError(f"{self.path}: none of its {len(self.document.images)} images has a mask")

    @property
    def categories(self) -> Mapping[int, str]:
        """The names of categories by their numbers, as far as the file has any."""
        return self.document.names

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many annotations of no image cannot be used, by the reason; an image's own are reported with its
        masks.
        """
        return self.document.left_out

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def entry(self, index: int) -> ImageEntry:
        """Return what the file says of an image."""
        return self._images[index]

    def key(self, index: int) -> str:
        """Return the image's path."""
        return str(self._path(self._images[index]))

    def source(self, index: int) -> Path:
        """Return where the image can be read; raises DataError where it is not there."""
        return self._names.find(self._images[index].file_name)

    def fingerprint(self) -> str:
        """Return what changes where the images or their masks do."""
        return fingerprint(self.path, [self._path(image) for image in self._images], stated(self.channels))

    def annotations(self, index: int) -> ImageAnnotations:
        """Return what the file says of an image; raises DataError or ImageError."""
        image = self._images[index]
        size = image.size or self._size(image)
        masks: list[AnnotatedMask] = []
        left_out: Counter[str] = Counter()
        for entry in self._kept.get(image.id, []):
            mask, reason, _ = self._mask(entry, size)
            if mask is None:
                left_out[reason] += 1
                continue
            masks.append(
                AnnotatedMask(
                    id=f"{self.path.stem}-{entry.id}",
                    rle=mask,
                    category=entry.category,
                    label=entry.label if entry.category is None else self.document.names.get(entry.category),
                    score=entry.score,
                    crowd=entry.crowd,
                    area=entry.area,
                )
            )
        return ImageAnnotations(size=size, masks=masks, left_out=dict(left_out))

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Decode an image; raises ImageError, or DataError where it is missing or of another size than stated."""
        entry, path = self._images[index], self.source(index)
        try:
            plain = self.cache is not None and self.channels is None
            image = self.cache.read(path.read_bytes()) if plain and self.cache else read_mapped(path, self.channels)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        if entry.size is not None and image.shape[:2] != entry.size:
            raise DataError(self._other_size(entry, path, (image.shape[0], image.shape[1])))
        return image

    def sample(self, index: int, *, max_masks: int | None = None, rng: np.random.Generator | None = None) -> Sample:
        """Decode an image and its masks, or `max_masks` of them drawn at random; raises DataError or ImageError."""
        image = self.read(index)
        size, entries = (image.shape[0], image.shape[1]), self._kept.get(self._images[index].id, [])
        drawn = [self._mask(entries[i], size) for i in sample_indices(len(entries), max_masks, rng)]
        masks = [rle.decode(mask) for mask, _, _ in drawn if mask is not None]
        if not masks:
            why = next((detail for _, _, detail in drawn), "it has no mask")
            raise DataError(f"{self.path}: image {self._images[index].id} cannot be learned from: {why}")
        return Sample(key=self.key(index), image=image, masks=np.stack(masks))

    def _path(self, image: ImageEntry) -> Path:
        """Return where an image lies, or should lie where it is not there."""
        try:
            return self._names.find(image.file_name)
        except DataError:
            return self.folder / image.file_name

    def _objects(self, document: CocoDocument) -> dict[int, list[ObjectEntry]]:
        """Return the annotations that have a mask, of one object each unless crowds are wanted, by their images."""
        objects: dict[int, list[ObjectEntry]] = defaultdict(list)
        left_out: Counter[str] = Counter()
        for entry in document.objects:
            if entry.crowd and not self._keeps_crowds:
                left_out[CROWDS] += 1
            elif not entry.segmentation and not self._keeps_crowds:
                left_out[WITHOUT_MASK] += 1
            else:
                objects[entry.image_id].append(entry)
        if left_out:
            kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.items())
            _LOG.warning("%s: annotations left out: %s", self.path, kinds)
        return dict(objects)

    def _checked(self, images: Sequence[ImageEntry], objects: dict[int, list[ObjectEntry]]) -> list[ImageEntry]:
        """Return images with their sizes known; leave in `objects` the masks that can be used, of each image."""
        self._refuse_missing(images)
        faults: list[tuple[int | None, str, str]] = list(self.document.faults)
        found = []
        num_sound = 0
        for image in images:
            size = self._size(image)
            sound = []
            for entry in objects.get(image.id, []):
                mask, reason, detail = self._mask(entry, size)
                if mask is not None:
                    sound.append(entry)
                    num_sound += 1
                if detail:
                    faults.append((entry.id, reason, detail))
            objects[image.id] = sound
            found.append(ImageEntry(**{**image.as_dict(), "size": size}))
        bad = [fault for fault in faults if fault[1] not in (EMPTY, _IN_PART)]
        if bad and len(bad) >= num_sound:
            raise DataError(f"{self.path}: {bad[0][2]}" + (f"; so it is with {len(bad) - 1} more" if bad[1:] else ""))
        self._tell(faults)
        return found

    def _tell(self, faults: Sequence[tuple[int | None, str, str]]) -> None:
        by_reason: dict[str, list[tuple[int | None, str]]] = defaultdict(list)
        for id, reason, detail in faults:
            by_reason[reason].append((id, detail))
        for reason, told in by_reason.items():
            named = ", ".join(str(id) for id, _ in told[:_TOLD]) + (", …" if len(told) > _TOLD else "")
            _LOG.warning("%s: left out %d annotations %s (%s); %s", self.path, len(told), reason, named, told[0][1])

    def _refuse_missing(self, images: Sequence[ImageEntry]) -> None:
        missing: list[tuple[ImageEntry, DataError]] = []
        for image in images:
            try:
                self._names.find(image.file_name)
            except DataError as error:
                missing.append((image, error))
        if missing:
            more = f"; so it is with {len(missing) - 1} more" if missing[1:] else ""
            image, why = missing[0]
            raise DataError(f"{self.path}: the file {image.file_name} of image {image.id} {why}{more}")

    def _size(self, image: ImageEntry) -> tuple[int, int]:
        """Return an image's (height, width) from its file's header; raises DataError where the annotations differ."""
        path = self._names.find(image.file_name)
        height, width = read_header(path).size if self.channels is None else read_bands(path).shape[:2]
        if image.size is not None and image.size != (height, width):
            raise DataError(self._other_size(image, path, (height, width)))
        return height, width

    def _other_size(self, image: ImageEntry, path: Path, size: tuple[int, int]) -> str:
        named = image.size or size
        turned = "; its EXIF tag turns it, the annotations do not" if named == size[::-1] else ""
        return (
            f"{self.path}: image {image.id} is said to be {named[1]}×{named[0]} pixels, {path} is "
            f"{size[1]}×{size[0]}{turned}"
        )

    def _mask(self, entry: ObjectEntry, size: tuple[int, int]) -> tuple[rle.RLE | None, str, str]:
        """Return an annotation's mask, or why there is none; the detail is also given for a mask that lost rings."""
        if not entry.segmentation:
            return None, WITHOUT_MASK, f"annotation {entry.id} has no mask"
        try:
            rings, num_bad = polygons.sound_rings(entry.segmentation)
            if not rings and num_bad:
                return (
                    None,
                    MALFORMED,
                    f"annotation {entry.id} has a polygon that is no list [x, y, x, y, …] of three or more points",
                )
            if isinstance(rings, list):
                self._check_inside(entry, rings, size)
            mask = polygons.from_coco(rings, size)
        except _OutsideError as error:
            return None, OUTSIDE, str(error)
        except AnymaskError as error:
            return None, MALFORMED, f"annotation {entry.id} cannot be used: {error}"
        if not rle.area(mask):
            return None, EMPTY, f"annotation {entry.id} covers no pixel"
        lost = f"annotation {entry.id} has {num_bad} rings of fewer than three points" if num_bad else ""
        return mask, _IN_PART, lost

    def _check_inside(self, entry: ObjectEntry, rings: Sequence[Sequence[float]], size: tuple[int, int]) -> None:
        """Refuse polygons that reach out of their image, which are clipped where the reader is not strict."""
        height, width = size
        for ring in rings if self.strict else ():
            points = np.asarray(ring, np.float64).reshape(-1, 2)
            (x0, y0), (x1, y1) = points.min(0), points.max(0)
            if min(x0, y0) < -_BEYOND or x1 > width + _BEYOND or y1 > height + _BEYOND:
                raise _OutsideError(
                    f"annotation {entry.id} reaches from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}), outside its image of "
                    f"{width}×{height} pixels"
                )


class _OutsideError(Exception):
    """A polygon that lies outside its image."""


def find_images_folder(document: CocoDocument, images: str | Path | None) -> Path:
    """Return the folder of a file's images: the one given, or one near the file that has its first."""
    if images is not None:
        if not Path(images).is_dir():
            raise DataError(f"there is no folder {images}")
        return Path(images)
    path = document.path
    near, above = path.parent, path.absolute().parent.parent
    candidates = [near, near / "images", above / "images", above / path.stem.split("_")[-1], above]
    names = [image.file_name for image in document.images[:_LOOKED_FOR]]
    for folder in candidates if names else ():
        index = FileIndex(folder, names) if folder.is_dir() else None
        if index is not None and any(map(index.has, names)):
            return folder
    first = names[0] if names else "no image"
    raise DataError(f"{path}: {first} is not beside it; give the folder of its images with --images")
