"""Formats that have all masks of a data set in one file: COCO's JSON and Parquet's table."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anymask.data.writers.coco import OBJECT, CocoImage, CocoStream
from anymask.engine.formats.item import ClassNumbers, File, Item, Writer
from anymask.engine.formats.outlines import flat_polygons
from anymask.engine.store import Annotation, Class
from anymask.errors import MissingPackageError

_GROUP_ROWS, _GROUP_CHARACTERS = 512, 1 << 18
"""Rows of a Parquet file, and run lengths in them, that wait until they are a group, whose head stays in memory."""


def origin_of(annotation: Annotation) -> str:
    """Return how a mask came to its image: "added", "prefilled", "automatic", "imported", or "unknown"."""
    return "unknown" if annotation.provenance is None else annotation.provenance.origin


class CocoWriter(Writer):
    """COCO's file, one per split, in which masks are run lengths; its annotations have SA-1B's keys as well.

    With `polygons` a mask is given as polygons where they say all of it, as COCO's have no holes: one without holes
    that pycocotools rasterises to the very same pixels or, with a `tolerance` in pixels, nearly so. With `with_images`
    the images are in a folder beside it, else the file names them as the project does.
    """

    def __init__(
        self,
        classes: Sequence[Class],
        scratch: Path,
        *,
        with_images: bool,
        polygons: bool = False,
        tolerance: float = 0.0,
    ) -> None:
        self._classes, self._scratch, self._with_images = ClassNumbers(classes), scratch, with_images
        self._tolerance = tolerance if polygons else None
        self._unnamed = max(self._classes.names, default=0) + 1
        self._streams: dict[str, tuple[Path, CocoStream]] = {}

    def add(self, item: Item) -> Iterator[File]:
        """Write the image's entries, and give its file."""
        if self._with_images:
            yield f"images/{item.file_name}", item.file.content
        height, width = item.size
        name = item.file_name if self._with_images or item.split else item.image.name
        described = CocoImage(
            id=item.image.id, file_name=name, height=height, width=width, annotations=self._annotations(item)
        )
        self._stream(item.split or "annotations").add(described)

    def _annotations(self, item: Item) -> list[Mapping[str, Any]]:
        places = {annotation.id: place for place, annotation in enumerate(item.annotations)}
        made: list[Mapping[str, Any]] = []
        for annotation, record in zip(item.annotations, item.records, strict=True):
            flat = None if self._tolerance is None else flat_polygons(annotation.rle, self._tolerance)
            self._classes.place(annotation)
            known = self._classes.known(annotation)
            own: dict[str, Any] = {
                "category_id": self._unnamed if known is None else known,
                "segmentation": annotation.rle if flat is None else flat,
                "score": annotation.score,
                "parent": places.get(annotation.parent or "", -1),
                "key": annotation.id,
                "origin": origin_of(annotation),
            }
            made.append(record | own | ({} if annotation.name is None else {"name": annotation.name}))
        return made

    def _stream(self, name: str) -> CocoStream:
        if name not in self._streams:
            path = self._scratch / f"{uuid.uuid4().hex}.json"
            self._streams[name] = path, CocoStream(path, info={"description": "anymask"})
        return self._streams[name][1]

    def finish(self) -> Iterator[File]:
        """Give the files; without any image, one that says so."""
        categories: list[Mapping[str, Any]] = [{"id": each.id, "name": each.name} for each in self._classes.classes]
        if self._classes.has_unnamed or not categories:
            categories.append(dict(OBJECT) | {"id": self._unnamed})
        if not self._streams:
            self._stream("annotations")
        for name, (path, stream) in self._streams.items():
            stream.finish(categories)
            yield f"{name}.json", path

    def close(self) -> None:
        """Close the files."""
        for _, stream in self._streams.values():
            stream.close()


@dataclass(slots=True, kw_only=True)
class _Table:
    """A Parquet file that is being written."""

    path: Path
    writer: Any
    rows: list[dict[str, Any]] = field(default_factory=list)
    characters: int = 0


class ParquetWriter(Writer):
    """A table, one per split, with a row for each mask; with `with_images` the images in a folder beside it.

    Raises MissingPackageError without pyarrow.
    """

    def __init__(self, classes: Sequence[Class], scratch: Path, *, with_images: bool) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise MissingPackageError("Parquet needs pyarrow: pip install 'anymask[engine]'") from error
        self._classes, self._scratch, self._with_images = ClassNumbers(classes), scratch, with_images
        self._arrow: Any = pyarrow
        self._schema = _schema(pyarrow)
        self._tables: dict[str, _Table] = {}

    def add(self, item: Item) -> Iterator[File]:
        """Append the image's masks, and give its file."""
        if self._with_images:
            yield f"images/{item.file_name}", item.file.content
        name = item.file_name if self._with_images or item.split else item.image.name
        fixed = {"image_id": item.image.id, "file_name": name, "height": item.size[0], "width": item.size[1]}
        table = self._table(item.split or "annotations")
        for annotation, record in zip(item.annotations, item.records, strict=True):
            known = self._classes.known(annotation)
            table.rows.append(
                {
                    **fixed,
                    "counts": annotation.rle["counts"],
                    "origin": origin_of(annotation),
                    "category_id": known,
                    "category": None if known is None else self._classes.names[known],
                    **{name: record[name] for name in ("id", "bbox", "area", "predicted_iou", "stability_score")},
                }
            )
            table.characters += len(annotation.rle["counts"])
            if len(table.rows) >= _GROUP_ROWS or table.characters >= _GROUP_CHARACTERS:
                self._flush(table)

    def _table(self, name: str) -> _Table:
        if name not in self._tables:
            path = self._scratch / f"{uuid.uuid4().hex}.parquet"
            writer = self._arrow.parquet.ParquetWriter(path, self._schema, compression="zstd")
            self._tables[name] = _Table(path=path, writer=writer)
        return self._tables[name]

    def _flush(self, table: _Table) -> None:
        table.writer.write_table(self._arrow.Table.from_pylist(table.rows, self._schema))
        table.rows.clear()
        table.characters = 0

    def finish(self) -> Iterator[File]:
        """Give the tables; without any image, one that is empty."""
        if not self._tables:
            self._table("annotations")
        for name, table in self._tables.items():
            self._flush(table)
            table.writer.close()
            yield f"{name}.parquet", table.path

    def close(self) -> None:
        """Close the files."""
        for table in self._tables.values():
            table.writer.close()


def _schema(arrow: Any) -> Any:
    return arrow.schema(
        [
            ("image_id", arrow.int64()),
            ("file_name", arrow.string()),
            ("height", arrow.int32()),
            ("width", arrow.int32()),
            ("id", arrow.int32()),
            ("counts", arrow.string()),
            ("bbox", arrow.list_(arrow.int32(), 4)),
            ("area", arrow.int64()),
            ("predicted_iou", arrow.float32()),
            ("stability_score", arrow.float32()),
            ("origin", arrow.string()),
            ("category_id", arrow.int32()),
            ("category", arrow.string()),
        ]
    )
