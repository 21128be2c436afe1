"""Write docs/images/samples.png: each sample photograph, segmented by `anymask segment` with its click."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from anymask.cli import main
from anymask.data.files import write_image_atomic
from anymask.data.images import read_image
from anymask.plots import contact_sheet
from anymask.samples import SAMPLES, sample_path

with tempfile.TemporaryDirectory() as folder:
    for name, sample in SAMPLES.items():
        click = ",".join(map(str, sample.point))
        if status := main(["segment", str(sample_path(name)), "--point", click, "-o", folder]):
            sys.exit(status)
    overlays = [read_image(Path(folder) / f"{name}_overlay.png") for name in SAMPLES]
    captions = [f"one click on {sample.object}" for sample in SAMPLES.values()]
    picture = contact_sheet(overlays, 3, captions, cell=420)
    write_image_atomic(Path(__file__).with_name("samples.png"), picture)
