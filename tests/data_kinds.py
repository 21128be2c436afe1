"""The same three images with the same masks in every layout that is read."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from anymask.data.sample import Sample
from anymask.data.writers.sa1b import write_tar
from anymask.geometry import rle

SIZE = (96, 128)
"""(height, width)."""
NAMES = ("a", "b", "c")
CORNERS = ((10, 12, 70, 76), (84, 30, 120, 90))
"""Of the two rectangles in each image: x0, y0, x1, y1."""


def masks() -> np.ndarray:
    found = np.zeros((len(CORNERS), *SIZE), bool)
    for mask, (x0, y0, x1, y1) in zip(found, CORNERS, strict=True):
        mask[y0:y1, x0:x1] = True
    return found


def picture(seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 60, (*SIZE, 3)).astype(np.uint8)
    for mask, value in zip(masks(), (200, 120), strict=True):
        pixels[mask] = value
    return pixels


def save_pictures(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(NAMES):
        Image.fromarray(picture(seed)).save(folder / f"{name}.png")
    return folder


def ring(corners: tuple[int, int, int, int]) -> list[float]:
    x0, y0, x1, y1 = map(float, corners)
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def coco_document() -> dict[str, list[dict[str, object]]]:
    height, width = SIZE
    images = [
        {"id": n, "file_name": f"{name}.png", "width": width, "height": height} for n, name in enumerate(NAMES, 1)
    ]
    annotations = [
        {"id": 10 * image + n, "image_id": image, "category_id": n, "iscrowd": 0, "segmentation": [ring(corners)]}
        for image in (1, 2, 3)
        for n, corners in enumerate(CORNERS, 1)
    ]
    return {
        "images": images,  # type: ignore[dict-item]
        "annotations": annotations,
        "categories": [{"id": 1, "name": "leaf"}, {"id": 2, "name": "stem"}],
    }


def labelme_document(name: str) -> dict[str, object]:
    shapes = [
        {"label": label, "shape_type": "rectangle", "points": [list(corners[:2]), list(corners[2:])], "group_id": None}
        for label, corners in zip(("leaf", "stem"), CORNERS, strict=True)
    ]
    return {"shapes": shapes, "imagePath": f"{name}.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1]}


def tar(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    samples = [Sample(key=name, image=picture(seed), masks=masks()) for seed, name in enumerate(NAMES)]
    write_tar(folder / "some.tar", samples)
    return folder / "some.tar"


def pairs(folder: Path) -> Path:
    save_pictures(folder)
    entries = [{"id": n, "segmentation": mask} for n, mask in enumerate(rle.encode_many(masks()))]
    for name in NAMES:
        (folder / f"{name}.json").write_text(json.dumps({"annotations": entries}))
    return folder


def mask_folder(folder: Path) -> Path:
    save_pictures(folder / "images")
    (folder / "masks").mkdir()
    numbered = (masks() * np.array([1, 2], np.uint8)[:, None, None]).sum(0).astype(np.uint8)
    for name in NAMES:
        Image.fromarray(numbered).save(folder / "masks" / f"{name}.png")
    return folder


def coco(folder: Path) -> Path:
    save_pictures(folder)
    (folder / "some.json").write_text(json.dumps(coco_document()))
    return folder / "some.json"


def labelme(folder: Path) -> Path:
    save_pictures(folder)
    for name in NAMES:
        (folder / f"{name}.json").write_text(json.dumps(labelme_document(name)))
    return folder


def embedded_labelme(folder: Path) -> Path:
    save_pictures(folder)
    for name in NAMES:
        encoded = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        document = labelme_document(name) | {"imageData": encoded, "imagePath": "C:\\elsewhere\\gone.png"}
        (folder / f"{name}.json").write_text(json.dumps(document))
        (folder / f"{name}.png").unlink()
    return folder


KINDS: dict[str, Callable[[Path], Path]] = {
    "tar": tar,
    "folder of tars": lambda folder: tar(folder).parent,
    "pairs": pairs,
    "masks": mask_folder,
    "coco": coco,
    "folder with coco": lambda folder: coco(folder).parent,
    "labelme": labelme,
    "labelme with pictures": embedded_labelme,
}
"""What makes each kind of data in a folder, and returns where it is opened."""
