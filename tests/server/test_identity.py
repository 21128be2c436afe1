from __future__ import annotations

from pathlib import Path

from anymask.server.context import FILE, project_id


def test_a_project_keeps_its_id_and_no_other_has_it(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
    assert project_id(ours) == project_id(ours) != project_id(theirs)
    moved = ours.rename(tmp_path / "moved")
    assert project_id(moved) == (moved / FILE).read_text().strip()


def test_what_is_no_id_is_replaced(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xff\r\nX-Evil: 1")
    made = project_id(tmp_path)
    assert len(made) == 32 and made.isalnum() and project_id(tmp_path) == made
