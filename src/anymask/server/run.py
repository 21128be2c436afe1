"""The application on a socket, in this process, until it is interrupted.

Connections are bounded, in number and in the time that headers may take: uvicorn closes one that is idle between two
requests, but waits without limit for the rest of a request that has begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from anymask.server.front import Front

if TYPE_CHECKING:
    from fastapi import FastAPI


_PARTING_SECONDS = 5
_MAX_HEADERS = 64 << 10
"""The most bytes of a request before its body."""
_KEEP_ALIVE_SECONDS = 75
"""Long: a connection closed just when a request is sent on it looks like a failure."""
HEADER_SECONDS = 20.0
"""From the first byte of a request, or the opening of a connection, until its headers are complete."""
MAX_CONNECTIONS = 512
"""The most connections open at once; those that listen to events count."""
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def run(
    app: FastAPI | Front, listener: socket.socket, ready: Callable[[], None], *, behind_proxy: bool = False
) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is called when the page is answered.

    Raises what keeps the application behind a `Front` from being made.
    """
    server = Server(app, ready, behind_proxy=behind_proxy)
    if isinstance(app, Front):
        app.on_failure = server.stop
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    if isinstance(app, Front) and app.failure is not None:
        raise app.failure


class Server(uvicorn.Server):
    """Says when it is ready, and disconnects those who listen to events when it ends: they would never leave.

    `behind_proxy` trusts a proxy on who asks and by which scheme.
    """

    def __init__(self, app: FastAPI | Front, ready: Callable[[], None], *, behind_proxy: bool = False) -> None:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            http=BoundedConnection,
            ws="none",
            server_header=False,
            proxy_headers=behind_proxy,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            h11_max_incomplete_event_size=_MAX_HEADERS,
            timeout_graceful_shutdown=_PARTING_SECONDS,
        )
        super().__init__(config)
        self._app = app
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, at a signal; at a second one, end at once."""
        self._let_go()
        super().handle_exit(sig, frame)

    def stop(self) -> None:
        """Begin to end; may be called from any thread."""
        self._let_go()
        self.should_exit = True

    def _let_go(self) -> None:
        if isinstance(self._app, Front):
            self._app.give_up()
        context = getattr(self._app.state, "context", None)
        if context is not None:
            context.events.close()


class BoundedConnection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """One connection. Where there are too many the one that has been idle for longest gives way, if there is any."""

    header_seconds = HEADER_SECONDS
    max_connections = MAX_CONNECTIONS

    def connection_made(self, transport: Any) -> None:
        """Take a connection, or answer 503 where all others are busy."""
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._has_begun = False
        self._timer: asyncio.TimerHandle | None = None
        if len(self.connections) > self.max_connections and not self._evict():
            transport.write(_BUSY)
            transport.close()
            return
        self._timer = self.loop.call_later(self.header_seconds, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Take bytes; those that begin a request begin its time."""
        self._has_begun = True
        super().data_received(data)
        if self._is_working():
            self._stop_timer()
        elif self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(self.header_seconds, self._give_up)

    def on_response_complete(self) -> None:
        """Note since when the connection is idle."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def _is_working(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _evict(self) -> bool:
        """Close the connection that has been idle for longest; False where none is."""
        idle = [
            each
            for each in self.connections
            if each is not self and not each._is_working() and not each.transport.is_closing()
        ]
        if not idle:
            return False
        min(idle, key=lambda each: each._idle_since).transport.close()
        return True

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            if self._has_begun:  # browsers open connections ahead, and would take this for the answer to what comes
                self.transport.write(_TOO_SLOW)
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
