"""The verifier of whole images: has every object a mask, and where does one seem to be missing?

The head of our box detector, which sees beside the embedding what the masks that are there cover: it learns to find the
objects that have none, from people's masks of which some are taken away. What it finds at best, and how much in all,
becomes the chance that nothing is missing, by a logistic regression on images that it was not trained on.

Legend: B images, C channels, G cells per side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from anymask.checkpoints.load import model_hash
from anymask.data.files import make_folder
from anymask.engine.detectors.boxes import DetectorHead, SmallDetector, SmallDetectorConfig, detector_loss
from anymask.engine.pictures import HELD_OUT, leaving_out, read_picture, split_of
from anymask.engine.project_model import FOLDER, KeptEmbeddings
from anymask.engine.stages.prefilling import least_score
from anymask.engine.store import Project, StoredModel, is_peoples
from anymask.engine.verification.verifier import auc, head_hash, save_head
from anymask.errors import DataError, ImageError
from anymask.geometry import rle
from anymask.geometry.rle import RLE
from anymask.inference.answers import EncodedImage
from anymask.inference.resize import mask_to_logits
from anymask.model import Sam

Box = tuple[float, float, float, float]

COVER = ("covered by any mask", "by how many, halved", "along an edge")
"""What is said of the masks in each cell."""
_PLACES = 10
_LEAST_SCORE = 0.1
"""Score of a box from which an object seems to be missing there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletenessConfig:
    """The head, and how it is trained; the defaults take less than a minute on one core."""

    width: int = 48
    depth: int = 4
    steps: int = 200
    batch_size: int = 4
    learning_rate: float = 2e-3
    max_images: int = 200
    states: int = 6
    """With masks taken away in so many ways each held-out image is judged, to calibrate by."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompletenessVerifier:
    """A trained head, and what makes a chance of what it finds."""

    model: str
    """Hash of the model whose embeddings it reads."""
    head: DetectorHead
    config: CompletenessConfig
    weights: tuple[float, float, float]
    """Of the surest find's logit, of the logarithm of all finds' sum, and the constant."""
    complete_from: float = 1.0
    """Chance from which an image is called complete: those held out were often enough."""
    scores: Mapping[str, float] = field(default_factory=dict)

    def look(self, model: Sam, image: EncodedImage, masks: Sequence[RLE]) -> tuple[float, list[Box]]:
        """Return the chance that every object of an encoded image has one of the masks, and where one has none.

        Places are boxes (x0, y0, x1, y1) in pixels of the original, the likeliest first.
        """
        cover = cover_of(model, image, masks)
        found = _found(self.head, self.config, model, image, cover)
        boxes = [
            tuple(round(float(x), 1) for x in box) for box, score in zip(*found, strict=True) if score >= _LEAST_SCORE
        ]
        return chance_of(found[1], self.weights), boxes[:_PLACES]  # type: ignore[return-value]

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits of a SHA-256 over all that its word depends on."""
        return head_hash(self.head, self._notes())

    def save(self, path: Path) -> None:
        """Write it."""
        save_head(self.head, self._notes(), path)

    def _notes(self) -> dict[str, str]:
        return {
            "anymask.completeness": json.dumps(asdict(self.config)),
            "anymask.model": self.model,
            "anymask.calibration": json.dumps({"weights": self.weights, "complete_from": self.complete_from}),
            "anymask.scores": json.dumps(dict(self.scores)),
        }


def load_completeness(path: Path, model: Sam) -> CompletenessVerifier:
    """Read what `save` wrote; raises DataError where it is none, or belongs to another model."""
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}
        config = CompletenessConfig(**json.loads(notes["anymask.completeness"]))
        head = _new_head(model, config)
        head.load_state_dict(state)
        known = json.loads(notes["anymask.calibration"])
        scores = json.loads(notes["anymask.scores"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{path}: is no verifier of images for this model; `anymask engine verify --train` makes one"
        ) from error
    if notes.get("anymask.model") != model_hash(model):
        raise DataError(
            f"{path}: this verifier reads another model's embeddings; `anymask engine verify --train` makes a new one"
        )
    return CompletenessVerifier(
        model=notes["anymask.model"],
        head=head.eval(),
        config=config,
        weights=tuple(known["weights"]),
        complete_from=known["complete_from"],
        scores=scores,
    )


def open_completeness(project: Project, model: Sam) -> tuple[CompletenessVerifier, StoredModel] | None:
    """Return the project's verifier of images; None before there is one. Raises DataError as `load_completeness`."""
    stored = project.completeness.current()
    return None if stored is None else (load_completeness(project.path(stored.path), model), stored)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Known:
    """An image whose objects are known."""

    features: Float[Tensor, "1 c g g"]
    encoded: EncodedImage
    """Without its embedding's finer parts."""
    shares: Float[Tensor, "m g g"]
    """Of each cell that each mask covers."""
    corners: Float[Tensor, "m 4"]
    """Boxes of the masks, in cells."""


def train_completeness(
    project: Project, model: Sam, config: CompletenessConfig | None = None, *, trigger: str = "by hand"
) -> tuple[CompletenessVerifier, StoredModel]:
    """Train a verifier of images on people's masks, keep it, and make it the project's.

    Images that cannot be read are left out with a warning. Raises DataError where fewer than four images have people's
    masks.
    """
    config = config or CompletenessConfig()
    images = _gather(project, model, config)
    if len(images) < 4:
        raise DataError(
            "the verifier of images has nothing to learn from: it needs people's masks on at least 4 images that are "
            "not held out"
        )
    rows: list[tuple[float, float, bool]] = []
    for one, other in ((images[::2], images[1::2]), (images[1::2], images[::2])):
        rows += _tried(_train(model, one, config), model, other, config)
    finds, right = np.array([row[:2] for row in rows]), np.array([row[2] for row in rows])
    weights = _regression(finds, right)
    likely = 1 / (1 + np.exp(-(finds @ np.array(weights[:2]) + weights[2])))
    precision = (1 + project.settings.current().accept_precision) / 2
    verifier = CompletenessVerifier(
        model=model_hash(model),
        head=_train(model, images, config),
        config=config,
        weights=weights,
        complete_from=least_score([*zip(likely.tolist(), right.tolist(), strict=True)], precision),
        scores={"auc": auc(likely, right), "held_out_states": float(len(right))},
    )
    name = f"{verifier.hash}.completeness.safetensors"
    verifier.save(make_folder(project.folder / FOLDER) / name)
    before = project.completeness.current()
    stored = project.completeness.add(
        hash=verifier.hash,
        path=f"{FOLDER}/{name}",
        parent=None if before is None else before.id,
        trigger=trigger,
        num_masks=sum(len(image.corners) for image in images),
        scores=dict(verifier.scores),
        verdict="promoted",
        promote=True,
    )
    return verifier, stored


def cover_of(model: Sam, image: EncodedImage, masks: Sequence[RLE]) -> Float[Tensor, "1 k g g"]:
    """Return the `COVER` of an image's cells by masks."""
    return _joined(_shares(model, image, masks))


def _shares(model: Sam, image: EncodedImage, masks: Sequence[RLE]) -> Float[Tensor, "m g g"]:
    side, fine = model.embedding_size, model.mask_size
    low = [mask_to_logits(rle.decode(each), image.frame, fine) > 0 for each in masks]
    pixels = torch.from_numpy(np.array(low, np.float32).reshape(-1, side, fine // side, side, fine // side))
    return pixels.mean((2, 4))


def _joined(shares: Float[Tensor, "m g g"]) -> Float[Tensor, "1 k g g"]:
    any_ = 1 - (1 - shares).prod(0)
    return torch.stack([any_, shares.sum(0) / 2, (shares - shares.square()).sum(0)])[None]


def chance_of(scores: Float[np.ndarray, " n"], weights: Sequence[float]) -> float:
    """Return the chance that nothing is missing where objects without a mask are found with such scores."""
    finds = _finds(scores)
    return float(1 / (1 + np.exp(-(finds[0] * weights[0] + finds[1] * weights[1] + weights[2]))))


def _finds(scores: Float[np.ndarray, " n"]) -> tuple[float, float]:
    best = float(np.clip(scores.max() if len(scores) else 0.0, 1e-4, 1 - 1e-4))
    return float(np.log(best / (1 - best))), float(np.log(1e-2 + scores[scores >= 0.05].sum()))


def _new_head(model: Sam, config: CompletenessConfig) -> DetectorHead:
    return DetectorHead(model.config.width + len(COVER), config.width, config.depth)


def _found(
    head: DetectorHead, config: CompletenessConfig, model: Sam, image: EncodedImage, cover: Float[Tensor, "1 k g g"]
) -> tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, " n"]]:
    """Return boxes of objects without a mask in pixels of the original, best first, and their scores."""
    whole = SmallDetector(model, head, SmallDetectorConfig(width=config.width, depth=config.depth))
    seen = torch.cat([image.embedding.features.float().cpu(), cover], 1)
    found = whole.detect_features(seen, image.frame)
    return found.boxes, found.scores


def _gather(project: Project, model: Sam, config: CompletenessConfig) -> list[_Known]:
    settings, encoder = project.settings.current(), KeptEmbeddings(project, model)
    marked = [each for each in project.images.all() if each.num_annotations and split_of(each, settings) != HELD_OUT]
    order = np.random.default_rng(config.seed).permutation(len(marked))[: config.max_images]
    found: list[_Known] = []
    stride = model.image_size / model.embedding_size
    with leaving_out("the training of the verifier of images") as note:
        for image in (marked[index] for index in order.tolist()):
            masks = [each.rle for each in project.annotations.state(image.id).annotations if is_peoples(each)]
            if not masks:
                continue
            try:
                encoded = encoder.encode(read_picture(project, image))
            except ImageError as error:
                note(error)
                continue
            boxes = np.array([rle.bbox(each) for each in masks], np.float32)
            boxes[:, 2:] += boxes[:, :2]
            features = encoded.embedding.features.float().cpu()
            plain = EncodedImage(embedding=type(encoded.embedding)(features=features), frame=encoded.frame)
            corners = torch.from_numpy(np.asarray(encoded.frame.boxes_to_model(boxes), np.float32) / stride)
            found.append(_Known(features=features, encoded=plain, shares=_shares(model, plain, masks), corners=corners))
    return found


def _train(model: Sam, images: Sequence[_Known], config: CompletenessConfig) -> DetectorHead:
    """Train a head from random weights to find the objects whose masks were taken away."""
    rng = np.random.default_rng(config.seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(config.seed)
        head = _new_head(model, config)
    optimizer = torch.optim.AdamW(head.parameters(), config.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, config.steps, pct_start=0.1)
    for _ in range(config.steps):
        seen, lacking = [], []
        for index in rng.integers(len(images), size=min(config.batch_size, len(images))).tolist():
            image = images[index]
            there = _drawn(len(image.corners), rng)
            batch, corners = torch.cat([image.features, _joined(image.shares[there])], 1), image.corners[~there]
            if rng.random() < 0.5:
                side = batch.shape[-1]
                width = round(side * image.encoded.frame.resized[1] / image.encoded.frame.model_size)
                batch, corners = _mirrored(batch, corners, width)
            seen.append(batch)
            lacking.append(corners)
        logits, sides = head(torch.cat(seen))
        loss = detector_loss(logits, sides, lacking)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return head.eval()


def _mirrored(
    batch: Float[Tensor, "1 k g g"], corners: Float[Tensor, "m 4"], width: int
) -> tuple[Float[Tensor, "1 k g g"], Float[Tensor, "m 4"]]:
    """Mirror the `width` cells that the image covers, and its boxes; padding stays where it is."""
    turned = torch.cat([batch[..., :width].flip(3), batch[..., width:]], 3)
    return turned, torch.stack([width - corners[:, 2], corners[:, 1], width - corners[:, 0], corners[:, 3]], 1)


def _drawn(count: int, rng: np.random.Generator) -> Bool[Tensor, " m"]:
    """Draw which of an image's masks are there: all, all but one, or any share."""
    there = np.ones(count, bool)
    how = rng.random()
    if how < 0.4:
        there[rng.integers(count)] = how < 0.2
    else:
        there = rng.random(count) < rng.random()
    return torch.from_numpy(there)


def _tried(
    head: DetectorHead, model: Sam, images: Sequence[_Known], config: CompletenessConfig
) -> list[tuple[float, float, bool]]:
    """Return what is found on images in several states, and whether nothing was missing there."""
    rng = np.random.default_rng(config.seed + 1)
    rows = []
    for image in images:
        whole = torch.ones(len(image.corners), dtype=torch.bool)
        for there in (whole, *(_drawn(len(image.corners), rng) for _ in range(config.states - 1))):
            _, scores = _found(head, config, model, image.encoded, _joined(image.shares[there]))
            rows.append((*_finds(scores), bool(there.all())))
    return rows


def _regression(finds: Float[np.ndarray, "n 2"], right: Bool[np.ndarray, " n"]) -> tuple[float, float, float]:
    """Return the weights of a logistic regression, with a little weight decay."""
    known = torch.from_numpy(np.concatenate([finds, np.ones((len(finds), 1))], 1))
    wanted = torch.from_numpy(right.astype(np.float64))
    weights = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (
            torch.nn.functional.binary_cross_entropy_with_logits(known @ weights, wanted)
            + 1e-3 * weights.square().sum()
        )
        loss.backward()
        return loss

    optimizer.step(closure)
    first, second, constant = weights.detach().tolist()
    return first, second, constant
