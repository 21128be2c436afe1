"""The README, followed to the letter; and its translation, which must say the same."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from anymask.checkpoints import places, save_model
from anymask.cli import main
from anymask.model import SIZES, build_sam
from anymask.samples import sample_path

ROOT = Path(__file__).parents[1]
LANGUAGES = ("README.md", "README.zh-CN.md")


def _blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def beside_the_photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with coffee.jpg and the recipes, and a small model in the place of the embedded one."""
    save_model(build_sam(SIZES["smoke"]), tmp_path / "small.safetensors")
    monkeypatch.setitem(places.EMBEDDED, "anymask-s", str(tmp_path / "small.safetensors"))
    monkeypatch.chdir(tmp_path)
    shutil.copy(sample_path("coffee"), tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    return tmp_path


def test_the_python_runs_and_gives_what_it_says(beside_the_photograph: Path) -> None:
    names: dict[str, Any] = {}
    for block in _blocks("README.md", "python"):
        exec(block, names)
    assert names["masks"].masks.shape == (3, 400, 600)
    assert names["masks"].scores.shape == (3,)
    assert names["again"].best.shape == (400, 600)


def test_the_shell_runs_but_for_installs_and_the_run_of_a_minute(
    beside_the_photograph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANYMASK_SHARDS", "shards")
    (beside_the_photograph / "runs" / "smoke").mkdir(parents=True)
    shutil.copy("small.safetensors", "runs/smoke/model.safetensors")
    lines = [line for block in _blocks("README.md", "sh") for line in block.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("anymask ")]
    assert len(commands) == 9
    elsewhere = (["train", "recipes/smoke.toml"], ["serve", "my-project"])  # tests/end_to_end and tests/cli run them
    for _, *arguments in commands:
        if arguments[:2] not in elsewhere:
            assert main(arguments) == 0
    assert {"coffee_mask.png", "coffee_overlay.png", "coffee.json"} <= {path.name for path in Path("out").iterdir()}
    assert Path("sheet.png").is_file()
    assert {"coffee.json", "coffee_overlay.jpg", "annotations.coco.json"} <= {
        path.name for path in Path("everything").iterdir()
    }


def test_both_languages_are_in_step() -> None:
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in LANGUAGES)
    assert _blocks(LANGUAGES[0], "python") == _blocks(LANGUAGES[1], "python")
    for pattern in (r"^#+ ", r"^```", r"^\|", r"`[^`\n]+`", r"\]\([^)]+\)", r"^(?:make|anymask|pip) [^#\n]*[^#\s]"):
        found = [sorted(re.findall(pattern, text, re.MULTILINE)) for text in (english, chinese)]
        if pattern.startswith(r"\]"):
            found = [[link for link in links if "README" not in link or "samples" in link] for links in found]
        assert found[0] == found[1], pattern


def test_links_inside_the_repository_lead_somewhere() -> None:
    papers = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "recipes/README.md", "recipes/anymask-s/README.md")
    for name in (*LANGUAGES, *papers):
        for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8")):
            assert link.startswith("https://") or ((ROOT / name).parent / link).exists(), f"{name}: {link}"


def test_the_files_that_contributing_names_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:src|tests|benchmarks)/[\w./]+)`", text)
    paths = [path for path in named if not re.search("VERB|NNNN", path)]
    assert paths
    for path in paths:
        assert (ROOT / path).exists(), path


def test_the_files_that_the_architecture_names_are_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:\w+/)+\w+\.py)`", text):
        assert (ROOT / "src" / "anymask" / path).is_file(), path
