"""Waiting for a database that is away for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from anymask.engine.store.database import Unreachable

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


def patiently(
    call: Callable[[], T],
    *,
    seconds: float = PATIENCE_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Return what `call` returns, calling again for `seconds` while the database cannot be reached.

    A commit whose answer was lost is made twice then: `call` has to be one that counts once. Raises Unreachable
    after that time, and whatever else `call` raises at once.
    """
    end, pause = clock() + seconds, _FIRST_PAUSE
    while True:
        try:
            return call()
        except Unreachable:
            if clock() + pause > end:
                raise
        sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
