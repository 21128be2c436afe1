"""The backend over HTTP, by the contract of Label Studio's machine learning backends."""

from __future__ import annotations

import base64
import binascii
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from anymask.errors import AnymaskError
from anymask.integrations.label_studio.backend import Backend

logger = logging.getLogger("anymask.label_studio")

_MOST_BYTES = 64 << 20


class Setup(BaseModel):
    """A project that the backend is connected to."""

    project: str = ""
    label_config: str = ""
    hostname: str = ""
    access_token: str | None = None
    extra_params: Any = None


class Ask(BaseModel):
    """Tasks to annotate."""

    tasks: list[dict[str, Any]] = []
    project: str = ""
    label_config: str = ""
    params: dict[str, Any] | None = None


def create_app(backend: Backend, *, password: str | None = None) -> FastAPI:
    """Build the application; `password` is what Label Studio has to show, by its basic authentication."""

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        yield
        backend.close()

    app = FastAPI(title="anymask for Label Studio", lifespan=running, docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guard(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        if password is not None and not _is_shown(request.headers.get("authorization", ""), password):
            return _refusal(401, "a password is needed: choose basic authentication in Label Studio, with the token")
        if int(request.headers.get("content-length") or 0) > _MOST_BYTES:
            return _refusal(413, f"the request is larger than {_MOST_BYTES:,} bytes")
        return await proceed(request)

    @app.exception_handler(AnymaskError)
    def refused(_: Request, error: AnymaskError) -> JSONResponse:
        logger.warning("refused: %s", error)
        return _refusal(422, " ".join(str(error).split()))

    @app.get("/")
    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "anymask", "model_version": backend.version}

    @app.post("/setup")
    async def setup(request: Request) -> dict[str, str]:
        body = await request.json()
        asked = Setup.model_validate({**body, "label_config": body.get("schema", ""), "project": str(body["project"])})
        backend.setup(asked.project, asked.label_config, url=asked.hostname, token=asked.access_token)
        return {"model_version": backend.version}

    @app.post("/predict")
    async def predict(asked: Ask) -> dict[str, Any]:
        context = (asked.params or {}).get("context")
        results = await run_in_threadpool(
            backend.predict, asked.project, asked.tasks, config=asked.label_config, context=context
        )
        return {"results": results, "model_version": backend.version}

    @app.get("/versions")
    @app.post("/versions")
    def versions() -> dict[str, list[str]]:
        return {"versions": [backend.version]}

    @app.post("/validate")
    async def validate(request: Request) -> dict[str, str]:
        from anymask.integrations.label_studio.labels import parse_config

        parse_config(str((await request.json()).get("config", "")))
        return {"status": "ok"}

    @app.post("/webhook", status_code=201)
    @app.post("/train", status_code=201)
    def event() -> dict[str, str]:
        return {"status": "anymask learns from an export: see `anymask finetune`"}

    return app


def _refusal(status: int, sentence: str) -> JSONResponse:
    headers = {"WWW-Authenticate": "Basic"} if status == 401 else {}
    return JSONResponse({"error": sentence, "detail": sentence}, status, headers)


def _is_shown(header: str, password: str) -> bool:
    kind, _, value = header.partition(" ")
    try:
        shown = base64.b64decode(value, validate=True).partition(b":")[2]
    except binascii.Error:
        return False
    return kind.lower() == "basic" and secrets.compare_digest(shown, password.encode())
