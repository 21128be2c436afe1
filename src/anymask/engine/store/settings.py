"""What a project is set up with: one whole set of settings per revision, none ever overwritten."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import insert, select

from anymask.engine.store.database import Database
from anymask.engine.store.tables import settings
from anymask.errors import DataError, InputError

T = TypeVar("T")


def _setting(default: T, meaning: str) -> T:
    """Declare a setting, and what it means to the user."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How a project's stages go; the defaults are the paper's where it says (SAM, sec. 4).

    Raises InputError for an invalid value.
    """

    mask_seconds: float = _setting(30.0, "An annotator is asked to move on once per mask takes longer.")
    image_seconds: float = _setting(
        0.0, "An annotator is asked to move on once a whole image takes longer; 0 sets no limit."
    )
    asks_classes: bool = _setting(False, "Whether people are asked for an object's class.")
    lease_seconds: float = _setting(
        900.0, "A person's image goes back to the queue after this long without a sign of life."
    )
    worker_seconds: float = _setting(
        60.0, "A machine's image goes back to the queue after this long without a sign of life."
    )
    doubly_assigned: float = _setting(0.0, "Share of the images that two people annotate, to see whether they agree.")
    held_out: float = _setting(0.1, "Share of the images that no model is trained on.")
    retrain_masks: int = _setting(
        1000, "A new model is due after this many masks of people since the last; 0: never for that reason."
    )
    retrain_hours: float = _setting(
        0.0, "A new model is due after this many hours, if there are new masks; 0: never for that reason."
    )
    manual_weight: float = _setting(
        10.0, "How much more often than a machine's a person's mask is drawn in training (SAM, sec. 4)."
    )
    tolerance: float = _setting(
        0.005, "A model is no worse than another as long as no score is lower by more than this."
    )
    prefill_score: float = _setting(0.2, "The detector's boxes of this score and more are looked into.")
    prefill_precision: float = _setting(
        0.7, "Share of the masks that prefill an image which people should find worth keeping."
    )
    prefill_iou: float = _setting(
        0.0,
        "Masks of at least this predicted IoU prefill an image; 0 takes those confident enough for prefill_precision.",
    )
    auto_iou: float = _setting(
        0.0, "Masks of at least this predicted IoU are kept in the automatic stage; 0 takes the model's own threshold."
    )
    auto_stability: float = _setting(
        0.0, "Masks of at least this stability are kept in the automatic stage; 0 takes the model's own threshold."
    )
    audit: float = _setting(0.05, "Share of a verifier's verdicts that people are asked for all the same, unawares.")
    accept_precision: float = _setting(
        0.9, "Automatic acceptance stops where people agree with less than this share of what they audit."
    )

    def __post_init__(self) -> None:
        """Check every value by itself."""
        shares = ("doubly_assigned", "held_out", "prefill_score", "prefill_precision", "prefill_iou")
        for name in (*shares, "auto_iou", "auto_stability", "audit", "accept_precision"):
            _check(self, name, 0, 1)
        for name in ("mask_seconds", "image_seconds", "retrain_masks", "retrain_hours", "manual_weight", "tolerance"):
            _check(self, name, 0, math.inf)
        _check(self, "lease_seconds", 1, math.inf)
        _check(self, "worker_seconds", 1, math.inf)

    def replace(self, values: Mapping[str, Any]) -> EngineSettings:
        """Return these settings with some replaced; raises InputError for an unknown name or an ill value."""
        fields = {field.name: field for field in dataclasses.fields(self)}
        unknown = [name for name in values if name not in fields]
        if unknown:
            raise InputError(f"there is no setting {unknown[0]!r}; there are {', '.join(fields)}")
        typed = {name: _typed(name, value, type(getattr(self, name))) for name, value in values.items()}
        return dataclasses.replace(self, **typed)


MEANINGS: Mapping[str, str] = {each.name: each.metadata["meaning"] for each in dataclasses.fields(EngineSettings)}
"""What each setting means."""


class SettingsHistory:
    """The settings, replaced as a whole."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def current(self) -> EngineSettings:
        """Return the settings as they are now; the defaults where none were ever set."""
        newest = select(settings.c["values"]).order_by(settings.c.revision.desc()).limit(1)
        with self._database.reading() as connection:
            text = connection.scalar(newest)
        if text is None:
            return EngineSettings()
        known = {field.name for field in dataclasses.fields(EngineSettings)}
        stored = {name: value for name, value in json.loads(text).items() if name in known}
        try:
            return EngineSettings().replace(stored)
        except InputError as error:
            raise DataError(f"the project's settings cannot be used: {error}") from error

    def replace(self, values: EngineSettings) -> None:
        """Set all of them."""
        text = json.dumps(dataclasses.asdict(values))
        with self._database.writing() as connection:
            last = connection.scalar(select(settings.c.revision).order_by(settings.c.revision.desc()).limit(1)) or 0
            row = {"revision": last + 1, "at": self._database.now(connection), "values": text}
            connection.execute(insert(settings).values(row))


def _check(values: EngineSettings, name: str, least: float, most: float) -> None:
    value = getattr(values, name)
    if not least <= value <= most or not math.isfinite(value):
        bounds = f"from {least} to {most}" if most < math.inf else f"of {least} or more"
        raise InputError(f"{name} is {value}; it must be a number {bounds}")


def _typed(name: str, value: Any, kind: type) -> Any:
    """Read a value, which may be typed text, as a setting's kind."""
    if kind is bool:
        meant = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(str(value).lower())
        if meant is None:
            raise InputError(f"{name} is {value!r}; it must be true or false")
        return meant
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is {value!r}; it must be {'a whole' if kind is int else 'a'} number") from error
