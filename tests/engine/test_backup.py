"""A project on PostgreSQL is saved by pg_dump and its folder, and restored elsewhere, as the guide for teams says."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anymask.cli import main
from anymask.engine.store import Annotation, NewImage, Put, open_project
from anymask.geometry import rle
from postgres_cluster import Cluster


@pytest.mark.long
def test_what_was_saved_is_restored(cluster: Cluster, tmp_path: Path) -> None:
    first, second = cluster.fresh(), cluster.fresh()
    project = tmp_path / "project"
    assert main(["engine", "init", str(project), "--database", first]) == 0
    mask = np.zeros((40, 60), bool)
    mask[5:20, 10:30] = True
    with open_project(project) as opened:
        Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(opened.folder / "images" / "a.png")
        (image,) = opened.images.add([NewImage(name="a.png", location="images/a.png", size=(40, 60))])
        opened.annotations.change(image.id, 0, "Ann", [Put(annotation=Annotation(id="mask-1", rle=rle.encode(mask)))])
    dump = tmp_path / "anymask.sql"
    for command in (
        ["pg_dump", "--no-owner", "--file", str(dump), first],
        ["psql", "--quiet", "--set", "ON_ERROR_STOP=1", "--file", str(dump), second],
    ):
        command[0] = str((cluster.binaries / "initdb").resolve().parent / command[0])
        subprocess.run(command, check=True, capture_output=True, timeout=60, env=os.environ)
    restored = tmp_path / "restored"
    shutil.copytree(project, restored)
    settings = restored / "project.json"
    settings.write_text(settings.read_text().replace(first, second))
    with open_project(restored) as opened:
        (image,) = opened.images.all()
        (annotation,) = opened.annotations.state(image.id).annotations
        assert annotation.id == "mask-1" and (rle.decode(annotation.rle) == mask).all()
