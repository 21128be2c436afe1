"""What was found, into a project: one transaction, in which what is known already stays as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection, select

from anymask.data.files import make_folder, write_bytes_atomic
from anymask.engine.imports.found import FoundImage, Imported
from anymask.engine.store import Annotation, NewImage, Project, Provenance, Put
from anymask.engine.store.annotations import append
from anymask.engine.store.classes import ensure_classes
from anymask.engine.store.images import insert_images
from anymask.engine.store.tables import annotation_heads
from anymask.errors import DataError


def import_found(project: Project, found: Iterable[FoundImage], *, source: str, split: str | None = None) -> Imported:
    """Add images and masks to a project, all or none; what it has already is counted and left as people left it.

    A mask is known by its image's location and its key, even where it was changed or deleted since. `source` is noted
    as each mask's author, `split` as the images' own. Raises DataError where the source is broken.
    """
    everything = list(found)  # a broken entry is met here, before anything is written
    seen: set[str] = set()
    for each in everything:
        if each.location in seen:
            raise DataError(f"{source}: the image {each.name} is in it twice")
        seen.add(each.location)
    known = project.images.find([each.location for each in everything])
    for each in everything:
        had = known.get(each.location)
        if had is not None and had.size != each.size and had.revision:
            raise DataError(f"{each.name}: is in the project with another size, {had.size[1]} x {had.size[0]}")
    written = [_copy(project, each) for each in everything if each.content is not None and each.location not in known]
    try:
        return project.database.write(
            lambda connection: _write(
                project, connection, everything, {key: image.id for key, image in known.items()}, source, split
            )
        )
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def _copy(project: Project, image: FoundImage) -> Path:
    path = project.path(image.location)
    make_folder(path.parent)
    assert image.content is not None
    write_bytes_atomic(path, image.content)
    return path


def _write(
    project: Project,
    connection: Connection,
    found: Sequence[FoundImage],
    known: Mapping[str, int],
    source: str,
    split: str | None,
) -> Imported:
    at = project.database.now(connection)
    new = [each for each in found if each.location not in known]
    described = [NewImage(name=each.name, location=each.location, size=each.size, split=split) for each in new]
    ids = dict(known)
    if described:
        ids |= {image.location: image.id for image in insert_images(connection, described, at=at)}
    labels = {mask.label for each in found for mask in each.masks if mask.label is not None}
    classes = ensure_classes(connection, sorted(labels), client=source, at=at) if labels else {}
    added = 0
    for each in found:
        image_id = ids[each.location]
        had = _keys(connection, image_id) if each.location in known else set()
        puts = [
            Put(
                annotation=Annotation(
                    id=mask.key,
                    rle=mask.rle,
                    class_id=None if mask.label is None else classes[mask.label],
                    score=mask.score,
                    source="import",
                    provenance=Provenance(stage="import", author=source, origin="imported"),
                )
            )
            for mask in each.masks
            if mask.key not in had
        ]
        if puts:
            append(connection, image_id, source, puts, at=at)
            added += len(puts)
    total = sum(len(each.masks) for each in found)
    return Imported(images=len(new), masks=added, known_images=len(known), known_masks=total - added)


def _keys(connection: Connection, image_id: int) -> set[str]:
    wanted = select(annotation_heads.c.key).where(annotation_heads.c.image_id == image_id)
    return set(connection.scalars(wanted))
