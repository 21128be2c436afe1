"""Connections that cost nothing to hold open: how many there may be, and how long one may take over its headers.

uvicorn closes a connection that is idle between two requests, but waits for ever for the rest of one that has begun.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADER_SECONDS = 20.0
"""From the first byte of a request, or the opening of a connection, until its headers are complete."""
MAX_CONNECTIONS = 512
"""Open at once; those that listen to events count."""

_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedConnection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """One connection. Where there are too many the one that has been idle for longest gives way, if there is any."""

    header_seconds = HEADER_SECONDS
    max_connections = MAX_CONNECTIONS

    def connection_made(self, transport: Any) -> None:
        """Take a connection, or answer 503 where all others are at work."""
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
