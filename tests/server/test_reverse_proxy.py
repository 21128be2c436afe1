"""Behind nginx, with the configuration that the guide gives: TLS, a path, and the names that people have."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from anymask.engine.store import Project
from anymask.model import Sam
from anymask.server.app import create_app
from anymask.server.people import add_person
from anymask.server.settings import Settings

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "team.md"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx-light"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed, to make a certificate"),
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def configuration(folder: Path, port: int, upstream: str, *, strips: bool) -> str:
    """The guide's, on other ports and with a certificate of our own; `strips` has the proxy take the path off."""
    (text,) = re.findall(r"```nginx\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    for old, new in {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/ssl/lab.example.pem": f"{folder}/certificate.pem",
        "/etc/ssl/lab.example.key": f"{folder}/key.pem",
        "http://127.0.0.1:8017": f"{upstream}/" if strips else upstream,
    }.items():
        assert old in text
        text = text.replace(old, new)
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors; events {{}}\n"
        f"http {{ access_log off; {places}\n{text}}}\n"
    )


@pytest.fixture(params=[False, True], ids=["path left on", "path taken off"])
def proxied(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    project: Project,
    smoke_sam: Sam,
    serve_app: Callable[..., Any],
) -> Iterator[tuple[httpx.Client, str]]:
    """A client of the proxy, and the token of Ann."""
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("the page")
    token = add_person(tmp_path / "people.json", "Ann")
    settings = Settings(page=page, people=tmp_path / "people.json", root_path="/annotate/")
    certificate = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "certificate.pem", "-subj", "/CN=localhost"]
    subject = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2", *certificate, *subject],
        check=True,
        capture_output=True,
    )
    port = free_port()
    with serve_app(
        create_app(project, smoke_sam, model_name="smoke", settings=settings), behind_proxy=True
    ) as upstream:
        (tmp_path / "nginx.conf").write_text(configuration(tmp_path, port, upstream, strips=request.param))
        assert NGINX is not None
        command = [NGINX, "-p", str(tmp_path), "-e", f"{tmp_path}/errors", "-c", f"{tmp_path}/nginx.conf"]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as nginx:
            try:
                trusted = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
                with httpx.Client(base_url=f"https://localhost:{port}", verify=trusted, timeout=60) as client:
                    for _ in range(200):
                        assert nginx.poll() is None, nginx.communicate()[1]
                        try:
                            client.get("/")
                            break
                        except httpx.TransportError:
                            time.sleep(0.05)
                    yield client, token
            finally:
                nginx.terminate()
                nginx.wait(20)


def test_everything_works_below_the_path(
    proxied: tuple[httpx.Client, str],
    project: Project,
    annotation: Callable[..., Any],
    image_file: Callable[..., bytes],
) -> None:
    client, token = proxied
    own = {"Origin": str(client.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert client.get("/annotate").headers["location"].endswith("/annotate/")
    assert client.get("/annotate/").status_code == 401 and client.get("/annotate/api/info").status_code == 401

    opened = client.get("/annotate/", params={"token": token})
    assert opened.status_code == 303 and opened.headers["location"] == "./"
    cookie = opened.headers["set-cookie"]
    assert "Path=/annotate/;" in cookie and "Secure" in cookie and "HttpOnly" in cookie
    assert client.get("/annotate/").text == "the page"
    assert client.get("/annotate/api/info").json()["person"] == "Ann"

    sent = client.post("/annotate/api/images", files={"file": ("a.png", image_file())}, headers=own)
    assert sent.status_code == 201, sent.text
    id = sent.json()["id"]
    with client.stream("GET", "/annotate/api/events") as events:
        lines = events.iter_lines()
        assert "hello" in next(line for line in lines if line.startswith("data"))
        body = {"base_revision": 0, "client": "tab", "changes": [{"op": "put", "annotation": annotation()}]}
        changed = client.post(f"/annotate/api/images/{id}/changes", json=body, headers=own)
        assert changed.json() == {"revision": 1}
        assert "annotations" in next(line for line in lines if line.startswith("data") and "hello" not in line)
    (kept,) = project.annotations.state(int(id)).annotations
    assert kept.provenance is not None and kept.provenance.author == "Ann"
    assert client.get(f"/annotate/api/images/{id}/file").content == image_file()
    other = client.post("/annotate/api/classes/id", headers={"Origin": "https://evil.example"})
    assert other.status_code == 403
    assert client.get("/annotate/api/openapi.json").json()["servers"] == [{"url": "/annotate"}]


def test_guesses_are_counted_for_who_asks_the_proxy(proxied: tuple[httpx.Client, str]) -> None:
    client, token = proxied
    for number in range(10):
        wrong = {"Authorization": f"Bearer wrong-{number}", "X-Forwarded-For": f"192.0.2.{number}"}
        assert client.get("/annotate/api/info", headers=wrong).status_code == 401
    right = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "192.0.2.99"}
    assert client.get("/annotate/api/info", headers=right).status_code == 429
