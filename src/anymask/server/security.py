"""Who may ask: the host by which the server is called, the token, and no writing from other sites.

A page of another site can make a browser send requests here. It cannot read the answers, but it could write, and by
letting its own name point to this address (DNS rebinding) it could read as well. So writes must come from the page
itself or from no page at all, and on the loopback address the server answers to its own names only. On any other
address the token stands in for the name.
"""

from __future__ import annotations

import hmac
import logging
import re
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anymask.server.plain_pages import read_template
from anymask.server.refusals import Refused
from anymask.server.settings import Settings

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
_READING = ("GET", "HEAD", "OPTIONS")
_UPLOADS = "/api/images"
_WITH_MASKS = re.compile(r"/api/(images/[^/]+/[^/]+|engine/(finish|judge)|classes)")
"""Routes that take masks, or lists of classes."""


class Guard:
    """Refuses what is not allowed, limits bodies, and puts the security headers on every answer.

    It is also where an exception that nobody foresaw ends: logged, and answered with a plain sentence.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            answer = self._refusal(scope)
            if answer is None:
                await self.app(scope, self._limited(scope, receive), send_with_headers)
                return
        except Refused as error:
            answer = error.response()
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise
            answer = Refused(500, "the server made a mistake; its log says more").response()
        await answer(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that goes no further, or None; raises Refused."""
        headers = Headers(scope=scope)
        self._check_host(headers)
        if self.settings.token is not None:
            answer = self._check_token(scope, headers)
            if answer is not None:
                return answer
        _check_site(scope, headers)
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise Refused(400, "the request's Content-Length is no number")
        if int(length) > self._limit(scope):
            raise _too_large(self._limit(scope))
        return None

    def _check_host(self, headers: Headers) -> None:
        if not self.settings.is_loopback:
            return
        host = headers.get("host", "")
        found = _HOST.fullmatch(host.lower())
        own = {"127.0.0.1", "localhost", "[::1]", self.settings.host, f"[{self.settings.host}]"}
        if found is None or found["name"] not in own:
            raise Refused(403, f"this server does not answer to the name {host[:80]!r}; open it as localhost")

    def _check_token(self, scope: Scope, headers: Headers) -> Response | None:
        """Let the token pass as a header or cookie; the address with it is answered with the cookie."""
        cookie = f"anymask_{_port(scope)}"
        shown = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if scope["path"] == "/" and shown and self._is_token(shown[0]):
            answer = RedirectResponse("./", status_code=303)  # relative: a proxy may serve this below a path
            answer.set_cookie(
                cookie, shown[0], httponly=True, samesite="lax", secure=scope["scheme"] == "https", max_age=90 * 86400
            )
            return answer
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(bearer.strip()):
            return None
        try:
            kept = SimpleCookie(headers.get("cookie", "")).get(cookie)
        except CookieError:
            kept = None
        if kept is not None and self._is_token(kept.value):
            return None
        if scope["path"].startswith("/api/"):
            refused = Refused(401, "the token is missing or wrong; open the address that `anymask serve` printed")
            response = refused.response()
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        return HTMLResponse(read_template("no_token.html"), 401)

    def _is_token(self, text: str) -> bool:
        assert self.settings.token is not None
        return hmac.compare_digest(text.encode("utf-8", "replace"), self.settings.token.encode())

    def _limit(self, scope: Scope) -> int:
        if scope["method"] == "POST" and scope["path"] == _UPLOADS:
            return self.settings.max_upload_bytes
        holds_masks = _WITH_MASKS.fullmatch(scope["path"]) is not None
        return (
            self.settings.max_body_bytes
            if holds_masks
            else min(self.settings.max_small_bytes, self.settings.max_body_bytes)
        )

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Count the bytes of a body, whatever length it was said to have."""
        total, limit = 0, self._limit(scope)

        async def limited() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > limit:  # an HTTPException: FastAPI takes any other for a body that is malformed
                raise HTTPException(413, _too_large(limit).sentence)
            return message

        return limited


def _check_site(scope: Scope, headers: Headers) -> None:
    """Refuse what a page of another site had the browser send."""
    site, mode = headers.get("sec-fetch-site"), headers.get("sec-fetch-mode")
    is_reading = scope["method"] in _READING
    if site in ("cross-site", "same-site") and not (is_reading and mode == "navigate"):
        raise Refused(403, "this request comes from a page of another site, which may not use this server")
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
        raise Refused(403, f"this request comes from {origin[:80]}, which may not write here")


def _site_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # such as http://[
        return ""


def _too_large(limit: int) -> Refused:
    return Refused(413, f"the request is larger than the {limit / (1 << 20):g} MiB allowed here")


def _port(scope: Scope) -> int:
    """The port, which tells the cookies of several servers of one host apart."""
    server = scope.get("server")
    return int(server[1] or 0) if server else 0
