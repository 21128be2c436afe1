"""The decoder for the page's own use."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import Response

from anymask.server import schemas
from anymask.server.bench import AtBench
from anymask.server.parts import Part
from anymask.server.refusals import Refused
from anymask.server.sending import send_file

router = APIRouter(prefix="/models")

_WAIT_SECONDS = 8.0
"""Less than clients and proxies are ready to wait; who comes again finds it made."""
_BINARY = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


@router.get("/{part}.onnx", response_class=Response, responses={200: _BINARY, 503: {"model": schemas.Error}})
async def decoder_part(request: Request, bench: AtBench, part: Part) -> Response:
    """Send a part of the decoder: `image` runs once an image, `prompt` once a click; the first request may wait."""
    path = bench.parts.find(part)
    if path is None and bench.parts.failure is None:
        made = asyncio.wrap_future(bench.parts.make())
        await asyncio.wait([made], timeout=_WAIT_SECONDS)
        path = bench.parts.find(part)
    if path is None:
        reason = bench.parts.failure or "the decoder is still being exported, try again shortly"
        raise Refused(503, reason, retry_after=10)
    return send_file(request, path, "application/octet-stream")
