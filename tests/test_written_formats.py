"""Whatever writes a format, the page, a release or the shell: our readers give back the masks that went in."""

from __future__ import annotations

import io
import json
import tracemalloc
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from anymask.cli import main
from anymask.cli.engine.data import DataFormat
from anymask.data.images import read_image
from anymask.data.open import open_data
from anymask.data.sample import AnnotatedSet
from anymask.engine.formats import FORMATS, FormatOptions, ImageFile, Item, stems, write_items, zipped
from anymask.engine.store import Annotation, Class, NewImage, Project, Put, StoredImage, open_project
from anymask.errors import InputError
from anymask.geometry import polygons, rle
from anymask.geometry.polygons import Polygon
from anymask.model import SIZES, build_sam
from anymask.server.app import create_app
from anymask.server.routes.export import Format
from anymask.server.settings import Settings

SIZE = (48, 64)
NAMES = ("a.png", "b.jpg", "c.png")
CLASSES = [Class(id=4, name="leaf", color="#123456"), Class(id=7, name="stem", color="#654321")]


def _masks(number: int) -> dict[str, np.ndarray]:
    """One with a hole, one in two pieces, one of ragged edges; none overlap."""
    masks = {name: np.zeros(SIZE, bool) for name in ("holed", "pieces", "ragged")}
    masks["holed"][4:20, 4 + number : 24] = True
    masks["holed"][8:12, 10:16] = False
    masks["pieces"][30:40, 2:8], masks["pieces"][44:47, 20 + number : 30] = True, True
    masks["ragged"][20:40, 36:60] = np.random.default_rng(number).random((20, 24)) > 0.4
    return masks


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Three images with three masks each, of two classes and of none; the last image is held out."""
    with open_project(tmp_path_factory.mktemp("formats") / "project", exclusive=False) as opened:
        opened.settings.replace(opened.settings.current().replace({"held_out": 0}))
        opened.classes.replace(0, "t", CLASSES)
        for number, name in enumerate(NAMES):
            pixels = np.random.default_rng(number).integers(0, 255, (*SIZE, 3), np.uint8)
            Image.fromarray(pixels).save(opened.folder / "images" / name)
            split = "held-out" if number == 2 else "train"
            opened.images.add([NewImage(name=name, location=f"images/{name}", size=SIZE, split=split)])
            puts = [
                Put(annotation=Annotation(id=key, rle=rle.encode(mask), class_id=class_id, score=0.5))
                for (key, mask), class_id in zip(_masks(number).items(), (4, 7, None), strict=True)
            ]
            opened.annotations.change(number + 1, 0, "t", puts)
        yield opened


@pytest.fixture(scope="module")
def client(project: Project) -> Iterator[TestClient]:
    app = create_app(
        project, build_sam(SIZES["smoke"]).eval(), model_name="smoke", settings=Settings(page=Path("no-page"))
    )
    with TestClient(app, base_url="http://127.0.0.1:8017") as entered:
        yield entered


Caller = Callable[[str, Path], list[tuple[Path, Path]]]
"""Writes a format, and returns for each split where its files are, and where its images."""


def _by_page(client: TestClient, project: Project) -> Caller:
    def write(format: str, folder: Path) -> list[tuple[Path, Path]]:
        answer = client.get(f"/api/export?format={format}")
        assert answer.status_code == 200, answer.text
        folder.mkdir()
        if answer.headers["content-type"] == "application/zip":
            with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
                assert archive.testzip() is None
                archive.extractall(folder)
        else:
            name = answer.headers["content-disposition"].split('"')[1]
            assert int(answer.headers["content-length"]) == len(answer.content)
            (folder / f"annotations{Path(name).suffix}").write_bytes(answer.content)
        assert list((project.cache).glob("tmp*")) == []
        return [(folder, project.folder / "images")]

    return write


def _by_release(client: TestClient, project: Project) -> Caller:
    def write(format: str, folder: Path) -> list[tuple[Path, Path]]:
        command = ["engine", "release", str(project.folder), "-o", str(folder), "--format", format, "--blur", "none"]
        assert main(command) == 0
        made = folder / format
        return [(made / split, made / split) for split in ("train", "val")]

    return write


def _by_verb(*options: str, name: str = "") -> Callable[[TestClient, Project], Caller]:
    def caller(client: TestClient, project: Project) -> Caller:
        def write(format: str, folder: Path) -> list[tuple[Path, Path]]:
            where = folder / name if name else folder
            folder.parent.mkdir(exist_ok=True)
            if name:
                folder.mkdir()
            assert main(["engine", "export", str(project.folder), "-o", str(where), "--format", format, *options]) == 0
            if name:
                with zipfile.ZipFile(where) as archive:
                    archive.extractall(folder / "unpacked")
                folder = folder / "unpacked"
            return [(folder, folder if "--with-images" in options else project.folder / "images")]

        return write

    return caller


CALLERS = {
    "page": _by_page,
    "release": _by_release,
    "verb": _by_verb(),
    "verb with images": _by_verb("--with-images"),
    "verb with images and polygons, zipped": _by_verb("--with-images", "--polygons", name="all.zip"),
}


def _of(files: AnnotatedSet) -> dict[str, list[str]]:
    return {
        PurePosixPath(files.key(index)).stem: sorted(mask.rle["counts"] for mask in files.annotations(index).masks)
        for index in range(len(files))
    }


def _open(where: Path, images: Path) -> AnnotatedSet:
    return open_data(where) if where == images else open_data(images, where)


def _coco(where: Path, images: Path) -> dict[str, list[str]]:
    path = where.with_suffix(".json") if not where.exists() else where / "annotations.json"
    beside = path.parent / "images"
    return _of(open_data(path, beside if beside.exists() else images))


def _parquet(where: Path, images: Path) -> dict[str, list[str]]:
    import pyarrow.parquet

    path = where.with_suffix(".parquet") if not where.exists() else where / "annotations.parquet"
    found: dict[str, list[str]] = {}
    for row in pyarrow.parquet.read_table(path).to_pylist():
        assert row["category"] == {4: "leaf", 7: "stem", None: None}[row["category_id"]]
        found.setdefault(PurePosixPath(row["file_name"]).stem, []).append(row["counts"])
    return {name: sorted(counts) for name, counts in found.items()}


def _yolo(where: Path, images: Path) -> dict[str, list[str]]:
    split = where.name if not where.exists() else ""
    root = where.parent if split else where
    assert '0: "leaf"\n  1: "stem"\n  2: "object"' in (root / "data.yaml").read_text()
    found = {}
    for path in (root / "labels" / split).glob("*.txt"):
        lines = [line.split() for line in path.read_text().splitlines()]
        assert [line[0] for line in lines] == ["0", "1", "2"]
        rings = [np.array(line[1:], float).reshape(-1, 2) * SIZE[::-1] for line in lines]
        masks = [polygons.to_mask([Polygon(exterior=ring.round(3))], SIZE) for ring in rings]
        found[path.stem] = sorted(rle.encode(mask)["counts"] for mask in masks)
    return found


READERS: dict[str, Callable[[Path, Path], dict[str, list[str]]]] = {
    "sa1b": lambda where, images: _of(_open(where, images)),
    "labels": lambda where, images: _of(_open(where, images)),
    "labelme": lambda where, images: _of(_open(where, images)),
    "coco": _coco,
    "parquet": _parquet,
    "yolo": _yolo,
    "webdataset": lambda where, images: _of(
        open_data(sorted(where.parent.glob(f"{where.name}-*.tar")) or sorted(where.glob("*.tar")))
    ),
}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("format", READERS)
def test_what_is_written_is_read_back(
    client: TestClient, project: Project, tmp_path: Path, format: str, caller: str
) -> None:
    found: dict[str, list[str]] = {}
    for where, images in CALLERS[caller](client, project)(format, tmp_path / "out"):
        found |= READERS[format](where, images)
    numbered = caller == "release" or format == "webdataset"
    expected = {
        f"sa_{number + 1:09d}" if numbered else Path(name).stem: sorted(
            rle.encode(mask)["counts"] for mask in _masks(number).values()
        )
        for number, name in enumerate(NAMES)
    }
    assert found == expected


@pytest.mark.parametrize("caller", CALLERS)
def test_cut_outs_are_the_objects(client: TestClient, project: Project, tmp_path: Path, caller: str) -> None:
    found: dict[str, np.ndarray] = {}
    for where, _ in CALLERS[caller](client, project)("cutouts", tmp_path / "out"):
        found |= {path.name: np.asarray(Image.open(path)) for path in where.glob("*.png")}
    assert len(found) == 9
    stem = "sa_000000002" if caller == "release" else "b"
    cut, mask = found[f"{stem}_1_leaf.png"], _masks(1)["holed"]
    x, y, width, height = rle.bbox(rle.encode(mask))
    inner = mask[y : y + height, x : x + width]
    np.testing.assert_array_equal(cut[..., 3] > 0, inner)
    pixels = read_image(project.folder / "images" / "b.jpg")[y : y + height, x : x + width]
    np.testing.assert_array_equal(cut[inner][:, :3], pixels[inner])


def test_every_face_knows_every_format(project: Project, tmp_path: Path) -> None:
    assert set(FORMATS) == {each.value for each in DataFormat} == set(get_args(Format)) == {*READERS, "cutouts"}
    page = (Path(__file__).parents[1] / "web" / "src" / "api" / "server.ts").read_text()
    listed = page.partition("readonly formats: readonly ExportFormat[] = ")[2].partition(";")[0]
    assert set(json.loads(listed.replace(",\n  ]", "]"))) == set(FORMATS)
    with pytest.raises(InputError, match="no format 'pascal'"):
        list(write_items("pascal", CLASSES, [], FormatOptions(), scratch=tmp_path))


def test_a_file_of_another_size_is_refused(client: TestClient, project: Project, tmp_path: Path) -> None:
    path = project.folder / "images" / "a.png"
    whole = path.read_bytes()
    Image.new("RGB", (9, 9)).save(path)
    try:
        command = ["engine", "export", str(project.folder), "-o", str(tmp_path / "out"), "--with-images"]
        assert main(command) == 2
        assert list(tmp_path.iterdir()) == []
        assert client.get("/api/export?format=webdataset").status_code == 422
        assert list(project.cache.glob("tmp*")) == []
    finally:
        path.write_bytes(whole)


def test_an_export_takes_a_folder_of_its_own(project: Project, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    assert main(["engine", "export", str(project.folder), "-o", str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def _item(number: int, name: str, stem: str, called: Sequence[str], *, split: str | None = None) -> Item:
    """An image of noise with masks of noise, all that takes memory made anew."""
    rng = np.random.default_rng(number)
    masks = [rng.random((6, 8)).repeat(8, 0).repeat(8, 1) > 0.5 for _ in called]
    pixels = rng.integers(0, 255, (*SIZE, 3), np.uint8)

    def file() -> ImageFile:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return ImageFile(content=buffer.getvalue(), suffix="png")

    return Item(
        image=StoredImage(id=number, name=name, location=name, size=SIZE, revision=1, num_annotations=len(masks)),
        annotations=tuple(
            Annotation(id=str(place), rle=rle.encode(mask), name=said or None, class_id=4)
            for place, (mask, said) in enumerate(zip(masks, called, strict=True))
        ),
        size=SIZE,
        stem=stem,
        split=split,
        read_file=file,
        read_pixels=lambda: pixels,
    )


PIECES = st.sampled_from(["a", "A", "b", "1", "_", "-", ".", "/", "\\", "..", ".json", ".png", ".txt", "é", "e\u0301"])
FILE_NAMES = st.lists(st.lists(PIECES, min_size=1, max_size=6).map("".join), min_size=1, max_size=6)


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=FILE_NAMES, called=st.lists(st.sampled_from(["", "1", "1_1", "a_1", "2 a"]), max_size=3))
def test_no_two_files_have_one_name(
    tmp_path_factory: pytest.TempPathFactory, format: str, names: list[str], called: list[str]
) -> None:
    images = [
        StoredImage(id=number, name=name, location=str(number), size=SIZE, revision=0, num_annotations=0)
        for number, name in enumerate(names, 1)
    ]
    chosen = stems(images)
    items = [_item(image.id, image.name, chosen[image.id], called) for image in images]
    scratch = tmp_path_factory.getbasetemp()
    written = [
        name for name, _ in write_items(format, CLASSES, items, FormatOptions(with_images=True), scratch=scratch)
    ]
    folded = [unicodedata.normalize("NFC", name).casefold() for name in written]
    assert len(set(folded)) == len(folded)
    folders = {str(folder) for name in folded for folder in PurePosixPath(name).parents}
    assert folders.isdisjoint(folded)
    assert all(not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts for name in written)


def test_names_are_found_together() -> None:
    names = ["a.jpg", "a.png", "a-1.jpg", "A.webp", "a.json/b.jpg"]
    images = [
        StoredImage(id=number, name=name, location=name, size=SIZE, revision=0, num_annotations=0)
        for number, name in enumerate(names, 1)
    ]
    assert list(stems(images).values()) == ["a-1", "a-2", "a-1-3", "A-4", "a.json_/b"]


def _peak(format: str, count: int, scratch: Path) -> int:
    """Return the most bytes that were held at once while a zip of so many images was made and thrown away."""
    called = ("leaf", "stem", "")
    items = (_item(n, f"{n}.png", str(n), called, split="train" if n % 2 else "val") for n in range(1, count + 1))
    tracemalloc.start()
    try:
        options = FormatOptions(with_images=True, images_per_tar=100)
        for _ in zipped(write_items(format, CLASSES, items, options, scratch=scratch)):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("format", FORMATS)
def test_memory_is_flat_in_the_number_of_images(tmp_path: Path, format: str) -> None:
    _peak(format, 2, tmp_path)  # what is imported, and kept, the first time
    few, many = _peak(format, 50, tmp_path), _peak(format, 500, tmp_path)
    assert many - few < 1e6, (few, many)  # the images alone are 4.7 MB
