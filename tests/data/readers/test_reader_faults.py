"""What people's files do: each reader by each fault, and what is right then."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anymask.data.open import open_data
from anymask.errors import AnymaskError
from data_kinds import KINDS, NAMES, coco_document

JSON_OF = {"coco": "some.json", "labelme": "a.json", "pairs": "a.json"}
LIST_OF = {"coco": "annotations", "labelme": "shapes", "pairs": "annotations"}
ALL = 2 * len(NAMES)
LINE = [5.0, 5, 25, 25, 5, 5]


def edit(where: Path, kind: str, change: Callable[[Any], None]) -> None:
    """Change the document that is read first."""
    path = (where if where.is_dir() else where.parent) / JSON_OF[kind]
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def first(**fields: Any) -> Callable[[Path, str], None]:
    """Change fields of the first annotation; `ring` stands for its outline, in whatever form the kind has it."""

    def outline(kind: str, ring: list[Any]) -> dict[str, Any]:
        if kind == "labelme":
            return {"shape_type": "polygon", "points": [ring[n : n + 2] for n in range(0, len(ring), 2)]}
        return {"segmentation": [ring]}

    def change(where: Path, kind: str) -> None:
        values = dict(fields)
        if "ring" in values:
            values |= outline(kind, values.pop("ring"))
        edit(where, kind, lambda document: document[LIST_OF[kind]][0].update(values))

    return change


def replaced(value: Any) -> Callable[[Path, str], None]:
    def change(where: Path, kind: str) -> None:
        edit(where, kind, lambda document: document[LIST_OF[kind]].__setitem__(0, value))

    return change


def whole(change: Callable[[bytes], bytes]) -> Callable[[Path, str], None]:
    """Change the bytes of the document that is read first."""

    def apply(where: Path, kind: str) -> None:
        path = (where if where.is_dir() else where.parent) / JSON_OF[kind]
        path.write_bytes(change(path.read_bytes()))

    return apply


def images_of(where: Path) -> Path:
    folder = where if where.is_dir() else where.parent
    return folder / "images" if (folder / "images").is_dir() else folder


def smaller(where: Path, kind: str) -> None:
    path = images_of(where) / "a.png"
    with Image.open(path) as image:
        image.resize((64, 48)).save(path)


def turned(where: Path, kind: str) -> None:
    path, exif = images_of(where) / "a.png", Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif)


def hidden(where: Path, kind: str) -> None:
    folder = images_of(where)
    for name in ("._a.png", "._a.json", "._b.tar"):
        (folder / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    if kind == "masks":
        (folder.parent / "masks" / "._a.png").write_bytes(b"\0\5\x16\7")


def upper(where: Path, kind: str) -> None:
    folder = images_of(where)
    for path in [*folder.glob("*.png"), *(folder.parent / "masks").glob("*.png")]:
        path.rename(path.with_suffix(".PNG"))
    if kind == "coco":
        edit(where, kind, lambda v: [i.update(file_name=i["file_name"].replace("png", "PNG")) for i in v["images"]])
    for name in NAMES if kind == "labelme" else ():
        path = folder / f"{name}.json"
        path.write_text(path.read_text().replace(".png", ".PNG"))


def broken_image(where: Path, kind: str) -> None:
    path = images_of(where) / "a.png"
    path.write_bytes(path.read_bytes()[:60])


def mask_file(change: Callable[[Image.Image], Image.Image], suffix: str = ".png", **options: Any) -> Any:
    def apply(where: Path, kind: str) -> None:
        path = where / "masks" / "a.png"
        with Image.open(path) as image:
            made = change(image.copy())
        path.unlink()
        made.save(path.with_suffix(suffix), **options)

    return apply


def opaque_white(image: Image.Image) -> Image.Image:
    alpha = (np.asarray(image) > 0) * np.uint8(255)
    return Image.fromarray(np.dstack([np.full((*alpha.shape, 3), 255, np.uint8), alpha]))


def opaque_black(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(opaque_white(image)) * np.array([0, 0, 0, 1], np.uint8))


def with_void(image: Image.Image) -> Image.Image:
    values = np.asarray(image).copy()
    values[8:12, 10:70] = 255
    return Image.fromarray(values)


def bitmap(where: Path, kind: str) -> None:
    stored = io.BytesIO()
    Image.fromarray(np.full((10, 10), 255, np.uint8)).save(stored, "PNG")
    encoded = base64.b64encode(stored.getvalue()).decode()
    first(shape_type="mask", mask=encoded, points=[[500, 500], [510, 510]])(where, kind)


def same_group(where: Path, kind: str) -> None:
    edit(where, kind, lambda v: [shape.update(label="leaf", group_id=3) for shape in v["shapes"]])


def ids_as_text(where: Path, kind: str) -> None:
    def change(document: Any) -> None:
        for entry in document["annotations"]:
            entry.update(id=str(entry["id"]), image_id=f"{entry['image_id']}.0", category_id=1.0, iscrowd="0")
        document["images"][0].update(height="96", width=128.0)

    edit(where, kind, change)


def two_names_for_one_file(where: Path, kind: str) -> None:
    edit(where, kind, lambda v: [v["images"][n].update(file_name=f"{n}/a.png") for n in (0, 1)])


LEFT_OUT, ONE_IMAGE_LESS = ALL - 1, ALL - 2
RINGS = ("coco", "labelme", "pairs")
FAULTS: dict[str, tuple[tuple[str, ...], Callable[[Path, str], None], int | str]] = {
    "a ring of two points": (RINGS, first(ring=[5.0, 5, 25, 25]), LEFT_OUT),
    "a ring of no points": (RINGS, first(ring=[]), LEFT_OUT),
    "a ring of no area": (RINGS, first(ring=LINE), LEFT_OUT),
    "NaN in a ring": (RINGS, first(ring=[5.0, 5, float("nan"), 5, 25, 25]), LEFT_OUT),
    "huge numbers in a ring": (RINGS, first(ring=[5.0, 5, 1e308, 5, 25, 25]), LEFT_OUT),
    "words in a ring": (RINGS, first(ring=[5.0, 5, "far", 5, 25, 25]), LEFT_OUT),
    "an entry that is no object": (RINGS, replaced(7), LEFT_OUT),
    "an entry without a mask": (RINGS, replaced({"id": 11, "image_id": 1, "label": "leaf"}), LEFT_OUT),
    "a mask that is a number": (("coco", "pairs"), first(segmentation=5), LEFT_OUT),
    "a mask of another size": (("coco", "pairs"), first(segmentation={"size": [3, 3], "counts": "9"}), LEFT_OUT),
    "an empty mask": (("coco", "pairs"), first(segmentation={"size": [96, 128], "counts": [96 * 128]}), LEFT_OUT),
    "a mask of nonsense": (("coco", "pairs"), first(segmentation={"size": [96, 128], "counts": "~~"}), LEFT_OUT),
    "a ring without its outer list": (("coco", "pairs"), first(segmentation=[5, 5, 25, 5, 25, 25]), ALL),
    "a ring of points": (("coco", "pairs"), first(segmentation=[[5, 5], [25, 5], [25, 25]]), ALL),
    "one bad ring of two": (("coco", "pairs"), first(segmentation=[[5, 5, 25, 5, 25, 25], [1, 1]]), ALL),
    "a ring outside the image": (("coco",), first(ring=[500.0, 5, 520, 5, 520, 25]), LEFT_OUT),
    "an image that is not in the file": (("coco",), first(image_id=99), LEFT_OUT),
    "numbers as text": (("coco",), ids_as_text, ALL),
    "a crowd": (("coco",), first(iscrowd=1), LEFT_OUT),
    "a crowd by text": (("coco",), first(iscrowd="1"), LEFT_OUT),
    "a category by name": (("coco",), first(category_id="leaf"), ALL),
    "a backslash": (("coco",), lambda w, k: edit(w, k, lambda v: v["images"][0].update(file_name="x\\a.png")), ALL),
    "two images, one file": (("coco",), two_names_for_one_file, r"0/a\.png of image 1 is not in .* 1/a\.png as well"),
    "a missing image": (
        ("coco",),
        lambda w, k: edit(w, k, lambda v: v["images"][0].update(file_name="gone.png")),
        r"gone\.png of image 1 is not in",
    ),
    "an image without a name": (
        ("coco",),
        lambda w, k: edit(w, k, lambda v: v["images"][0].pop("file_name")),
        "image 1 has neither file_name nor coco_url",
    ),
    "two entries of one id": (("coco",), first(id=12), r"annotations\[0\] and annotations\[1\] both have the id 12"),
    "an unknown shape": (("labelme",), first(shape_type="cuboid"), LEFT_OUT),
    "a line": (("labelme",), first(shape_type="linestrip"), LEFT_OUT),
    "a point": (("labelme",), first(shape_type="point"), LEFT_OUT),
    "a rectangle of four corners": (("labelme",), first(points=[[9, 9], [60, 9], [60, 60], [9, 60]]), ALL),
    "a turned rectangle": (("labelme",), first(shape_type="rotation", points=[[9, 9], [60, 20], [50, 60]]), ALL),
    "a circle without its second point": (("labelme",), first(shape_type="circle", points=[[9, 9]]), LEFT_OUT),
    "a bitmap that is missing": (("labelme",), first(shape_type="mask", points=[[9, 9], [19, 19]]), LEFT_OUT),
    "no picture in the file": (
        ("labelme",),
        lambda w, k: edit(w, k, lambda v: v.update(imagePath=None, imageData="!!!")),
        "a.json: its imageData is no picture",
    ),
    "a size said of another picture": (
        ("pairs",),
        lambda w, k: edit(w, k, lambda v: v.update(image={"width": 64, "height": 48})),
        "a.(json|png): its image is said to be 64×48 pixels, it is 128×96",
    ),
    "a size said of a picture turned since": (
        ("pairs",),
        lambda w, k: edit(w, k, lambda v: v.update(image={"width": 96, "height": 128})),
        "its EXIF tag turns it, the masks do not",
    ),
    "a size said as text": (
        ("pairs",),
        lambda w, k: edit(w, k, lambda v: v.update(image={"width": "128", "height": None})),
        ALL,
    ),
    "a huge circle": (("labelme",), first(shape_type="circle", points=[[9, 9], [3e8, 9]]), LEFT_OUT),
    "a bitmap outside the image": (("labelme",), bitmap, LEFT_OUT),
    "parts of one object": (("labelme",), same_group, LEFT_OUT),
    "a path of another machine": (
        ("labelme",),
        lambda w, k: edit(w, k, lambda v: v.update(imagePath="C:\\photos\\a.png")),
        ALL,
    ),
    "a size of another picture": (("labelme",), smaller, "a.json: its image is said to be 128×96 pixels, .* is 64×48"),
    "a picture turned since": (("labelme", "coco"), turned, "128×96 pixels, .* is 96×128; its EXIF tag turns it"),
    "a size that differs": (
        ("coco", "pairs", "masks"),
        smaller,
        r"128×96 pixels|does not fit its image of 48 x 64|48 x",
    ),
    "a broken image": (("coco", "labelme", "pairs", "masks"), broken_image, r"a\.png: "),
    "hidden files": (("coco", "labelme", "pairs", "masks", "folder of tars"), hidden, ALL),
    "suffixes in capitals": (("coco", "labelme", "pairs", "masks"), upper, ALL),
    "broken JSON": (RINGS, whole(lambda data: data[:-9]), "no JSON: .* in line 1, column"),
    "bytes that are no text": (RINGS, whole(lambda data: b'{"\xff\xfe' + data), "no JSON"),
    "a byte order mark": (RINGS, whole(lambda data: b"\xef\xbb\xbf" + data), ALL),
    "endless digits": (RINGS, whole(lambda data: b'{"x": ' + b"9" * 5000 + b", " + data[1:]), "thousands of digits"),
    "endless lists": (RINGS, whole(lambda data: b"[" * 200_000), "nested too deeply"),
    "an opaque object, white elsewhere": (("masks",), mask_file(opaque_white), LEFT_OUT),
    "an opaque object, black as all": (("masks",), mask_file(opaque_black), LEFT_OUT),
    "void around an object": (("masks",), mask_file(with_void), ALL),
    "a mask as TIFF": (("masks",), mask_file(lambda image: image, ".tif"), ALL),
    "a mask as GIF": (("masks",), mask_file(lambda image: image, ".gif"), ALL),
    "a mask as WebP": (
        ("masks",),
        mask_file(lambda i: i.point(lambda v: 255 * (v > 0)), ".webp", lossless=True),
        LEFT_OUT,
    ),
    "a mask as JPEG": (("masks",), mask_file(lambda i: i.point(lambda v: 255 * (v > 0)), ".jpg", quality=60), LEFT_OUT),
    "a mask of another size of file": (("masks",), mask_file(lambda image: image.resize((64, 48))), "48 x 64 pixels"),
    "an empty mask file": (("masks",), mask_file(lambda image: image.point(lambda v: 0)), "every pixel is 0"),
}


def count(where: Path) -> int:
    """Return how many masks there are, which whoever reads them must find the same."""
    files = open_data(where)
    annotated = [len(files.annotations(index).masks) for index in range(len(files))]
    assert annotated == [len(files.sample(index).masks) for index in range(len(files))]
    assert all(mask.any() for index in range(len(files)) for mask in files.sample(index).masks)
    return sum(annotated)


@pytest.mark.parametrize(
    ("kind", "fault"), [(kind, fault) for fault, (kinds, _, _) in FAULTS.items() for kind in kinds]
)
def test_each_reader_by_each_fault(kind: str, fault: str, tmp_path: Path) -> None:
    where = KINDS[kind](tmp_path / kind)
    _, spoil, right = FAULTS[fault]
    spoil(where, kind)
    if isinstance(right, int):
        assert count(where) == right
    else:
        with pytest.raises(AnymaskError, match=right):
            count(where)


def test_a_file_is_refused_where_half_of_it_or_more_is_bad(tmp_path: Path) -> None:
    where = KINDS["coco"](tmp_path / "coco")
    edit(where, "coco", lambda v: [entry.update(segmentation=[[1, 2]]) for entry in v["annotations"][:3]])
    with pytest.raises(AnymaskError, match=r"annotation 11 has a polygon that is no list .*; so it is with 2 more"):
        open_data(where)
    files = open_data(where, strict=False)
    assert sum(len(files.annotations(index).masks) for index in range(len(files))) == 3


def test_who_is_lenient_is_told_image_by_image(tmp_path: Path) -> None:
    where = KINDS["coco"](tmp_path / "coco")
    (where.parent / "b.png").unlink()
    smaller(where, "coco")
    files = open_data(where, strict=False)
    for index, words in ((0, "is said to be 128×96 pixels"), (1, "is not in")):
        with pytest.raises(AnymaskError, match=words):
            files.sample(index)
    assert len(files.sample(2).masks) == 2


def test_images_without_masks_are_kept_for_who_wants_them(tmp_path: Path) -> None:
    where = KINDS["coco"](tmp_path / "coco")
    edit(where, "coco", lambda v: v.update(annotations=v["annotations"][:2]))
    assert len(open_data(where)) == 1 and len(open_data(where, unlabelled=True)) == 3
    pairs = KINDS["pairs"](tmp_path / "pairs")
    (pairs / "a.json").unlink()
    assert len(open_data(pairs)) == 2 and len(open_data(pairs, unlabelled=True)) == 3
    masks = KINDS["masks"](tmp_path / "masks")
    (masks / "masks" / "a.png").unlink()
    assert len(open_data(masks)) == 2 and len(open_data(masks, unlabelled=True)) == 3
    labelme = KINDS["labelme"](tmp_path / "labelme")
    edit(labelme, "labelme", lambda v: v.update(shapes=[]))
    assert len(open_data(labelme)) == 2 and len(open_data(labelme, unlabelled=True)) == 3


def test_accents_are_the_same_however_they_are_written(tmp_path: Path) -> None:
    where = KINDS["coco"](tmp_path / "coco")
    (where.parent / "a.png").rename(where.parent / "e\u0301.png")  # as macOS writes é
    document = coco_document()
    document["images"][0]["file_name"] = "\u00e9.png"
    where.write_text(json.dumps(document))
    assert count(where) == ALL


def test_labelme_files_of_folders_below_and_other_json_beside(tmp_path: Path) -> None:
    where = KINDS["labelme"](tmp_path / "labelme")
    (where / "below").mkdir()
    for name in ("c.json", "c.png"):
        (where / name).rename(where / "below" / name)
    (where / "classes.json").write_text('["leaf", "stem"]')
    assert count(where) == ALL
    (where / "copy.json").write_text((where / "a.json").read_text())
    with pytest.raises(AnymaskError, match=r"copy\.json and .*a\.json are both of the image .*a\.png"):
        open_data(where)
