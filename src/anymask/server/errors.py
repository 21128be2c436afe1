"""Every answer that is not a result: a status and one sentence, `{"error": …}`."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from anymask.errors import AnymaskError, OutputError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError


logger = logging.getLogger("anymask.server")

_FULL = 507
_FOLDERS = re.compile(r"(?<![^\s'\"(\[=,;:])(?<!:/)/(?:[^/\n:'\"]+/)+(?=[^\s/])")
"""The folders of an absolute path, with spaces in them or not; not those of an address, such as http://a/b."""


class ApiError(Exception):
    """A request that is answered with an error; `details` go into the answer beside the sentence."""

    def __init__(
        self, status: int, sentence: str, *, retry_after: int | None = None, details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.retry_after = retry_after
        self.details = details or {}

    def response(self) -> JSONResponse:
        """Return the answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return JSONResponse({"error": self.sentence, **self.details}, self.status, headers)


def too_many_requests(sentence: str, seconds: float) -> ApiError:
    """Return the error for a client that should try again in so many seconds."""
    return ApiError(429, sentence, retry_after=max(1, round(seconds)))


def add_handlers(app: FastAPI) -> None:
    """Answer every exception that a route may raise with its sentence."""
    from fastapi.exceptions import RequestValidationError  # not above: the page is served before there are routes

    @app.exception_handler(ApiError)
    def _refused(_: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return ApiError(422, _first_of(error)).response()

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        sentences = {404: f"there is nothing at {request.url.path}", 405: f"{request.method} is not done here"}
        sentence = sentences.get(error.status_code, str(error.detail))
        return JSONResponse({"error": sentence}, error.status_code, error.headers)

    @app.exception_handler(AnymaskError)
    def _anymask(_: Request, error: AnymaskError) -> JSONResponse:
        if isinstance(error, OutputError):
            logger.error("%s", error)
        return ApiError(_FULL if isinstance(error, OutputError) else 422, without_folders(str(error))).response()

    @app.exception_handler(OSError)
    def _file(_: Request, error: OSError) -> JSONResponse:
        """A disk that is full, and other troubles with files; their locations are private to the server."""
        logger.error("%s", error)
        # tempfile tries to write to each folder, and says of full ones that there is none.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "temporary directory" in str(error)
        word = "the server's disk is full" if full else "the server cannot read or write a file; its log says more"
        return ApiError(_FULL if full else 500, word).response()


def without_folders(text: str) -> str:
    """Leave the folders of absolute paths out of a sentence: locations are private to the server."""
    return _FOLDERS.sub("", text)


def _first_of(error: RequestValidationError) -> str:
    """Say what is wrong with the first of the wrong values, and how many more there are."""
    first, *others = error.errors()
    place = ".".join(str(part) for part in first["loc"] if part != "body") or "the request's body"
    more = f" (and {len(others)} more such)" if others else ""
    return f"{place}: {first['msg']}{more}"


def read_plain_page(name: str) -> str:
    """Return a page: `layout.html` of the folder `templates` with the text of another file of it."""
    templates = files("anymask.server").joinpath("templates")
    text = templates.joinpath(name).read_text("utf-8")
    return templates.joinpath("layout.html").read_text("utf-8").replace("    <!-- text -->\n", text)
