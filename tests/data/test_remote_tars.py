"""Tars on a server: indexed once, then read a range at a time, in worker processes too."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from anymask.data.loader import BatchStream, Source, batches
from anymask.data.readers.tars import TarFiles
from anymask.data.synthetic import SceneConfig, render_shards
from anymask.data.transforms import TransformConfig
from anymask.errors import DataError
from anymask.training.sources import find


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves ranges of files, as object stores do, and counts what it is asked."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Range", "all"))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if wanted is None or not path.is_file():
            super().do_GET()
            return
        data = path.read_bytes()
        first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        self.wfile.write(data[first : last + 1])

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Counting", (Ranges,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("remote")
    return [
        Path(path) for path in render_shards(folder, SceneConfig(size=64), scenes_per_shard=5, num_shards=2, seed=1)
    ]


def test_remote_tars_are_those_here(shards: list[Path], tmp_path: Path) -> None:
    here = TarFiles(shards)
    with served(shards[0].parent) as (url, asked):
        there = TarFiles([f"{url}/{path.name}" for path in shards], index_folder=tmp_path)
        assert len(there) == len(here) == 10
        for index in range(10):
            assert there.key(index) == here.key(index)
            ours, theirs = here.sample(index), there.sample(index)
            assert np.array_equal(ours.image, theirs.image) and np.array_equal(ours.masks, theirs.masks)
        asked.clear()
        again = TarFiles([f"{url}/{path.name}" for path in shards], index_folder=tmp_path)
        assert len(again) == 10 and "all" not in asked and len(asked) <= 4
        asked.clear()
        again.sample(3)
        assert len(asked) == 2  # its image and its JSON


def test_workers_read_remote_tars(shards: list[Path], tmp_path: Path) -> None:
    def first(files: TarFiles, workers: int) -> torch.Tensor:
        source = Source(files=files, weight=1.0, transforms=TransformConfig(min_cells=1))
        stream = BatchStream([source], batch_size=3, num_masks=2, image_size=64, mask_size=32, seed=3)
        read = batches(stream, num_workers=workers)
        return torch.cat([next(read).images for _ in range(3)])

    with served(shards[0].parent) as (url, _):
        remote = TarFiles([f"{url}/{path.name}" for path in shards], index_folder=tmp_path)
        remote.sample(0)  # a connection of this process's
        assert torch.equal(first(remote, 2), first(TarFiles(shards), 0))


def test_what_is_not_there_or_changes_is_named(shards: list[Path], tmp_path: Path) -> None:
    copied = tmp_path / "served"
    copied.mkdir()
    (copied / "a.tar").write_bytes(shards[0].read_bytes())
    with served(copied) as (url, _):
        with pytest.raises(DataError, match=r"there is no tar http://127\.0\.0\.1:\d+/absent\.tar"):
            TarFiles([f"{url}/absent.tar"], index_folder=tmp_path)
        files = TarFiles([f"{url}/a.tar"], index_folder=tmp_path)
        (copied / "a.tar").write_bytes(b"short")
        with pytest.raises(DataError, match=r"a\.tar"):
            files.sample(4)
    with pytest.raises(DataError, match="cannot be opened: Protocol not known: nothing"):
        TarFiles(["nothing://bucket/a.tar"], index_folder=tmp_path)


def test_a_recipe_names_a_range_of_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET", "s3://pictures")
    assert find(["$BUCKET/sa_{000998..001001}.tar"], "tar") == [
        f"s3://pictures/sa_{number}.tar" for number in ("000998", "000999", "001000", "001001")
    ]
    assert find(["https://host/a{1..2}-b{8..10}.tar"], "tar")[-3:] == [f"https://host/a2-b{n}.tar" for n in (8, 9, 10)]
    assert find(["https://host/a.tar"], "tar") == ["https://host/a.tar"]
