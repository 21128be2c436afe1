"""A PostgreSQL server of one's own, where its programs are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def postgres_binaries() -> Path | None:
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


@contextmanager
def private_cluster() -> Iterator[Cluster]:
    """Start a server in a folder of its own, and end it; raises LookupError, with the reason, where that cannot be."""
    binaries = postgres_binaries()
    if binaries is None:
        raise LookupError("PostgreSQL's tests need its server: install Debian's package postgresql")
    folder = Path(tempfile.mkdtemp(prefix="anymask-postgres-"))
    folder.chmod(0o755)
    try:
        made = Cluster(binaries, folder)
    except KeyError as error:
        raise LookupError("PostgreSQL's server is not run by root, and there is no user postgres") from error
    made.start()
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)
