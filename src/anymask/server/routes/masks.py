"""Masks that the server's model finds by itself: everything on an image, what words say, what is like examples."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fastapi import APIRouter

from anymask.engine.store import StoredImage
from anymask.geometry import rle
from anymask.inference import Prompt
from anymask.inference.automatic.masks import AutomaticMasks
from anymask.inference.automatic.options import PRESETS, AutomaticOptions
from anymask.inference.automatic.tree import build_tree
from anymask.inference.similar import SimilarOptions
from anymask.inference.words.detector import DETECTOR
from anymask.server import schemas
from anymask.server.bodies import JsonRoute
from anymask.server.context import AtContext, Context, OfImage, get_image
from anymask.server.errors import ApiError, too_many_requests

router = APIRouter(route_class=JsonRoute, prefix="/images/{id}")
T = TypeVar("T")


@router.post("/everything", responses={429: {"model": schemas.Error}})
async def everything(context: AtContext, image: OfImage, wanted: schemas.EverythingRequest) -> schemas.Everything:
    """Find everything on an image; it waits its turn behind images to be encoded."""
    if wanted.preset not in PRESETS:
        raise ApiError(422, f"there is no preset {wanted.preset[:60]!r}; there are {', '.join(PRESETS)}")
    chosen = {name: value for name, value in wanted.model_dump(exclude={"preset"}).items() if value is not None}
    options = AutomaticOptions.preset(wanted.preset, **chosen)
    return await _searched(context, f"everything {image.id} {options}", lambda: _everything(context, image, options))


@router.post("/text", responses={429: {"model": schemas.Error}, 501: {"model": schemas.Error}})
async def text(context: AtContext, image: OfImage, wanted: schemas.TextRequest) -> schemas.Texts:
    """Find what words say."""
    model = context.text
    if model is None:
        raise ApiError(
            501,
            "words need a detector, which is not on this machine: pip install 'anymask[text]' and "
            f"`hf download {DETECTOR}` fetch one, or start `anymask serve --detector FOLDER`",
        )

    def find() -> schemas.Texts:
        found = model.find(context.pixels(image), wanted.phrases, wanted.box_threshold)
        records = []
        for mask, score, phrase in found:
            stored = rle.encode(mask)
            records.append(
                schemas.TextRecord(
                    rle=schemas.Rle.model_validate(stored), bbox=list(rle.bbox(stored)), score=score, phrase=phrase
                )
            )
        return schemas.Texts(records=records)

    return await _searched(context, f"text {image.id} {wanted}", find)


@router.post("/similar", responses={429: {"model": schemas.Error}})
async def similar(context: AtContext, image: OfImage, wanted: schemas.SimilarRequest) -> schemas.SimilarRegions:
    """Find what is like examples, of this image or of others, and is not annotated yet."""
    key = f"similar {image.id} {image.revision} {wanted}"
    return await _searched(context, key, lambda: _similar(context, image, wanted))


async def _searched(context: Context, key: str, work: Callable[[], T]) -> T:
    """Run on the model's thread, at most so many at a time."""
    future = context.worker.submit(key, "search", work)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        if future.cancelled():  # by the server, not by who asked
            raise too_many_requests("the server is closing", 5) from None
        raise


def _everything(context: Context, image: StoredImage, options: AutomaticOptions) -> schemas.Everything:
    records = AutomaticMasks(context.model, options).generate(context.pixels(image))
    parents = build_tree([record.rle for record in records]).parents.tolist()
    return schemas.Everything(
        records=[
            schemas.EverythingRecord(
                rle=schemas.Rle.model_validate(record.rle),
                bbox=list(record.bbox),
                area=record.area,
                predicted_iou=record.predicted_iou,
                stability_score=record.stability_score,
                parent=parent if parent >= 0 else None,
            )
            for record, parent in zip(records, parents, strict=True)
        ]
    )


def _similar(context: Context, image: StoredImage, wanted: schemas.SimilarRequest) -> schemas.SimilarRegions:
    predictor, examples = context.predictor, []
    try:
        own = str(image.id)
        for id in [*sorted({given.image for given in wanted.examples} - {own}), own]:
            shown = get_image(context, id)
            predictor.set_image(context.pixels(shown))
            for given in wanted.examples:
                if given.image == id:
                    mask = rle.decode(rle.checked(given.rle.stored(), shown.size))
                    examples.append(predictor.example(Prompt(mask=mask)))
        taken = [each.rle for each in context.project.annotations.state(image.id).annotations]
        options = SimilarOptions(min_similarity=wanted.min_similarity)
        found = predictor.similar(examples, taken=taken, options=options)
    finally:
        predictor.reset()
    return schemas.SimilarRegions(
        records=[
            schemas.SimilarRecord(
                rle=schemas.Rle.model_validate(region.rle),
                bbox=list(rle.bbox(region.rle)),
                predicted_iou=region.predicted_iou,
                similarity=region.similarity,
            )
            for region in found
        ]
    )
