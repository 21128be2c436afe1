"""Images: listed, taken in, shown, encoded."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from anymask.data.files import write_bytes_atomic
from anymask.data.images import read_header
from anymask.engine.store import StoredImage
from anymask.engine.store.images import NewImage
from anymask.errors import ImageError, InputError
from anymask.samples import SAMPLES, sample_path
from anymask.server import schemas
from anymask.server.context import AtContext, Context, OfImage
from anymask.server.errors import ApiError
from anymask.server.image_files import as_jpeg, check_upload, media_type, send_file, thumbnail, write_durably
from anymask.server.worker import Priority

router = APIRouter(prefix="/images")

_LONGEST_NAME = 200
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
}
_UPLOAD_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "required": ["file"],
                    "additionalProperties": False,
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"sample": {"type": "string", "enum": list(SAMPLES)}},
                    "required": ["sample"],
                    "additionalProperties": False,
                }
            },
        },
    }
}


@router.get("")
def list_images(context: AtContext) -> schemas.Images:
    """Return all images of the project."""
    return schemas.Images(images=[context.encoding.describe(image) for image in context.project.images.all()])


@router.get("/least-scores")
def least_scores(context: AtContext) -> schemas.LeastScores:
    """Return how sure the model was of each image's least sure mask."""
    return schemas.LeastScores(scores={str(id): score for id, score in context.project.images.least_scores().items()})


@router.post(
    "",
    status_code=201,
    openapi_extra=_UPLOAD_SCHEMA,
    responses={code: {"model": schemas.Error} for code in (400, 413, 415, 429)},
)
async def add_image(request: Request, context: AtContext) -> schemas.Image:
    """Take in an image: an uploaded file, or a sample photograph by name. It is on the disk when this is answered."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        name, data = await _uploaded(request)
    elif kind == "application/json":
        name, data = _sample(await request.body())
    else:
        raise ApiError(415, "an image comes as multipart/form-data in a field `file`, or as JSON that names a sample")
    return await context.decode(lambda: _add(context, name, data))


@router.get("/{id}/file", response_class=Response, responses=_PICTURE)
async def image_file(request: Request, context: AtContext, image: OfImage) -> Response:
    """Send an image as the model sees it: the file where every browser shows that, else a JPEG."""
    try:
        path, kind = await context.decode(lambda: _kind(context, image))
    except ImageError as error:
        raise _gone(image, error) from error
    if kind is not None:
        return send_file(request, path, kind)
    shown = context.made_path("shown", image)
    await _made(context, image, shown, as_jpeg)
    return send_file(request, shown, "image/jpeg")


@router.get("/{id}/thumbnail", response_class=Response, responses=_PICTURE)
async def image_thumbnail(request: Request, context: AtContext, image: OfImage) -> Response:
    """Send a small JPEG, its long side at most 256 pixels."""
    path = context.made_path("thumbnails", image)
    await _made(context, image, path, thumbnail)
    return send_file(request, path, "image/jpeg")


@router.post("/{id}/encode", status_code=202, responses={429: {"model": schemas.Error}})
def encode_image(
    context: AtContext, image: OfImage, priority: Annotated[Literal["now", "next"], Query()] = "now"
) -> schemas.Image:
    """Have an image encoded if it is not: the one that is open now, or one that will be opened next."""
    context.encoding.request(image, Priority[priority])
    return context.encoding.describe(image)


@router.get(
    "/{id}/embedding",
    response_class=Response,
    responses={
        200: {
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            "headers": {
                "X-Shape": {
                    "schema": {"type": "string"},
                    "description": "name=c,h,w of each float16 array, C order, one after the other; joined by ;",
                },
                "X-Original-Size": {"schema": {"type": "string"}, "description": "h,w of the image"},
            },
        },
        409: {"model": schemas.Error},
    },
)
def image_embedding(context: AtContext, image: OfImage) -> Response:
    """Send an image's embedding: float16, little-endian arrays in C order, compressed on the way."""
    packed = context.encoding.packed(image)
    if packed is None:
        raise ApiError(409, f"image {image.id} is not encoded yet; ask for it and wait until its state is ready")
    shapes = context.model.embedding_shapes()
    headers = {
        "Content-Encoding": "gzip",
        "X-Shape": ";".join(f"{name}={','.join(map(str, shape))}" for name, shape in shapes.items()),
        "X-Original-Size": f"{image.size[0]},{image.size[1]}",
    }
    return Response(packed, media_type="application/octet-stream", headers=headers)


def _kind(context: Context, image: StoredImage) -> tuple[FilePath, str | None]:
    """Return where an image lies, and the type under which every browser shows it as the model sees it, if any."""
    path = context.path(image)
    return path, media_type(read_header(path)) if context.model.channels is None else None


async def _uploaded(request: Request) -> tuple[str, bytes]:
    async with request.form(max_files=1, max_fields=1) as form:
        fields = list(form.multi_items())
        match fields:
            case [("file", UploadFile() as file)]:
                return _clean(file.filename or ""), await file.read()
    raise ApiError(422, "one image was expected, in a field called `file`")


def _sample(body: bytes) -> tuple[str, bytes]:
    try:
        choice = schemas.SampleChoice.model_validate_json(body)
        path = sample_path(choice.sample)
    except ValidationError as error:
        raise ApiError(422, 'a sample is named as {"sample": NAME}') from error
    except InputError as error:
        raise ApiError(422, str(error)) from error
    return path.name, path.read_bytes()


def _clean(name: str) -> str:
    """Return a file's name without folders and without what no name should hold."""
    last = name.replace("\\", "/").rpartition("/")[2]
    shown = "".join(letter for letter in last if letter.isprintable()).strip()
    return shown[-_LONGEST_NAME:] or "image"


def _add(context: Context, name: str, data: bytes) -> schemas.Image:
    """Check, write, and only then note an image; its file's name is ours."""
    header, pixels = check_upload(data, context.settings.max_pixels)
    location = f"images/{uuid.uuid4().hex}.{header.format.lower()}"
    path = context.project.path(location)
    write_durably(path, data)
    try:
        size = (pixels.shape[0], pixels.shape[1])
        image = context.project.images.add([NewImage(name=name, location=location, size=size)])[0]
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    if context.model.channels is None:
        _write(context.made_path("thumbnails", image), thumbnail(pixels))
    described = context.encoding.describe(image)
    context.events.publish(schemas.ImageEvent(image=described))
    return described


async def _made(context: Context, image: StoredImage, path: FilePath, make: Callable[..., bytes]) -> None:
    """Make a picture from an image, unless it is there."""
    if path.is_file():
        return
    try:
        await context.decode(lambda: _write(path, make(context.pixels(image))))
    except ImageError as error:
        raise _gone(image, error) from error


def _write(path: FilePath, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    write_bytes_atomic(path, data)


def _gone(image: StoredImage, error: ImageError) -> ApiError:
    reason = str(error).rpartition(": ")[2]
    return ApiError(404, f"the file of image {image.id}, {image.name}, cannot be read: {reason}")
