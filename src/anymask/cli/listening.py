"""A socket to listen at, opened before what takes long, so that a port in use is told at once."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence

from anymask.errors import InputError


@contextlib.contextmanager
def listening(host: str, ports: Sequence[int]) -> Iterator[socket.socket]:
    """Give a listening socket at the first of the ports that is free; 0 is any. Raises InputError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reason = ""
    for number in ports:
        listener = socket.socket(family)
        with contextlib.closing(listener):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, number))
                listener.listen(128)
            except OSError as error:
                reason = error.strerror or str(error)
                continue
            yield listener
            return
    tried = f"port {ports[0]}" if len(ports) == 1 else f"ports {ports[0]} to {ports[-1]}"
    raise InputError(f"cannot listen at {host}, {tried} ({reason}); give another --host or --port")
