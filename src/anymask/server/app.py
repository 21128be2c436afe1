"""The application: one project, one model, and the routes over them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI

import anymask
from anymask.engine.store import Project
from anymask.inference.runtimes import AnyModel
from anymask.server import schemas
from anymask.server.context import Context, TextModel
from anymask.server.errors import add_handlers
from anymask.server.folder import add_folders
from anymask.server.front import build_page
from anymask.server.routes import annotating, engine, export, images, info, masks
from anymask.server.security import Guard
from anymask.server.settings import Settings

_ALWAYS = {
    400: "malformed",
    401: "no token",
    403: "not from here",
    421: "for another project or model",
    422: "makes no sense",
}


def create_app(
    project: Project,
    model: AnyModel,
    *,
    model_name: str,
    settings: Settings | None = None,
    folders: Sequence[Path] = (),
    text: TextModel | None = None,
) -> FastAPI:
    """Build the application; its threads start and end with it.

    Images of `folders` are added by reference while it runs. It must be served by one process, as the worker and the
    events are this one's. OpenAPI describes it at /api/openapi.json.
    """
    settings = settings or Settings()

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        context = Context(
            project=project,
            model=model,
            model_name=model_name,
            settings=settings,
            loop=asyncio.get_running_loop(),
            text=text,
        )
        app.state.context = context
        stop = threading.Event()
        scan = asyncio.create_task(asyncio.to_thread(add_folders, context, folders, stop))
        try:
            yield
        finally:
            stop.set()
            await scan
            context.close()

    app = _Application(
        title="anymask",
        version=anymask.__version__,
        lifespan=running,
        docs_url=None,  # they would come from another site
        redoc_url=None,
        openapi_url="/api/openapi.json",
        separate_input_output_schemas=False,
    )
    errors: dict[int | str, dict[str, Any]] = {
        code: {"model": schemas.Error, "description": word} for code, word in _ALWAYS.items()
    }
    api = APIRouter(prefix="/api", responses={**errors, 404: {"model": schemas.Error}})
    for part in (info, images, annotating, masks, export, engine):
        api.include_router(part.router)
    app.include_router(api)
    app.mount("/", build_page(settings.page), name="page")
    add_handlers(app)
    app.add_middleware(Guard, settings=settings)
    return app


class _Application(FastAPI):
    """Describes itself when first asked: that takes several times as long as all the rest of building it."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, made once."""
        is_new = self.openapi_schema is None
        document = super().openapi()
        if is_new:
            _describe_errors(document)
        return document


def _describe_errors(document: dict[str, Any]) -> None:
    """Declare errors as JSON; FastAPI gives them the media type of their route's result."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for code, answer in operation["responses"].items():
                if int(code) >= 400:
                    answer["content"] = {"application/json": next(iter(answer["content"].values()))}
