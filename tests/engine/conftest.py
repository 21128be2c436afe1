"""Projects on SQLite and, where there is a server, on PostgreSQL, started for these tests alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import pytest

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
