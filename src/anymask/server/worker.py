"""The one thread that runs the model: a short queue by priority, and an error when it is full."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from anymask.server.errors import too_many_requests
from anymask.threads import limit_torch

logger = logging.getLogger("anymask.server")

_FIRST_GUESS = 2.0
"""Seconds that a task takes, before one was timed."""
_NICENESS = 10
_OTHERS = 1
"""How many may wait of a kind that `capacity` does not name."""


class Priority(IntEnum):
    """What someone waits for goes before what someone may want next."""

    now = 0
    next = 1


@dataclass(slots=True, kw_only=True, eq=False)
class _Task:
    key: str
    kind: str
    priority: Priority
    run: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)


class Worker:
    """Runs tasks one after the other, by priority, then in the order in which they came.

    `capacity` says how many of each kind may wait. A full queue drops its youngest task of low priority for one of
    high priority, cancelling it; otherwise what is too much is refused.
    """

    def __init__(self, capacity: dict[str, int], *, threads: int | None = None) -> None:
        self._capacity = capacity
        self._threads = threads
        self._waiting: list[_Task] = []
        self._running: _Task | None = None
        self._changed = threading.Condition()
        self._is_closed = False
        self._seconds: defaultdict[str, float] = defaultdict(lambda: _FIRST_GUESS)
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """How many tasks wait, besides the one that runs."""
        return len(self._waiting)

    def submit(self, key: str, kind: str, run: Callable[[], Any], priority: Priority = Priority.now) -> Future[Any]:
        """Queue a task; one of the same key that waits or runs is taken instead, its priority raised if need be.

        Raises ApiError (429) if the queue is full.
        """
        with self._changed:
            for task in (self._running, *self._waiting):
                if task is not None and task.key == key:
                    task.priority = min(task.priority, priority)
                    return task.future
            self._make_room(kind, priority)
            task = _Task(key=key, kind=kind, priority=priority, run=run)
            self._waiting.append(task)
            self._changed.notify()
            return task.future

    def close(self, timeout: float | None = None) -> None:
        """Cancel what waits, and wait for what runs."""
        with self._changed:
            self._is_closed = True
            dropped, self._waiting = self._waiting, []
            self._changed.notify()
        for task in dropped:
            task.future.cancel()
        self._thread.join(timeout)

    def _make_room(self, kind: str, priority: Priority) -> None:
        same = [task for task in self._waiting if task.kind == kind]
        if len(same) < self._capacity.get(kind, _OTHERS):
            return
        last = max(same, key=lambda task: task.priority)  # the first of several: the one that waited longest
        youngest = [task for task in same if task.priority == last.priority][-1]
        if youngest.priority <= priority:
            left = sum(self._seconds[task.kind] for task in (self._running, *self._waiting) if task is not None)
            raise too_many_requests(
                f"the model is busy: {len(same)} requests are waiting already, try again shortly", left / 2
            )
        self._waiting.remove(youngest)
        youngest.future.cancel()

    def _work(self) -> None:
        if sys.platform == "linux":  # where a thread has a priority of its own: answers go before embeddings
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
                task = min(self._waiting, key=lambda waiting: waiting.priority)
                self._waiting.remove(task)
                self._running = task
            try:
                self._run(task)
            finally:
                with self._changed:
                    self._running = None

    def _run(self, task: _Task) -> None:
        if not task.future.set_running_or_notify_cancel():
            return
        if self._threads is not None:
            limit_torch(self._threads)
        start = time.monotonic()
        try:
            task.future.set_result(task.run())
        except Exception as error:  # whatever a model or an image does, the thread goes on
            logger.info("%s failed: %s", task.key, error)
            task.future.set_exception(error)
        self._seconds[task.kind] = (self._seconds[task.kind] + time.monotonic() - start) / 2
