"""Events, sent to every page that listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anymask.server.schemas import Event

_BACKLOG = 1000


class Events:
    """Events from any thread to any number of listeners; one that falls far behind is cut off, and will reconnect."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queues: set[asyncio.Queue[Event | None]] = set()
        self._is_closed = False

    @property
    def num_listeners(self) -> int:
        """How many listen."""
        return len(self._queues)

    def publish(self, event: Event) -> None:
        """Publish an event; may be called from any thread."""
        self._soon(lambda: self._spread(event))

    def close(self) -> None:
        """End all streams; may be called from any thread, and more than once."""
        self._soon(self._end_all)

    async def listen(self, first: Event) -> AsyncIterator[Event]:
        """Give `first`, and every event from then on: whoever has got it misses none."""
        with self._queue() as queue:
            yield first
            while not self._is_closed:
                event = await queue.get()
                if event is None:
                    break
                yield event

    @contextmanager
    def _queue(self) -> Iterator[asyncio.Queue[Event | None]]:
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_BACKLOG + 1)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    def _soon(self, call: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    def _spread(self, event: Event) -> None:
        for queue in [*self._queues]:
            if queue.qsize() < _BACKLOG:
                queue.put_nowait(event)
            else:
                self._end(queue)

    def _end_all(self) -> None:
        self._is_closed = True
        for queue in [*self._queues]:
            self._end(queue)

    def _end(self, queue: asyncio.Queue[Event | None]) -> None:
        self._queues.discard(queue)
        if not queue.full():
            queue.put_nowait(None)
