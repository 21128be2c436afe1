"""Where inputs come in: HTTP, the shell, Python and files. Each surface tries one mutated input by its number.

What it returns is None, or what was wrong: a traceback, an answer 500, a file half-written, a refusal without words.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mutations import (
    ODD_TEXTS,
    ODD_VALUES,
    mutated_bytes,
    mutated_document,
    mutated_json,
    mutated_text,
    nearly,
    odd_array,
    pick,
)

Try = Callable[[np.random.Generator], str | None]
SURFACES: dict[str, Callable[[Path], contextlib.AbstractContextManager[Try]]] = {}
"""What makes a surface ready in a folder of its own."""


def _surface(make: Callable[[Path], Iterator[Try]]) -> Callable[[Path], contextlib.AbstractContextManager[Try]]:
    made = contextlib.contextmanager(make)
    SURFACES[make.__name__] = made
    return made


def leftovers(folder: Path) -> list[str]:
    """Return files that a writer began and did not finish."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".*.tmp")]


def _model(folder: Path) -> Path:
    import torch

    from anymask.checkpoints import places, save_model
    from anymask.model import SIZES, build_sam

    torch.manual_seed(0)
    path = folder / "smoke.safetensors"
    save_model(build_sam(SIZES["smoke"]), path)
    places.EMBEDDED["anymask-s"] = str(path)
    os.environ |= {"ANYMASK_HOME": str(folder / "home"), "ANYMASK_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    return path


def _wrong(error: BaseException) -> str | None:
    """Return what is wrong with an exception: only those of the package's own tree are right."""
    import traceback

    from anymask.errors import AnymaskError

    if isinstance(error, AnymaskError):
        return "an error without words" if not str(error).strip() else None
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:200]} ({Path(frame.filename).name}:{frame.lineno})"


@_surface
def files(folder: Path) -> Iterator[Try]:
    """Every reader of files, in turn."""
    readers = list(_readers(folder))
    count = 0

    def attempt(rng: np.random.Generator) -> str | None:
        nonlocal count
        name, sound, suffix, read = readers[count % len(readers)]
        count += 1
        place = folder / "tried" / f"input{suffix}"
        place.parent.mkdir(exist_ok=True)
        value = json.loads(sound) if suffix == ".json" else None
        data = mutated_bytes(rng, sound) if value is None or rng.random() < 0.3 else mutated_document(rng, value)
        place.write_bytes(data)
        try:
            read(place)
        except Exception as error:
            wrong = _wrong(error)
            return wrong and f"{name}: {wrong}"
        finally:
            left = leftovers(folder / "tried")
        return f"{name}: left {left}" if left else None

    attempt.readers = [reader[0] for reader in readers]  # type: ignore[attr-defined]
    yield attempt


def _readers(folder: Path) -> Iterator[tuple[str, bytes, str, Callable[[Path], object]]]:
    """Yield each reader's name, a sound file, its suffix, and what reads it."""
    import cv2
    import tifffile
    from PIL import Image

    from anymask.checkpoints import load_model
    from anymask.data.channels import read_bands
    from anymask.data.images import read_header, read_image
    from anymask.data.open import open_data
    from anymask.geometry import rle
    from anymask.server.people import add_person, list_people
    from anymask.training.config import read_recipe
    from data_kinds import KINDS, coco_document, labelme_document, masks, picture, save_pictures

    def both(path: Path) -> None:
        read_header(path)
        read_image(path)

    def all_samples(path: Path) -> None:
        files = open_data(path)
        for index in range(len(files)):
            files.annotations(index)

    formats = {
        "JPEG": ".jpg",
        "PNG": ".png",
        "WEBP": ".webp",
        "GIF": ".gif",
        "BMP": ".bmp",
        "TIFF": ".tif",
        "PPM": ".ppm",
    }
    for format, suffix in formats.items():
        file = io.BytesIO()
        Image.fromarray(picture()).save(file, format)
        yield f"image {format}", file.getvalue(), suffix, both
    deep = np.repeat(picture().astype(np.uint16) * 257, 1, 2)
    yield "image PNG of 16 bits", cv2.imencode(".png", deep)[1].tobytes(), ".png", both
    file = io.BytesIO()
    tifffile.imwrite(file, picture().astype(np.float32), photometric="rgb")
    yield "image TIFF of floats", file.getvalue(), ".tif", both
    bands = io.BytesIO()
    tifffile.imwrite(bands, np.zeros((5, 60, 80), np.uint16), photometric="minisblack", planarconfig="separate")
    yield "bands", bands.getvalue(), ".tif", read_bands

    pictures = save_pictures(folder / "pictures")

    def beside(path: Path, read: Callable[[Path], object]) -> object:
        """Read a document with the pictures that it names beside it."""
        for picture_file in pictures.iterdir():
            if not (path.parent / picture_file.name).exists():
                shutil.copy(picture_file, path.parent)
        return read(path)

    yield "COCO", json.dumps(coco_document()).encode(), ".json", lambda path: beside(path, all_samples)

    def labelme(path: Path) -> None:
        place = path.parent / "labelme"
        place.mkdir(exist_ok=True)
        shutil.copy(pictures / "a.png", place)
        shutil.copy(path, place / "a.json")
        all_samples(place)

    yield "LabelMe", json.dumps(labelme_document("a")).encode(), ".json", labelme
    entries = [{"id": n, "segmentation": mask} for n, mask in enumerate(rle.encode_many(masks()))]
    pair = json.dumps({"annotations": entries}).encode()

    def pairs(path: Path) -> None:
        place = path.parent / "pairs"
        place.mkdir(exist_ok=True)
        shutil.copy(pictures / "a.png", place)
        shutil.copy(path, place / "a.json")
        all_samples(place)

    yield "SA-1B's record", pair, ".json", pairs
    yield "SA-1B's tar", KINDS["tar"](folder / "tar").read_bytes(), ".tar", all_samples

    def tar_of(path: Path) -> None:
        with tarfile.open(path.parent / "made.tar", "w") as tar:
            tar.add(pictures / "a.png", "a.png")
            tar.add(path, "a.json")
        all_samples(path.parent / "made.tar")

    yield "a record in a tar", pair, ".json", tar_of

    def mask_folder(path: Path) -> None:
        place = path.parent / "masked"
        (place / "images").mkdir(parents=True, exist_ok=True)
        (place / "masks").mkdir(exist_ok=True)
        shutil.copy(pictures / "a.png", place / "images")
        shutil.copy(path, place / "masks" / "a.png")
        all_samples(place)

    numbered = io.BytesIO()
    Image.fromarray((masks() * np.array([1, 2], np.uint8)[:, None, None]).sum(0).astype(np.uint8)).save(numbered, "PNG")
    yield "masks as pictures", numbered.getvalue(), ".png", mask_folder
    yield "weights", _model(folder).read_bytes(), ".safetensors", load_model
    torch_file = io.BytesIO()
    import torch

    torch.save(load_model(folder / "smoke.safetensors").state_dict(), torch_file)
    yield "weights of torch", torch_file.getvalue(), ".pth", load_model
    recipe = (Path(__file__).parents[2] / "recipes" / "finetune.toml").read_bytes()
    yield "a recipe", recipe, ".toml", lambda path: read_recipe(path)
    add_person(folder / "people.json", "Ann")
    yield "people", (folder / "people.json").read_bytes(), ".json", list_people


@_surface
def python(folder: Path) -> Iterator[Try]:
    """The public names, called with what they do not expect."""
    import torch

    from anymask.checkpoints import load_model
    from anymask.geometry import polygons, rle
    from anymask.inference import Predictor
    from anymask.inference.automatic.options import AutomaticOptions

    predictor = Predictor(load_model(_model(folder)))
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    predictor.set_image(image)
    sound = rle.encode(image[..., 0] > 100)

    def predict(rng: np.random.Generator) -> None:
        asked = {
            "points": lambda: odd_array(rng, 2, 2),
            "labels": lambda: odd_array(rng, 2),
            "box": lambda: odd_array(rng, 4),
            "mask": lambda: odd_array(rng, 64, 64),
        }
        predictor.predict(**{name: make() for name, make in asked.items() if rng.random() < 0.6})

    def options(rng: np.random.Generator) -> None:
        names = ("points_per_side", "pred_iou_thresh", "crop_n_layers", "memory_limit", "nms", "point_grids")
        AutomaticOptions(**{str(pick(rng, names)): pick(rng, ODD_VALUES)})

    def masks(rng: np.random.Generator) -> None:
        encoded = mutated_json(rng, sound)
        if isinstance(encoded, dict) and isinstance(encoded.get("counts"), str) and rng.random() < 0.5:
            encoded["counts"] = mutated_text(rng, encoded["counts"])
        checked = rle.checked(encoded)
        if checked["size"][0] * checked["size"][1] < 10**8:
            rle.decode(checked)
            rle.bbox(checked)

    def outlines(rng: np.random.Generator) -> None:
        flat = mutated_json(rng, [[10.0, 10.0, 50.0, 10.0, 50.0, 40.0]])
        polygons.from_coco(flat, (60, 80))

    def pixels(rng: np.random.Generator) -> None:
        predictor.set_image(odd_array(rng, 60, 80, 3))
        predictor.set_image(image)

    calls = (predict, options, masks, outlines, pixels)

    def attempt(rng: np.random.Generator) -> str | None:
        call = pick(rng, calls)
        try:
            with torch.no_grad():
                call(rng)
        except Exception as error:
            if call is pixels:
                predictor.set_image(image)
            wrong = _wrong(error)
            return wrong and f"{call.__name__}: {wrong}"
        return None

    yield attempt


@_surface
def shell(folder: Path) -> Iterator[Try]:
    """Command lines, run in this process, with arguments and files that were changed."""
    from PIL import Image

    from anymask.cli import main
    from data_kinds import KINDS, picture

    weights = _model(folder)
    data = {kind.replace(" ", "-"): make(folder / kind.replace(" ", "-")) for kind, make in KINDS.items()}
    Image.fromarray(picture()).save(folder / "a.png")
    small = ["--points-per-side", "2"]
    lines: list[list[object]] = [
        ["segment", folder / "a.png", "--point", "40,40", "-o", "OUT"],
        ["segment", folder / "a.png", "--box", "10,12,70,76", "-o", "OUT", "--format", "png"],
        ["everything", folder / "a.png", "-o", "OUT", *small],
        ["everything", data["coco"].parent, "-o", "OUT", *small, "--format", "coco"],
        ["edges", folder / "a.png", "-o", "OUT/edges.png"],
        ["instances", data["coco"].parent, data["coco"], "-o", "OUT/masks.json"],
        ["similar", folder / "a.png", data["coco"].parent, "--point", "40,40", "-o", "OUT"],
        ["models", "convert", weights, "OUT/b.safetensors"],
        ["evaluate", "single-point", data["masks"], "--model", weights, "--json"],
        ["engine", "init", "OUT/project"],
        ["engine", "status", folder / "project"],
        ["engine", "import", folder / "project", data["coco"], "--format", "coco"],
        ["engine", "import", folder / "project", data["labelme"], "--format", "labelme"],
        ["engine", "release", folder / "project", "OUT/release"],
        ["people", "add", "Ann", "--file", "OUT/people.json"],
        ["people", "list", "--file", folder / "people.json"],
        ["train", "plan", folder / "recipe.toml"],
    ]
    _quietly(main, ["engine", "init", str(folder / "project")])
    _quietly(main, ["people", "add", "Bob", "--file", str(folder / "people.json")])
    shutil.copy(Path(__file__).parents[2] / "recipes" / "finetune.toml", folder / "recipe.toml")
    out = folder / "out"

    def attempt(rng: np.random.Generator) -> str | None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        line = [str(part).replace("OUT", str(out)) for part in pick(rng, lines)]
        verb, changed = line[0], [*line]
        if rng.random() < 0.4:  # a file that it reads
            names = [at for at, part in enumerate(line) if at and Path(part).is_file() and folder in Path(part).parents]
            if names:
                at = int(pick(rng, names))
                bad = out.parent / f"bad{Path(line[at]).suffix}"
                bad.write_bytes(mutated_bytes(rng, Path(line[at]).read_bytes()))
                changed[at] = str(bad)
        if changed == line:
            at = int(rng.integers(1, len(line)))
            match int(rng.integers(4)):
                case 0:
                    del changed[at]
                case 1:
                    changed.insert(at, str(pick(rng, ODD_TEXTS)))
                case _ if str(out) not in line[at]:  # where results go stays below this folder
                    changed[at] = mutated_text(rng, line[at])
                case _:
                    changed.append(f"--{mutated_text(rng, 'json')}")
        if any(part.startswith(("/", "..")) and str(folder) not in part for part in changed):
            changed = [part for part in changed if not part.startswith(("/", "..")) or str(folder) in part]
        status, said = _quietly(main, changed)
        told = f"anymask {' '.join(changed)[:300]!r}: "
        if "Traceback" in said or "unexpected error" in said:
            return told + said.strip()[-300:]
        if status not in (0, 1, 2):
            return f"{told}status {status}"
        if status == 2 and verb != "engine" and any(path.is_file() for path in out.rglob("*")):
            return f"{told}was refused, and left {[path.name for path in out.rglob('*')]}"
        left = leftovers(folder)
        return f"{told}left {left}" if left else None

    working = folder / "cwd"
    working.mkdir()
    with contextlib.chdir(working):
        yield attempt


def _quietly(main: Callable[[list[str]], int], arguments: list[str]) -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    return status, out.getvalue() + err.getvalue()


@_surface
def http(folder: Path) -> Iterator[Try]:
    """Every route of the OpenAPI document, on a project of a data engine."""
    import logging

    from PIL import Image
    from starlette.testclient import TestClient

    from anymask.checkpoints import load_model
    from anymask.checkpoints.load import model_hash
    from anymask.engine.project_model import set_project_model
    from anymask.engine.stages import assisted
    from anymask.engine.store import open_project
    from anymask.export.description import FORMAT
    from anymask.geometry import rle
    from anymask.server.app import create_app
    from anymask.server.decoder_files import PARTS
    from anymask.server.settings import Settings
    from data_kinds import picture

    logging.disable(logging.CRITICAL)
    model = load_model(_model(folder)).eval()
    pictures = []
    for format in ("PNG", "JPEG", "BMP", "GIF", "TIFF"):
        encoded = io.BytesIO()
        Image.fromarray(picture()).save(encoded, format)
        pictures.append(encoded.getvalue())
    mask = np.zeros((96, 128), bool)
    mask[10:30, 20:50] = True
    with open_project(folder / "project") as project:
        set_project_model(project, model)
        parts = project.cache / "models" / f"{model_hash(model)}-{FORMAT}"
        parts.mkdir(parents=True)
        for part in PARTS:
            (parts / f"{part}.onnx").write_bytes(b"made before, as that takes a minute")
        app = create_app(project, model, model_name="smoke", settings=Settings(page=folder / "no-page"))
        with TestClient(app, base_url="http://127.0.0.1:8017", raise_server_exceptions=False) as client:
            for _ in range(40):
                client.post("/api/images", files={"file": ("a.png", pictures[0])})
            assisted.open_queue(project)
            described = client.get("/api/openapi.json").json()
            routes = [
                (method.upper(), path, operation)
                for path, operations in described["paths"].items()
                for method, operation in operations.items()
                if path != "/api/events"  # an endless answer, which tests on a socket try
            ]
            annotation = {
                "id": "a",
                "rle": rle.encode(mask),
                "class_id": 1,
                "name": "x",
                "visible": True,
                "score": 0.5,
                "source": "click",
                "prompts": {"points": [[30, 20, 1]]},
                "parent": None,
                "provenance": {"stage": "assisted", "author": "Ann"},
            }
            lease: dict[str, Any] = {
                "job": 1,
                "image": "1",
                "stage": "assisted",
                "worker": "Ann",
                "token": "0" * 32,
                "is_second": False,
            }
            done = {"lease": lease, "seconds": 1.0, "clicks": 1, "strokes": 0}
            changes = [{"op": "put", "annotation": annotation | {"id": id}} for id in "ab"]
            bodies = {
                "changes": {"base_revision": 0, "client": "tab", "changes": changes},
                "classes": {
                    "base_revision": 0,
                    "client": "tab",
                    "classes": [{"id": 1, "name": "x", "color": "#ff0000"}],
                },
                "everything": {"preset": "fast", "points_per_side": 2},
                "text": {"phrases": ["cup"], "box_threshold": 0.3},
                "next": {"worker": "Ann", "stage": "assisted"},
                "renew": lease,
                "give-back": lease,
                "skip": {"lease": lease, "reason": "blurred"},
                "finish": done | {"masks": [rle.encode(mask)]},
                "judge": done
                | {"revision": 0, "judgements": [{"key": "a", "verdict": "fix", "fixed": annotation}], "added": []},
                "images": {"sample": "coffee"},
            }

            def attempt(rng: np.random.Generator) -> str | None:
                with_body = [each for each in routes if "requestBody" in each[2]]
                method, path, operation = pick(rng, with_body if rng.random() < 0.6 else routes)
                return _request(rng, client, method, path, operation, bodies, pictures, folder)

            yield attempt


def _request(
    rng: np.random.Generator,
    client: Any,
    method: str,
    path: str,
    operation: dict[str, Any],
    bodies: dict[str, Any],
    images: list[bytes],
    folder: Path,
) -> str | None:
    known = rng.random() < 0.8
    filled = path.replace("{id}", str(int(rng.integers(1, 4))) if known else mutated_text(rng, "1"))
    filled = filled.replace("{part}", "image" if known else mutated_text(rng, "image"))
    queries = [each["name"] for each in operation.get("parameters", []) if each["in"] == "query"]
    sound = {"format": "coco", "priority": "now", "tolerance": "1", "ids": "1", "values": "class", "polygons": "true"}
    query = {name: sound.get(name, "1") for name in queries if rng.random() < 0.7}
    query = {name: value if rng.random() < 0.8 else mutated_text(rng, value) for name, value in query.items()}
    headers: dict[str, bytes] = {"host": b"127.0.0.1:8017"}
    if rng.random() < 0.2:
        name = str(
            pick(rng, ("host", "origin", "cookie", "authorization", "if-none-match", "x-project", "range", "accept"))
        )
        headers[name] = (
            mutated_text(rng, "127.0.0.1").replace("\0", "").encode("utf-8", "replace").replace(b"\r\n", b"")
        )
    content: bytes | None = None
    if "requestBody" in operation:
        headers["content-type"] = b"application/json"
        body = bodies.get(path.rpartition("/")[2], {})
        if "base_revision" in body and rng.random() < 0.7:
            place = filled.replace("changes", "annotations")
            known = client.get(place if place.isprintable() else "/api/classes", headers={"host": "127.0.0.1:8017"})
            body = body | {"base_revision": known.json().get("revision", 0)}
        content = json.dumps(nearly(rng, body)).encode() if rng.random() < 0.4 else mutated_document(rng, body)
        if path == "/api/images" and rng.random() < 0.7:
            data = mutated_bytes(rng, pick(rng, images))
            content = (
                b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
                + data
                + b"\r\n--b--\r\n"
            )
            content = mutated_bytes(rng, content) if rng.random() < 0.3 else content
            headers["content-type"] = b"multipart/form-data; boundary=b"
        if rng.random() < 0.1:
            headers["content-type"] = (
                mutated_text(rng, "application/json").encode("utf-8", "replace").replace(b"\0", b"")
            )
    try:
        answer = client.request(method, filled, params=query, headers=headers, content=content)
    except Exception as error:  # a client that will not send such a thing
        if type(error).__module__.startswith(("httpx", "h11", "starlette")) or isinstance(error, UnicodeError):
            return None
        return f"{method} {filled[:80]}: {type(error).__name__}: {str(error)[:200]}"
    if path.endswith("/next") and answer.status_code == 200 and answer.json()["task"]:
        bodies["renew"].update(answer.json()["task"]["lease"])  # which other bodies hold, too
    told = f"{method} {filled[:80]} {str(query)[:80]} {content[:200] if content else b''!r}: "
    if answer.status_code >= 500 and answer.status_code not in (501, 503, 507):
        return f"{told}{answer.status_code} {answer.text[:200]}"
    if answer.status_code >= 400:
        said = answer.json().get("error") if "json" in answer.headers.get("content-type", "") else answer.text
        if not said or "Traceback" in said or str(folder) in said:
            return f"{told}{answer.status_code} says {said!r}"
    left = leftovers(folder)
    return f"{told}left {left}" if left else None
