"""A verifier from what a project knows: people's verdicts, and before there are enough of them people's masks.

What people did with a model's masks is the best of lessons. Masks that people drew give others: as they are, spoilt as
automatic ones go wrong, and beside what the model itself proposes on those images, right and wrong. The chances are
calibrated on masks of the model's own making, each judged by a head that has not seen its image.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from anymask.checkpoints.load import model_hash
from anymask.data.files import make_folder, write_bytes_atomic
from anymask.engine.pictures import HELD_OUT, leaving_out, read_picture, split_of
from anymask.engine.project_model import FOLDER, KeptEmbeddings
from anymask.engine.stages import FIXABLE_IOU
from anymask.engine.stages.prefilling import least_score
from anymask.engine.stages.semi_automatic import RIGHT_IOU
from anymask.engine.store import Project, StoredImage, StoredModel, Version, is_peoples
from anymask.engine.verification import features
from anymask.engine.verification.spoiling import spoilt
from anymask.engine.verification.verifier import (
    ACCEPT,
    FIX,
    REJECT,
    MaskVerifier,
    VerifierConfig,
    auc,
    calibrate,
    calibrated,
    fit,
    held_out_logits,
    load_verifier,
)
from anymask.errors import DataError, ImageError
from anymask.evaluation.metrics import calibration, calibration_error
from anymask.geometry import nms, rle
from anymask.geometry.rle import RLE
from anymask.inference.answers import EncodedImage, answer
from anymask.inference.prompts import Prompt, to_model_all
from anymask.inference.refinement import Refinement
from anymask.model import Sam

SPOILT, PROPOSED, JUDGED = range(3)
"""Where an example comes from: a person's mask as it is or spoilt; the model's own, beside people's; a verdict."""
_FEWEST = 30
"""Examples of the model's own making, fewer of which do not tell how sure it may be."""
_SMALLEST = 16
"""Pixels; of a smaller mask nothing can be said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierPlan:
    """How many lessons are taken of each image, and how the head is trained."""

    head: VerifierConfig = field(default_factory=VerifierConfig)
    max_images: int = 300
    """With people's masks, drawn at random."""
    masks: int = 10
    """People's masks that are taken of an image."""
    spoilt: int = 2
    """Spoilt copies of each."""
    points_per_side: int = 6
    """Of a grid that the model is asked, for masks where people drew none."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """Masks with what is known of them, and what a person says or would say."""

    features: Float[Tensor, "n f"]
    verdicts: Int[Tensor, " n"]
    images: Int[np.ndarray, " n"]
    origins: Int[np.ndarray, " n"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """A verifier, its place in the project's history, and the held-out examples that it was calibrated on."""

    verifier: MaskVerifier
    stored: StoredModel
    chances: Float[np.ndarray, "n v"]
    verdicts: Int[np.ndarray, " n"]


def train_verifier(
    project: Project,
    model: Sam,
    plan: VerifierPlan | None = None,
    *,
    trigger: str = "by hand",
    turned: bool = False,
) -> Trained:
    """Train a verifier on what the project knows, keep it, and make it the project's.

    `turned` takes every acceptance for a rejection and the other way round, to see that audits find it out. Raises
    DataError where the project has too few masks to learn from.
    """
    plan = plan or VerifierPlan()
    examples = gather(project, model, plan)
    if len(np.unique(examples.images)) < 2 or len(examples.verdicts) < _FEWEST:
        raise DataError(
            "the verifier has nothing to learn from: it needs people's masks on at least 2 images that are not held out"
        )
    if turned:
        other = torch.tensor([REJECT, FIX, ACCEPT])
        examples = replace(examples, verdicts=other[examples.verdicts])
    verifier, chances, verdicts = train_on(
        examples, features.width(model)[0], model_hash(model), plan.head, precision=_wanted(project)
    )
    stored = keep(project, verifier, trigger=trigger, num_masks=len(examples.verdicts))
    return Trained(verifier=verifier, stored=stored, chances=chances, verdicts=verdicts)


def train_on(
    examples: Examples, num_means: int, model: str, config: VerifierConfig, *, precision: float
) -> tuple[MaskVerifier, Float[np.ndarray, "n v"], Int[np.ndarray, " n"]]:
    """Train on examples; return the verifier, and the chances and verdicts of the examples it was calibrated on.

    `precision` is the share of its sure words that have to be right. `model` is the hash of the model.
    """
    known, verdicts = examples.features, examples.verdicts
    logits = held_out_logits(known, verdicts, examples.images, num_means, config)
    own = torch.from_numpy(examples.origins != SPOILT)
    own = own if int(own.sum()) >= _FEWEST else torch.ones_like(own)
    temperature, bias = calibrate(logits[own], verdicts[own])
    chances, said = calibrated(logits[own], temperature, bias), verdicts[own].numpy()
    predicted = known[own][:, num_means:]
    clear = np.isin(said, (ACCEPT, REJECT))
    bins = calibration(chances[:, ACCEPT], (said == ACCEPT).astype(np.float64))
    scores = {
        "auc": auc(chances[clear, ACCEPT], said[clear] == ACCEPT),
        "auc_predicted_iou": auc(features.predicted_iou(predicted)[clear], said[clear] == ACCEPT),
        "calibration_error": calibration_error(bins),
        "held_out_masks": float(len(said)),
    }
    sure = {
        place: least_score([*zip(chances[:, place].tolist(), (said == place).tolist(), strict=True)], precision)
        for place in (ACCEPT, REJECT)
    }
    verifier = MaskVerifier(
        model=model,
        head=fit(known, verdicts, num_means, config),
        config=config,
        temperature=temperature,
        bias=bias,
        accept_from=sure[ACCEPT],
        reject_from=sure[REJECT],
        scores=scores,
    )
    return verifier, chances, said


def keep(project: Project, verifier: MaskVerifier, *, trigger: str, num_masks: int) -> StoredModel:
    """Write a verifier into the project's folder, and make it the project's."""
    name = f"{verifier.hash}.verifier.safetensors"
    verifier.save(make_folder(project.folder / FOLDER) / name)
    before = project.verifiers.current()
    return project.verifiers.add(
        hash=verifier.hash,
        path=f"{FOLDER}/{name}",
        parent=None if before is None else before.id,
        trigger=trigger,
        num_masks=num_masks,
        scores=dict(verifier.scores),
        verdict="promoted",
        promote=True,
    )


def open_verifier(project: Project, model: Sam) -> tuple[MaskVerifier, StoredModel] | None:
    """Return the project's verifier; None before there is one. Raises DataError where it belongs to another model."""
    stored = project.verifiers.current()
    return None if stored is None else (load_verifier(project.path(stored.path), model), stored)


def gather(project: Project, model: Sam, plan: VerifierPlan) -> Examples:
    """Return the examples that a project has for a model; those of an image are kept until the image changes.

    Images that cannot be read are left out with a warning.
    """
    settings = project.settings.current()
    encoder, digest = KeptEmbeddings(project, model), model_hash(model)
    folder = make_folder(project.cache / "verification")
    known = [each for each in project.images.all() if each.revision and split_of(each, settings) != HELD_OUT]
    order = np.random.default_rng(plan.seed).permutation(len(known))[: plan.max_images]
    found: list[tuple[int, Float[np.ndarray, "n f"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]] = []
    with leaving_out("the verifier's training") as note:
        for image in (known[index] for index in order.tolist()):
            settings_text = f"{digest} {image.id} {image.revision} {asdict(plan)}"
            path = folder / f"{hashlib.sha256(settings_text.encode()).hexdigest()[:24]}.npz"
            try:
                lessons = _kept(path, partial(_lessons, project, model, encoder, image, plan))
            except ImageError as error:
                note(error)
                continue
            found.append((image.id, *lessons))
    found = [each for each in found if len(each[2])]
    if not found:
        found = [(0, np.zeros((0, sum(features.width(model))), np.float32), np.zeros(0, int), np.zeros(0, int))]
    return Examples(
        features=torch.from_numpy(np.concatenate([each[1] for each in found])),
        verdicts=torch.from_numpy(np.concatenate([each[2] for each in found]).astype(np.int64)),
        images=np.concatenate([np.full(len(each[2]), each[0]) for each in found]),
        origins=np.concatenate([each[3] for each in found]),
    )


def verdict_of(iou: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return what people would say of masks of such an IoU with the best of the objects."""
    return np.where(iou >= RIGHT_IOU, ACCEPT, np.where(iou >= FIXABLE_IOU, FIX, REJECT))


Lessons = tuple[Float[np.ndarray, "n f"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]


def _kept(path: Path, make: Callable[[], Lessons]) -> Lessons:
    """Return an image's lessons from a file, or make them and write it."""
    if path.exists():
        try:
            with np.load(path, allow_pickle=False) as stored:
                return stored["features"].astype(np.float32), stored["verdicts"], stored["origins"]
        except (OSError, ValueError, KeyError, EOFError):
            path.unlink(missing_ok=True)
    known, verdicts, origins = make()
    written = io.BytesIO()
    np.savez(written, features=known.astype(np.float16), verdicts=verdicts, origins=origins)
    write_bytes_atomic(path, written.getvalue())
    return known.astype(np.float16).astype(np.float32), verdicts, origins


def _lessons(project: Project, model: Sam, encoder: KeptEmbeddings, image: StoredImage, plan: VerifierPlan) -> Lessons:
    """Return the features, verdicts and origins of an image's lessons; raises ImageError."""
    versions = project.annotations.versions(image.id)
    dropped = {version for _, version, verdict in project.verdicts.held(image.id) if verdict == "reject"}
    judged = _judged(versions, dropped)
    people = [each.rle for each in project.annotations.state(image.id).annotations if is_peoples(each)]
    people = [each for each in people if rle.area(each) >= _SMALLEST]
    if not judged and not people:
        return np.zeros((0, sum(features.width(model))), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64)
    encoded = encoder.encode(read_picture(project, image))
    rng = np.random.default_rng((plan.seed, image.id))
    masks, verdicts, origins = [each for each, _ in judged], [each for _, each in judged], [JUDGED] * len(judged)
    if people:
        for origin, some in (
            (SPOILT, _spoilt(people, plan, rng)),
            (PROPOSED, proposals(model, encoded, people, plan, rng)),
        ):
            best = rle.pairwise_iou(some, people).max(axis=1) if some else np.zeros(0)
            masks, verdicts, origins = (
                [*masks, *some],
                [*verdicts, *verdict_of(best).tolist()],
                [*origins, *[origin] * len(some)],
            )
    known = features.describe(model, encoded, masks)
    return np.asarray(known.numpy()), np.array(verdicts, np.int64), np.array(origins, np.int64)


def _judged(versions: Sequence[Version], dropped: set[int]) -> list[tuple[RLE, int]]:
    """Return masks that a machine made and a person looked at, with what the person did; `dropped` a verifier threw
    away, and no person.
    """
    found: list[tuple[RLE, int]] = []
    by_key: dict[str, list[Version]] = {}
    for version in versions:
        by_key.setdefault(version.key, []).append(version)
    for history in by_key.values():
        for before, after in zip(history, history[1:], strict=False):
            if before.annotation is None or is_peoples(before.annotation) or before.id in dropped:
                continue
            mask = before.annotation.rle
            if rle.area(mask) < _SMALLEST:
                continue
            if after.annotation is None:
                found.append((mask, REJECT))
            elif is_peoples(after.annotation):
                found.append((mask, ACCEPT if after.annotation.rle["counts"] == mask["counts"] else FIX))
    return found


def _spoilt(people: Sequence[RLE], plan: VerifierPlan, rng: np.random.Generator) -> list[RLE]:
    """Return people's masks as they are, and spoilt copies."""
    decoded: list[Bool[np.ndarray, "h w"]] = [rle.decode(each) for each in people]
    found: list[RLE] = []
    for index in rng.permutation(len(people))[: plan.masks].tolist():
        found.append(people[index])
        others = decoded[:index] + decoded[index + 1 :]
        found += [rle.encode(spoilt(decoded[index], others, rng)[1]) for _ in range(plan.spoilt)]
    return [each for each in found if rle.area(each) >= _SMALLEST]


def proposals(
    model: Sam, image: EncodedImage, people: Sequence[RLE], plan: VerifierPlan, rng: np.random.Generator
) -> list[RLE]:
    """Return what the model makes of clicks on people's masks, of their boxes drawn a little off, and of a grid."""
    height, width = image.frame.original
    prompts: list[Prompt] = []
    for index in rng.permutation(len(people))[: plan.masks].tolist():
        rows, columns = np.nonzero(rle.decode(people[index]))
        at = int(rng.integers(len(rows)))
        prompts.append(Prompt(points=[(int(columns[at]), int(rows[at]))]))
        box = np.array(rle.bbox(people[index]), np.float64)
        box[2:] += box[:2]
        box += rng.normal(0, 0.08, 4) * np.tile(box[2:] - box[:2], 2)
        box = np.clip(box, 0, (width, height) * 2)
        if (box[2:] - box[:2] >= 2).all():
            prompts.append(Prompt(box=box))
    asked = len(prompts)
    side = plan.points_per_side
    prompts += [
        Prompt(points=[((x + 0.5) * width / side, (y + 0.5) * height / side)]) for y in range(side) for x in range(side)
    ]
    asking = to_model_all(prompts, image.frame, model.mask_size)
    answers = answer(model, image, asking, multimask=None, refinement=Refinement(zoom=False))
    made = [(rle.encode(each.best), float(each.scores[0])) for each in answers]
    grid = [each for each in made[asked:] if rle.area(each[0]) >= _SMALLEST]
    own = [mask for mask, _ in made[:asked] if rle.area(mask) >= _SMALLEST]
    if not grid:
        return own
    kept = nms.mask_nms([mask for mask, _ in grid], np.array([score for _, score in grid]), 0.7)
    return own + [grid[index][0] for index in kept.tolist()]


def _wanted(project: Project) -> float:
    """Return the share of sure words that have to be right on held-out masks: half way from what is asked to all."""
    return (1 + project.settings.current().accept_precision) / 2
