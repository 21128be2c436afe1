"""Images of tasks, fetched from where Label Studio shows them."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpx

from anymask.data.images import MAX_BYTES_PER_PIXEL, pixel_limit
from anymask.errors import ImageError, InputError

_SECONDS = 30.0
_MOST_BYTES = 1 << 29


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A Label Studio, and what opens it."""

    url: str
    """Its address, such as http://localhost:8080; "" where it is not known."""
    token: str | None = None
    """A legacy token, or a personal access token; sent to this Label Studio alone."""


def fetch(address: object, source: Access, *, client: httpx.Client) -> bytes:
    """Return an image file: from Label Studio where the address is a path, from elsewhere, or out of a data address.

    Raises ImageError where there is none, and InputError for a token that is refused.
    """
    if not isinstance(address, str) or not address:
        raise ImageError("the task has no image: its data lacks the key that the label configuration names")
    if address.startswith("data:"):
        try:
            return base64.b64decode(address.partition(",")[2], validate=True)
        except binascii.Error as error:
            raise ImageError(f"the image in the task itself is malformed ({error})") from error
    if not urlsplit(address).scheme:
        if not source.url:
            raise ImageError(f"{address}: Label Studio did not say its own address; give it as --url")
        address = urljoin(source.url.rstrip("/") + "/", address)
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https"):
        raise ImageError(
            f"{parts.scheme}://…: images are fetched by http and https; let Label Studio's storage make such addresses "
            '("pre-signed URLs")'
        )
    is_own = bool(source.url) and _origin(address) == _origin(source.url)
    headers = _authorization(source, client) if is_own and source.token else {}
    return _get(address, headers, client)


def _get(address: str, headers: dict[str, str], client: httpx.Client) -> bytes:
    shown = address.partition("?")[0]
    most = min(_MOST_BYTES, pixel_limit() * MAX_BYTES_PER_PIXEL)
    try:
        # A redirect leads to another host as it likes, so httpx drops the token there.
        with client.stream("GET", address, headers=headers, timeout=_SECONDS, follow_redirects=True) as answer:
            if answer.status_code in (401, 403):
                raise InputError(
                    f"{shown}: Label Studio refuses the token; give --token, as its page of the account shows it"
                )
            if answer.status_code >= 400:
                raise ImageError(f"{shown}: there is no image (status {answer.status_code})")
            content = bytearray()
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > most:
                    raise ImageError(f"{shown}: the file is larger than {most:,} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ImageError(f"{shown}: cannot be fetched ({type(error).__name__}: {str(error)[:200]})") from error
    if "text/html" in answer.headers.get("content-type", ""):
        raise InputError(f"{shown}: is a page and no image; Label Studio asks for a token, give it as --token")
    return bytes(content)


def _authorization(source: Access, client: httpx.Client) -> dict[str, str]:
    """Return the header for a token; a personal access token is exchanged for one that lasts for minutes."""
    token = source.token or ""
    if token.count(".") != 2:
        return {"Authorization": f"Token {token}"}
    address = urljoin(source.url.rstrip("/") + "/", "api/token/refresh")
    try:
        answer = client.post(address, json={"refresh": token}, timeout=_SECONDS)
        access = answer.json().get("access") if answer.status_code == 200 else None
    except (httpx.HTTPError, ValueError) as error:
        raise ImageError(f"{source.url}: cannot be reached ({type(error).__name__})") from error
    if not access:
        raise InputError(f"{source.url}: Label Studio refuses the personal access token; give another as --token")
    return {"Authorization": f"Bearer {access}"}


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
