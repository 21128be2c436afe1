"""Stage 2: a detector proposes, confident masks prefill the image, people confirm, fix, reject and add.

Source: SAM, sec. 4, "semi-automatic". Prefilled masks and those that people add are counted apart.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from anymask.checkpoints.load import load_model, model_hash
from anymask.engine.detectors import BoxDetector, SmallDetector, SmallDetectorConfig, load_detector, train_detector
from anymask.engine.detectors.small import LabelledImage
from anymask.engine.pictures import TRAIN, read_picture, split_of
from anymask.engine.pool import Work
from anymask.engine.stages import PREFILL, SEMI_AUTOMATIC
from anymask.engine.stages.annotator import Drawn
from anymask.engine.stages.assisted import Simulation, Tally
from anymask.engine.stages.automatic import SAME_IOU
from anymask.engine.stages.queue import enqueue
from anymask.engine.store import (
    Annotation,
    Change,
    Delete,
    EngineSettings,
    Lease,
    Outcome,
    Project,
    Provenance,
    Put,
    StoredImage,
)
from anymask.geometry import masks, nms, rle
from anymask.inference.answers import EncodedImage, Masks, answer, encode
from anymask.inference.prompts import box_prompts, to_model_all
from anymask.model import Sam

_RIGHT_IOU = 0.85
"""A prefilled mask that agrees with an object so well is confirmed as it is."""
_FIXABLE_IOU = 0.5
"""Below this a prefilled mask is rejected rather than fixed."""


def detector_path(project: Project, digest: str) -> Path:
    """Return where the project's detector for a model lies."""
    return project.folder / "models" / f"{digest}.detector.safetensors"


def train_on_project(project: Project, model: Sam, config: SmallDetectorConfig | None = None) -> SmallDetector:
    """Train our own detector on the project's masks, those held out left aside, and keep it. Raises DataError."""
    settings = project.settings.current()
    chosen = [each for each in project.images.all() if each.num_annotations and split_of(each, settings) == TRAIN]

    def opener(image: StoredImage) -> LabelledImage:
        found = project.annotations.state(image.id).annotations
        boxes = np.array([rle.bbox(each.rle) for each in found], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return LabelledImage(image=read_picture(project, image), boxes=boxes)

    detector = train_detector(model, [lambda image=image: opener(image) for image in chosen], config)  # type: ignore[misc]
    path = detector_path(project, model_hash(model))
    path.parent.mkdir(exist_ok=True)
    detector.save(path)
    return detector


def open_queue(project: Project, images: Sequence[StoredImage]) -> int:
    """Queue images to be prefilled, and then for people; returns how many are new."""
    return enqueue(project, PREFILL, images)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillTask:
    """Confident masks of what the detector finds; `detector` is a folder of transformers', None for our own."""

    model: str
    detector: str | None = None
    device: str = "cpu"

    def open(self, project: Project) -> Work:
        """Load the model and the detector."""
        model = load_model(self.model, device=self.device)
        digest = model_hash(model)
        settings = project.settings.current()
        detector: BoxDetector
        if self.detector is None:
            detector = load_detector(detector_path(project, digest), model)
        else:
            from anymask.engine.detectors.hugging_face import HuggingFaceDetector

            detector = HuggingFaceDetector(self.detector, device=self.device)

        def work(image: StoredImage) -> tuple[Outcome, list[Change]]:
            began = time.perf_counter()
            known = [each.rle for each in project.annotations.state(image.id).annotations]
            found = propose(model, detector, read_picture(project, image), settings, known)
            changes: list[Change] = [Put(annotation=_prefilled(i, *each, digest)) for i, each in enumerate(found)]
            return Outcome(seconds=time.perf_counter() - began, added=len(found), model=digest), changes

        return work


def propose(
    model: Sam,
    detector: BoxDetector,
    pixels: np.ndarray,
    settings: EngineSettings,
    known: Sequence[rle.RLE] = (),
) -> list[tuple[rle.RLE, float, list[float]]]:
    """Return confident masks of the detector's boxes, each with its predicted IoU and its box, best first.

    Those that are another's duplicate, or a known mask's, are left out.
    """
    encoded = encode(model, [pixels])[0]
    found = detector.detect_encoded(encoded) if isinstance(detector, SmallDetector) else detector.detect(pixels)
    boxes = found.boxes[(found.scores >= settings.prefill_score) & _has_area(found.boxes)]
    least = settings.prefill_iou or model.config.pred_iou_thresh
    made: list[tuple[rle.RLE, float, list[float]]] = []
    for box, answered in zip(boxes, _answers(model, encoded, boxes), strict=True):
        if answered.scores[0] >= least and answered.best.any():
            corners = [round(float(value), 2) for value in box]
            made.append((rle.encode(answered.best), float(answered.scores[0]), corners))
    kept = nms.mask_nms([each[0] for each in made], np.array([each[1] for each in made]), SAME_IOU)
    best = [made[index] for index in kept]
    if best and known:
        overlap = rle.pairwise_iou([each[0] for each in best], list(known)).max(axis=1)
        best = [each for each, iou in zip(best, overlap, strict=True) if iou <= SAME_IOU]
    return best


def _has_area(boxes: np.ndarray) -> Bool[np.ndarray, " n"]:
    return np.asarray(((boxes[:, 2:] - boxes[:, :2]) >= 2).all(axis=1))


def _answers(model: Sam, encoded: EncodedImage, boxes: np.ndarray) -> Sequence[Masks]:
    prompts = to_model_all(box_prompts(boxes), encoded.frame, model.mask_size) if len(boxes) else []
    return list(answer(model, encoded, prompts, multimask=False)) if prompts else []


def _prefilled(index: int, mask: rle.RLE, score: float, box: list[float], digest: str) -> Annotation:
    return Annotation(
        id=f"prefilled-{index}",
        rle=mask,
        score=round(score, 6),
        source="box",
        prompts={"box": box},
        provenance=Provenance(stage=SEMI_AUTOMATIC, author="model", origin="prefilled", model=digest),
    )


def open_people_queue(project: Project) -> int:
    """Queue the images that were prefilled, for people; returns how many are new."""
    ready = {job.image_id for job in project.jobs.in_state("done", PREFILL, limit=1 << 30)}
    chosen = [image for image in project.images.all() if image.id in ready]
    return enqueue(project, SEMI_AUTOMATIC, chosen)


class SemiAutomaticSimulation(Simulation):
    """Simulated people who look at what is prefilled first, and then add what is missing."""

    def work(self, lease: Lease) -> Outcome:
        """Confirm, fix or reject each prefilled mask, then draw the objects that have none."""
        image, prepared, objects = self.open(lease)
        tally = Tally(model=self.model)
        state = self.project.annotations.state(image.id)
        missing = np.ones(len(objects), bool)
        prefilled = 0
        for each in state.annotations:
            place = _object_of(each, objects, missing)
            if not _awaits(each):
                if place is not None:
                    missing[place] = False
                continue
            prefilled += 1
            change, done = self._judge(lease, each, None if place is None else objects[place], tally)
            if done and place is not None:
                missing[place] = False
            self.put(lease, image, [change])
        self.add(lease, image, prepared, objects[missing], tally)
        return tally.outcome(prefilled)

    def _judge(
        self, lease: Lease, each: Annotation, truth: Bool[np.ndarray, "h w"] | None, tally: Tally
    ) -> tuple[Change, bool]:
        """Return the change to a prefilled mask, and whether its object has a mask now."""
        mask = rle.decode(each.rle)
        iou = 0.0 if truth is None else float(masks.pair_iou(mask, truth))
        look = Drawn(mask=mask, iou=iou, predicted_iou=each.score, seconds=self.annotator.habits.look_seconds)
        if truth is None or iou < _FIXABLE_IOU:
            tally.add(look, "rejected")
            return Delete(id=each.id), False
        drawn = look if iou >= _RIGHT_IOU else self.annotator.repair(mask, truth)
        tally.add(drawn, "confirmed" if iou >= _RIGHT_IOU else "fixed")
        kept = self.describe(each.id, drawn, lease.kind, lease.worker, origin="prefilled", score=each.score)
        return Put(annotation=replace(kept, prompts=each.prompts)), True


def _awaits(each: Annotation) -> bool:
    """Whether a mask is the model's and no person has looked at it."""
    known = each.provenance
    return known is not None and known.origin == "prefilled" and known.author == "model"


def _object_of(each: Annotation, objects: Bool[np.ndarray, "m h w"], missing: Bool[np.ndarray, " m"]) -> int | None:
    """Return which of the objects that have no mask yet a mask shows, if any."""
    if not missing.any():
        return None
    overlap = rle.pairwise_iou([each.rle], rle.encode_many(objects))[0] * missing
    best = int(overlap.argmax())
    return best if overlap[best] >= _FIXABLE_IOU else None
