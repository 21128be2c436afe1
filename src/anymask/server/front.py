"""The page as it was built into the package, and what answers with it while the application is being built.

Importing torch and loading a model take seconds in which a browser can load the page already. Requests of the
application's own wait until there is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from anymask.server.errors import read_plain_page
from anymask.server.security import Guard
from anymask.server.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI


class Front:
    """An ASGI application in front of another, which `create` makes in a thread of its own when the server starts.

    `created` is called when that one answers; where it cannot be made `failure` says why, and `on_failure` is called.
    """

    def __init__(self, create: Callable[[], FastAPI], settings: Settings, *, created: Callable[[], None]) -> None:
        self.failure: Exception | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self.create, self.created = create, created
        self._settings = settings
        self._page: ASGIApp = Guard(build_page(settings.page), settings)
        self._app: FastAPI | None = None
        self._decided, self._stopping = asyncio.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def state(self) -> State:
        """The application's state, empty until there is one."""
        return State() if self._app is None else self._app.state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or start and end with the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        is_page = scope["type"] == "http" and not self._settings.path_of(scope["path"]).startswith("/api/")
        if self._app is None and is_page:
            await self._page(scope, receive, send)
            return
        await self._decided.wait()
        app = self._app or JSONResponse({"error": "the server ends before it could start"}, 503)
        await app(scope, receive, send)

    def give_up(self) -> None:
        """Let requests that wait for the application go, as the server ends; may be called from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._decided.set)

    async def _live(self, receive: Receive, send: Send) -> None:
        self._loop = asyncio.get_running_loop()
        await receive()
        running = asyncio.create_task(self._run())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._stopping.set()
        await running
        await send({"type": "lifespan.shutdown.complete"})

    async def _run(self) -> None:
        """Make the application and keep it alive until the server ends."""
        try:
            app = await asyncio.to_thread(self.create)
            async with app.router.lifespan_context(app):
                self._app = app
                self._decided.set()
                self.created()
                await self._stopping.wait()
        except Exception as error:
            self.failure = error
            self._decided.set()
            self.on_failure()


class _Page(StaticFiles):
    """Static files; those whose names carry a hash of their content need not be asked for again."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Send a file."""
        response = await super().get_response(path, scope)
        hashed = path.startswith("assets/")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if hashed else "no-cache"
        return response


def build_page(folder: Path) -> Router:
    """Return what serves the page, or, where there is none, a page that says how to build it."""

    def config(_: Request) -> JSONResponse:
        """Say what an exported site has as a file: here the page has a server to ask."""
        return JSONResponse({"backend": "server"})

    def absent(_: Request) -> HTMLResponse:
        return HTMLResponse(read_plain_page("no_page.html"))

    is_built = (folder / "index.html").is_file()
    rest = Mount("/", _Page(directory=folder, html=True)) if is_built else Route("/", absent)
    return Router([Route("/config.json", config), rest])
