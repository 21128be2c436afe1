from __future__ import annotations

import copy
import gzip
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from starlette.testclient import TestClient

import anymask
from anymask.data.channels import ChannelMapping
from anymask.data.images import read_image
from anymask.engine.store import Project
from anymask.inference.answers import encode, read
from anymask.model import Sam
from anymask.samples import sample_path
from anymask.server.encoding import pack

Make = Callable[..., TestClient]


def test_info(client: TestClient) -> None:
    info = client.get("/api/info").json()
    assert info["version"] == anymask.__version__
    assert info["model"] | {"hash": ""} == {
        "name": "smoke",
        "hash": "",
        "image_size": 128,
        "fit": "pad",
        "pads_boxes": False,
        "embedding_size": 16,
        "width": 64,
        "mask_size": 64,
    }
    assert info["text"] is False and info["samples"] == ["coffee", "cat", "rocket", "astronaut", "camera", "meadow"]


def test_an_upload_is_kept_as_it_is(
    client: TestClient, project: Project, image_file: Callable[..., bytes], upload: Callable[..., Any]
) -> None:
    data = image_file(format="JPEG")
    image = upload(client, data, "my waves.jpg")
    assert image == {
        "id": "1",
        "name": "my waves.jpg",
        "width": 80,
        "height": 60,
        "state": "new",
        "error": None,
        "revision": 0,
        "num_annotations": 0,
    }
    assert client.get("/api/images").json() == {"images": [image]}
    shown = client.get("/api/images/1/file")
    assert shown.content == data and shown.headers["content-type"] == "image/jpeg"
    assert [path.read_bytes() for path in (project.folder / "images").iterdir()] == [data]


def test_a_page_of_another_project_or_model_is_refused(
    client: TestClient, upload: Callable[..., Any], annotation: Any
) -> None:
    upload(client)
    info = client.get("/api/info").json()
    here = {"X-Project": info["project_id"], "X-Model": info["model"]["hash"]}
    change = {"base_revision": 0, "client": "tab", "changes": [{"op": "put", "annotation": annotation()}]}
    for wrong in ({"X-Project": "0" * 32}, {"X-Model": "f" * 64}):
        refused = client.post("/api/images/1/changes", json=change, headers=here | wrong)
        assert refused.status_code == 421 and "another project or model" in refused.json()["error"]
    assert client.get("/api/images/1/annotations").json()["revision"] == 0
    assert client.post("/api/images/1/changes", json=change, headers=here).status_code == 200


def test_a_file_is_not_sent_twice(client: TestClient, upload: Callable[..., Any]) -> None:
    upload(client)
    for path in ("/api/images/1/file", "/api/images/1/thumbnail"):
        tag = client.get(path).headers["etag"]
        again = client.get(path, headers={"If-None-Match": tag})
        assert again.status_code == 304 and again.content == b""


def test_a_sample_is_added_by_name(client: TestClient) -> None:
    answer = client.post("/api/images", json={"sample": "coffee"})
    assert answer.status_code == 201 and answer.json()["name"] == "coffee.jpg"
    assert client.get("/api/images/1/file").content == sample_path("coffee").read_bytes()
    refused = client.post("/api/images", json={"sample": "../secret"})
    assert refused.status_code == 422 and "coffee, cat, rocket" in refused.json()["error"]


def _orientated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(file, "TIFF", exif=exif)
    return file.getvalue()


def _deep() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(60 * 80, dtype=np.uint16).reshape(60, 80)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(("make", "size"), [(_orientated, (80, 60)), (_deep, (60, 80))])
def test_what_browsers_do_not_show_alike_is_sent_as_jpeg(
    client: TestClient, upload: Callable[..., Any], make: Callable[[], bytes], size: tuple[int, int]
) -> None:
    image = upload(client, make(), "strange")
    assert (image["height"], image["width"]) == size
    shown = client.get("/api/images/1/file")
    assert shown.headers["content-type"] == "image/jpeg"
    difference = read_image(shown.content).astype(int) - read_image(make())
    assert np.abs(difference).mean() < 2


def test_thumbnails_are_small(client: TestClient, upload: Callable[..., Any], image_file: Callable[..., bytes]) -> None:
    upload(client, image_file(np.zeros((300, 900, 3), np.uint8)))
    thumbnail = read_image(client.get("/api/images/1/thumbnail").content)
    assert thumbnail.shape == (85, 256, 3)


def test_an_embedding_is_made_once_and_sent_compactly(
    client: TestClient,
    smoke_sam: Sam,
    image_file: Callable[..., bytes],
    upload: Callable[..., Any],
    until: Callable[..., Any],
) -> None:
    upload(client)
    early = client.get("/api/images/1/embedding")
    assert early.status_code == 409 and "not encoded yet" in early.json()["error"]
    started = client.post("/api/images/1/encode")
    assert started.status_code == 202 and started.json()["state"] in ("waiting", "encoding", "ready")
    until(client, "1", "ready")
    sent = client.get("/api/images/1/embedding")
    assert sent.headers["content-encoding"] == "gzip"
    assert (sent.headers["x-shape"], sent.headers["x-original-size"]) == ("features=64,16,16", "60,80")
    features = np.frombuffer(sent.content, "<f2").reshape(64, 16, 16)  # the client has unpacked it
    expected = encode(smoke_sam, [read_image(image_file())])[0].embedding.features[0].half().numpy()
    np.testing.assert_array_equal(features, expected)
    assert client.post("/api/images/1/encode").json()["state"] == "ready"


def test_a_mapping_of_channels_holds_for_all_that_is_made_of_an_image(
    make_client: Make,
    smoke_sam: Sam,
    tmp_path: Path,
    image_file: Callable[..., bytes],
    upload: Callable[..., Any],
    until: Callable[..., Any],
) -> None:
    upload(make_client(), _deep())  # its thumbnail is made as another model sees it
    mapped = copy.deepcopy(smoke_sam)
    mapped.channels = ChannelMapping.parse("0:0..20000").to_dict()
    client = make_client(model=mapped)
    upload(client, _deep())
    client.post("/api/images/1/encode")
    until(client, "1", "ready")
    (tmp_path / "deep.png").write_bytes(_deep())
    pixels = read(mapped, tmp_path / "deep.png")
    features = np.frombuffer(client.get("/api/images/1/embedding").content, "<f2").reshape(64, 16, 16)
    np.testing.assert_array_equal(features, encode(mapped, [pixels])[0].embedding.features[0].half().numpy())
    for path in ("1/file", "1/thumbnail", "2/file", "2/thumbnail"):
        shown = read_image(client.get(f"/api/images/{path}").content)
        assert np.abs(shown.astype(int) - pixels).mean() < 2, path
    mapped.channels = ChannelMapping.parse("2,1,0:0..255").to_dict()
    swapping = make_client(model=mapped)
    upload(swapping, image_file())
    shown = read_image(swapping.get("/api/images/3/file").content)  # though browsers would show it as it is
    assert np.abs(shown.astype(int) - read_image(image_file())[..., ::-1]).mean() < 2


def test_embeddings_outlive_the_server(
    make_client: Make, upload: Callable[..., Any], until: Callable[..., Any], project: Project
) -> None:
    first = make_client()
    upload(first)
    first.post("/api/images/1/encode")
    until(first, "1", "ready")
    second = make_client()
    assert second.get("/api/images").json()["images"][0]["state"] == "ready"
    assert second.get("/api/images/1/embedding").status_code == 200


def test_an_embedding_that_the_cache_dropped_is_made_again(
    make_client: Make, upload: Callable[..., Any], until: Callable[..., Any], project: Project
) -> None:
    first = make_client()
    upload(first)
    first.post("/api/images/1/encode")
    until(first, "1", "ready")
    second = make_client()
    for path in (project.cache / "embeddings").iterdir():
        path.unlink()
    assert second.get("/api/images/1/embedding").status_code == 409
    assert second.get("/api/images").json()["images"][0]["state"] == "new"
    second.post("/api/images/1/encode")
    until(second, "1", "ready")
    assert second.get("/api/images/1/embedding").status_code == 200


def test_an_image_that_cannot_be_encoded_says_why_and_the_next_one_can(
    make_client: Make, upload: Callable[..., Any], until: Callable[..., Any], project: Project
) -> None:
    client = make_client()
    upload(client)
    upload(client, name="second.png")
    for path in (project.folder / "images").iterdir():
        if path.name == Path(_location(project, 1)).name:
            path.write_bytes(path.read_bytes()[:100])
    for id in ("1", "2"):
        client.post(f"/api/images/{id}/encode")
    failed = until(client, "1", "failed")
    assert "damaged or incomplete" in failed["error"] and str(project.folder) not in failed["error"]
    until(client, "2", "ready")


def test_a_model_that_fails_does_not_end_the_worker(
    client: TestClient,
    smoke_sam: Sam,
    upload: Callable[..., Any],
    until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload(client)

    def fail(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with monkeypatch.context() as patched:
        patched.setattr(type(smoke_sam.image_encoder), "forward", fail)
        client.post("/api/images/1/encode")
        assert "not enough memory" in until(client, "1", "failed")["error"]
    client.post("/api/images/1/encode")
    until(client, "1", "ready")


def _location(project: Project, id: int) -> str:
    image = project.images.get(id)
    assert image is not None
    return image.location


def test_a_full_queue_says_when_to_come_again(
    make_client: Make, upload: Callable[..., Any], until: Callable[..., Any]
) -> None:
    import threading

    client = make_client(max_waiting=2)
    for _ in range(6):
        upload(client)
    hold, held = threading.Event(), threading.Event()
    worker = client.app.state.context.worker  # type: ignore[attr-defined]
    worker.submit("hold", "hold", lambda: (held.set(), hold.wait(60)))
    assert held.wait(60)
    states = [client.post(f"/api/images/{id}/encode?priority=next").status_code for id in (1, 2, 3)]
    assert states == [202, 202, 429]
    refused = client.post("/api/images/3/encode?priority=next")
    assert int(refused.headers["retry-after"]) >= 1 and "busy" in refused.json()["error"]
    assert client.post("/api/images/4/encode").status_code == 202  # takes the place of the last that may come next
    shown = {image["id"]: image["state"] for image in client.get("/api/images").json()["images"]}
    assert shown == {"1": "waiting", "2": "new", "3": "new", "4": "waiting", "5": "new", "6": "new"}
    assert client.post("/api/images/1/encode").status_code == 202  # what waits already is only moved forward
    assert client.post("/api/images/5/encode").status_code == 429
    hold.set()
    for id in ("1", "4"):
        until(client, id, "ready")


def test_a_folder_is_added_by_reference(
    make_client: Make, project: Project, tmp_path: Path, image_file: Callable[..., bytes], until: Callable[..., Any]
) -> None:
    folder, outside = tmp_path / "photographs", tmp_path / "outside.png"
    (folder / "trip").mkdir(parents=True)
    (folder / "b.png").write_bytes(image_file())
    (folder / "trip" / "a.JPG").write_bytes(image_file(format="JPEG"))
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.png").write_bytes(b"<svg/>")
    outside.write_bytes(image_file())
    os.symlink(outside, folder / "link.png")
    client = make_client(folders=(folder,))
    for _ in range(600):
        images = client.get("/api/images").json()["images"]
        if len(images) == 2:
            break
        time.sleep(0.05)
    assert [(image["name"], image["width"], image["height"]) for image in images] == [
        ("b.png", 80, 60),
        ("trip/a.JPG", 80, 60),
    ]
    assert client.get("/api/images/1/file").content == image_file()
    assert list((project.folder / "images").iterdir()) == []
    client.post("/api/images/2/encode")
    until(client, "2", "ready")
    (folder / "b.png").unlink()
    assert client.get("/api/images/1/file").status_code == 404
    client.post("/api/images/1/encode")
    assert "there is no such file" in until(client, "1", "failed")["error"]


@pytest.mark.parametrize("shape", [(256, 64, 64), (128, 32, 32)])
def test_no_embedding_takes_more_than_3_mb(shape: tuple[int, int, int]) -> None:
    """Gaussian noise compresses worse than any features."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).half().numpy()
    packed = pack(noise)
    assert len(packed) < 3_000_000
    np.testing.assert_array_equal(np.frombuffer(gzip.decompress(packed), "<f2").reshape(shape), noise)


def test_another_file_in_an_images_place_is_shown_and_encoded_anew(
    client: TestClient,
    project: Project,
    image_file: Callable[..., bytes],
    upload: Callable[..., Any],
    until: Callable[..., Any],
) -> None:
    upload(client, image_file(np.full((60, 80, 3), 30, np.uint8)))
    client.post("/api/images/1/encode")
    until(client, "1", "ready")
    before = [client.get(f"/api/images/1/{kind}").content for kind in ("embedding", "thumbnail")]
    stored = project.images.get(1)
    assert stored is not None
    project.path(stored.location).write_bytes(image_file())
    assert client.get("/api/images/1/embedding").status_code == 409
    client.post("/api/images/1/encode")
    until(client, "1", "ready")
    after = [client.get(f"/api/images/1/{kind}").content for kind in ("embedding", "thumbnail")]
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert client.post("/api/images/1/encode").json()["state"] == "ready"


def test_the_frames_of_an_animation_are_not_counted(
    client: TestClient, upload: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [Image.fromarray(np.full((60, 80), value, np.uint8)) for value in range(0, 200, 20)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    upload(client, file.getvalue(), "moving.gif")
    monkeypatch.setattr(GifImageFile, "n_frames", property(lambda _: pytest.fail("all frames were gone through")))
    assert client.get("/api/images/1/file").headers["content-type"] == "image/jpeg"
