"""A small share of the attacks, which `tests/attack/run.py` makes at any length."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator

import pytest
from kills import KILLS
from run import SHARES, attack

from anymask.checkpoints import places
from postgres_cluster import postgres_binaries


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Attacks put a small model in the place of the embedded one, and silence the log, for the whole process."""
    monkeypatch.setattr(places, "EMBEDDED", dict(places.EMBEDDED))
    environment = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(environment)
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("surface", ["files", "python"])
def test_mutated_inputs_end_in_a_word_or_a_result(surface: str) -> None:
    pytest.importorskip("tifffile")
    found = attack(surface, 150, seed=1)
    assert (found.tried, found.faults) == (150, [])


@pytest.mark.long
@pytest.mark.parametrize("surface", SHARES)
def test_other_mutated_inputs_end_in_a_word_or_a_result(surface: str) -> None:
    count = 60 if surface == "shell" else 400
    found = attack(surface, count, seed=2)
    assert (found.tried, found.faults) == (count, [])


@pytest.mark.long
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_a_killed_server_acknowledged_is_there(database: str) -> None:
    if database == "postgresql" and (postgres_binaries() is None or importlib.util.find_spec("psycopg") is None):
        pytest.skip("PostgreSQL is not installed: its server, or the extra postgres")
    assert KILLS["server"](3, seed=1, database=database).faults == []


@pytest.mark.long
@pytest.mark.parametrize(("what", "kills"), [("finetune", 1), ("prefill", 3)])
def test_a_run_that_was_killed_ends_as_one_that_was_not(what: str, kills: int) -> None:
    assert KILLS[what](kills, seed=1, database="sqlite").faults == []
