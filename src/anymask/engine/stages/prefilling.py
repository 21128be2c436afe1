"""The machine's part of stage 2: a detector's boxes become masks, and the confident ones prefill an image.

Source: SAM, sec. 4, "semi-automatic". What is confident is not guessed: on images with masks that a detector was not
trained on it is seen how sure box and mask have to be so that people will keep the mask often enough.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from anymask.engine.detectors import BoxDetector, SmallDetector, SmallDetectorConfig, load_detector, train_detector
from anymask.engine.detectors.boxes import LabelledImage
from anymask.engine.pictures import HELD_OUT, Note, leaving_out, read_picture, split_of
from anymask.engine.pool import Work
from anymask.engine.stages import FIXABLE_IOU, SEMI_AUTOMATIC
from anymask.engine.stages.automatic import SAME_IOU
from anymask.engine.store import Annotation, Change, Outcome, Project, Provenance, Put, StoredImage
from anymask.errors import DataError, ImageError
from anymask.geometry import nms, rle
from anymask.inference.answers import EncodedImage, Masks, answer, encode
from anymask.inference.loading import load
from anymask.inference.prompts import box_prompts, to_model_all
from anymask.inference.refinement import PLAIN, Refinement
from anymask.inference.runtimes import weights_hash

if TYPE_CHECKING:
    from anymask.model import Sam

_FEWEST = 8
"""People's masks, fewer of which do not tell what is confident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A mask, and the box (x0, y0, x1, y1), in pixels of the original, that it was asked with."""

    mask: rle.RLE
    score: float
    """The mask's predicted IoU."""
    box: tuple[float, float, float, float]
    box_score: float
    """The detector's score of the box, from 0 to 1."""

    @property
    def confidence(self) -> float:
        """How sure detector and model are together: the geometric mean of their scores."""
        return float(np.sqrt(self.box_score * min(max(self.score, 0.0), 1.0)))


def detector_path(project: Project, digest: str) -> Path:
    """Return where the project's detector for a model lies."""
    return project.folder / "models" / f"{digest}.detector.safetensors"


def train_on_project(project: Project, model: Sam, config: SmallDetectorConfig | None = None) -> SmallDetector:
    """Train our own detector on the project's masks, those held out left aside, and keep it.

    Images that cannot be read are left out with a warning. Raises DataError where no image that may be learned from
    has a mask.
    """
    with leaving_out("the detector's training") as note:
        detector = _train(project, model, _labelled(project), config, note)
    path = detector_path(project, weights_hash(model))
    path.parent.mkdir(exist_ok=True)
    detector.save(path)
    return detector


def choose_confidence(
    project: Project, model: Sam, detector: BoxDetector | None = None, config: SmallDetectorConfig | None = None
) -> float | None:
    """Return the least confidence at which `prefill_precision` of a detector's masks are such as people keep.

    None for the detector takes our own: one trained for this on each half of the images with masks is tried on the
    other half. Another detector, which has seen none of them, is tried on all. An object that nobody has drawn counts
    as none, so that the choice errs on the careful side. 1 where no masks are good enough; None where `prefill_iou` is
    set, or where there are too few masks to choose by. Images that cannot be read are left out with a warning. Raises
    DataError as `train_on_project`.
    """
    settings = project.settings.current()
    if settings.prefill_iou:
        return None
    tried = tried_proposals(project, model, detector, config)
    return least_score(tried, settings.prefill_precision) if tried is not None else None


def tried_proposals(
    project: Project, model: Sam, detector: BoxDetector | None = None, config: SmallDetectorConfig | None = None
) -> list[tuple[float, bool]] | None:
    """Return the confidence of what a detector proposes on images with masks, and whether people would keep it.

    None where there are too few masks; the rest as `choose_confidence`.
    """
    settings = project.settings.current()
    tried: list[tuple[float, bool]] = []
    with leaving_out("the choice of what is confident") as note:
        images = _readable(project, _labelled(project), note)
        if len(images) < 2 or sum(image.num_annotations for image in images) < _FEWEST:
            return None
        for half, other in ((images[::2], images[1::2]), (images[1::2], images[::2])):
            judged = detector or _train(project, model, other, config, note)
            for image in half:
                truth = [each.rle for each in project.annotations.state(image.id).annotations]
                found = propose(model, judged, read_picture(project, image), box_score=settings.prefill_score)
                if found:
                    tried += _judged(found, rle.pairwise_iou([each.mask for each in found], truth))
    return tried


def _judged(found: Sequence[Proposal], iou: Float[np.ndarray, "n m"]) -> list[tuple[float, bool]]:
    """Return each mask's confidence, and whether people would keep it: of two masks of one object they keep the surer
    one.
    """
    judged, left = [], iou.copy()
    for index in sorted(range(len(found)), key=lambda i: -found[i].confidence):
        object_ = int(left[index].argmax())
        is_kept = bool(left[index, object_] >= FIXABLE_IOU)
        if is_kept:
            left[:, object_] = 0
        judged.append((found[index].confidence, is_kept))
    return judged


def least_score(tried: Sequence[tuple[float, bool]], precision: float) -> float:
    """Return the lowest score such that, of those with it or a higher one, a share of `precision` is right; 1 if none.

    `tried` are scores, and whether what had them was right.
    """
    if not tried:
        return 1.0
    ordered = sorted(tried, reverse=True)
    right = np.cumsum([is_right for _, is_right in ordered])
    enough = np.flatnonzero(right >= precision * np.arange(1, len(ordered) + 1))
    return ordered[enough[-1]][0] if len(enough) else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillTask:
    """Confident masks of what the detector finds; `detector` is a folder of transformers', None for our own."""

    model: str
    detector: str | None = None
    device: str = "cpu"
    least: float | None = None
    """Confidence that a mask needs (`choose_confidence`); None asks for predicted IoU, the project's or the model's."""

    def open(self, project: Project) -> Work:
        """Load the model and the detector."""
        model = load(self.model, device=self.device)
        digest = weights_hash(model)
        settings = project.settings.current()
        least_iou = settings.prefill_iou or model.config.pred_iou_thresh
        detector: BoxDetector
        if self.detector is None:
            detector = load_detector(detector_path(project, digest), model)
        else:
            from anymask.engine.detectors.boxes import HuggingFaceDetector

            detector = HuggingFaceDetector(self.detector, device=self.device)

        def work(image: StoredImage) -> tuple[Outcome, list[Change]]:
            began = time.perf_counter()
            known = [each.rle for each in project.annotations.state(image.id).annotations]
            pixels = read_picture(project, image)
            found = propose(model, detector, pixels, box_score=settings.prefill_score, known=known)
            if self.least is None:
                found = [each for each in found if each.score >= least_iou]
            else:
                found = [each for each in found if each.confidence >= self.least]
            changes: list[Change] = [Put(annotation=_annotation(i, each, digest)) for i, each in enumerate(found)]
            return Outcome(seconds=time.perf_counter() - began, added=len(found), model=digest), changes

        return work


def propose(
    model: Sam,
    detector: BoxDetector,
    pixels: np.ndarray,
    *,
    box_score: float = 0.0,
    known: Sequence[rle.RLE] = (),
) -> list[Proposal]:
    """Return masks of the detector's boxes that score `box_score` and more, the highest predicted IoU first.

    Each box is asked for twice: the second time it is the first mask's own, as the model draws closer than the
    detector. Duplicates are left out, of one another and of `known` masks.
    """
    encoded = encode(model, [pixels])[0]
    found = detector.detect_encoded(encoded) if isinstance(detector, SmallDetector) else detector.detect(pixels)
    chosen = (found.scores >= box_score) & _has_area(found.boxes)
    boxes = found.boxes[chosen]
    boxes = _tightened(boxes, _answers(model, encoded, boxes, PLAIN))
    made = [
        Proposal(
            mask=rle.encode(answered.best), score=float(answered.scores[0]), box=_corners(box), box_score=float(sure)
        )
        for box, sure, answered in zip(
            boxes, found.scores[chosen], _answers(model, encoded, boxes, Refinement()), strict=True
        )
        if answered.best.any()
    ]
    kept = nms.mask_nms([each.mask for each in made], np.array([each.score for each in made]), SAME_IOU)
    best = [made[index] for index in kept]
    if best and known:
        overlap = rle.pairwise_iou([each.mask for each in best], list(known)).max(axis=1)
        best = [each for each, iou in zip(best, overlap, strict=True) if iou <= SAME_IOU]
    return best


def _labelled(project: Project) -> list[StoredImage]:
    """Return the images with masks that may be learned from. Raises DataError where there is none."""
    settings = project.settings.current()
    marked = [image for image in project.images.all() if image.num_annotations]
    chosen = [image for image in marked if split_of(image, settings) != HELD_OUT]
    if marked and not chosen:
        raise DataError(
            f"the detector has nothing to learn from: all {len(marked)} images with masks are held out to judge models "
            "by; annotate more images, or import some with --split train"
        )
    return chosen


def _readable(project: Project, images: Sequence[StoredImage], note: Note) -> list[StoredImage]:
    """Return the images that can be read."""
    kept = []
    for image in images:
        try:
            read_picture(project, image)
        except ImageError as error:
            note(error)
        else:
            kept.append(image)
    return kept


def _train(
    project: Project, model: Sam, images: Sequence[StoredImage], config: SmallDetectorConfig | None, note: Note
) -> SmallDetector:
    def opener(image: StoredImage) -> LabelledImage | None:
        try:
            pixels = read_picture(project, image)
        except ImageError as error:
            note(error)
            return None
        found = project.annotations.state(image.id).annotations
        boxes = np.array([rle.bbox(each.rle) for each in found], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return LabelledImage(image=pixels, boxes=boxes)

    return train_detector(model, [lambda image=image: opener(image) for image in images], config)  # type: ignore[misc]


def _has_area(boxes: np.ndarray) -> Bool[np.ndarray, " n"]:
    return np.asarray(((boxes[:, 2:] - boxes[:, :2]) >= 2).all(axis=1))


def _answers(model: Sam, encoded: EncodedImage, boxes: np.ndarray, refinement: Refinement) -> Sequence[Masks]:
    prompts = to_model_all(box_prompts(boxes), encoded.frame, model.mask_size) if len(boxes) else []
    return list(answer(model, encoded, prompts, multimask=False, refinement=refinement)) if prompts else []


def _tightened(boxes: np.ndarray, answers: Sequence[Masks]) -> np.ndarray:
    """Return the masks' own boxes, or those they were asked with where a mask is too small to have one."""
    if not len(boxes):
        return boxes
    own = np.array([rle.bbox(rle.encode(each.best)) for each in answers], np.float64)
    own[:, 2:] += own[:, :2]
    return np.where(_has_area(own)[:, None], own, boxes)


def _corners(box: np.ndarray) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (round(float(value), 2) for value in box)
    return x0, y0, x1, y1


def _annotation(index: int, found: Proposal, digest: str) -> Annotation:
    return Annotation(
        id=f"prefilled-{index}",
        rle=found.mask,
        score=round(found.score, 6),
        source="box",
        prompts={"box": list(found.box)},
        provenance=Provenance(stage=SEMI_AUTOMATIC, author="model", origin="prefilled", model=digest),
    )
