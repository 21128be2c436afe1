"""Writers of one format each: they are given images one after the other, and hold no more than one."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from anymask.data.coco_writer import OBJECT, CocoImage, write_coco
from anymask.data.files import make_folder
from anymask.engine import pairs
from anymask.engine.store import Class, StoredImage
from anymask.errors import MissingPackageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An image as it is released: its file and its masks as SA-1B has them, each with its origin and class."""

    image: StoredImage
    split: str
    stem: str
    suffix: str
    encoded: bytes
    size: tuple[int, int]
    """(height, width) as released."""
    records: list[dict[str, Any]]
    origins: list[str]
    class_ids: list[int | None]
    """Of the project's list; None for a mask without a class, or of one that is not in it any more."""

    @property
    def file_name(self) -> str:
        """What the image file is called."""
        return f"{self.stem}.{self.suffix}"


class Writer(Protocol):
    """A format."""

    def add(self, item: Item) -> None:
        """Write an image."""
        ...

    def close(self) -> None:
        """Finish the files."""
        ...


class PairTars:
    """Tars of image and JSON; SA-1B's and WebDataset's differ in nothing but what they are called."""

    def __init__(self, folder: Path, name: str, images_a_tar: int) -> None:
        self._folder, self._name, self._most = make_folder(folder), name, images_a_tar
        self._open: dict[str, tarfile.TarFile] = {}
        self._counts: dict[str, int] = {}

    def add(self, item: Item) -> None:
        """Append to the split's present tar."""
        count = self._counts.get(item.split, 0)
        if count % self._most == 0:
            self._end(item.split)
            path = self._folder / self._name.format(split=item.split, number=count // self._most)
            self._open[item.split] = tarfile.open(make_folder(path.parent) / path.name, "w")
        files = pairs.pair(item.stem, item.suffix, item.encoded, item.size, item.image.id, item.records)
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            self._open[item.split].addfile(member, io.BytesIO(content))
        self._counts[item.split] = count + 1

    def _end(self, split: str) -> None:
        if split in self._open:
            self._open.pop(split).close()

    def close(self) -> None:
        """Finish every tar."""
        for split in list(self._open):
            self._end(split)


class CocoFile:
    """COCO's file of each split; with the images beside it where no tar has them."""

    def __init__(self, folder: Path, classes: Sequence[Class], *, with_images: bool) -> None:
        self._folder, self._classes, self._with_images = make_folder(folder), classes, with_images
        self._images: dict[str, list[CocoImage]] = {}

    def add(self, item: Item) -> None:
        """Keep the image's entries; strings of run lengths are small."""
        if self._with_images:
            (make_folder(self._folder / "images") / item.file_name).write_bytes(item.encoded)
        unnamed = max((each.id for each in self._classes), default=0) + 1
        described = [
            record | {"category_id": unnamed if class_id is None else class_id, "origin": origin}
            for record, class_id, origin in zip(item.records, item.class_ids, item.origins, strict=True)
        ]
        image = CocoImage(
            id=item.image.id,
            file_name=item.file_name,
            height=item.size[0],
            width=item.size[1],
            annotations=described,
        )
        self._images.setdefault(item.split, []).append(image)

    def close(self) -> None:
        """Write the files."""
        unnamed = max((each.id for each in self._classes), default=0) + 1
        categories: list[dict[str, Any]] = [{"id": each.id, "name": each.name} for each in self._classes]
        categories.append(dict(OBJECT) | {"id": unnamed})
        for split, images in self._images.items():
            write_coco(self._folder / f"{split}.json", images, categories=categories, info={"description": "anymask"})


class ParquetFile:
    """A table of each split, a row a mask; the images are in the tars. Raises MissingPackageError without pyarrow."""

    def __init__(self, folder: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise MissingPackageError("Parquet needs pyarrow: pip install 'anymask[engine]'") from error
        self._arrow: Any = pyarrow
        self._folder = make_folder(folder)
        self._writers: dict[str, Any] = {}
        a = pyarrow
        self._schema = a.schema(
            [
                ("image_id", a.int64()),
                ("file_name", a.string()),
                ("height", a.int32()),
                ("width", a.int32()),
                ("id", a.int32()),
                ("counts", a.string()),
                ("bbox", a.list_(a.int32(), 4)),
                ("area", a.int64()),
                ("predicted_iou", a.float32()),
                ("stability_score", a.float32()),
                ("origin", a.string()),
                ("category_id", a.int32()),
            ]
        )

    def add(self, item: Item) -> None:
        """Append an image's masks as a group of rows."""
        rows = [
            {
                "image_id": item.image.id,
                "file_name": item.file_name,
                "height": item.size[0],
                "width": item.size[1],
                "counts": record["segmentation"]["counts"],
                "origin": origin,
                "category_id": class_id,
                **{name: record[name] for name in ("id", "bbox", "area", "predicted_iou", "stability_score")},
            }
            for record, class_id, origin in zip(item.records, item.class_ids, item.origins, strict=True)
        ]
        if not rows:
            return
        if item.split not in self._writers:
            path = self._folder / f"{item.split}.parquet"
            self._writers[item.split] = self._arrow.parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._writers[item.split].write_table(self._arrow.Table.from_pylist(rows, self._schema))

    def close(self) -> None:
        """Finish the files."""
        for writer in self._writers.values():
            writer.close()
