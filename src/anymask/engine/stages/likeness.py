"""Examples of a class, carried over: what people confirmed on some images is proposed, by name, on all others.

The confirmed masks of a class are examples, and each image is searched for what is like any of them
(`anymask.inference.similar`). How alike is enough is not guessed: the examples of each half of the images are
tried on the other half, and the least similarity is taken at which people would keep enough of what is found.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anymask.checkpoints.load import model_hash
from anymask.engine.pictures import leaving_out, read_picture
from anymask.engine.pool import Work, enqueue
from anymask.engine.project_model import KeptEmbeddings
from anymask.engine.stages import FIXABLE_IOU, SEMI_AUTOMATIC
from anymask.engine.stages.prefilling import least_score
from anymask.engine.store import (
    MODEL,
    Annotation,
    Change,
    Class,
    Outcome,
    Project,
    Provenance,
    Put,
    StoredImage,
    is_peoples,
)
from anymask.errors import DataError, ImageError, InputError
from anymask.geometry import rle
from anymask.geometry.rle import RLE
from anymask.inference.answers import EncodedImage
from anymask.inference.loading import load
from anymask.inference.prompts import Prompt
from anymask.inference.similar import SearchExample, Similar, SimilarOptions
from anymask.model import Sam

_IMAGES, _MASKS = 40, 8
"""Images whose examples are taken at most, and examples of an image."""
_FLOOR = 0.3
"""Similarity below which nothing is looked at."""


def class_named(project: Project, name: str) -> Class:
    """Return a project's class; raises InputError where it has none of that name."""
    classes = project.classes.current().classes
    found = next((each for each in classes if each.name == name), None)
    if found is None:
        known = ", ".join(each.name for each in classes) or "none"
        raise InputError(f"{name!r} is no class of this project; its classes: {known}")
    return found


def kind_of(wanted: Class) -> str:
    """Return the kind of the jobs in which a class is looked for: one an image."""
    return f"like-{wanted.id}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Shown:
    """An image on which people confirmed masks of a class."""

    encoded: EncodedImage
    masks: Sequence[RLE]
    examples: Sequence[SearchExample]


def least_similarity(project: Project, model: Sam, wanted: Class) -> float:
    """Return the least similarity at which `prefill_precision` of what is found shows the class.

    1 where nothing is good enough; where the class was confirmed on one image alone, what a search takes by default.
    Raises DataError where no mask of the class was confirmed.
    """
    shown = _shown(project, model, wanted)
    if len(shown) < 2:
        return SimilarOptions().min_similarity
    search = Similar(model, SimilarOptions(min_similarity=_FLOOR))
    tried: list[tuple[float, bool]] = []
    for half, other in ((shown[::2], shown[1::2]), (shown[1::2], shown[::2])):
        examples = [each for image in other for each in image.examples]
        for image in half:
            found = search.find_in(image.encoded, examples)
            if found:
                best = rle.pairwise_iou([each.rle for each in found], list(image.masks)).max(axis=1)
                tried += [(each.similarity, bool(iou >= FIXABLE_IOU)) for each, iou in zip(found, best, strict=True)]
    return least_score(tried, project.settings.current().prefill_precision)


def open_queue(project: Project, wanted: Class) -> int:
    """Queue every image on which nobody has confirmed the class; returns how many are new."""
    shown = {image.id for image, _ in _confirmed(project, wanted)}
    return enqueue(project, kind_of(wanted), [each for each in project.images.all() if each.id not in shown])


def open_people_queue(project: Project, wanted: Class) -> int:
    """Queue for people the images on which something was found; returns how many are new."""
    found = {job.image_id for job in project.jobs.in_state("done", kind_of(wanted), limit=1 << 30)}
    return enqueue(
        project,
        SEMI_AUTOMATIC,
        [each for each in project.images.all() if each.id in found and _waits(project, each, wanted)],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LikeTask:
    """Masks of a class where they are alike enough; `model` is the file of the project's model."""

    model: str
    wanted: Class
    least: float
    """Similarity that a region needs (`least_similarity`)."""
    device: str = "cpu"

    def open(self, project: Project) -> Work:
        """Load the model, and take what people confirmed as examples."""
        model = load(self.model, device=self.device)
        digest = model_hash(model)
        encoder = KeptEmbeddings(project, model)
        examples = [each for image in _shown(project, model, self.wanted) for each in image.examples]
        search = Similar(model, SimilarOptions(min_similarity=self.least))

        def work(image: StoredImage) -> tuple[Outcome, list[Change]]:
            began = time.perf_counter()
            known = [each.rle for each in project.annotations.state(image.id).annotations]
            found = search.find_in(encoder.encode(read_picture(project, image)), examples, taken=known)
            changes: list[Change] = [
                Put(
                    annotation=Annotation(
                        id=f"like-{self.wanted.id}-{index}",
                        rle=each.rle,
                        class_id=self.wanted.id,
                        name=self.wanted.name,
                        score=round(each.predicted_iou, 6),
                        source="click",
                        prompts={"points": [list(each.point)], "labels": [1], "similarity": round(each.similarity, 6)},
                        provenance=Provenance(stage=SEMI_AUTOMATIC, author=MODEL, origin="prefilled", model=digest),
                    )
                )
                for index, each in enumerate(found)
            ]
            return Outcome(seconds=time.perf_counter() - began, added=len(found), model=digest), changes

        return work


def _confirmed(project: Project, wanted: Class) -> list[tuple[StoredImage, list[RLE]]]:
    """Return the images on which people confirmed masks of a class, with those."""
    found = []
    for image in project.images.all():
        if image.num_annotations:
            state = project.annotations.state(image.id)
            masks = [each.rle for each in state.annotations if each.class_id == wanted.id and is_peoples(each)]
            if masks:
                found.append((image, masks))
    return found


def _shown(project: Project, model: Sam, wanted: Class) -> list[_Shown]:
    """Return confirmed examples of a class. Raises DataError where there is none that can be seen."""
    encoder, shown = KeptEmbeddings(project, model), []
    search = Similar(model)
    confirmed = _confirmed(project, wanted)
    order = np.random.default_rng(0).permutation(len(confirmed))[:_IMAGES]
    with leaving_out(f"the examples of {wanted.name}") as note:
        for image, masks in (confirmed[index] for index in order.tolist()):
            try:
                encoded = encoder.encode(read_picture(project, image))
            except ImageError as error:
                note(error)
                continue
            drawn = [rle.decode(each) for each in masks[:_MASKS]]
            examples = [search.example_of(encoded, Prompt(mask=each)) for each in drawn if each.any()]
            if examples:
                shown.append(_Shown(encoded=encoded, masks=masks, examples=examples))
    if not shown:
        raise DataError(
            f"{wanted.name}: nobody has confirmed a mask of this class yet; name some masks so, and look for their like"
        )
    return shown


def _waits(project: Project, image: StoredImage, wanted: Class) -> bool:
    """Whether a proposal of the class waits on an image."""
    state = project.annotations.state(image.id)
    return any(each.class_id == wanted.id and not is_peoples(each) for each in state.annotations)
