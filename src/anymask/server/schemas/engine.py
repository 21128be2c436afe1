"""A data engine's project: a person's image from a queue, its outcome, and the state of the project."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from anymask.engine.quality import Judgement as EngineJudgement
from anymask.server.schemas.annotating import MAX_CHANGES, Annotation
from anymask.server.schemas.images import Image
from anymask.server.schemas.wire import LARGEST, ApiModel, Identifier, Label, Revision, Rle

Stage = Literal["assisted", "semi-automatic", "review", "check"]
"""Those in which people work; in the last two, every mask gets a verdict."""
Seconds = Annotated[float, Field(ge=0, le=86_400)]
_Short = Annotated[int, Field(ge=0, le=1_000_000)]


class Lease(ApiModel):
    """An image that is somebody's for now; `token` shows that it is."""

    job: Annotated[int, Field(ge=1, le=LARGEST)]
    image: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,14}$")]
    stage: Stage
    worker: Label
    token: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    is_second: bool
    """Somebody else has the same image, to see whether both agree: its masks come with `Finished` alone."""


class Summary(ApiModel):
    """Sums over finished images, and what follows from them."""

    images: int
    masks: int
    masks_per_image: float
    seconds_per_mask: float
    clicks_per_mask: float
    strokes_per_mask: float
    by_hand: float
    """Share of the masks that the brush touched."""
    seconds_per_added_mask: float
    prefilled: int
    confirmed: int
    fixed: int
    rejected: int
    added: int


class Queue(ApiModel):
    """How many images of a stage are in each state."""

    open: int = 0
    leased: int = 0
    done: int = 0
    skipped: int = 0
    quarantined: int = 0


class Work(ApiModel):
    """What there is to do for people, and by which rules."""

    queues: dict[Stage, Queue]
    suggested: Stage | None
    """The stage that has open images, the second before the first; None where all is done. Reviews and checks are never
    suggested: who goes over others' work chooses to."""
    mask_seconds: float
    """One is asked to move on once per mask takes longer; 0 sets no limit."""
    image_seconds: float
    asks_classes: bool
    lease_seconds: float


class Statistics(ApiModel):
    """Statistics of one person and of all, in a stage."""

    mine: Summary
    all: Summary


class NextRequest(ApiModel):
    """The person who asks for an image, and the stage; None takes the suggested one."""

    worker: Label
    stage: Stage | None = None


class Task(ApiModel):
    """An image to be annotated."""

    lease: Lease
    image: Image
    statistics: Statistics


class Next(ApiModel):
    """The next image, or None where there is none now; and what is left."""

    task: Task | None
    work: Work


class Held(ApiModel):
    """Whether an image is still the person's."""

    held: bool


class SkipRequest(ApiModel):
    """An image to be left out, and why."""

    lease: Lease
    reason: Label


class FinishRequest(ApiModel):
    """An image that is done, and what it took; what came of the masks is found in the store."""

    lease: Lease
    seconds: Seconds
    clicks: _Short
    strokes: _Short
    masks: Annotated[list[Rle], Field(max_length=5000)] = Field(default_factory=list)
    """Of an image that is somebody's second alone: they are kept apart."""


class Judgement(ApiModel):
    """A person's verdict on a mask: a fix brings it as it should be, a rejection has a reason."""

    stored_as = EngineJudgement
    key: Identifier
    verdict: Literal["accept", "fix", "reject"]
    fixed: Annotation | None = None
    reason: Label | None = None


class JudgedRequest(ApiModel):
    """An image of a review or a check that is done: a verdict on each of its masks, and what that took."""

    lease: Lease
    seconds: Seconds
    clicks: _Short
    strokes: _Short
    revision: Revision
    """Revision of the image as it was judged."""
    judgements: Annotated[list[Judgement], Field(max_length=MAX_CHANGES)]
    added: Annotated[list[Annotation], Field(max_length=MAX_CHANGES)] = Field(default_factory=list)
    """Objects that had no mask."""


class Finished(ApiModel):
    """The result of an image."""

    counted: bool
    """Whether it counts: False if it had been reported before."""
    statistics: Statistics


class ModelVersion(ApiModel):
    """A model that the project had, has, or refused."""

    id: int
    at: float
    hash: str
    trigger: str
    masks: int
    """Number of masks that the model was trained on."""
    verdict: str
    scores: dict[str, float]
    is_current: bool


class MachineVerdicts(ApiModel):
    """What a verifier says of one kind without a person, and what audits say of it."""

    verdict: Literal["accept", "reject", "complete"]
    is_on: bool
    """Whether it is applied without a person."""
    word: str
    """Why it is, or why not."""
    applied: int
    audited: int
    """Verdicts held back that people have come by."""
    agreed: int
    waiting: int
    """Verdicts held back that nobody has come by yet."""
    low: float
    """The lower end of the 95 % interval of the share that people agree with."""
    high: float


class Verifier(ApiModel):
    """A verifier in use."""

    id: int
    at: float
    kind: str
    hash: str
    trigger: str
    masks: int
    scores: dict[str, float]
    verdicts: list[MachineVerdicts]


class SetAside(ApiModel):
    """An image that was skipped or put in quarantine."""

    image: str
    image_id: int
    stage: str
    state: str
    tries: int
    reason: str | None


class AtWork(ApiModel):
    """The person or machine that has each image now."""

    worker: str | None
    stage: str
    image_id: int


class Moment(ApiModel):
    """What was finished in a stretch of time in one stage."""

    at: float
    """Beginning of the span, in seconds since 1970."""
    stage: str
    images: int
    masks: int
    """Number of masks on those images when they were done."""
    kept: int
    """Number of masks confirmed, fixed and added."""
    seconds: float
    clicks: int


class History(ApiModel):
    """What was finished over time, in stretches of `width` seconds; those without anything are left out."""

    width: float
    moments: list[Moment]


class Check(ApiModel):
    """How good the masks of a sample are; shares from 0 to 1."""

    pairs: int
    over_90: float
    over_75: float
    rejected: int


class Review(ApiModel):
    """What reviewers said of the masks that they saw."""

    accepted: int
    fixed: int
    rejected: int
    reasons: dict[str, int]
    """Why masks were rejected, the most frequent first."""


class Agreement(ApiModel):
    """How far two people agree on the same images."""

    images: int
    matched: float
    mean_iou: float


class Quality(ApiModel):
    """What is known of how good the masks are."""

    check: Check
    review: Review
    agreement: Agreement
    honeypots: dict[str, float]


class Status(ApiModel):
    """Where a project stands."""

    project: str
    at: float
    images: int
    masks: int
    queues: dict[str, Queue]
    stages: dict[str, Summary]
    people: dict[str, dict[str, Summary]]
    working: list[AtWork]
    models: list[ModelVersion]
    verifiers: list[Verifier]
    history: History
    last_hour: dict[str, Summary]
    quarantined: list[SetAside]
    quality: Quality
    due: str | None
    serving: str
    """Hash of the model that this server helps people with: not the project's own any more if that was retrained."""
