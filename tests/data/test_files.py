from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch

from anymask.data.files import (
    remove_abandoned,
    write_bytes_atomic,
    write_image_atomic,
    write_text_atomic,
    write_whole,
)
from anymask.data.images import read_image
from anymask.errors import OutputError

needs_permissions = pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() == 0, reason="root may write anywhere")


def test_bytes_and_text_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_bytes_atomic(path, b"old, and longer than the new")
    write_text_atomic(str(path), "é\n")
    assert path.read_bytes() == b"\xc3\xa9\n"
    assert list(tmp_path.iterdir()) == [path]


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    write_bytes_atomic(tmp_path / "atomic", b"")
    assert stat.S_IMODE((tmp_path / "atomic").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "real" / "file.txt")
    write_text_atomic(link, "text")
    assert link.is_symlink() and (tmp_path / "real" / "file.txt").read_text() == "text"


def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    write_text_atomic(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match=r"a\.txt.*No space left"):
        write_text_atomic(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        write_text_atomic(tmp_path / "missing" / "a.txt", "")
    with pytest.raises(OutputError, match="is a folder"):
        write_text_atomic(tmp_path, "")


@needs_permissions
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            write_text_atomic(tmp_path / "a.txt", "")
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("shape", [(5, 9), (5, 9, 3)])
def test_pixels_come_back_from_png(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    write_image_atomic(tmp_path / "a.png", image)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), read_image(image))


def test_masks_are_written_as_black_and_white(tmp_path: Path) -> None:
    mask = np.eye(6, dtype=bool)
    write_image_atomic(tmp_path / "mask.png", mask)
    np.testing.assert_array_equal(read_image(tmp_path / "mask.png")[:, :, 0], mask * 255)


def test_jpeg_quality_is_heeded(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for quality in (20, 95):
        write_image_atomic(tmp_path / f"{quality}.jpg", image, quality=quality)
    assert (tmp_path / "20.jpg").stat().st_size * 2 < (tmp_path / "95.jpg").stat().st_size


def test_images_that_cannot_be_written(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    for name, image, match in [
        ("a.txt", pixels, r"\.txt names no image format"),
        ("a", pixels, "no suffix"),
        ("a.jpg", pixels, "JPEG cannot hold uint8 pixels"),
        ("a.png", np.zeros((4, 4, 3)), "PNG cannot hold float64"),
        ("a.png", np.zeros((0, 4), np.uint8), "no pixels"),
    ]:
        with pytest.raises(OutputError, match=match):
            write_image_atomic(tmp_path / name, image)
    assert not list(tmp_path.iterdir())


def test_what_dead_writers_left_is_removed(tmp_path: Path) -> None:
    left, own = tmp_path / f".{'0a' * 16}.tmp", tmp_path / ".mine.tmp"
    for path in (left, own):
        path.write_text("half")
    now = left.stat().st_mtime
    remove_abandoned(tmp_path, clock=lambda: now + 3000)
    assert left.exists()
    remove_abandoned(tmp_path, clock=lambda: now + 4000)
    assert not left.exists() and own.exists()
    remove_abandoned(tmp_path / "absent")


def test_only_what_is_about_writing_is_told_as_such(tmp_path: Path) -> None:
    def exhausted(path: Path) -> None:
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError, match=r"^CUDA out of memory"):
        write_whole(tmp_path / "a.json", exhausted)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_torchs_error_about_a_full_disk_is_one_about_writing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a\.pth: cannot be written"):
        write_whole(tmp_path / "a.pth", lambda _: torch.save(torch.zeros(1000, 1000), "/dev/full"))
