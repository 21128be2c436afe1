"""The page itself, as it was built into the package."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from anymask.server.plain_pages import read_plain_page


class _Page(StaticFiles):
    """Static files; those whose names carry a hash of their content need not be asked for again."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Send a file."""
        response = await super().get_response(path, scope)
        hashed = path.startswith("assets/")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if hashed else "no-cache"
        return response


def build_page(folder: Path) -> Router:
    """Return what serves the page, or where there is none a word on how to build it."""

    def config(_: Request) -> JSONResponse:
        """Say what an exported site has as a file: here the page has a server to ask."""
        return JSONResponse({"backend": "server"})

    def absent(_: Request) -> HTMLResponse:
        return HTMLResponse(read_plain_page("no_page.html"))

    is_built = (folder / "index.html").is_file()
    rest = Mount("/", _Page(directory=folder, html=True)) if is_built else Route("/", absent)
    return Router([Route("/config.json", config), rest])
