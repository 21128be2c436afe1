"""Images of a project: where each lies, its size, and which embedding belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from anymask.engine.store.counting import fold
from anymask.engine.store.database import Database
from anymask.engine.store.names import check_text
from anymask.engine.store.tables import annotation_heads, annotation_versions, embeddings, images

_TOGETHER = 500
"""Locations that are asked for in one statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewImage:
    """An image to be added; `location` is relative to the project's folder, or absolute, and no other's."""

    name: str
    location: str
    size: tuple[int, int]
    """(height, width) in pixels, upright."""
    split: str | None = None
    """"train" or "held-out"; None lets a hash of the location decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage(NewImage):
    """An image of the project; `revision` counts the change sets of its annotations."""

    id: int
    revision: int
    num_annotations: int


class Images:
    """The images, in the order in which they were added."""

    def __init__(self, database: Database, *, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._clock = clock

    def all(self) -> list[StoredImage]:
        """Return every image."""
        with self._database.reading() as connection:
            return [_stored(row) for row in connection.execute(select(images).order_by(images.c.id))]

    def annotated(self) -> Iterator[StoredImage]:
        """Yield every image that has annotations, in that order, a page of them in memory at a time."""
        last = 0
        while True:
            page = select(images).where(images.c.id > last, images.c.num_annotations > 0)
            with self._database.reading() as connection:
                found = [_stored(row) for row in connection.execute(page.order_by(images.c.id).limit(_TOGETHER))]
            yield from found
            if len(found) < _TOGETHER:
                return
            last = found[-1].id

    def count_annotated(self) -> int:
        """Return how many images have annotations."""
        with self._database.reading() as connection:
            wanted = select(func.count()).select_from(images).where(images.c.num_annotations > 0)
            return int(connection.scalar(wanted) or 0)

    def get(self, image_id: int) -> StoredImage | None:
        """Return one image, or None if there is none of that id."""
        with self._database.reading() as connection:
            row = connection.execute(select(images).where(images.c.id == image_id)).one_or_none()
        return None if row is None else _stored(row)

    def names(self, image_ids: Sequence[int]) -> dict[int, str]:
        """Return the names of images."""
        found: dict[int, str] = {}
        with self._database.reading() as connection:
            for start in range(0, len(image_ids), _TOGETHER):
                some = images.c.id.in_(image_ids[start : start + _TOGETHER])
                rows = connection.execute(select(images.c.id, images.c.name).where(some))
                found |= {row.id: row.name for row in rows}
        return found

    def least_scores(self) -> dict[int, float]:
        """Return the lowest predicted IoU among the masks of each image, by its id; of images that have such masks."""
        versions = annotation_versions.c
        wanted = (
            select(annotation_heads.c.image_id, func.min(versions.score))
            .join(annotation_versions, annotation_heads.c.version_id == versions.id)
            .where(versions.deleted.is_(False), versions.score.is_not(None))
            .group_by(annotation_heads.c.image_id)
        )
        with self._database.reading() as connection:
            return {image_id: score for image_id, score in connection.execute(wanted)}

    def locations(self) -> set[str]:
        """Return where the images lie."""
        with self._database.reading() as connection:
            return set(connection.scalars(select(images.c.location)))

    def add(self, new: Sequence[NewImage]) -> list[StoredImage]:
        """Add images, all or none of them."""
        if not new:
            return []
        with self._database.writing() as connection:
            return insert_images(
                connection, new, at=self._database.now(connection) if not self._clock else self._clock()
            )

    def find(self, locations: Sequence[str]) -> dict[str, StoredImage]:
        """Return those images that lie at the locations."""
        found: dict[str, StoredImage] = {}
        with self._database.reading() as connection:
            for start in range(0, len(locations), _TOGETHER):
                some = images.c.location.in_(locations[start : start + _TOGETHER])
                found |= {row.location: _stored(row) for row in connection.execute(select(images).where(some))}
        return found

    def resize(self, image_id: int, size: tuple[int, int]) -> bool:
        """Correct the (height, width) of an image; False, and nothing is done, once it has had annotations."""
        height, width = size
        change = (
            update(images).where(images.c.id == image_id, images.c.revision == 0).values(height=height, width=width)
        )
        with self._database.writing() as connection:
            return connection.execute(change).rowcount == 1

    def embedding_key(self, image_id: int, model: str) -> str | None:
        """Return the key under which the embedding cache had the image's embedding, if it was ever made."""
        wanted = select(embeddings.c.key).where(embeddings.c.image_id == image_id, embeddings.c.model == model)
        with self._database.reading() as connection:
            return connection.scalar(wanted)

    def encoded(self, model: str) -> set[int]:
        """Return the ids of the images that were encoded by the model."""
        with self._database.reading() as connection:
            return set(connection.scalars(select(embeddings.c.image_id).where(embeddings.c.model == model)))

    def set_embedding(self, image_id: int, model: str, key: str | None) -> None:
        """Note the key of an image's embedding, or with None that there is no embedding any more."""
        mine = (embeddings.c.image_id == image_id, embeddings.c.model == model)
        with self._database.writing() as connection:
            connection.execute(delete(embeddings).where(*mine))
            if key is not None:
                connection.execute(insert(embeddings).values(image_id=image_id, model=model, key=key))


def insert_images(connection: Connection, new: Sequence[NewImage], *, at: float) -> list[StoredImage]:
    """Add images within a transaction, in their order. Raises DataError for a name that is no text."""
    for image in new:
        check_text(image.name, "an image's name")
        check_text(image.location, "the place of an image")
    rows = [
        {
            "name": image.name,
            "location": image.location,
            "height": image.size[0],
            "width": image.size[1],
            "added": at,
            "revision": 0,
            "num_annotations": 0,
            "split": image.split,
        }
        for image in new
    ]
    added = connection.execute(insert(images).returning(images, sort_by_parameter_order=True), rows).all()
    fold(connection)
    return [_stored(row) for row in added]


def _stored(row: Row[Any]) -> StoredImage:
    return StoredImage(
        id=row.id,
        name=row.name,
        location=row.location,
        size=(row.height, row.width),
        revision=row.revision,
        num_annotations=row.num_annotations,
        split=row.split,
    )
