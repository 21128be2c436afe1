"""The page itself, as it was built into the package."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_ABSENT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>anymask</title>
<p>The server runs, but this build of anymask has no page. In a checkout, <code>make web</code> builds it
(Node and npm needed); then install the package again and start the server anew. The interface for programs is
described at
<a href="/api/openapi.json">/api/openapi.json</a>."""


class _Page(StaticFiles):
    """Static files; those whose names carry a hash of their content need not be asked for again."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Send a file."""
        response = await super().get_response(path, scope)
        hashed = path.startswith("assets/")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if hashed else "no-cache"
        return response


def add_page(app: FastAPI, folder: Path) -> None:
    """Serve the page, or where there is none a word on how to build it."""

    @app.get("/config.json", include_in_schema=False)
    def config() -> dict[str, str]:
        """What an exported site has as a file: here the page has a server to ask."""
        return {"backend": "server"}

    if (folder / "index.html").is_file():
        app.mount("/", _Page(directory=folder, html=True), name="page")
        return

    @app.get("/", include_in_schema=False)
    def absent() -> HTMLResponse:
        return HTMLResponse(_ABSENT)
