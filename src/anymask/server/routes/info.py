"""What the page has to know first, the decoder that it runs, and what happens while it is open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse

import anymask
from anymask.inference.automatic.options import PRESETS
from anymask.samples import SAMPLES
from anymask.server import schemas
from anymask.server.context import AtContext, Person
from anymask.server.decoder_files import Part
from anymask.server.errors import ApiError, too_many_requests
from anymask.server.image_files import send_file

router = APIRouter()

_WAIT_SECONDS = 8.0
"""Seconds a request waits for an export: less than clients and proxies allow; the next request finds it made."""
_BINARY = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


@router.get("/info")
def info(context: AtContext, person: Person) -> schemas.Info:
    """Return what is fixed as long as the server runs, and who asks."""
    model, limits = context.model, context.settings
    return schemas.Info(
        version=anymask.__version__,
        project=context.project.name,
        project_id=context.project_id,
        model=schemas.Model(
            name=context.model_name,
            hash=context.model_hash,
            image_size=model.image_size,
            fit=model.config.fit,
            pads_boxes=model.config.pads_boxes,
            embedding_size=model.embedding_size,
            width=model.config.width,
            mask_size=model.mask_size,
        ),
        text=context.text is not None,
        limits=schemas.Limits(bytes=limits.max_upload_bytes, pixels=limits.max_pixels),
        samples=list(SAMPLES),
        presets=list(PRESETS),
        person=person,
        engine=context.is_engine,
    )


@router.get("/models/{part}.onnx", response_class=Response, responses={200: _BINARY, 503: {"model": schemas.Error}})
async def decoder_part(request: Request, context: AtContext, part: Part) -> Response:
    """Send a part of the decoder: `image` runs once per image, `prompt` once per click; the first request may wait."""
    path = context.parts.find(part)
    if path is None and context.parts.failure is None:
        made = asyncio.wrap_future(context.parts.make())
        await asyncio.wait([made], timeout=_WAIT_SECONDS)
        path = context.parts.find(part)
    if path is None:
        reason = context.parts.failure or "the decoder is still being exported, try again shortly"
        raise ApiError(503, reason, retry_after=10)
    return send_file(request, path, "application/octet-stream")


def _may_listen(context: AtContext) -> None:
    if context.events.num_listeners >= context.settings.max_listeners:
        raise too_many_requests("too many pages are open already", 30)


@router.get("/events", response_class=EventSourceResponse, responses={429: {"model": schemas.Error}})
async def events(context: AtContext, _: Annotated[None, Depends(_may_listen)]) -> AsyncIterable[schemas.Event]:
    """Send what happens as it happens, first of all `hello`: whatever was known before should be asked for again."""
    hello = schemas.HelloEvent(project_id=context.project_id, model_hash=context.model_hash)
    async for event in context.events.listen(hello):
        yield event
