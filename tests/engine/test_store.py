from __future__ import annotations

import json
import multiprocessing
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, insert, select, text
from sqlalchemy.exc import OperationalError

from anymask.engine.store import (
    Annotation,
    Class,
    ClassSet,
    Conflict,
    Database,
    Delete,
    Project,
    Put,
    State,
    open_project,
)
from anymask.engine.store.database import sqlite_url
from anymask.engine.store.images import NewImage
from anymask.engine.store.tables import class_sets, metadata
from anymask.errors import DataError, OutputError
from anymask.geometry import rle

SIZE = (30, 40)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with open_project(tmp_path / "project", clock=lambda: 1000.0) as opened:
        opened.images.add([NewImage(name=f"{n}.jpg", location=f"images/{n}.jpg", size=SIZE) for n in "ab"])
        yield opened


def square(id: str, side: int = 5, **more: object) -> Annotation:
    mask = np.zeros(SIZE, bool)
    mask[2 : 2 + side, 3 : 3 + side] = True
    return replace(Annotation(id=id, rle=rle.encode(mask)), **more)  # type: ignore[arg-type]


def put(*annotations: Annotation) -> list[Put | Delete]:
    return [Put(annotation=annotation) for annotation in annotations]


def test_what_was_put_comes_back_as_it_was(project: Project) -> None:
    full = square(
        "full",
        class_id=0,
        name="naïve 猫",
        visible=False,
        score=0.25,
        source="box",
        prompts={"points": [[1.5, 2]], "nested": {"a": None}},
        parent="bare",
    )
    assert project.annotations.state(1) == State(revision=0, annotations=())
    assert project.annotations.change(1, 0, "me", put(square("bare"), full)) == 1
    assert project.annotations.state(1) == State(revision=1, annotations=(square("bare"), full))
    assert project.annotations.state(2) == State(revision=0, annotations=())
    first, second = project.images.all()
    assert (first.revision, first.num_annotations) == (1, 2)
    assert (second.revision, second.num_annotations) == (0, 0)


def test_nothing_is_overwritten(project: Project) -> None:
    store = project.annotations
    store.change(1, 0, "me", put(square("a"), square("b")))
    store.change(1, 1, "me", [*put(square("b", 9)), Delete(id="a")])
    store.change(1, 2, "you", put(square("a", 7)))
    assert store.state(1).annotations == (square("a", 7), square("b", 9))  # brought back to its old place
    assert store.state(1, 2).annotations == (square("b", 9),)
    assert store.state(1, 1).annotations == (square("a"), square("b"))
    assert store.state(1, 0).annotations == ()
    with sqlite3.connect(project.folder / "project.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM annotation_versions").fetchone() == (5,)
        sets = connection.execute("SELECT base_revision, revision, client, at FROM change_sets").fetchall()
    assert sets == [(0, 1, "me", 1000.0), (1, 2, "me", 1000.0), (2, 3, "you", 1000.0)]


def test_an_old_revision_is_refused_and_changes_nothing(project: Project) -> None:
    project.annotations.change(1, 0, "me", put(square("a")))
    for base in (0, 2, 99):
        with pytest.raises(Conflict, match=f"at revision 1, the change was made on revision {base}") as caught:
            project.annotations.change(1, base, "you", put(square("b")))
        assert caught.value.revision == 1
    assert project.annotations.state(1).annotations == (square("a"),)


def test_a_change_set_sent_twice_is_made_once(project: Project) -> None:
    changes = put(square("a"))
    assert project.annotations.change(1, 0, "me", changes) == 1
    assert project.annotations.change(1, 0, "me", changes) == 1
    with pytest.raises(Conflict):
        project.annotations.change(1, 0, "you", changes)
    with pytest.raises(Conflict):
        project.annotations.change(1, 0, "me", put(square("a", 6)))
    assert project.annotations.change(1, 1, "me", put(square("c"))) == 2
    with pytest.raises(Conflict):
        project.annotations.change(1, 0, "me", changes)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (put(replace(square("x"), rle=rle.encode(np.ones((40, 30), bool)))), "does not fit its image of 30 x 40"),
        (put(replace(square("x"), rle={"size": [30, 40], "counts": "zzz"})), "alphabet"),
        ([Delete(id="x")], "annotation x cannot be deleted"),
    ],
)
def test_a_bad_change_spoils_its_whole_set(project: Project, bad: list[Put | Delete], message: str) -> None:
    with pytest.raises(DataError, match=message):
        project.annotations.change(1, 0, "me", [*put(square("good")), *bad])
    assert project.annotations.state(1) == State(revision=0, annotations=())


def test_there_must_be_an_image(project: Project) -> None:
    assert project.images.get(3) is None
    with pytest.raises(DataError, match="no image 3"):
        project.annotations.state(3)
    with pytest.raises(DataError, match="no image 3"):
        project.annotations.change(3, 0, "me", put(square("a")))


def test_many_at_once_each_take_their_turn(project: Project) -> None:
    def add(number: int) -> int:
        while True:
            base = project.annotations.state(1).revision
            try:
                return project.annotations.change(1, base, f"client-{number}", put(square(f"a{number}")))
            except Conflict:
                continue

    with ThreadPoolExecutor(8) as pool:
        revisions = list(pool.map(add, range(24)))
    assert sorted(revisions) == list(range(1, 25))
    assert {a.id for a in project.annotations.state(1).annotations} == {f"a{n}" for n in range(24)}


def test_work_that_waits_is_written_together_and_fails_alone(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "fresh.sqlite"))
    started, go_on = threading.Event(), threading.Event()
    commits = []
    event.listen(database._engine, "commit", commits.append)

    def hold(_: Connection) -> str:
        started.set()
        go_on.wait(30)
        return "held"

    def add(number: int) -> Callable[[Connection], int]:
        def work(connection: Connection) -> int:
            row = {"revision": number, "client": "c", "at": 0.0, "digest": "", "classes": "[]"}
            connection.execute(insert(class_sets).values(row))
            if number == 3:
                raise DataError("three is refused")
            return number

        return work

    with ThreadPoolExecutor(8) as pool:
        held = pool.submit(database.write, hold)
        started.wait(30)
        futures = [pool.submit(database.write, add(number)) for number in (1, 2, 3, 4, 1)]
        while len(database._waiting) < len(futures):
            pass
        go_on.set()
        outcomes = [future.exception() or future.result() for future in futures]
    assert held.result() == "held"
    assert outcomes[1] == 2 and outcomes[3] == 4
    assert isinstance(outcomes[2], DataError)
    assert 1 in (outcomes[0], outcomes[4])  # of two alike one is refused
    assert any(isinstance(outcome, OutputError) for outcome in (outcomes[0], outcomes[4]))
    assert len(commits) == 2
    with database.reading() as connection:
        assert sorted(connection.scalars(select(class_sets.c.revision))) == [1, 2, 4]
    database.close()


def test_a_commit_that_fails_is_no_answer(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "fresh.sqlite"))

    def fail(_: Connection) -> None:
        raise OperationalError("COMMIT", None, Exception("database or disk is full"))

    event.listen(database._engine, "commit", fail)
    with pytest.raises(OutputError, match="disk is full"):
        database.write(lambda connection: connection.execute(text("SELECT 1")).scalar())
    database.close()


def test_classes_are_replaced_as_a_whole(project: Project) -> None:
    cat, dog = Class(id=1, name="cat", color="#ff0000", key="1"), Class(id=2, name="dog", color="#00ff00")
    assert project.classes.current() == ClassSet(revision=0, classes=())
    assert project.classes.replace(0, "me", [cat]) == 1
    assert project.classes.replace(0, "me", [cat]) == 1
    assert project.classes.replace(1, "me", [dog, cat]) == 2
    with pytest.raises(Conflict, match="list of classes is at revision 2"):
        project.classes.replace(1, "you", [])
    assert project.classes.current() == ClassSet(revision=2, classes=(dog, cat))


def test_embeddings_are_noted_by_model(project: Project) -> None:
    images = project.images
    images.set_embedding(1, "model-a", "key")
    images.set_embedding(1, "model-a", "newer")
    assert images.embedding_key(1, "model-a") == "newer"
    assert images.embedding_key(1, "model-b") is None
    assert images.encoded("model-a") == {1}
    images.set_embedding(1, "model-a", None)
    assert images.encoded("model-a") == set()


def test_a_size_is_corrected_only_before_annotations(project: Project) -> None:
    assert project.images.resize(1, (40, 30))
    corrected = project.images.get(1)
    assert corrected is not None and corrected.size == (40, 30)
    project.annotations.change(2, 0, "me", put(square("a")))
    assert not project.images.resize(2, (40, 30))


def test_images_are_added_together_or_not_at_all(project: Project) -> None:
    new = [NewImage(name=n, location=f"/elsewhere/{n}", size=SIZE) for n in ("c", "d", "c")]
    with pytest.raises(OutputError):
        project.images.add(new)
    assert [image.name for image in project.images.all()] == ["a.jpg", "b.jpg"]
    assert [image.id for image in project.images.add(new[:2])] == [3, 4]


def test_sqlite_is_durable(project: Project) -> None:
    database = Database(sqlite_url(project.folder / "project.sqlite"))
    with database.reading() as connection:
        pragmas = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")]
    database.close()
    assert pragmas == ["wal", 2]


def test_migrations_make_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "fresh.sqlite"))
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_a_project_is_opened_again(tmp_path: Path) -> None:
    with open_project(tmp_path) as project:
        project.images.add([NewImage(name="a", location="images/a", size=SIZE)])
        project.annotations.change(1, 0, "me", put(square("a")))
    with open_project(tmp_path) as project:
        assert project.annotations.state(1) == State(revision=1, annotations=(square("a"),))


def _open(folder: Path, answer: multiprocessing.Queue[str]) -> None:
    try:
        with open_project(folder):
            answer.put("opened")
    except DataError as error:
        answer.put(str(error))


def test_one_process_at_a_time(project: Project) -> None:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_open, args=(project.folder, answer))
    process.start()
    assert "another process has this project open" in answer.get(timeout=120)
    process.join()


def test_a_newer_project_is_refused_kindly(tmp_path: Path) -> None:
    with open_project(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "project.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DataError, match="made by a newer version"), open_project(tmp_path):
        pass


def test_other_databases_and_files_are_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "project.sqlite")
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(DataError, match="no project of anymask"), open_project(tmp_path):
        pass
    (tmp_path / "project.sqlite").write_bytes(b"not a database at all, but long enough to be looked at" * 30)
    with pytest.raises(OutputError, match="not a database"), open_project(tmp_path):
        pass
    with pytest.raises(OutputError), open_project(tmp_path / "project.sqlite"):
        pass


def test_locations_stay_inside(project: Project) -> None:
    assert project.path("images/a.jpg") == project.folder / "images/a.jpg"
    assert project.path("/pictures/a.jpg") == Path("/pictures/a.jpg")
    with pytest.raises(DataError, match="leads out"):
        project.path("images/../../secret")


FAULTS = ({"name": "\ud800"}, {"parent": "a\0"}, {"score": float("inf")}, {"score": float("nan")})


@pytest.mark.parametrize("fault", FAULTS)
def test_what_no_page_could_be_told_is_not_written_by_anybody(project: Project, fault: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"no text|finite number"):
        project.annotations.change(1, 0, "ann", put(square("a", **fault)))
    assert project.annotations.state(1).revision == 0
    with pytest.raises(DataError, match="no text"):
        project.classes.replace(0, "ann", [Class(id=1, name="\udfff", color="#000000")])
    with pytest.raises(DataError, match="no text"):
        project.images.add([NewImage(name="\udc80.jpg", location="images/x.jpg", size=SIZE)])


def test_a_project_that_holds_such_values_is_mended_when_read(project: Project) -> None:
    project.annotations.change(1, 0, "ann", put(square("a", score=0.5)))
    with project.database.writing() as connection:
        connection.execute(text("UPDATE annotation_versions SET score = 1e999"))
        classes = json.dumps([{"id": 1, "name": "le\ud800f", "color": "#000000", "key": None}])
        connection.execute(insert(class_sets).values(revision=1, client="x", at=1.0, digest="x", classes=classes))
    assert project.annotations.state(1).annotations[0].score is None
    assert [each.name for each in project.classes.current().classes] == ["le\ufffdf"]
