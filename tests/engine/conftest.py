"""Projects on SQLite and, where there is a server, on PostgreSQL, started for these tests alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import pytest
from sqlalchemy import Connection, text

from anymask.engine.store import NewImage, Project, init_project, open_project
from postgres_cluster import Cluster, private_cluster

SIZE = (48, 64)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("psycopg", reason="PostgreSQL's tests need the extra postgres")
    with ExitStack() as stack:
        try:
            made = stack.enter_context(private_cluster())
        except LookupError as error:
            pytest.skip(str(error))
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    url = request.getfixturevalue("cluster").fresh() if request.param == "postgresql" else None
    init_project(tmp_path / "project", url=url)
    with open_project(tmp_path / "project", exclusive=False) as opened:
        yield opened


@pytest.fixture
def sqlite_project(tmp_path: Path) -> Iterator[Project]:
    init_project(tmp_path / "project")
    with open_project(tmp_path / "project", exclusive=False) as opened:
        yield opened


@pytest.fixture
def add_images() -> Callable[..., list[int]]:
    """Add images of noise with a bright square each; returns their ids."""

    def add(project: Project, count: int, split: str | None = None) -> list[int]:
        rng = np.random.default_rng(count)
        new = []
        for number in range(count):
            pixels = rng.integers(0, 60, (*SIZE, 3), np.uint8)
            pixels[10:30, 20:44] = 230
            name = f"{split or 'any'}-{number:03d}.png"
            cv2.imwrite(str(project.folder / "images" / name), pixels)
            new.append(NewImage(name=name, location=f"images/{name}", size=SIZE, split=split))
        return [image.id for image in project.images.add(new)]

    return add


_LATER = {
    "0003": {
        "postgresql": (),
        "sqlite": (),
        "both": ("DROP TABLE machine_verdicts", "ALTER TABLE models DROP COLUMN kind"),
    },
    "0004": {
        "postgresql": tuple(
            f"DROP FUNCTION tally_{name}() CASCADE" for name in ("new_jobs", "jobs", "new_images", "images")
        ),
        "sqlite": tuple(f"DROP TRIGGER tally_{name}" for name in ("new_jobs", "jobs", "new_images", "images")),
        "both": (
            "DROP TABLE tallies",
            "DROP TABLE outcome_sums",
            "DROP INDEX ix_jobs_second",
            "DROP INDEX ix_outcomes_at",
            "DROP INDEX ix_reviews_kind_verdict",
            "ALTER TABLE models DROP COLUMN peoples_masks",
        ),
    },
}
"""What was added after each version of a project."""


@pytest.fixture
def make_older() -> Callable[[Connection, str], None]:
    """Make a project's database what it was at a version, 0002 and later."""

    def make(connection: Connection, version: str) -> None:
        for each in sorted(_LATER, reverse=True):
            if each >= version:
                for statement in (*_LATER[each][connection.dialect.name], *_LATER[each]["both"]):
                    connection.execute(text(statement))
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{version}'"))

    return make
