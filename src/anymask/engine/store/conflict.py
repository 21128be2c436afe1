"""Optimistic concurrency: who builds on an old revision is told so, and nothing is written."""

from __future__ import annotations

from anymask.errors import DataError


class Conflict(DataError):
    """A change was based on a revision that is no longer the current one; `revision` is."""

    def __init__(self, what: str, base_revision: int, revision: int) -> None:
        super().__init__(
            f"{what} is at revision {revision}, the change was made on revision {base_revision}: "
            "take the current state and make the change again"
        )
        self.revision = revision
