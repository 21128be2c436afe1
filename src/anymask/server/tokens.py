"""Whose token a request shows, and a limit on trying tokens."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie

from anymask.errors import InputError
from anymask.server.errors import ApiError, too_many_requests
from anymask.server.people import People

logger = logging.getLogger("anymask.server")

_WINDOW_SECONDS = 600.0
_MAX_ADDRESSES = 10_000
"""Number of addresses whose wrong tokens are remembered; those that tried least recently are forgotten first."""
_MAX_REMEMBERED = 64
"""Number of wrong tokens remembered per address."""


class Tokens:
    """The token that all may show, and those of people."""

    def __init__(
        self, shared: str | None, people: People | None, *, max_wrong: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shared, self._people = shared, people
        self._max_wrong, self._clock = max_wrong, clock
        self._wrong: OrderedDict[str, dict[bytes, float]] = OrderedDict()

    @property
    def are_demanded(self) -> bool:
        """Whether requests without a token are refused."""
        return self._shared is not None or self._people is not None

    def check(self, token: str, address: str) -> tuple[bool, str | None]:
        """Return whether a token is right, and whose it is where it is a person's.

        Raises ApiError (429) for an address from which too many different wrong ones came.
        """
        home = _home(address)
        self._check_tries(home)
        if self._shared is not None and hmac.compare_digest(token.encode("utf-8", "replace"), self._shared.encode()):
            return True, None
        try:
            name = None if self._people is None else self._people.name_of(token)
        except InputError as error:
            logger.error("%s", error)
            raise ApiError(503, "the server's file of people cannot be read; its log says more") from error
        if name is None:
            self._note_wrong(home, token)
        return name is not None, name

    def _check_tries(self, home: str) -> None:
        tried = self._wrong.get(home)
        if tried is None:
            return
        now = self._clock()
        for digest in [digest for digest, at in tried.items() if at < now - _WINDOW_SECONDS]:
            del tried[digest]
        if len(tried) >= self._max_wrong:
            first = sorted(tried.values())[-self._max_wrong]
            raise too_many_requests(
                "too many wrong tokens came from your address", math.ceil(first + _WINDOW_SECONDS - now)
            )

    def _note_wrong(self, home: str, token: str) -> None:
        """Count different tokens: a page that goes on asking with one that is no longer good counts once."""
        tried = self._wrong.setdefault(home, {})
        self._wrong.move_to_end(home)
        digest = hashlib.blake2b(token.encode("utf-8", "replace"), digest_size=8).digest()
        if digest in tried or len(tried) < _MAX_REMEMBERED:
            tried[digest] = self._clock()
        while len(self._wrong) > _MAX_ADDRESSES:
            self._wrong.popitem(last=False)


def shown_token(headers: Mapping[str, str], cookie: str) -> str | None:
    """Return the token that a request's headers show, as a bearer's or in the cookie of that name; None without any."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and bearer.strip():
        return bearer.strip()
    try:
        kept = SimpleCookie(headers.get("cookie", "")).get(cookie)
    except CookieError:
        return None
    return None if kept is None or not kept.value else kept.value


def _home(address: str) -> str:
    """Return what identifies a client: its address, or for IPv6 its network, whose addresses may all be one
    machine's.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)
