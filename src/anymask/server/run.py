"""The application on a socket, in this process, until it is interrupted."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from anymask.server.connections import BoundedConnection
from anymask.server.front import Front

if TYPE_CHECKING:
    from fastapi import FastAPI

_PARTING_SECONDS = 5
_MAX_HEADERS = 64 << 10
"""The most bytes of a request before its body."""
_KEEP_ALIVE_SECONDS = 75
"""Long: a connection closed just when a request is sent on it looks like a failure."""


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
    """Says when it is ready, and lets go of those who listen to events when it ends: they would never leave.

    `behind_proxy` takes a proxy's word on who asks, by which scheme.
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
