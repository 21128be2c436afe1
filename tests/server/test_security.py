"""What an attacker would try: each attempt is refused in one sentence, and nothing is written."""

from __future__ import annotations

import errno
import io
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from anymask.engine.store import Project
from anymask.server.errors import without_folders

Make = Callable[..., TestClient]
TOKEN = "correct-horse-battery"


def _files(project: Project) -> set[str]:
    """All files beside and in the project's folder, but the database's and the model's embeddings."""
    parent = project.folder.parent
    return {str(path.relative_to(parent)) for path in parent.rglob("*") if path.is_file() and "sqlite" not in path.name}


def _claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", "x")
    return file.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!doctype html><script>alert(1)</script>"


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (SVG, 415, "no image"),
        (HTML, 415, "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", 415, "no image"),
        (b"%PDF-1.7\n", 415, "no image"),
        (_zip(), 415, "no image"),
        (b"", 422, "empty"),
        (b"\x00" * 1000, 415, "no image"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 50, 415, "no image"),
        (_claims(60_000, 60_000), 413, "at most 120,000,000"),
        (_claims(2**31 - 1, 2**31 - 1), 413, "at most"),
        (_claims(300, 200), 422, "cannot be read"),
        (_claims(0, 5), 415, "no image"),
    ],
    ids=["svg", "html", "eps", "pdf", "zip", "empty", "zeros", "cut", "bomb", "large bomb", "short", "no pixels"],
)
def test_what_is_no_image_is_refused(
    client: TestClient, project: Project, data: bytes, status: int, words: str
) -> None:
    before = _files(project)
    for name in ("photo.png", "photo.svg"):
        answer = client.post("/api/images", files={"file": (name, data, "image/png")})
        assert answer.status_code == status, answer.text
        assert words in answer.json()["error"] and "\n" not in answer.json()["error"]
    assert _files(project) == before and client.get("/api/images").json() == {"images": []}


def test_a_bomb_of_many_frames_gives_its_first(client: TestClient, upload: Callable[..., Any]) -> None:
    frames = [Image.new("L", (50, 40), n) for n in range(200)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    assert upload(client, file.getvalue())["width"] == 50
    assert client.get("/api/images/1/file").headers["content-type"] == "image/jpeg"


def test_pixels_are_limited_as_set(make_client: Make, image_file: Callable[..., bytes]) -> None:
    client = make_client(max_pixels=60 * 80 - 1)
    assert client.post("/api/images", files={"file": ("a.png", image_file())}).status_code == 413


def test_sizes_are_limited_whatever_the_header_says(make_client: Make, project: Project) -> None:
    client = make_client(max_upload_bytes=10_000, max_body_bytes=2_000)
    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    said = client.post("/api/images", files={"file": ("a.png", file.getvalue())})

    def stream(size: int) -> Any:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        for _ in range(size // 1000):
            yield bytes(1000)
        yield b"\r\n--b--\r\n"

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    unsaid = client.post("/api/images", content=stream(50_000), headers=kind)
    text = client.put("/api/classes", content=b" " * 3_000, headers={"Content-Type": "application/json"})
    for answer in (said, unsaid, text):
        assert answer.status_code == 413 and "larger than" in answer.json()["error"]
    lied = client.put("/api/classes", content=b"{}", headers={"Content-Length": "-1"})
    assert lied.status_code == 400
    assert list((project.folder / "images").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "../../escaped.png",
        "/etc/cron.d/job.png",
        "..\\..\\escaped.png",
        "a\x00b.png",
        "\r\nX-Evil: 1.png",
        "." * 300,
        "",
    ],
)
def test_an_uploads_name_is_only_a_name(
    client: TestClient, project: Project, image_file: Callable[..., bytes], name: str
) -> None:
    before = _files(project)
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="'
        + name.replace("\r\n", "%0D%0A").encode()
        + b'"\r\nContent-Type: image/png\r\n\r\n'
        + image_file()
        + b"\r\n--b--\r\n"
    )
    answer = client.post("/api/images", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code in (201, 400, 422), answer.text
    new = _files(project) - before
    assert all(path.startswith(("project/images/", "project/cache/thumbnails/")) for path in new), new
    if answer.status_code == 201:
        shown = answer.json()["name"]
        assert "/" not in shown and "\\" not in shown and shown.isprintable() and len(shown) <= 200
        assert client.get("/api/export?format=coco").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"file": "text, no file"}},
        {"files": {"image": ("a.png", b"x")}},
        {"files": [("file", ("a.png", b"x")), ("file", ("b.png", b"y"))]},
        {"content": b"--b\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
        {"content": b"\xff\xfe", "headers": {"Content-Type": "application/json"}},
        {"content": b'{"sample": ["coffee"]}', "headers": {"Content-Type": "application/json"}},
        {"content": b"x", "headers": {"Content-Type": "image/png"}},
        {},
    ],
)
def test_malformed_uploads(client: TestClient, body: dict[str, Any]) -> None:
    answer = client.post("/api/images", **body)
    assert answer.status_code in (400, 415, 422), answer.text
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    "path",
    [
        "/../../../etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%5c..%5cetc",
        "/api/models/..%2f..%2fsecret.onnx",
        "/api/models/../../secret.onnx",
        "/api/images/..%2f..%2fproject.sqlite/file",
        "/%00",
        "//etc/passwd",
    ],
)
def test_paths_lead_nowhere(make_client: Make, project: Project, path: str, tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("the page")
    (tmp_path / "secret.onnx").write_text("secret")
    from anymask.server.app import create_app
    from anymask.server.settings import Settings

    model = make_client().app.state.context.model  # type: ignore[attr-defined]
    app = create_app(project, model, model_name="smoke", settings=Settings(page=page))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        assert client.get("/").text == "the page"
        answer = client.get(path)
        assert answer.status_code in (400, 404, 422), answer.text
        assert "root:" not in answer.text and "secret" not in answer.text.replace("secret.onnx", "")


def test_only_its_own_names_are_answered(client: TestClient) -> None:
    for host in ("127.0.0.1:8017", "localhost", "localhost:1", "[::1]:8017", "LOCALHOST"):
        assert client.get("/api/info", headers={"Host": host}).status_code == 200, host
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8017",
        "",
        "[::1].evil",
        "evil@localhost",
    ):
        assert client.get("/api/info", headers={"Host": host}).status_code == 403, host


WRITES = [
    ("POST", "/api/images/1/encode", None),
    ("PUT", "/api/classes", {"base_revision": 0, "client": "evil", "classes": []}),
    ("POST", "/api/images", {"sample": "coffee"}),
]


@pytest.mark.parametrize("write", WRITES, ids=[path for _, path, _ in WRITES])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://127.0.0.1:8017.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"},
    ],
    ids=str,
)
def test_other_sites_cannot_write(client: TestClient, write: Any, headers: dict[str, str]) -> None:
    method, path, body = write
    client.post("/api/images", json={"sample": "cat"})
    answer = client.request(method, path, json=body, headers=headers)
    assert answer.status_code == 403 and "error" in answer.json()
    assert client.get("/api/classes").json()["revision"] == 0
    (image,) = client.get("/api/images").json()["images"]
    assert image["state"] == "new"


def test_other_sites_cannot_read_but_may_link(client: TestClient) -> None:
    cross = {"Sec-Fetch-Site": "cross-site"}
    for mode in ("no-cors", "cors"):
        assert client.get("/api/images", headers=cross | {"Sec-Fetch-Mode": mode}).status_code == 403
    assert client.get("/", headers=cross | {"Sec-Fetch-Mode": "navigate"}).status_code == 200


def test_the_page_itself_may_write(client: TestClient) -> None:
    own = {"Origin": "http://127.0.0.1:8017", "Sec-Fetch-Site": "same-origin"}
    body = {"base_revision": 0, "client": "tab", "classes": []}
    assert client.put("/api/classes", json=body, headers=own).status_code == 200


def test_json_must_say_that_it_is_json(client: TestClient) -> None:
    """A form of another site can send text/plain, without being asked first."""
    body = b'{"base_revision": 0, "client": "evil", "classes": []}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = client.put("/api/classes", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 422, kind
    assert client.get("/api/classes").json()["revision"] == 0


def test_every_answer_carries_the_headers(client: TestClient) -> None:
    for path in ("/", "/api/info", "/api/nothing", "/api/images/1/file", "/api/openapi.json"):
        headers = client.get(path).headers
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-embedder-policy"] == "require-corp"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert "script-src 'self' 'wasm-unsafe-eval';" in headers["content-security-policy"]


def test_an_unforeseen_mistake_is_one_plain_sentence(
    client: TestClient, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("internal detail")

    monkeypatch.setattr(type(project.classes), "current", fail)
    answer = client.get("/api/classes")
    assert answer.status_code == 500 and answer.json() == {"error": "the server made a mistake; its log says more"}
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"


def test_nothing_without_the_token(make_client: Make) -> None:
    client = make_client(host="0.0.0.0", token=TOKEN)
    for path in ("/api/info", "/api/images", "/api/openapi.json", "/api/events"):
        answer = client.get(path)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert "token" in answer.json()["error"]
    assert client.post("/api/images", json={"sample": "coffee"}).status_code == 401
    page = client.get("/")
    assert page.status_code == 401 and "token" in page.text
    for wrong in ("Bearer wrong", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe9"):
        assert client.get("/api/info", headers={"Authorization": wrong.encode("latin-1")}).status_code == 401  # type: ignore[dict-item]
    for wrong in ("", "wrong", f"{TOKEN[:-1]}", "é"):
        answer = client.get("/", params={"token": wrong})
        assert answer.status_code == 401 and "set-cookie" not in answer.headers
    assert client.get("/api/info", headers={"Cookie": 'anymask_8017="; anymask_8017'}).status_code == 401


def test_the_token_opens(make_client: Make) -> None:
    client = make_client(host="0.0.0.0", token=TOKEN)
    assert client.get("/api/info", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    anywhere = {"Authorization": f"bearer {TOKEN}", "Host": "annotators.example"}
    assert client.get("/api/info", headers=anywhere).status_code == 200
    opened = client.get("/", params={"token": TOKEN})
    assert opened.status_code == 303 and opened.headers["location"] == "./"
    assert "HttpOnly" in opened.headers["set-cookie"] and "SameSite=lax" in opened.headers["set-cookie"]
    assert client.get("/api/info").status_code == 200  # by the cookie
    assert (
        client.post("/api/images", json={"sample": "cat"}, headers={"Origin": "https://evil.example"}).status_code
        == 403
    )


def test_an_origin_that_is_no_address_is_refused_in_a_word(client: TestClient) -> None:
    answer = client.post("/api/images/1/encode", headers={"Origin": "http://["})
    assert answer.status_code == 403 and "may not write here" in answer.json()["error"]


def test_behind_a_proxy_the_page_may_write_under_the_proxys_name(client: TestClient) -> None:
    headers = {"Origin": "https://lab.example", "X-Forwarded-Host": "lab.example"}
    assert client.post("/api/images/1/encode", headers=headers).status_code == 404
    assert client.post("/api/images/1/encode", headers={"Origin": "https://lab.example"}).status_code == 403


def test_requests_without_masks_are_small(client: TestClient) -> None:
    answer = client.post("/api/engine/next", content=b" " * (3 << 20), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413 and "2 MiB" in answer.json()["error"]


def test_a_full_disk_is_told_and_no_place_of_the_servers(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/secret/place")

    monkeypatch.setattr("anymask.server.routes.images.check_upload", full)
    answer = client.post("/api/images", files={"file": ("a.png", b"x")})
    assert answer.status_code == 507 and "secret" not in answer.text


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        FileNotFoundError(2, "No usable temporary directory found in []"),
    ],
)
def test_a_full_temporary_folder_is_told(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, project: Project, error: OSError
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", full)
    answer = client.post("/api/images", files={"file": ("a.png", bytes(3 << 20))})
    assert answer.status_code == 507 and answer.json() == {"error": "the server's disk is full"}
    assert list((project.folder / "images").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/ann/my project/images/a.png: has no pixels", "a.png: has no pixels"),
        ("a.png: cannot be read ('/srv/data/a.png')", "a.png: cannot be read ('a.png')"),
        (
            "fetch https://lab.example/a/b.png, or s3://bucket/c/d",
            "fetch https://lab.example/a/b.png, or s3://bucket/c/d",
        ),
        ("width/height and 3/4 of it", "width/height and 3/4 of it"),
    ],
)
def test_no_folder_of_the_servers_is_told(text: str, shown: str) -> None:
    assert without_folders(text) == shown


def test_a_link_out_of_the_images_folder_made_later_is_not_followed(
    make_client: Make, tmp_path: Path, image_file: Callable[..., bytes]
) -> None:
    folder, secret = tmp_path / "photographs", tmp_path / "secret.png"
    (folder / "below").mkdir(parents=True)
    for path in (folder / "below" / "a.png", folder / "b.png", secret):
        path.write_bytes(image_file())
    (folder / "c.png").symlink_to(folder / "below" / "a.png")
    client = make_client(folders=(folder,))
    for _ in range(200):
        images = {each["name"]: each["id"] for each in client.get("/api/images").json()["images"]}
        if len(images) == 3:
            break
        time.sleep(0.05)
    for name in ("below/a.png", "b.png"):
        (folder / name).unlink()
        (folder / name).symlink_to(secret)
        for what in ("file", "thumbnail"):
            answer = client.get(f"/api/images/{images[name]}/{what}")
            assert answer.status_code == 404 and "leads out of its folder" in answer.json()["error"]
    (folder / "below" / "a.png").unlink()
    (folder / "below" / "a.png").write_bytes(image_file())
    assert client.get(f"/api/images/{images['c.png']}/file").status_code == 200  # a link within the folder
