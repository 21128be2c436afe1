"""Annotations and classes: read, and changed on the revision that the client saw."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from anymask.engine.store import Annotation, Change, Conflict, Delete, Provenance, Put, State
from anymask.server import schemas
from anymask.server.bodies import JsonRoute
from anymask.server.context import AtContext, OfImage, Person
from anymask.server.errors import ApiError

router = APIRouter(route_class=JsonRoute)


@router.get("/images/{id}/annotations", response_model=schemas.Annotations)
def list_annotations(
    context: AtContext, image: OfImage, revision: Annotated[int | None, Query(ge=0, le=2**53 - 1)] = None
) -> Response:
    """Return an image's annotations: as they are, or as they were at an earlier revision."""
    found = _told(context.project.annotations.state(image.id, revision))
    return Response(found.model_dump_json(), media_type="application/json")


@router.post("/images/{id}/changes", responses={409: {"model": schemas.AnnotationsConflict}})
def change_annotations(
    context: AtContext, image: OfImage, change_set: schemas.ChangeSet, person: Person
) -> schemas.Revised:
    """Change an image's annotations; when this is answered the change is on the disk.

    Where people have tokens of their own what they make or reshape is theirs, whoever it says it is by. A change set
    that was sent twice, because its answer was lost, is made once.
    """
    changes: list[Change] = [
        change.stored() if isinstance(change, schemas.Put) else Delete(id=change.id) for change in change_set.changes
    ]
    store = context.project.annotations
    if person is not None:
        changes = signed(changes, person, store.state(image.id).annotations)
    try:
        revision = store.change(image.id, change_set.base_revision, change_set.client, changes)
    except Conflict as error:
        raise ApiError(409, str(error), details=_told(store.state(image.id)).model_dump()) from error
    event = schemas.AnnotationsEvent(id=str(image.id), revision=revision, client=change_set.client)
    context.events.publish(event)
    return schemas.Revised(revision=revision)


def _told(state: State) -> schemas.Annotations:
    return schemas.Annotations.model_validate(state)


def signed(changes: Sequence[Change], person: str, before: Sequence[Annotation]) -> list[Change]:
    """Return changes by a person, whose every new or reshaped mask says that it is theirs; others stay as they were."""
    known = {each.id: each for each in before}
    return [
        Put(annotation=_signed(each.annotation, person, known.get(each.annotation.id)))
        if isinstance(each, Put)
        else each
        for each in changes
    ]


def _signed(new: Annotation, person: str, before: Annotation | None) -> Annotation:
    said, had = new.provenance, None if before is None else before.provenance
    claims_nothing = said is None or (had is not None and said.author == had.author)
    if before is not None and before.rle == new.rle and claims_nothing:
        return dataclasses.replace(new, provenance=had)
    return dataclasses.replace(
        new, provenance=dataclasses.replace(said or Provenance(stage="assisted", author=person), author=person)
    )


@router.get("/classes")
def list_classes(context: AtContext) -> schemas.Classes:
    """Return the project's classes."""
    return schemas.Classes.model_validate(context.project.classes.current())


@router.post("/classes/id")
def fresh_class(context: AtContext) -> schemas.FreshClass:
    """Give an id for a new class, to be put into the list of classes."""
    return schemas.FreshClass(id=context.project.classes.fresh_id())


@router.put("/classes", responses={409: {"model": schemas.ClassesConflict}})
def replace_classes(context: AtContext, new: schemas.NewClasses) -> schemas.Revised:
    """Replace the list of classes."""
    try:
        revision = context.project.classes.replace(
            new.base_revision, new.client, [each.stored() for each in new.classes]
        )
    except Conflict as error:
        raise ApiError(409, str(error), details=list_classes(context).model_dump(mode="json")) from error
    context.events.publish(schemas.ClassesEvent(revision=revision, client=new.client))
    return schemas.Revised(revision=revision)
