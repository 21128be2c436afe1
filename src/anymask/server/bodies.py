"""JSON from clients: its cost is bounded before it is parsed, and it is parsed apart from the event loop.

The loop answers everybody, so that what one client sends must not hold it up. Masks are long strings, which parse
quickly; it is many small values that cost time and memory, a list of one byte taking 56. So what lies outside of
strings is limited apart from the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pydantic_core
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from anymask.server.errors import ApiError

MAX_STRUCTURE = 8 << 20
"""Bytes of a body outside of strings: numbers, brackets, commas, spaces."""
MAX_STRINGS = 400_000
"""Strings in a body; 5,000 annotations with all that they may have take 150,000."""
MAX_CONTAINERS = 400_000
"""The most lists and objects in a body."""
_AT_ONCE = 2
"""Number of bodies parsed at once."""
_SMALL = 16 << 10
"""Bytes of a body that is parsed sooner than a thread is woken."""

_parsers = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="parser")


class JsonRoute(APIRoute):
    """A route whose JSON body, if it has one, becomes its model in a thread."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request; raises ApiError (413) for a body of too many values."""
        handle = super().get_route_handler()
        model = None if self.body_field is None else self.body_field.field_info.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return handle

        async def parse_and_handle(request: Request) -> Response:
            if not _is_json(request):
                return await handle(request)
            body = await request.body()
            if not body:
                return await handle(request)
            if len(body) <= _SMALL:
                parsed = parse(body, model)
            else:
                parsed = await asyncio.get_running_loop().run_in_executor(_parsers, parse, body, model)
            return await handle(_Parsed(request, parsed))

        return parse_and_handle


class _Parsed(Request):
    """A request whose body was parsed already: FastAPI takes a model's instance as it is."""

    def __init__(self, request: Request, value: BaseModel) -> None:
        super().__init__(request.scope, request.receive)
        self._body = b"{}"
        self._value = value

    async def json(self) -> BaseModel:
        """Return what the body was parsed to."""
        return self._value


def parse(body: bytes, model: type[BaseModel]) -> BaseModel:
    """Return a body as its model.

    Raises ApiError (413) where it holds too many values, RequestValidationError where it is no JSON or not the model's.
    """
    check_structure(body)
    try:
        value = pydantic_core.from_json(body)
    except ValueError as error:
        wrong = {"type": "json_invalid", "loc": ("body",), "msg": f"is no JSON: {error}", "input": {}}
        raise RequestValidationError([wrong]) from error
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found]) from error


def check_structure(body: bytes) -> None:
    """Raise ApiError (413) for JSON of more values than any honest client sends."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    _check("strings", plain.count(b'"') // 2, MAX_STRINGS)
    outside = b"".join(plain.split(b'"')[::2])
    _check("lists and objects", outside.count(b"[") + outside.count(b"{"), MAX_CONTAINERS)
    _check("bytes outside of strings", len(outside), MAX_STRUCTURE)


def _check(what: str, number: int, limit: int) -> None:
    if number > limit:
        raise ApiError(413, f"the request holds {number:,} {what}; at most {limit:,} are taken at once")


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind.startswith("application/") and (kind == "application/json" or kind.endswith("+json"))
