"""What was found, into a project: one transaction, in which what is known already stays as it is."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from sqlalchemy import Connection, select

from anymask.data.files import make_folder, write_bytes_atomic
from anymask.engine.imports.readers import FoundImage, Imported
from anymask.engine.store import Annotation, NewImage, Project, Provenance, Put
from anymask.engine.store.annotations import append
from anymask.engine.store.classes import ensure_classes
from anymask.engine.store.images import insert_images
from anymask.engine.store.names import MAX_CLASSES, MAX_NAME, plain_name
from anymask.engine.store.tables import annotation_heads
from anymask.errors import DataError


def import_found(project: Project, found: Iterable[FoundImage], *, source: str, split: str | None = None) -> Imported:
    """Add images and masks to a project, all or none; what it has already is counted and left as people left it.

    A mask is known by its image's location and its key, even where it was changed or deleted since. `source` is noted
    as each mask's author, `split` as the images' own. A class without a name is none.

    Raises DataError where the source is broken, where the name of a class is too long or where there are too many.
    """
    everything = [placed(project, each) for each in found]  # a broken entry is met here, before anything is written
    names = _class_names(project, everything, source)
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
    written: list[Path] = []
    try:
        for each in everything:
            if each.content is not None and each.location not in known:
                written.append(_copy(project, each))
        return project.database.write(
            lambda connection: _write(
                project, connection, everything, {key: image.id for key, image in known.items()}, names, source, split
            )
        )
    except BaseException:
        _remove(written, project.folder / "images")
        raise


def placed(project: Project, image: FoundImage) -> FoundImage:
    """Return an image under a location that no other's content has: two tars may be of one name."""
    if image.content is None:
        return image
    try:
        is_other = project.path(image.location).read_bytes() != image.content
    except OSError:
        return image
    if not is_other:
        return image
    location, digest = PurePosixPath(image.location), hashlib.blake2b(image.content, digest_size=6).hexdigest()
    return dataclasses.replace(image, location=str(location.with_stem(f"{location.stem}-{digest}")))


def _remove(written: Sequence[Path], images: Path) -> None:
    """Delete files, and the folders below that of images that are empty without them."""
    for path in written:
        path.unlink(missing_ok=True)
    for path in written:
        for folder in path.parents:
            if folder == images or not folder.is_relative_to(images):
                break
            with suppress(OSError):  # it holds others
                folder.rmdir()


def _class_names(project: Project, found: Sequence[FoundImage], source: str) -> dict[str, str]:
    """Return, for each label that says something, the name of its class. Raises DataError."""
    labels = {mask.label for each in found for mask in each.masks if mask.label is not None}
    names = {label: name for label in labels if (name := plain_name(label))}
    longest = max(names.values(), key=len, default="")
    if len(longest) > MAX_NAME:
        raise DataError(
            f"{source}: the name of the class {longest[:40]}… has {len(longest):,} characters; at most {MAX_NAME} can "
            "be kept"
        )
    count = len({each.name for each in project.classes.current().classes} | set(names.values()))
    if count > MAX_CLASSES:
        raise DataError(
            f"{source}: with it the project would have {count:,} classes; at most {MAX_CLASSES:,} can be kept"
        )
    return names


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
    names: Mapping[str, str],
    source: str,
    split: str | None,
) -> Imported:
    at = project.database.now(connection)
    new = [each for each in found if each.location not in known]
    described = [NewImage(name=each.name, location=each.location, size=each.size, split=split) for each in new]
    ids = dict(known)
    if described:
        ids |= {image.location: image.id for image in insert_images(connection, described, at=at)}
    classes = ensure_classes(connection, sorted(set(names.values())), client=source, at=at) if names else {}
    class_ids = {label: classes[name] for label, name in names.items()}
    author = plain_name(source)[-MAX_NAME:]
    added = 0
    for each in found:
        image_id = ids[each.location]
        had = _keys(connection, image_id) if each.location in known else set()
        puts = [
            Put(
                annotation=Annotation(
                    id=mask.key,
                    rle=mask.rle,
                    class_id=None if mask.label is None else class_ids.get(mask.label),
                    score=mask.score,
                    source="import",
                    provenance=Provenance(stage="import", author=author, origin="imported"),
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
