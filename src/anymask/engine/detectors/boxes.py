"""Detectors of boxes behind one interface: those of transformers (RT-DETR, DETR, YOLOS, …), and our own small one.

Ours is a head of objectness and boxes on the frozen image embedding, trained from random weights. As in FCOS (Tian et
al., 2019), each cell of the embedding says whether it lies in the middle of an object and how far the object's sides
are; of several objects the smallest is meant. Convolutions of growing dilation let a cell see as far as that. Legend: B
images, C channels, G cells per side.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.checkpoints.load import model_hash
from anymask.data.files import write_whole
from anymask.errors import CheckpointError, DataError, MissingPackageError
from anymask.geometry import boxes as box_geometry
from anymask.geometry import nms
from anymask.geometry.frames import Frame
from anymask.inference.answers import EncodedImage, encode
from anymask.model import Sam

_MIDDLE = 0.4
"""The share of a box's sides whose cells are to find it."""
_MAX_BOXES = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallDetectorConfig:
    """The head and how it is trained; the defaults take about a minute on one core."""

    width: int = 64
    depth: int = 4
    steps: int = 300
    batch_size: int = 4
    learning_rate: float = 2e-3
    max_images: int = 400
    """The most images whose embeddings are held in memory during training."""
    seed: int = 0


class DetectorHead(nn.Module):
    """From an embedding to the objectness logit and the four distances, in cells, of every cell."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, width, 1)
        self.trunk = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(8, width), nn.GELU(), nn.Conv2d(width, width, 3, 1, 2**index, dilation=2**index))
            for index in range(depth)
        )
        self.norm = nn.Sequential(nn.GroupNorm(8, width), nn.GELU())
        self.objectness = nn.Conv2d(width, 1, 3, 1, 1)
        self.sides = nn.Conv2d(width, 4, 3, 1, 1)
        nn.init.constant_(self.objectness.bias, -3.0)  # type: ignore[arg-type]  # most cells are no object's
        nn.init.constant_(self.sides.bias, 1.0)  # type: ignore[arg-type]

    def forward(
        self, features_BCGG: Float[Tensor, "b c g g"]
    ) -> tuple[Float[Tensor, "b g g"], Float[Tensor, "b 4 g g"]]:
        """Return logits and distances (left, top, right, bottom), in cells."""
        x = self.squeeze(features_BCGG)
        for block in self.trunk:
            x = x + block(x)
        x = self.norm(x)
        return self.objectness(x)[:, 0], self.sides(x).clamp(max=6).exp()


class SmallDetector:
    """A trained head and the model whose embeddings it reads."""

    def __init__(self, model: Sam, head: DetectorHead, config: SmallDetectorConfig) -> None:
        self.model, self.head, self.config = model, head.to(model.device).eval(), config

    def detect(self, image: UInt8[np.ndarray, "h w 3"]) -> Detections:
        """Return boxes by falling score, those suppressed that overlap a better one by more than 0.6."""
        return self.detect_encoded(encode(self.model, [image])[0])

    @torch.inference_mode()
    def detect_encoded(self, encoded: EncodedImage) -> Detections:
        """Do the same where the image is encoded already."""
        return self.detect_features(encoded.embedding.features.float(), encoded.frame)

    @torch.inference_mode()
    def detect_features(self, features: Float[Tensor, "1 c g g"], frame: Frame) -> Detections:
        """Do the same for what the head sees of an image of such a frame."""
        logits, sides = self.head(features)
        stride = self.model.image_size / self.model.embedding_size
        height, width = frame.resized
        scores = logits[0].sigmoid()
        scores[int(np.ceil(height / stride)) :] = 0
        scores[:, int(np.ceil(width / stride)) :] = 0
        found, places = scores.flatten().topk(min(_MAX_BOXES, scores.numel()))
        corners = _corners(sides)[0].flatten(1)[:, places].T.cpu().numpy() * stride
        found_K = found.cpu().numpy()
        scale = np.array(frame.original)[[1, 0, 1, 0]] / np.array([width, height, width, height])
        original = box_geometry.clip(corners * scale, frame.original)
        kept = nms.box_nms(original.astype(np.float32), found_K, 0.6)
        return Detections(boxes=original[kept], scores=found_K[kept])

    def save(self, path: Path) -> None:
        """Write the head, with the hash of the model that it belongs to."""
        notes = {"anymask.detector": json.dumps(asdict(self.config)), "anymask.model": model_hash(self.model)}
        state = {name: tensor.contiguous() for name, tensor in self.head.state_dict().items()}
        write_whole(path, lambda temporary: save_file(state, temporary, notes))


def load_detector(path: Path, model: Sam) -> SmallDetector:
    """Read what `save` wrote; raises DataError where it belongs to another model."""
    with safe_open(path, framework="pt") as file:
        notes = file.metadata() or {}
        state = {name: file.get_tensor(name) for name in file.keys()}
    if notes.get("anymask.model") != model_hash(model):
        raise DataError(f"{path}: this detector was trained on another model's embeddings; train it again")
    config = SmallDetectorConfig(**json.loads(notes["anymask.detector"]))
    head = DetectorHead(model.config.width, config.width, config.depth)
    try:
        head.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(f"{path}: this detector was made by another version; train it again") from error
    return SmallDetector(model, head, config)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledImage:
    """An RGB image and its objects' boxes, in pixels of the original."""

    image: UInt8[np.ndarray, "h w 3"]
    boxes: Float[np.ndarray, "n 4"]


def train_detector(
    model: Sam,
    images: Sequence[Callable[[], LabelledImage | None]],
    config: SmallDetectorConfig | None = None,
    *,
    progress: Callable[[int, float], None] | None = None,
) -> SmallDetector:
    """Train a head from random weights; each image is encoded twice, as it is and mirrored, and not again.

    An image that cannot be had is None. `progress` is called with the step and the loss. Raises DataError where there
    is no image with a box.
    """
    config = config or SmallDetectorConfig()
    generator = torch.Generator().manual_seed(config.seed)
    features, corners = _prepare(model, images, config)
    if not features:
        raise DataError(
            "the detector has nothing to learn from: no image that may be learned from and can be read has a mask yet"
        )
    with torch.random.fork_rng([]):
        torch.manual_seed(config.seed)
        head = DetectorHead(model.config.width, config.width, config.depth).to(model.device)
    optimizer = torch.optim.AdamW(head.parameters(), config.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, config.steps, pct_start=0.1)
    for step in range(config.steps):
        chosen = torch.randint(len(features), (min(config.batch_size, len(features)),), generator=generator).tolist()
        logits, sides = head(torch.stack([features[i] for i in chosen]).to(model.device).float())
        loss = detector_loss(logits, sides, [corners[i] for i in chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, float(loss.detach()))
    return SmallDetector(model, head, config)


def _prepare(
    model: Sam, images: Sequence[Callable[[], LabelledImage | None]], config: SmallDetectorConfig
) -> tuple[list[Tensor], list[Tensor]]:
    """Return embeddings (float16) and boxes in cells, each image also mirrored."""
    order = np.random.default_rng(config.seed).permutation(len(images))
    features: list[Tensor] = []
    corners: list[Tensor] = []
    stride = model.image_size / model.embedding_size
    for index in order.tolist():
        if len(features) == 2 * config.max_images:
            break
        labelled = images[index]()
        if labelled is None or not len(labelled.boxes):
            continue
        width = labelled.image.shape[1]
        mirrored = labelled.boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (width, 0, width, 0)
        for pixels, boxes in ((labelled.image, labelled.boxes), (labelled.image[:, ::-1], mirrored)):
            encoded = encode(model, [np.ascontiguousarray(pixels)])[0]
            features.append(encoded.embedding.features[0].half().cpu().clone())
            in_model = encoded.frame.boxes_to_model(boxes.astype(np.float32))
            corners.append(torch.from_numpy(np.asarray(in_model, np.float32).reshape(-1, 4) / stride))
    return features, corners


def detector_loss(
    logits_BGG: Float[Tensor, "b g g"], sides_B4GG: Float[Tensor, "b 4 g g"], corners: Sequence[Float[Tensor, "n 4"]]
) -> Tensor:
    """Return focal loss of the objectness plus, where an object is, one minus the generalised IoU of its box.

    `corners` are on the CPU.
    """
    cells = logits_BGG.shape[-1]
    predicted = _corners(sides_B4GG)
    losses = []
    for logits, boxes_4GG, truth in zip(logits_BGG, predicted, corners, strict=True):
        owner = _owners(truth, cells).to(logits.device)
        inside = owner >= 0
        count = inside.sum().clamp(min=1)
        target = inside.float()
        weight = 0.25 * target + 0.75 * (1 - target)
        chance = torch.where(inside, logits.sigmoid(), 1 - logits.sigmoid())
        focal = weight * (1 - chance) ** 2 * F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        loss = focal.sum() / count
        if inside.any():
            loss = loss + (1 - _generalised_iou(boxes_4GG[:, inside].T, truth.to(logits.device)[owner[inside]])).mean()
        losses.append(loss)
    return torch.stack(losses).mean()


def _owners(truth_N4: Float[Tensor, "n 4"], cells: int) -> Int[Tensor, "g g"]:
    """Return which box each cell is to find, the smallest of those whose middle it lies in; -1 for none."""
    owner = torch.full((cells, cells), -1, dtype=torch.int64)
    areas = (truth_N4[:, 2:] - truth_N4[:, :2]).prod(1)
    for index in torch.argsort(areas, descending=True).tolist():
        x0, y0, x1, y1 = truth_N4[index].tolist()
        trim_x, trim_y = (x1 - x0) * (1 - _MIDDLE) / 2, (y1 - y0) * (1 - _MIDDLE) / 2
        rows = slice(max(int(y0 + trim_y), 0), max(int(np.ceil(y1 - trim_y)), int(y0 + trim_y) + 1))
        columns = slice(max(int(x0 + trim_x), 0), max(int(np.ceil(x1 - trim_x)), int(x0 + trim_x) + 1))
        owner[rows, columns] = index
    return owner


def _corners(sides_B4GG: Float[Tensor, "b 4 g g"]) -> Float[Tensor, "b 4 g g"]:
    """Turn distances from the cells' centres into (x0, y0, x1, y1), in cells."""
    centres = torch.arange(sides_B4GG.shape[-1], device=sides_B4GG.device) + 0.5
    x, y = centres[None, None, :], centres[None, :, None]
    left, top, right, bottom = sides_B4GG.unbind(1)
    return torch.stack([x - left, y - top, x + right, y + bottom], 1)


def _generalised_iou(a: Float[Tensor, "n 4"], b: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """Return the generalised IoU of pairs of boxes (Rezatofighi et al., 2019)."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    return shared / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """Boxes (x0, y0, x1, y1) in pixels of the original image, best first, and their scores from 0 to 1."""

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]


class BoxDetector(Protocol):
    """Anything that finds objects, whatever their class."""

    def detect(self, image: UInt8[np.ndarray, "h w 3"], /) -> Detections:
        """Return the objects' boxes in an RGB image."""
        ...


class HuggingFaceDetector:
    """A detector in a folder as transformers saves it; nothing is downloaded, and no code of the folder's is run.

    Raises CheckpointError for a folder that holds none, MissingPackageError without transformers.
    """

    def __init__(self, folder: str | Path, *, device: str = "cpu") -> None:
        try:
            from transformers import AutoImageProcessor, AutoModelForObjectDetection
        except ImportError as error:
            raise MissingPackageError("detectors of transformers need it: pip install 'anymask[text]'") from error
        try:
            processors: Any = AutoImageProcessor
            detectors: Any = AutoModelForObjectDetection
            self._processor: Any = processors.from_pretrained(folder, local_files_only=True)
            self._model: Any = detectors.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder}: holds no detector of transformers ({error})") from error
        self._model.to(device).eval()
        self._device = device

    @torch.inference_mode()
    def detect(self, image: UInt8[np.ndarray, "h w 3"]) -> Detections:
        """Return boxes by falling score, whatever their class, duplicates suppressed."""
        inputs = self._processor(images=image, return_tensors="pt").to(self._device)
        answered = self._processor.post_process_object_detection(
            self._model(**inputs), threshold=0.0, target_sizes=[image.shape[:2]]
        )[0]
        boxes = answered["boxes"].float().cpu().numpy()
        scores = answered["scores"].float().cpu().numpy()
        kept = nms.box_nms(boxes, scores, 0.6)
        return Detections(boxes=boxes[kept], scores=scores[kept])
