"""What a server is set up with."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from anymask.threads import num_processors

_PIXELS = 120_000_000


def _packaged_page() -> Path:
    return Path(str(files("anymask.server"))) / "page"


def _spare_threads() -> int:
    """All cores but one, which is left to requests that do not wait for the model."""
    return max(1, num_processors() - 1)


def _pixels_served() -> int:
    """What the environment says, or enough for photographs, as several images are decoded at once."""
    if not os.environ.get("ANYMASK_MAX_PIXELS"):
        return _PIXELS
    from anymask.data.images import pixel_limit  # not above: the page is served before arrays are needed

    return pixel_limit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits and places; the defaults suit one machine and a few people."""

    host: str = "127.0.0.1"
    token: str | None = None
    """Requests without it are refused; None only on the loopback address, or where `people` have tokens."""
    people: Path | None = None
    """A file of people, each with a token, who are known by name; see `anymask people add`."""
    root_path: str | None = None
    """Below which path a reverse proxy serves this, "" for none: its word on scheme and address is taken, if it calls
    from this machine or from where $FORWARDED_ALLOW_IPS says."""
    max_wrong_tokens: int = 10
    """The most different wrong tokens from one address within ten minutes; after that the answer is 429."""
    max_upload_bytes: int = 100 << 20
    max_body_bytes: int = 64 << 20
    """The most bytes of a change to annotations or of a report that an image is done, which hold masks."""
    max_small_bytes: int = 2 << 20
    """The most bytes of any other request: those are parsed at once, and others wait meanwhile."""
    max_body_total_bytes: int = 512 << 20
    """The most bytes of all requests that are being answered; beyond that the answer is 503."""
    body_seconds: float = 60
    """Seconds until a body is complete, and one more for each KiB received."""
    send_seconds: float = 60
    """Seconds until a client takes the next piece of an answer."""
    max_pixels: int = field(default_factory=_pixels_served)
    """The most pixels of an image, decoded."""
    max_waiting: int = 8
    """Images that wait for the encoder; one more is answered with 429."""
    max_searches: int = 2
    """Requests for everything on an image, or for words, that may wait."""
    max_decoding: int = 32
    """Requests that may wait for an image file to be decoded."""
    max_listeners: int = 256
    """The most open event streams."""
    threads: int = field(default_factory=_spare_threads)
    """What the model may use while the server runs."""
    page: Path = field(default_factory=_packaged_page)
    """Folder of the built page."""
    export_at_start: bool = False
    """Whether the page's decoder is exported before it is first asked for."""
    parts: Path | None = None
    """Where exported decoders are kept for all projects; None keeps them with the project."""

    def __post_init__(self) -> None:
        """Bring the path into one form."""
        if self.root_path is not None:
            object.__setattr__(self, "root_path", "/".join(["", *filter(None, self.root_path.split("/"))]))

    @property
    def needs_token(self) -> bool:
        """Whether people other than this machine's users can reach the server, itself or through a proxy."""
        return not self.is_loopback or self.root_path is not None

    def path_of(self, path: str) -> str:
        """Return a request's path as the application knows it, whether or not a proxy left `root_path` on it."""
        root = self.root_path
        return path.removeprefix(root) if root and path.startswith(f"{root}/") else path

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
