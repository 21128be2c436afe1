from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from anymask.engine.store import (
    Annotation,
    Class,
    Delete,
    EngineSettings,
    Project,
    Provenance,
    Put,
    init_project,
    is_project,
    migrations,
    open_project,
)
from anymask.engine.store.names import plain_key
from anymask.engine.store.tables import metadata
from anymask.errors import DataError, InputError, OutputError
from anymask.geometry import rle
from anymask.server.schemas.annotating import Annotation as Wire


def test_provenance_and_history_are_kept(project: Project, add_images: Callable[..., list[int]]) -> None:
    (image,) = add_images(project, 1)
    made = np.zeros((48, 64), bool)
    made[3:9, 4:20] = True
    known = Provenance(
        stage="semi-automatic", author="ann", origin="prefilled", model="0f", seconds=3.5, clicks=2, strokes=1
    )
    prompts = {"points": [[5, 4], [8, 8]], "labels": [1, 0]}
    first = Annotation(id="a", rle=rle.encode(made), prompts=prompts, provenance=replace(known, author="model"))
    project.annotations.change(image, 0, "model", [Put(annotation=first)])
    project.annotations.change(image, 1, "ann", [Put(annotation=replace(first, provenance=known))])
    project.annotations.change(image, 2, "ann", [Delete(id="a")])
    one, two, three = project.annotations.versions(image, "a")
    assert one.annotation is not None and two.annotation is not None and three.annotation is None
    assert one.annotation.provenance == replace(known, author="model")
    assert two.annotation.provenance == replace(known, derived_from=one.id)
    assert two.annotation.prompts == prompts
    assert [each.revision for each in (one, two, three)] == [1, 2, 3]


def test_a_database_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "project.sqlite"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    mask = rle.encode(np.ones((4, 5), bool))
    with sqlite3.connect(path) as old:
        old.execute("INSERT INTO images VALUES (1, 'a', 'images/a', 5, 4, 9.0, 1, 1)")
        old.execute("INSERT INTO change_sets VALUES (1, 1, 0, 1, 'me', 9.0, 'd')")
        old.execute("INSERT INTO annotation_heads VALUES (1, 1, 'k', 1)")
        old.execute(
            "INSERT INTO annotation_versions (id, annotation_id, change_set_id, deleted, counts, visible, source) "
            "VALUES (1, 1, 1, 0, ?, 1, 'click')",
            (mask["counts"],),
        )
    old.close()
    with open_project(tmp_path) as project:
        assert project.annotations.state(1).annotations == (Annotation(id="k", rle=mask),)
        assert project.jobs.counts() == {}
        assert project.models.current() is None
        with project.database.reading() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_what_earlier_imports_called_things_is_made_such_as_a_page_may_send(
    project: Project, add_images: Callable[..., list[int]], make_older: Callable[..., None]
) -> None:
    (image,) = add_images(project, 1)
    old = ["annotations (1)-17", "标注-3", "plain-1", "x" * 70, "plain-1\n"]
    mask = rle.encode(np.ones((48, 64), bool))
    known = Provenance(stage="import", author="far/" * 80, origin="imported")
    puts = [Put(annotation=Annotation(id=key, rle=mask, parent=old[0], provenance=known)) for key in old]
    project.annotations.change(image, 0, "me", puts)
    names = ("", "y" * 300, "leaf", "a\tstem")
    project.classes.replace(0, "me", [Class(id=n, name=name, color="#123456") for n, name in enumerate(names)])
    with project.database.writing() as connection:
        make_older(connection, "0002")
    with open_project(project.folder, exclusive=False) as again:
        masks = again.annotations.state(image).annotations
        assert [each.id for each in masks] == [plain_key(key) for key in old]
        assert masks[2].id == "plain-1" and masks[2].parent == masks[0].id
        for each in masks:
            assert Wire.model_validate(each).stored() == each
        now = again.classes.current()
        assert [each.name for each in now.classes] == ["class 0", "y" * 200, "leaf", "a stem"]
        assert now.revision == 2


def test_tables_are_those_of_the_code(project: Project) -> None:
    with project.database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_newer_project_is_refused_kindly(project: Project) -> None:
    with project.database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with (
        pytest.raises(DataError, match="made by a newer version of anymask"),
        open_project(project.folder, exclusive=False),
    ):
        pass


def test_settings_are_checked_and_have_a_history(project: Project) -> None:
    assert project.settings.current() == EngineSettings()
    changed = EngineSettings().replace({"mask_seconds": "45", "asks_classes": "yes"})
    project.settings.replace(changed)
    assert project.settings.current() == changed and changed.asks_classes and changed.mask_seconds == 45
    with pytest.raises(InputError, match="no setting 'colour'"):
        changed.replace({"colour": 1})
    with pytest.raises(InputError, match="held_out is 2"):
        changed.replace({"held_out": "2"})


def test_projects_are_made_where_there_is_room(tmp_path: Path) -> None:
    folder = init_project(tmp_path / "p")
    assert is_project(folder)
    with pytest.raises(OutputError, match="a project already"):
        init_project(folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(OutputError, match="not empty"):
        init_project(tmp_path / "full")
    with pytest.raises(InputError, match="sqlite or postgresql"):
        init_project(tmp_path / "q", url="mysql://host/name")
    with pytest.raises(DataError, match="holds no project"), open_project(tmp_path / "none", create=False):
        pass


def test_models_and_rolling_back(project: Project) -> None:
    def add(name: str, promote: bool) -> int:
        verdict = "promoted" if promote else "refused"
        return project.models.add(
            hash=name, path=name, parent=None, trigger="t", num_masks=1, scores={"box": 0.5}, verdict=verdict,
            promote=promote,
        ).id  # fmt: skip

    with pytest.raises(DataError, match="no earlier model"):
        project.models.roll_back()
    a, b, c = add("a", True), add("b", True), add("c", False)
    current = project.models.current()
    assert current is not None and current.id == b and current.scores == {"box": 0.5}
    with pytest.raises(DataError, match=f"model {c} never was"):
        project.models.roll_back(c)
    assert project.models.roll_back().id == a
    assert [reason for _, _, reason in project.models.promotions()] == ["t", "t", "roll-back"]
