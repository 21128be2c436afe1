"""Tars: at random and as a stream the same samples; whatever is broken is left out and named, never fatal."""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import pickle
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from anymask.data.cache import ImageCache
from anymask.data.readers.pairs import parse_sample
from anymask.data.readers.tars import TarFiles, stream
from anymask.data.sample import Sample, Skipped
from anymask.errors import AnymaskError, DataError, ImageError

Pair = Callable[..., list[tuple[str, bytes]]]
Write = Callable[..., Path]


def changed(members: list[tuple[str, bytes]], change: Callable[[dict[str, object]], object]) -> list[tuple[str, bytes]]:
    """The same pair, its JSON changed."""
    (image, json_) = members
    document = json.loads(json_[1])
    new = change(document)
    return [image, (json_[0], json.dumps(document if new is None else new).encode())]


def wrong_sizes(document: dict[str, list[dict[str, dict[str, object]]]]) -> None:
    for annotation in document["annotations"]:
        annotation["segmentation"]["size"] = [41, 60]


def no_masks(document: dict[str, object]) -> None:
    document["annotations"] = []


def wrong_level(document: dict[str, list[dict[str, object]]]) -> None:
    for annotation in document["annotations"]:
        annotation.update(level="high", parent=[])


def broken_pairs(pair_of: Pair) -> dict[str, list[tuple[str, bytes]]]:
    image, document = pair_of(1)
    return {
        "a picture cut short": [(image[0], image[1][:200]), document],
        "not a picture": [(image[0], b"hello"), document],
        "an empty picture": [(image[0], b""), document],
        "RLEs of the wrong size": changed(pair_of(1), wrong_sizes),  # type: ignore[arg-type]
        "no masks": changed(pair_of(1), no_masks),
        "broken JSON": [image, (document[0], document[1][:-50])],
        "JSON that is none of SA-1B's": [image, (document[0], b'[1, {"annotations": 3}]')],
        "annotations that are no objects": changed(pair_of(1), lambda d: {"annotations": [1, 2]}),
        "annotations without an RLE": changed(pair_of(1), lambda d: {"annotations": [{"id": 1}]}),
        "a level that is none": changed(pair_of(1), wrong_level),  # type: ignore[arg-type]
        "empty masks": changed(
            pair_of(1), lambda d: [a["segmentation"].update(counts=[2400]) for a in d["annotations"]] and None
        ),  # type: ignore[index, attr-defined, func-returns-value]
    }


KINDS = list(broken_pairs(lambda i: [("x.jpg", b""), ("x.json", b'{"annotations": [{"segmentation": {}}]}')]))


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def same(a: Sample, b: Sample) -> bool:
    return a.key == b.key and np.array_equal(a.image, b.image) and np.array_equal(a.masks, b.masks)


def test_random_access_and_stream_agree(pair_of: Pair, write_tar: Write, sample_of: Callable[..., Sample]) -> None:
    first = write_tar("a.tar", [m for i in range(3) for m in pair_of(i)])
    second = write_tar("b.tar", [(f"folder/v1.5/{n}", d) for n, d in pair_of(3)])
    files = TarFiles([first, second])
    assert [files.key(i) for i in range(len(files))] == [
        *(f"a.tar/image-{i}" for i in range(3)),
        "b.tar/folder/v1.5/image-3",
    ]
    streamed = list(stream([str(first), str(second)]))
    assert len(streamed) == len(files) == 4
    for index, sample in enumerate(streamed):
        assert same(files.sample(index), sample)
        assert np.array_equal(sample.masks, sample_of(index).masks)


def test_http_streams_and_skips(pair_of: Pair, write_tar: Write, tmp_path: Path) -> None:
    path = write_tar("a.tar", [m for i in range(3) for m in pair_of(i)])
    skipped = Skipped()
    with served(tmp_path) as url:
        samples = list(stream([f"{url}/absent.tar", f"{url}/a.tar"], skipped=skipped))
    wanted = TarFiles([path])
    assert all(same(sample, wanted.sample(i)) for i, sample in enumerate(samples)) and len(samples) == 3
    assert skipped.total == 1 and skipped.keys == {f"{url}/absent.tar"}


def test_some_masks_are_drawn_by_the_generator(
    pair_of: Pair, write_tar: Write, sample_of: Callable[..., Sample]
) -> None:
    files = TarFiles([write_tar("a.tar", pair_of(0))])
    drawn = {files.sample(0, max_masks=1, rng=np.random.default_rng(s)).masks.tobytes() for s in range(30)}
    assert drawn == {mask.tobytes() for mask in sample_of(0).masks[:, None]}


def test_the_hierarchy_survives_a_draw(pair_of: Pair) -> None:
    def chain(document: dict[str, list[dict[str, int]]]) -> None:
        for index, annotation in enumerate(document["annotations"]):
            annotation.update(level=index, parent=index - 1)

    image, document = changed(pair_of(0), chain)  # type: ignore[arg-type]
    whole = parse_sample("k", image[1], document[1])
    assert whole.levels is not None and whole.levels.tolist() == [0, 1, 2]
    assert whole.parents is not None and whole.parents.tolist() == [-1, 0, 1]
    for seed in range(10):
        some = parse_sample("k", image[1], document[1], max_masks=2, rng=np.random.default_rng(seed))
        assert some.levels is not None and some.parents is not None
        for index, level in enumerate(some.levels):
            parent = some.parents[index]
            assert parent == -1 or some.levels[parent] == level - 1
            assert (parent == -1) == (level - 1 not in some.levels)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_broken_is_named_and_left_out(
    kind: str, pair_of: Pair, write_tar: Write, caplog: pytest.LogCaptureFixture
) -> None:
    members = [*pair_of(0), *broken_pairs(pair_of)[kind], *pair_of(2)]
    path = write_tar("a.tar", members)
    files = TarFiles([path])
    with pytest.raises(AnymaskError):
        files.sample(1)
    skipped = Skipped()
    with caplog.at_level(logging.WARNING):
        kept = [sample.key for sample in stream([str(path)], skipped=skipped)]
    assert kept == ["a.tar/image-0", "a.tar/image-2"]
    assert skipped.total == 1 and skipped.keys == {"a.tar/image-1"}
    assert [r.message.startswith("skipped a.tar/image-1: ") for r in caplog.records] == [True]


@pytest.mark.parametrize("fault", [{"size": [41, 60]}, {"counts": "~~~"}, {"counts": [2400]}, {"counts": None}])
def test_a_bad_or_empty_mask_is_left_out_and_the_others_are_used(
    fault: dict[str, object], pair_of: Pair, write_tar: Write
) -> None:
    image, document = changed(pair_of(1), lambda d: d["annotations"][1]["segmentation"].update(fault))  # type: ignore[index]
    files = TarFiles([write_tar("a.tar", [image, document])])
    good = parse_sample("k", *(data for _, data in pair_of(1)))
    assert np.array_equal(files.sample(0).masks, good.masks[[0, 2]])
    found = files.annotations(0)
    assert [mask.id for mask in found.masks] == ["sa1b-0", "sa1b-2"] and sum(found.left_out.values()) == 1


def test_images_without_json_and_the_other_way_round(
    pair_of: Pair, write_tar: Write, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_tar("a.tar", [pair_of(0)[0], pair_of(1)[1], *pair_of(2)])
    files, skipped = TarFiles([path]), Skipped()
    assert "1 images have no JSON and are left out, such as image-0" in caplog.text
    assert [files.key(i) for i in range(len(files))] == ["a.tar/image-2"]
    assert [s.key for s in stream([str(path)], skipped=skipped)] == ["a.tar/image-2"]
    assert skipped.keys == {"a.tar/image-0", "a.tar/image-1"}
    assert len(TarFiles([path], labelled=False)) == 2


def damage(path: Path, member: str) -> None:
    """Overwrite a member's header."""
    with tarfile.open(path) as tar:
        offset = tar.getmember(member).offset
    data = bytearray(path.read_bytes())
    data[offset : offset + 512] = b"\xff" * 512
    path.write_bytes(data)


def test_a_damaged_header_costs_one_image(pair_of: Pair, write_tar: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write_tar("a.tar", [m for i in range(3) for m in pair_of(i)])
    damage(path, "image-1.json")
    files = TarFiles([path])
    assert [files.key(i) for i in range(len(files))] == ["a.tar/image-0", "a.tar/image-2"]
    assert "what stands between image-1.jpg and image-2.jpg is lost" in caplog.text
    assert files.sample(1).key == "a.tar/image-2"
    skipped = Skipped()
    assert [s.key for s in stream([str(path)], skipped=skipped)] == ["a.tar/image-0", "a.tar/image-2"]
    assert skipped.keys == {"a.tar/image-1", str(path)}


@pytest.mark.parametrize("share", [0.3, 0.55, 0.8])
def test_a_tar_cut_short_gives_what_is_whole(
    share: float, pair_of: Pair, write_tar: Write, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_tar("a.tar", [m for i in range(4) for m in pair_of(i, (200, 200))])
    with tarfile.open(path) as tar:
        end = tar.getmembers()[-1].offset_data + tar.getmembers()[-1].size
    path.write_bytes(path.read_bytes()[: int(end * share)])
    skipped = Skipped()
    streamed = [s.key for s in stream([str(path)], skipped=skipped)]
    assert 1 <= len(streamed) <= 3 and skipped.total >= 1
    files, readable = TarFiles([path]), []
    for index in range(len(files)):
        with contextlib.suppress(DataError, ImageError):
            readable.append(files.sample(index).key)
    assert readable == streamed


def test_what_is_no_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar at all" * 100)
    (tmp_path / "empty.tar").write_bytes(b"")
    with pytest.raises(DataError, match="not a readable tar"):
        TarFiles([tmp_path / "a.tar"])
    with pytest.raises(DataError, match="empty"):
        TarFiles([tmp_path / "empty.tar"])
    with pytest.raises(DataError, match="no tar"):
        TarFiles([tmp_path / "absent.tar"])
    skipped = Skipped()
    assert not list(stream([str(tmp_path / "a.tar"), str(tmp_path / "absent.tar")], skipped=skipped))
    assert skipped.total == 2


def test_a_broken_sample_is_named_once_and_counted_always(caplog: pytest.LogCaptureFixture) -> None:
    skipped = Skipped()
    for _ in range(3):
        skipped.add("a.tar/x", DataError("no masks"))
    assert skipped.total == 3 and caplog.text.count("a.tar/x") == 1


def test_tars_travel_to_other_processes_without_their_maps(pair_of: Pair, write_tar: Write) -> None:
    files = TarFiles([write_tar("a.tar", pair_of(0))])
    wanted = files.sample(0)
    copy = pickle.loads(pickle.dumps(files))
    assert same(copy.sample(0), wanted)
    assert same(files.sample(0), wanted)


def test_a_cache_gives_the_same_samples(pair_of: Pair, write_tar: Write, tmp_path: Path) -> None:
    path = write_tar("a.tar", [m for i in range(2) for m in pair_of(i)])
    plain, cached = TarFiles([path]), TarFiles([path], cache=ImageCache(2**20, tmp_path / "cache"))
    for _ in range(2):
        assert all(same(plain.sample(i), cached.sample(i)) for i in range(2))
    assert cached.cache is not None and (cached.cache.hits, cached.cache.misses) == (2, 2)
