"""Projects on SQLite and, where there is a server, on PostgreSQL, started for these tests alone."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from anymask.engine.store import NewImage, Project, init_project, open_project

SIZE = (48, 64)


def _postgres_binaries() -> Path | None:
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "pg_ctl").exists()), None)


class Cluster:
    """A private server in a folder of its own, on a port of the loopback address."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.binaries, self.folder = binaries, folder
        self.port = 0
        self.user: str | None = None
        if os.getuid() == 0:  # the server refuses to be run by root
            self.user = "postgres"
            pwd.getpwnam(self.user)
            shutil.chown(folder, self.user)
        self._run("initdb", "-D", folder / "data", "-U", "test", "-A", "trust", "--no-sync")

    def _run(self, name: str, *arguments: object) -> None:
        command = [str(self.binaries / name), *map(str, arguments)]
        subprocess.run(
            command, check=True, user=self.user, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def start(self) -> None:
        """Start on the port of before, the first time on one that is free and stays so."""
        if self.port:
            return self._start()
        for tries_left in (2, 1, 0):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
            try:
                return self._start()
            except subprocess.CalledProcessError:  # another process of the tests has taken it meanwhile
                if tries_left == 0:
                    raise

    def _start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        self._run("pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log", "-o", options, "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop")

    def url(self, name: str) -> str:
        return f"postgresql://test@127.0.0.1:{self.port}/{name}"

    def fresh(self) -> str:
        import psycopg

        name = f"p{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("psycopg", reason="PostgreSQL's tests need the extra postgres")
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's tests need its server: install Debian's package postgresql")
    folder = Path(tempfile.mkdtemp(prefix="anymask-postgres-"))
    folder.chmod(0o755)
    try:
        made = Cluster(binaries, folder)
    except KeyError:
        pytest.skip("PostgreSQL's server is not run by root, and there is no user postgres")
    made.start()
    yield made
    made.stop()
    shutil.rmtree(folder)


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
