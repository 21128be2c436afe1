from __future__ import annotations

import json
from pathlib import Path

import pytest

from anymask.errors import OutputError
from anymask.evaluation.result_log import ResultLog


def test_what_was_appended_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.jsonl"
    result_log = ResultLog(path, {"seed": 1})
    result_log.append("x/1", {"ious": [0.1, 1 / 3]})
    result_log.append("x/ü\n", None)
    expected = [("x/1", {"ious": [0.1, 1 / 3]}), ("x/ü\n", None)]
    assert list(result_log.read()) == expected
    assert list(ResultLog(path, {"seed": 1}).read()) == expected


def test_other_settings_begin_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    ResultLog(path, {"seed": 1}).append("x", 1)
    assert list(ResultLog(path, {"seed": 2}).read()) == []
    assert list(ResultLog(path, {"seed": 1}).read()) == []


@pytest.mark.parametrize("rubbish", [b'["y",', b'["y",2]', b"\xff\xfe\n", b'{"y": 2}\n', b"[1, 2]\n"])
def test_a_line_cut_short_is_written_over(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "a.jsonl"
    ResultLog(path, {}).append("x", 1)
    with path.open("ab") as file:
        file.write(rubbish)
    result_log = ResultLog(path, {})
    assert list(result_log.read()) == [("x", 1)]
    result_log.append("z", 3)
    assert list(result_log.read()) == [("x", 1), ("z", 3)]
    assert [json.loads(line) for line in path.read_text().splitlines()[1:]] == [["x", 1], ["z", 3]]


def test_a_file_of_something_else_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("")
    assert list(ResultLog(path, {}).read()) == []
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        ResultLog(tmp_path / "folder.jsonl", {})
