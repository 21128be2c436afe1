"""Connections that are opened and held: with raw sockets, as one would who means harm."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from anymask.engine.store import Project
from anymask.model import Sam
from anymask.server.app import create_app
from anymask.server.run import BoundedConnection
from anymask.server.settings import Settings

HEAD = b"GET /api/info HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def port(
    project: Project, smoke_sam: Sam, monkeypatch: pytest.MonkeyPatch, serve_app: Callable[..., Any]
) -> Iterator[int]:
    """A server that gives headers a second, bodies half a second, and has room for five connections."""
    monkeypatch.setattr(BoundedConnection, "header_seconds", 1.0)
    monkeypatch.setattr(BoundedConnection, "max_connections", 5)
    settings = Settings(page=project.folder / "no-page", body_seconds=0.5)
    with serve_app(create_app(project, smoke_sam, model_name="smoke", settings=settings)) as address:
        yield httpx.URL(address).port or 0


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        yield client


def everything(client: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    read = b""
    while piece := client.recv(65536):
        read += piece
    return read


def answered(client: socket.socket) -> bytes:
    """Read one whole response, its length as its head says."""
    read = b""
    while b"\r\n\r\n" not in read:
        read += client.recv(65536)
    head, _, body = read.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(65536)
    return head


def test_half_a_request_is_ended_in_a_second_however_it_trickles(port: int) -> None:
    with connected(port) as client:
        client.sendall(HEAD)
        client.settimeout(0.2)
        read = b""
        for _ in range(100):
            try:
                client.sendall(b"X-More: 1\r\n")
                piece = client.recv(1000)
            except TimeoutError:
                continue
            except ConnectionError:
                break
            if not piece:
                break
            read += piece
        else:
            raise AssertionError("a request without an end is waited for")
        assert read.startswith(b"HTTP/1.1 408")


def test_a_connection_that_says_nothing_is_ended(port: int) -> None:
    with connected(port) as client:
        assert everything(client) == b""


def test_a_request_in_time_is_answered_and_the_connection_is_kept(port: int) -> None:
    with connected(port) as client:
        for _ in range(3):
            client.sendall(HEAD + b"\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(0.5)
        client.sendall(HEAD)  # the next one begins, and does not end
        assert everything(client).startswith(b"HTTP/1.1 408")


def test_a_body_that_trickles_is_ended(port: int) -> None:
    with connected(port) as client:
        client.sendall(
            b"PUT /api/classes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n{"
        )
        assert client.recv(65536).startswith(b"HTTP/1.1 408")


def test_idle_connections_give_way_to_new_ones(port: int) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(connected(port)) for _ in range(5)]
        for client in idle:
            client.sendall(HEAD + b"\r\n")
            assert answered(client).startswith(b"HTTP/1.1 200")
        new = stack.enter_context(connected(port))
        new.sendall(HEAD + b"\r\n")
        assert answered(new).startswith(b"HTTP/1.1 200")
        assert everything(idle[0]) == b""  # idle for longest


def test_where_all_are_at_work_one_more_is_told_to_come_again(port: int) -> None:
    with ExitStack() as stack:
        for _ in range(5):
            client = stack.enter_context(connected(port))
            client.sendall(HEAD.replace(b"info", b"events") + b"\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
        assert everything(stack.enter_context(connected(port))).startswith(b"HTTP/1.1 503")
