from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest

from anymask.checkpoints.catalogue import CATALOGUE, ModelEntry, RemoteFile, find_entry
from anymask.checkpoints.hub import cache_folder, download, locate
from anymask.checkpoints.transfer import Retry
from anymask.errors import DownloadError, UnknownModelError

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Site:
    """What the server has, how it misbehaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=lambda: {"/model.pth": CONTENT})
    etag: str | None = '"one"'
    ranges: bool = True
    statuses: list[int] = field(default_factory=list)
    """Answers to the first requests, before it behaves."""
    break_after: list[int] = field(default_factory=list)
    """Bytes of body after which the connection of each of the first requests breaks."""
    declare_length: bool = True
    wrong_range: bool = False
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site = self.site
        site.requests.append({"path": self.path, **{k.title(): v for k, v in self.headers.items()}})
        if site.statuses:
            return self.answer(site.statuses.pop(0), b"", {"Retry-After": "7"})
        if self.path not in site.files:
            return self.answer(404, b"", {})
        content = site.files[self.path]
        headers = {"ETag": site.etag} if site.etag else {}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked or not site.ranges or self.headers.get("If-Range", site.etag) != site.etag:
            return self.answer(200, content, headers)
        start = int(asked[1])
        if start >= len(content):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        start -= 10 * site.wrong_range
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.answer(206, content[start:], headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.site.declare_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status in (200, 206) and self.site.break_after:
            body = body[: self.site.break_after.pop(0)]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    handler = type("SiteHandler", (Handler,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ANYMASK_OFFLINE", "HF_ENDPOINT", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANYMASK_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def retry(waits: list[float]) -> Retry:
    return Retry(attempts=3, first_wait=1.0, sleep=waits.append)


def entry_of(
    site: Site, *, sha256: str | None = SHA256, size: int | None = None, path: str = "/model.pth"
) -> ModelEntry:
    file = RemoteFile(url=site.url + path, sha256=sha256, size=size)
    return ModelEntry(name="test/model", kind="meta", files=(file,), licence="none", description="a test")


def left_in(cache: Path) -> set[str]:
    return {path.name for path in cache.rglob("*") if path.is_file() and path.name != ".lock"}


class Untouchable(httpx.BaseTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"the network was touched: {request.url}")


@pytest.fixture
def no_network() -> Iterator[httpx.Client]:
    with httpx.Client(transport=Untouchable()) as client:
        yield client


def test_a_download_lands_in_the_cache_and_is_found_there(site: Site, cache: Path, no_network: httpx.Client) -> None:
    entry = entry_of(site, size=len(CONTENT))
    assert locate(entry) is None
    seen: list[tuple[str, int, int | None]] = []
    path = download(entry, progress=lambda *step: seen.append(step))
    assert path.read_bytes() == CONTENT and path.is_relative_to(cache) and path.name == "model.pth"
    assert left_in(cache) == {"model.pth", "model.pth.verified"}
    assert seen[-1] == ("model.pth", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert locate(entry) == path
    assert download(entry, client=no_network) == path and len(site.requests) == 1


def test_an_interrupted_download_goes_on_where_it_broke_off(site: Site, retry: Retry, waits: list[float]) -> None:
    site.break_after = [100_000, 50_000]
    path = download(entry_of(site), retry=retry)
    assert path.read_bytes() == CONTENT
    first, second, third = site.requests
    assert "Range" not in first
    assert second["Range"] == "bytes=100000-" and second["If-Range"] == '"one"'
    assert third["Range"] == "bytes=150000-"
    assert waits == [1.0, 1.0]  # each attempt brought something


def test_the_next_call_goes_on_too(site: Site, cache: Path) -> None:
    site.break_after = [100_000]
    entry = entry_of(site)
    with pytest.raises(DownloadError, match=r"model\.pth: given up after 1 .* 0\.1 MB are kept"):
        download(entry, retry=Retry(attempts=1))
    assert locate(entry) is None and "model.pth" not in left_in(cache)
    assert download(entry).read_bytes() == CONTENT
    assert site.requests[1]["Range"] == "bytes=100000-"


def test_a_file_that_changed_meanwhile_is_fetched_anew(site: Site, retry: Retry) -> None:
    site.break_after = [100_000]
    with pytest.raises(DownloadError):
        download(entry_of(site, sha256=None), retry=Retry(attempts=1))
    site.files["/model.pth"], site.etag = CONTENT[::-1], '"two"'
    changed = entry_of(site, sha256=hashlib.sha256(CONTENT[::-1]).hexdigest())
    assert download(changed, retry=retry).read_bytes() == CONTENT[::-1]
    assert site.requests[1]["If-Range"] == '"one"'


def test_without_etag_and_hash_nothing_is_resumed(site: Site, retry: Retry) -> None:
    site.etag = None
    site.break_after = [100_000]
    assert download(entry_of(site, sha256=None), retry=retry).read_bytes() == CONTENT
    assert "Range" not in site.requests[1]


def test_without_etag_the_hash_allows_resuming(site: Site, retry: Retry) -> None:
    site.etag = None
    site.break_after = [100_000]
    assert download(entry_of(site), retry=retry).read_bytes() == CONTENT
    assert site.requests[1]["Range"] == "bytes=100000-" and "If-Range" not in site.requests[1]


def test_a_server_that_ignores_ranges_starts_over(site: Site, retry: Retry) -> None:
    site.ranges = False
    site.break_after = [100_000]
    assert download(entry_of(site), retry=retry).read_bytes() == CONTENT
    assert site.requests[1]["Range"] == "bytes=100000-"


def test_a_server_that_sends_another_range_is_not_believed(site: Site, retry: Retry) -> None:
    site.wrong_range = True
    site.break_after = [100_000]
    assert download(entry_of(site), retry=retry).read_bytes() == CONTENT
    assert [request.get("Range") for request in site.requests] == [None, "bytes=100000-", None]


def test_a_part_that_is_whole_needs_no_more_bytes(site: Site, cache: Path) -> None:
    entry = entry_of(site)
    folder = download(entry).parent
    (folder / "model.pth").rename(folder / "model.pth.part")
    assert download(entry).read_bytes() == CONTENT
    assert site.requests[1]["Range"] == f"bytes={len(CONTENT)}-"


def test_a_part_longer_than_the_file_is_thrown_away(site: Site, cache: Path, retry: Retry) -> None:
    entry = entry_of(site)
    part = download(entry).with_name("model.pth.part")
    part.with_name("model.pth").unlink()
    part.write_bytes(CONTENT + b"more")
    assert download(entry, retry=retry).read_bytes() == CONTENT


def test_an_end_without_a_declared_length_is_noticed(site: Site, retry: Retry) -> None:
    site.declare_length = False
    site.break_after = [100_000]
    with pytest.raises(DownloadError, match="100,000 bytes where 300,000 were published"):
        download(entry_of(site, size=len(CONTENT)), retry=retry)


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"?", b"<html>please log in</html>"])
def test_corrupted_content_is_deleted(site: Site, cache: Path, content: bytes) -> None:
    site.files["/model.pth"] = content
    with pytest.raises(DownloadError, match=r"model\.pth: its SHA-256 is .* the download is deleted") as caught:
        download(entry_of(site))
    assert "\n" not in str(caught.value) and SHA256[:12] in str(caught.value)
    assert not {"model.pth", "model.pth.part"} & left_in(cache)
    site.files["/model.pth"] = CONTENT
    assert download(entry_of(site)).read_bytes() == CONTENT


def test_a_wrong_size_is_refused_before_the_download(site: Site, cache: Path) -> None:
    with pytest.raises(DownloadError, match="has 300,000 bytes, 299,999 were published"):
        download(entry_of(site, size=len(CONTENT) - 1))
    assert not left_in(cache)


def test_a_file_that_changed_in_the_cache_is_not_trusted(site: Site) -> None:
    entry = entry_of(site)
    path = download(entry)
    path.write_bytes(CONTENT[::-1])
    assert locate(entry) is None
    assert download(entry).read_bytes() == CONTENT


def test_a_file_put_into_the_cache_by_hand_is_proved_once(site: Site, cache: Path) -> None:
    entry = entry_of(site)
    path = download(entry)
    path.with_name("model.pth.verified").unlink()
    assert locate(entry) == path and path.with_name("model.pth.verified").is_file()
    os.utime(path)
    assert locate(entry) == path


def test_refusals_are_final(site: Site, retry: Retry, waits: list[float]) -> None:
    with pytest.raises(DownloadError, match=r"gone\.pth: the server answered 404 Not Found for http"):
        download(entry_of(site, path="/gone.pth"), retry=retry)
    assert len(site.requests) == 1 and not waits


def test_a_busy_server_is_asked_again_after_the_time_it_names(site: Site, retry: Retry, waits: list[float]) -> None:
    site.statuses = [503, 429]
    assert download(entry_of(site), retry=retry).read_bytes() == CONTENT
    assert waits == [7.0, 7.0]


def test_attempts_are_bounded_and_waits_double(site: Site, waits: list[float], cache: Path) -> None:
    site.break_after = [0] * 10
    with pytest.raises(DownloadError, match="given up after 4 failed attempts") as caught:
        download(entry_of(site), retry=Retry(attempts=4, sleep=waits.append))
    assert waits == [1.0, 2.0, 4.0] and len(site.requests) == 4 and "\n" not in str(caught.value)


def test_nobody_listening(site: Site, retry: Retry) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused", request=request)

    with (
        httpx.Client(transport=httpx.MockTransport(refuse)) as client,
        pytest.raises(DownloadError, match=r"given up after 3 failed attempts \(Connection refused\)$"),
    ):
        download(entry_of(site), client=client, retry=retry)


def test_two_at_once_download_once(site: Site) -> None:
    entry = entry_of(site)
    paths: list[Path] = []
    gate = threading.Barrier(4)

    def fetch_it() -> None:
        gate.wait()
        paths.append(download(entry))

    threads = [threading.Thread(target=fetch_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 4 and len(set(paths)) == 1 and paths[0].read_bytes() == CONTENT
    assert len(site.requests) == 1


def test_a_folder_of_files(site: Site) -> None:
    site.files = {"/r/config.json": b'{"model_type": "sam"}', "/r/model.safetensors": CONTENT}
    files = (
        RemoteFile(url=f"{site.url}/r/config.json"),
        RemoteFile(url=f"{site.url}/r/model.safetensors", sha256=SHA256),
    )
    entry = ModelEntry(name="a/b", kind="huggingface", files=files, licence="none", description="")
    folder = download(entry)
    assert locate(entry) == folder and folder.name == "a--b"
    assert (folder / "config.json").read_bytes() == site.files["/r/config.json"]
    (folder / "model.safetensors").unlink()
    assert locate(entry) is None
    assert download(entry) == folder and len(site.requests) == 3  # only what was missing


def test_a_config_that_is_no_json_is_refused(site: Site) -> None:
    site.files["/config.json"] = b"<html>"
    with pytest.raises(DownloadError, match=r"config\.json: is not JSON"):
        download(entry_of(site, sha256=None, path="/config.json"))


@pytest.mark.parametrize("by_environment", [False, True])
def test_offline_never_touches_the_network(
    by_environment: bool, no_network: httpx.Client, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_environment:
        monkeypatch.setenv("ANYMASK_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"sam-vit-b is not in the cache .*anymask models download sam-vit-b"):
        download("sam-vit-b", offline=not by_environment, client=no_network)
    assert not cache.exists()


def test_offline_uses_what_is_there(site: Site, no_network: httpx.Client) -> None:
    path = download(entry_of(site))
    assert download(entry_of(site), offline=True, client=no_network) == path


def test_a_mirror_of_hugging_face(monkeypatch: pytest.MonkeyPatch, no_network: httpx.Client) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    with pytest.raises(AssertionError, match=r"https://mirror\.example/facebook/sam-vit-base/resolve/"):
        download("facebook/sam-vit-base", client=no_network)
    with pytest.raises(AssertionError, match=r"https://dl\."):
        download("sam-vit-b", client=no_network)


def test_a_full_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(DownloadError, match=r"needs 0 MB more, .* has 0 MB free; make room, or set ANYMASK_HOME"):
        download(entry_of(site))


def test_a_cache_that_cannot_be_written(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retry: Retry
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ANYMASK_HOME", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match=r"cannot be written .*set ANYMASK_HOME"):
        download(entry_of(site), retry=retry)


def test_the_cache_folder_moves_with_the_environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == cache
    monkeypatch.setenv("ANYMASK_HOME", "~/weights")
    assert cache_folder() == Path.home() / "weights"
    monkeypatch.delenv("ANYMASK_HOME")
    assert cache_folder().name.lower() in ("anymask", "cache") and cache_folder().is_absolute()


def test_the_catalogue_holds_together() -> None:
    expected = {"sam-vit-b", "sam-vit-l", "sam-vit-h", "mobile-sam", "facebook/sam-vit-base"}
    assert expected | {f"sam-hq-vit-{size}" for size in ("tiny", "b", "l", "h")} <= set(CATALOGUE)
    hashes = []
    for name, entry in CATALOGUE.items():
        assert entry.name == name and entry.licence and entry.description
        for file in entry.files:
            assert file.url.startswith("https://")
            published = name.startswith(("sam-", "mobile-sam", "sam2-hiera", "sam2.1-hiera", "facebook/sam-vit"))
            assert (file.sha256 is not None) == (published and file.name != "config.json")
            if file.sha256 is not None:
                assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
                hashes.append(file.sha256)
    assert len(set(hashes)) == len(hashes)
    micro_sam = {f"vit_{size}_{what}" for size in "tbl" for what in ("lm", "em_organelles")}
    assert micro_sam | {"vit_b_medical_imaging", "medsam-vit-b", "medsam2"} <= set(CATALOGUE)
    assert {CATALOGUE[name].licence for name in micro_sam} == {"CC-BY-4.0"}
    folders = {f"facebook/sam2{point}-hiera-{size}" for point in ("", ".1") for size in ("tiny", "base-plus", "large")}
    assert all(CATALOGUE[name].is_folder for name in (*folders, "yonigozlan/EdgeTAM-hf", "wanglab/medsam-vit-base"))
    assert CATALOGUE["facebook/sam-vit-base"].is_folder and not CATALOGUE["sam-vit-b"].is_folder


def test_an_unknown_name_suggests_what_is_close() -> None:
    with pytest.raises(UnknownModelError, match=r"'SAM-ViT-Q'; did you mean .*sam-vit-"):
        find_entry("SAM-ViT-Q")
    with pytest.raises(UnknownModelError, match="there are sam-vit-b, sam-vit-l"):
        download("zzz")
