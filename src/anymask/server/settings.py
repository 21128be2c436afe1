"""What a server is set up with."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path


def _packaged_page() -> Path:
    return Path(str(files("anymask.server"))) / "page"


def _spare_threads() -> int:
    """All cores but one, which is left to whoever does not wait for the model."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits and places; the defaults suit one machine and a few people."""

    host: str = "127.0.0.1"
    token: str | None = None
    """Who does not show it is refused; None only on the loopback address."""
    max_upload_bytes: int = 100 << 20
    max_body_bytes: int = 64 << 20
    """Of changes to annotations and of what a person says is done, which hold masks."""
    max_small_bytes: int = 2 << 20
    """Of every other request: they are parsed at once, and others wait meanwhile."""
    max_pixels: int = 100_000_000
    """Of an image, decoded."""
    max_waiting: int = 8
    """Images that wait for the encoder; one more is answered with 429."""
    max_searches: int = 2
    """Requests for everything on an image, or for words, that may wait."""
    max_decoding: int = 32
    """Requests that may wait for an image file to be decoded."""
    max_listeners: int = 256
    """Open event streams."""
    threads: int = field(default_factory=_spare_threads)
    """What torch may use while the server runs."""
    page: Path = field(default_factory=_packaged_page)
    """The built page."""
    export_at_start: bool = False
    """Whether the page's decoder is exported before it is first asked for."""
    parts: Path | None = None
    """Where exported decoders are kept for all projects; None keeps them with the project."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
