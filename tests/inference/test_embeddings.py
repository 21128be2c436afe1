from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from anymask.errors import OutputError
from anymask.inference import EmbeddingCache, Predictor, Prompt, embeddings
from anymask.inference.embeddings import embedding_key
from anymask.model import SIZES, Embedding, Sam, build_sam

Picture = Callable[..., np.ndarray]


class Clock:
    """A second passes with every look."""

    now = 1_000_000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def embedding(seed: int = 0, *, hq: bool = False) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    return Embedding(
        features=torch.randn(1, 8, 16, 16, generator=generator),
        hq=torch.randn(1, 4, 32, 32, generator=generator) if hq else None,
    )


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call to the encoder had."""
    counts: list[int] = []
    encode = Sam.encode

    def spy(self: Sam, images: torch.Tensor) -> Embedding:
        counts.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(Sam, "encode", spy)
    return counts


@pytest.mark.parametrize("hq", [False, True])
def test_what_was_put_is_got_as_float16(tmp_path: Path, hq: bool) -> None:
    kept = embedding(hq=hq)
    EmbeddingCache(tmp_path / "new" / "folder", 10**6).put("a", kept)
    found = EmbeddingCache(tmp_path / "new" / "folder", 10**6).get("a")
    assert found is not None
    np.testing.assert_array_equal(found.features, kept.features.half().numpy())
    assert (found.hq is not None) == hq
    if kept.hq is not None and found.hq is not None:
        np.testing.assert_array_equal(found.hq, kept.hq.half().numpy())
    assert files(tmp_path / "new" / "folder") == {"a.safetensors"}
    assert EmbeddingCache(tmp_path, 10**6).get("a") is None


def test_keys_tell_pixels_shapes_and_models_apart() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    keys = {
        embedding_key(image, "model"),
        embedding_key(image + 1, "model"),
        embedding_key(image.reshape(4, 2, 3), "model"),
        embedding_key(image, "another"),
    }
    assert len(keys) == 4
    assert embedding_key(np.asfortranarray(image), "model") == embedding_key(image, "model")


def test_cached_and_fresh_embeddings_give_the_same_masks(
    small_sam: Sam, tmp_path: Path, encoded: list[int], picture: Picture
) -> None:
    image = picture(300, 400)
    prompts = [Prompt(points=[(x, y)]) for x in (50, 200, 350) for y in (30, 150, 270)]
    first = Predictor(small_sam, cache=EmbeddingCache(tmp_path))
    first.set_image(image)
    second = Predictor(small_sam, cache=EmbeddingCache(tmp_path))
    second.set_image(image)
    assert encoded == [1]
    wrong = total = 0
    for a, b in zip(first.predict_many(prompts), second.predict_many(prompts), strict=True):
        order = [int(np.abs(b.scores - score).argmin()) for score in a.scores]
        wrong += int((a.masks != b.masks[order]).sum())
        total += a.masks.size
    assert wrong <= 1e-3 * total


def test_a_batch_encodes_only_what_is_missing(
    small_sam: Sam, tmp_path: Path, encoded: list[int], picture: Picture
) -> None:
    images = [picture(40, 50, seed) for seed in range(4)]
    predictor = Predictor(small_sam, cache=EmbeddingCache(tmp_path))
    predictor.set_image(images[2])
    prompts = [[Prompt(points=[(seed, 5)])] for seed in range(4)]
    mixed = predictor.predict_batch(images, prompts)
    assert encoded == [1, 3]
    fresh = Predictor(small_sam).predict_batch(images, prompts)
    for a, b in zip(mixed, fresh, strict=True):
        assert np.abs(a[0].scores - b[0].scores).max() < 1e-2


def test_other_weights_find_nothing(small_sam: Sam, tmp_path: Path, encoded: list[int], picture: Picture) -> None:
    other = build_sam(SIZES["smoke"])
    for sam in (small_sam, other):
        Predictor(sam, cache=EmbeddingCache(tmp_path)).set_image(picture(20, 30))
    assert encoded == [1, 1]
    assert len(files(tmp_path)) == 2


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    size = _entry_size(tmp_path / "probe")
    cache = EmbeddingCache(tmp_path, 3 * size, clock=Clock())
    (tmp_path / "probe" / "a.safetensors").unlink()
    (tmp_path / "probe").rmdir()
    for key in "abc":
        cache.put(key, embedding())
    assert cache.get("a") is not None
    cache.put("d", embedding())
    assert files(tmp_path) == {"a.safetensors", "c.safetensors", "d.safetensors"}


def _entry_size(folder: Path) -> int:
    EmbeddingCache(folder).put("a", embedding())
    return (folder / "a.safetensors").stat().st_size


def test_an_entry_over_the_limit_is_not_kept_and_costs_no_other(tmp_path: Path) -> None:
    size = _entry_size(tmp_path)
    cache = EmbeddingCache(tmp_path, size)
    cache.put("b", embedding(hq=True))
    assert files(tmp_path) == {"a.safetensors"}


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


def _noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def _strip(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"features": torch.zeros(1, 8, 16, 16, dtype=torch.float16)}, path)


@pytest.mark.parametrize("damage", [_truncate, _empty, _flip, _noise, _strip])
def test_a_damaged_entry_is_a_miss_and_goes(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.put("a", embedding())
    damage(tmp_path / "a.safetensors")
    assert cache.get("a") is None
    assert files(tmp_path) == set()
    cache.put("a", embedding())
    assert cache.get("a") is not None


def test_what_float16_cannot_hold_is_not_kept(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.put("a", Embedding(features=torch.full((1, 2, 2, 2), 1e6)))
    assert files(tmp_path) == set()


def test_files_that_are_not_entries_stay_but_abandoned_ones_go(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"x" * 10**6)
    (tmp_path / "old.unfinished").write_bytes(b"x")
    (tmp_path / "new.unfinished").write_bytes(b"x")
    os.utime(tmp_path / "old.unfinished", (1.0, 1.0))
    EmbeddingCache(tmp_path, 10**5).put("a", embedding())
    assert files(tmp_path) == {"notes.txt", "new.unfinished", "a.safetensors"}


def test_a_folder_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="no folder to keep embeddings in"):
        EmbeddingCache(tmp_path / "file")
    with pytest.raises(OutputError, match="limited to 0 bytes"):
        EmbeddingCache(tmp_path, 0)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="no folder to keep embeddings in"):
        EmbeddingCache(tmp_path)


def test_a_folder_lost_later_costs_one_warning(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.warns(UserWarning, match="embeddings are not kept"):
        cache.put("a", embedding())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put("a", embedding())
    assert cache.get("a") is None


_WORKER = """
import sys, torch
from anymask.inference import EmbeddingCache
from anymask.model import Embedding
cache = EmbeddingCache(sys.argv[1], int(sys.argv[2]))
for turn in range(60):
    key = str(turn % 5)
    kept = cache.get(key)
    assert kept is None or bool((kept.features == float(key)).all()), key
    cache.put(key, Embedding(features=torch.full((1, 8, 16, 16), float(key))))
"""


def test_an_entry_evicted_while_it_is_opened_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """safetensors opens a file twice; the second time torch does, and says RuntimeError where there is none."""
    cache = EmbeddingCache(tmp_path)
    cache.put("a", Embedding(features=torch.zeros(1, 8, 16, 16)))

    def evicted(path: Path) -> None:
        raise RuntimeError(f"unable to open file <{path}> in read-only mode: No such file or directory (2)")

    monkeypatch.setattr(embeddings, "_read", evicted)
    assert cache.get("a") is None


def test_processes_share_a_folder(tmp_path: Path) -> None:
    size = _entry_size(tmp_path)
    (tmp_path / "a.safetensors").unlink()
    arguments = [sys.executable, "-c", _WORKER, str(tmp_path), str(3 * size)]
    workers = [subprocess.Popen(arguments, stderr=subprocess.PIPE) for _ in range(2)]
    errors = [worker.communicate(timeout=100)[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    found = files(tmp_path)
    assert found and all(name.endswith(".safetensors") for name in found)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3 * size
