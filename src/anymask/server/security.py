"""Who may ask: the host by which the server is called, the token, and no writing from other sites.

A page of another site can make a browser send requests here. It cannot read the answers, but it could write, and by
letting its own name point to this address (DNS rebinding) it could read as well. So writes must come from the page
itself or from no page at all, and on the loopback address the server answers to its own names only. On any other
address the token stands in for the name.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anymask.server.errors import ApiError, read_plain_page
from anymask.server.people import People
from anymask.server.settings import Settings
from anymask.server.tokens import Tokens, shown_token

logger = logging.getLogger("anymask.server")

_HEADERS = {
    # Isolation, so that the page may share memory between the threads of its decoder.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; connect-src 'self' blob: data:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^:\[\]]+)(:\d{1,5})?")
_SLOWEST = 1 << 10
"""The least rate of a body, in bytes per second."""
_READING = ("GET", "HEAD", "OPTIONS")
_UPLOADS = "/api/images"
_WITH_MASKS = re.compile(r"/api/(images/[^/]+/[^/]+|engine/(finish|judge)|classes)")
"""Routes that take masks, or lists of classes."""


class Guard:
    """Refuses what is not allowed, limits bodies, and puts the security headers on every answer.

    It is also where an unexpected exception ends: logged, and answered with a plain sentence.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        people = None if settings.people is None else People(settings.people)
        self._tokens = Tokens(settings.token, people, max_wrong=settings.max_wrong_tokens)
        self._held = 0
        """Bytes of bodies of requests that are being answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets
            return
        started = False
        path, root = self.settings.path_of(scope["path"]), self.settings.root_path
        body = _Body(self, receive, limit=self._limit(scope["method"], path))
        if root:
            if scope["path"] == root:
                await RedirectResponse(f"{root}/", status_code=307)(scope, receive, send)
                return
            scope = {**scope, "root_path": root, "path": f"{root}{path}"}

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if path.startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
            async with asyncio.timeout(self.settings.send_seconds):
                await send(message)

        try:
            answer = self._refusal(scope, path, body.limit)
            if answer is None:
                await self.app(scope, body.receive, send_with_headers)
                return
        except ApiError as error:
            answer = error.response()
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise
            answer = ApiError(500, "the server made a mistake; its log says more").response()
        finally:
            self._held -= body.size
        await answer(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope, path: str, limit: int) -> Response | None:
        """Return the answer to a request that goes no further, or None; raises ApiError."""
        headers = Headers(scope=scope)
        self._check_host(headers)
        if self._tokens.are_demanded:
            answer = self._check_token(scope, path, headers)
            if answer is not None:
                return answer
        _check_site(scope, headers)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()) or len(length) > 18:
            raise ApiError(400, "the request's Content-Length is no number")
        if int(length) > limit:
            raise _too_large(limit)
        return None

    def _check_host(self, headers: Headers) -> None:
        if self.settings.needs_token:
            return
        host = headers.get("host", "")
        found = _HOST.fullmatch(host.lower())
        own = {"127.0.0.1", "localhost", "[::1]", self.settings.host, f"[{self.settings.host}]"}
        if found is None or found["name"] not in own:
            raise ApiError(403, f"this server does not answer to the name {host[:80]!r}; open it as localhost")

    def _check_token(self, scope: Scope, path: str, headers: Headers) -> Response | None:
        """Let a token pass as a header or cookie; the address with it is answered with the cookie."""
        cookie = f"anymask_{_port(scope)}"
        address = (scope.get("client") or ("",))[0]
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if path == "/" and asked and self._tokens.check(asked[0], address)[0]:
            answer = RedirectResponse("./", status_code=303)  # relative: a proxy may serve this below a path
            answer.set_cookie(
                cookie,
                asked[0],
                path=f"{self.settings.root_path or ''}/",
                httponly=True,
                samesite="lax",
                secure=scope["scheme"] == "https",
                max_age=90 * 86400,
            )
            return answer
        shown = shown_token(headers, cookie)
        is_right, person = (False, None) if shown is None else self._tokens.check(shown, address)
        if is_right:
            scope.setdefault("state", {})["person"] = person
            return None
        if path.startswith("/api/"):
            refused = ApiError(401, "the token is missing or wrong; open the address that `anymask serve` printed")
            response = refused.response()
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        return HTMLResponse(read_plain_page("no_token.html"), 401)

    def _limit(self, method: str, path: str) -> int:
        if method == "POST" and path == _UPLOADS:
            return self.settings.max_upload_bytes
        holds_masks = _WITH_MASKS.fullmatch(path) is not None
        most = self.settings.max_body_bytes
        return most if holds_masks else min(self.settings.max_small_bytes, most)

    def hold(self, size: int) -> None:
        """Note that so many bytes more of bodies are held; raises an HTTPException (503) where that is too much."""
        self._held += size
        if self._held > self.settings.max_body_total_bytes:
            raise HTTPException(503, "the server has too much to read at once, try again shortly", {"Retry-After": "5"})


class _Body:
    """A request's body: its bytes are counted, whatever length it was said to have, and so is the time it takes.

    It raises HTTPException: FastAPI takes any other for a body that is malformed.
    """

    def __init__(self, guard: Guard, receive: Receive, *, limit: int) -> None:
        self.size, self.limit = 0, limit
        self._guard, self._receive = guard, receive
        self._is_whole = False
        self._began = time.monotonic()

    async def receive(self) -> Message:
        """Receive a message; raises HTTPException: 408 too slow, 413 too large, 503 too much of all requests."""
        if self._is_whole:  # what comes now is that the client leaves, whenever that is
            return await self._receive()
        left = self._began + self._guard.settings.body_seconds + self.size / _SLOWEST - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, left))
        except TimeoutError as error:
            raise HTTPException(408, "the request's body came too slowly", {"Connection": "close"}) from error
        new = len(message.get("body", b""))
        self.size += new
        self._guard.hold(new)
        self._is_whole = not message.get("more_body", False)
        if self.size > self.limit:
            raise HTTPException(413, _too_large(self.limit).sentence)
        return message


def _check_site(scope: Scope, headers: Headers) -> None:
    """Refuse what a page of another site had the browser send."""
    site, mode = headers.get("sec-fetch-site"), headers.get("sec-fetch-mode")
    is_reading = scope["method"] in _READING
    if site in ("cross-site", "same-site") and not (is_reading and mode == "navigate"):
        raise ApiError(403, "this request comes from a page of another site, which may not use this server")
    origin = headers.get("origin")
    if (
        origin is not None
        and not is_reading
        and _site_of(origin)
        not in (
            headers.get("host"),
            headers.get("x-forwarded-host", "").partition(",")[0].strip() or None,
        )
    ):
        raise ApiError(403, f"this request comes from {origin[:80]}, which may not write here")


def _site_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # such as http://[
        return ""


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the request is larger than the {limit / (1 << 20):g} MiB allowed here")


def _port(scope: Scope) -> int:
    """The port, which tells the cookies of several servers of one host apart."""
    server = scope.get("server")
    return int(server[1] or 0) if server else 0
