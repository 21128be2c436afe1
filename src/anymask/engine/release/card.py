"""The card of a data set: what it is, in numbers and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anymask.data.files import make_folder
from anymask.engine.release.measures import Measures
from anymask.errors import MissingPackageError

_LAYOUTS = {
    "sa1b": "`sa1b/<split>/sa_*.tar`: an image and its JSON beside each other, as SA-1B has them",
    "webdataset": "`webdataset/<split>-*.tar`: the same pairs as shards of WebDataset",
    "coco": "`coco/<split>.json`: one COCO file a split, masks as run lengths",
    "parquet": "`parquet/<split>.parquet`: a row per mask",
    "yolo": "`yolo/data.yaml`, and `yolo/images/<split>` with outlines in `yolo/labels/<split>`, as YOLO has them",
    "labels": "`labels/<split>/images` with a label map each in `labels/<split>/masks`: 0 is nothing, others a mask",
    "labelme": "`labelme/<split>`: an image and LabelMe's JSON beside each other",
    "cutouts": "`cutouts/<split>`: each mask's object cut out of its image, transparent around it",
}


def write_card(folder: Path, name: str, measures: Measures, formats: Sequence[str], privacy: str) -> None:
    """Write README.md, and the plots where matplotlib is there."""
    plots = _plots(folder, measures)
    summary = measures.summary()
    origins = "".join(f"| {origin} | {count:,} |\n" for origin, count in summary["origins"].items())
    layouts = "".join(f"- {_LAYOUTS[each]}\n" for each in formats)
    shown = "".join(f"![{title}](card/{file})\n" for title, file in plots)
    (folder / "README.md").write_text(
        f"# {name}\n\n"
        f"{summary['images']:,} images with {summary['masks']:,} masks, {summary['masks_per_image']} an image. Masks "
        "have no classes unless the files name some. `val` are the images that no model of the project was "
        "trained on.\n\n"
        f"| masks by origin | |\n| --- | ---: |\n{origins}\n"
        "`added`: drawn by people with a model's help; `prefilled`: proposed by a model and kept by people; "
        "`automatic`: a model's alone; `imported`: from elsewhere.\n\n"
        f"Median relative size of a mask {summary['median_relative_size']}, median concavity "
        f"{summary['median_concavity']}.\n\n"
        f"{shown}\n## Files\n\n{layouts}- `SHA256SUMS`: checksums of all files\n\n## Privacy\n\n{privacy}\n",
        encoding="utf-8",
    )


def _plots(folder: Path, measures: Measures) -> list[tuple[str, str]]:
    from anymask.plots import curves as dataset

    try:
        drawn = {
            "masks per image": ("masks-per-image.png", dataset.masks_per_image(np.array(measures.counts))),
            "sizes of masks": ("sizes.png", dataset.relative_sizes(np.array(measures.sizes))),
            "concavity of masks": ("concavity.png", dataset.concavities(np.array(measures.concavities))),
            "where masks lie": ("centres.png", dataset.centre_map(measures.centres)),
        }
    except MissingPackageError:  # the numbers have to do
        return []
    place = make_folder(folder / "card")
    for file, content in drawn.values():
        (place / file).write_bytes(content)
    return [(title, file) for title, (file, _) in drawn.items()]
