"""What the page has to know first, and what happens while it is open."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.sse import EventSourceResponse

import anymask
from anymask.inference.automatic.options import PRESETS
from anymask.samples import SAMPLES
from anymask.server import schemas
from anymask.server.bench import AtBench, Person
from anymask.server.refusals import busy

router = APIRouter()


@router.get("/info")
def info(bench: AtBench, person: Person) -> schemas.Info:
    """Return what is fixed as long as the server runs, and who asks."""
    model, limits = bench.model, bench.settings
    return schemas.Info(
        version=anymask.__version__,
        project=bench.project.name,
        project_id=bench.project_id,
        model=schemas.Model(
            name=bench.model_name,
            hash=bench.model_hash,
            image_size=model.image_size,
            fit=model.config.fit,
            pads_boxes=model.config.pads_boxes,
            embedding_size=model.embedding_size,
            width=model.config.width,
            mask_size=model.mask_size,
        ),
        text=bench.text is not None,
        limits=schemas.Limits(bytes=limits.max_upload_bytes, pixels=limits.max_pixels),
        samples=list(SAMPLES),
        presets=list(PRESETS),
        person=person,
        engine=bench.is_engine,
    )


def _may_listen(bench: AtBench) -> None:
    if bench.events.num_listeners >= bench.settings.max_listeners:
        raise busy("too many pages are open already", 30)


@router.get("/events", response_class=EventSourceResponse, responses={429: {"model": schemas.Error}})
async def events(bench: AtBench, _: Annotated[None, Depends(_may_listen)]) -> AsyncIterable[schemas.Event]:
    """Send what happens as it happens, first of all `hello`: whatever was known before should be asked for again."""
    hello = schemas.HelloEvent(project_id=bench.project_id, model_hash=bench.model_hash)
    async for event in bench.events.listen(hello):
        yield event
