"""The interactive protocol: clicks that a patient annotator would make, and the masks that answer them.

The first click is the most central pixel of the true mask, each later one that of the error so far; the box
prompt is the true mask's own (SAM, sec. 7 and app. D). All in pixels of the original image. Whatever can
answer is a `Segmenter`: a model, or a classical method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from anymask.errors import InputError
from anymask.evaluation.metrics import boundary_iou, iou_with
from anymask.geometry import boxes, points


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """One prompt: all clicks so far, or a box, and what the segmenter kept of its last reply."""

    points: Float[np.ndarray, "k 2"]
    """(x, y) pixels, first click first."""
    labels: Int[np.ndarray, " k"]
    """Label of each point: 1 on the object, 0 off it."""
    box: Float[np.ndarray, " 4"] | None = None
    """(x0, y0, x1, y1), exclusive right and bottom."""
    memory: object = None
    """`Reply.memory` of the click before; None at the first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reply:
    """The masks that answer a request, best first as far as the segmenter can tell."""

    masks: Bool[np.ndarray, "m h w"]
    scores: Float[np.ndarray, " m"] | None = None
    """Predicted IoU of each; None if the segmenter predicts none."""
    memory: object = None
    """Whatever the segmenter wants back with the next click, such as its logits."""


@runtime_checkable
class PreparedImage(Protocol):
    """An image that a segmenter has made ready for prompts."""

    def segment(self, requests: Sequence[Request], /) -> Iterable[Reply]:
        """Answer each request, in order; lazily where full-size masks are many."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """Whatever answers clicks and boxes with masks."""

    def prepare(self, image: UInt8[np.ndarray, "h w 3"], /) -> PreparedImage:
        """Do all that depends on the RGB image alone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProtocolResult:
    """What a segmenter reached on n masks.

    `predicted`, `true` and `turn` describe every mask that came with a score: its predicted and its true IoU,
    and after how many clicks it was returned, 0 meaning the box.
    """

    clicks: Float[np.ndarray, "n c"]
    """IoU of the best mask, by the segmenter's own ranking, after each click."""
    boundary: Float[np.ndarray, "n c"]
    """Boundary IoU of the same masks."""
    box: Float[np.ndarray, " n"]
    """IoU for the box prompt alone."""
    oracle: Float[np.ndarray, " n"]
    """IoU of the best mask by the truth that the first click returned."""
    predicted: Float[np.ndarray, " k"]
    true: Float[np.ndarray, " k"]
    turn: Int[np.ndarray, " k"]

    @classmethod
    def join(cls, parts: Sequence[ProtocolResult]) -> Self:
        """Join the outcomes of several images, all of the same number of clicks."""
        if not parts:
            raise InputError("there is no outcome to join: give at least one")
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__})

    def to_dict(self) -> dict[str, list[Any]]:
        """Return plain lists, which JSON holds without loss."""
        return {name: getattr(self, name).tolist() for name in self.__slots__}

    @classmethod
    def from_dict(cls, values: Mapping[str, list[Any]]) -> Self:
        """Return what `to_dict` was called on."""
        kinds = {name: np.int64 if name == "turn" else np.float64 for name in cls.__slots__}
        return cls(**{name: np.array(values[name], kind) for name, kind in kinds.items()})


@dataclass(slots=True, kw_only=True, eq=False)
class _Dialogue:
    """The clicks about one mask, and their outcome."""

    truth: Bool[np.ndarray, "h w"]
    clicks: list[tuple[tuple[int, int], int]]
    ious: list[float] = field(default_factory=list)
    boundary: list[float] = field(default_factory=list)
    oracle: float = 0.0
    memory: object = None
    is_done: bool = False

    def request(self) -> Request:
        """Ask with all clicks so far."""
        return Request(
            points=np.array([point for point, _ in self.clicks], np.float32),
            labels=np.array([label for _, label in self.clicks], np.int64),
            memory=self.memory,
        )

    def update(self, reply: Reply, ious: Float[np.ndarray, " m"]) -> None:
        """Note how good the reply is, and place the next click; there is none on a perfect mask."""
        if not self.ious:
            self.oracle = float(ious.max())
        self.ious.append(float(ious[0]))
        self.boundary.append(boundary_iou(reply.masks[0], self.truth))
        self.memory = reply.memory
        correction = points.next_click(reply.masks[0], self.truth)
        if correction is None:
            self.is_done = True
        else:
            self.clicks.append(correction)


def run_protocol(
    image: PreparedImage,
    truth: Bool[np.ndarray, "n h w"],
    max_clicks: int,
    *,
    rng: np.random.Generator | None = None,
) -> ProtocolResult:
    """Play the protocol for every true mask of an image, all masks together, click by click.

    With `rng` the first click is a pixel drawn uniformly from the mask, not its centre. A mask that is perfect gets no
    further clicks and stays at 1. No full-size reply outlives its turn. Raises InputError for an empty true mask, which
    cannot be clicked, and for less than one click.
    """
    if max_clicks < 1:
        raise InputError(f"max_clicks is {max_clicks}: give at least 1")
    dialogues = [_Dialogue(truth=mask, clicks=[(_first_click(mask, rng), 1)]) for mask in truth]
    tally = _Tally()
    for turn in range(1, max_clicks + 1):
        asked = [dialogue for dialogue in dialogues if not dialogue.is_done]
        replies = image.segment([dialogue.request() for dialogue in asked]) if asked else []
        for dialogue, reply in zip(asked, replies, strict=True):
            dialogue.update(reply, tally.score(reply, dialogue.truth, turn))
    box_ious = []
    for mask, reply in zip(truth, image.segment(_box_requests(truth)) if len(truth) else [], strict=True):
        box_ious.append(float(tally.score(reply, mask, 0)[0]))
    return ProtocolResult(
        clicks=_padded([dialogue.ious for dialogue in dialogues], max_clicks),
        boundary=_padded([dialogue.boundary for dialogue in dialogues], max_clicks),
        box=np.array(box_ious, np.float64),
        oracle=np.array([dialogue.oracle for dialogue in dialogues], np.float64),
        predicted=np.array(tally.predicted, np.float64),
        true=np.array(tally.true, np.float64),
        turn=np.array(tally.turn, np.int64),
    )


def _padded(values: Sequence[list[float]], max_clicks: int) -> Float[np.ndarray, "n c"]:
    """Return a row per mask; a mask that was perfect before the last click stays at 1."""
    rows = [row + [1.0] * (max_clicks - len(row)) for row in values]
    return np.array(rows, np.float64).reshape(len(rows), max_clicks)


@dataclass(slots=True)
class _Tally:
    """Predicted beside true IoU of every mask that came with a score."""

    predicted: list[float] = field(default_factory=list)
    true: list[float] = field(default_factory=list)
    turn: list[int] = field(default_factory=list)

    def score(self, reply: Reply, truth: Bool[np.ndarray, "h w"], turn: int) -> Float[np.ndarray, " m"]:
        """Return the true IoU of a reply's masks, and note them beside what was predicted."""
        ious = iou_with(reply.masks, truth)
        if reply.scores is not None:
            self.predicted += [float(score) for score in reply.scores]
            self.true += [float(iou) for iou in ious]
            self.turn += [turn] * len(ious)
        return ious


def _first_click(mask: Bool[np.ndarray, "h w"], rng: np.random.Generator | None) -> tuple[int, int]:
    point = points.centre(mask) if rng is None else points.random_point(mask, rng)
    if point is None:
        raise InputError("an empty mask cannot be clicked: leave it out")
    return point


def _box_requests(truth: Bool[np.ndarray, "n h w"]) -> list[Request]:
    none = Request(points=np.zeros((0, 2), np.float32), labels=np.zeros(0, np.int64))
    found = boxes.from_masks(truth).astype(np.float32)
    return [Request(points=none.points, labels=none.labels, box=box) for box in found]
