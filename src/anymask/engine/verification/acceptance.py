"""The verifiers at work: sure masks are accepted or dropped without a person, the rest waits for one, audits watch.

What a verifier accepts becomes a version whose author is the verifier; what it drops is deleted, its versions stay. A
share of its verdicts, drawn by a hash, is held back: those masks wait among the others, nothing tells them apart, and
what people make of them is the audit. Few audits say little: until `SETTLED` have come back a verdict is stopped
only where even the upper end of its interval is too low; from then on the lower end has to be high enough. Where it is
not, all such masks go to people. What they say goes on counting: what was stopped by chance comes back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from anymask.engine.pictures import chance, read_picture
from anymask.engine.pool import Verdicts, Work
from anymask.engine.project_model import KeptEmbeddings
from anymask.engine.quality import REVIEW
from anymask.engine.stages import AUTOMATIC, PREFILL, SEMI_AUTOMATIC, VERIFY
from anymask.engine.store import (
    ASK,
    COMPLETE,
    INCOMPLETE,
    MODEL,
    VERIFIER,
    Annotation,
    Audit,
    Change,
    Delete,
    MachineVerdict,
    NewJob,
    Outcome,
    Project,
    Put,
    StoredImage,
    StoredModel,
    Version,
)
from anymask.errors import DataError
from anymask.inference.loading import load

if TYPE_CHECKING:  # torch comes with them, and whoever asks how a project stands needs none
    from anymask.engine.verification.completeness import CompletenessVerifier
    from anymask.engine.verification.training import VerifierPlan
    from anymask.engine.verification.verifier import MaskVerifier
    from anymask.model import Sam

FEW, SETTLED = 4, 40
"""Audits from which on the upper end of their interval decides, and those from which on the lower end does."""
VERDICTS = ("accept", "reject", COMPLETE)
"""What a verifier says without a person."""
_FIRST = -1e9
"""The rank of images whose verdicts were taken back: before all others."""
_WHAT = {"accept": "accepted", "reject": "dropped", COMPLETE: "called complete"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Whether a verifier's verdicts of a kind are applied without a person, and why not."""

    verdict: str
    is_on: bool
    word: str
    audit: Audit


def acceptance(project: Project, stored: StoredModel, verdict: str) -> Acceptance:
    """Return whether a verifier is trusted with a kind of verdict."""
    least = project.settings.current().accept_precision
    audit = project.verdicts.audit(stored.id, verdict)
    low, high = audit.interval
    is_on = audit.looked_at < FEW or (low if audit.looked_at >= SETTLED else high) >= least
    said = f"people agreed with {audit.agreed} of {audit.looked_at} audits, {low:.0%} to {high:.0%}"
    if is_on:
        return Acceptance(verdict=verdict, is_on=True, word=said if audit.looked_at else "no audit yet", audit=audit)
    word = f"stopped: {said}, and accept_precision asks for {least:.0%}; nothing is {_WHAT[verdict]} without a person"
    return Acceptance(verdict=verdict, is_on=False, word=word, audit=audit)


def open_queue(project: Project) -> int:
    """Queue what was prefilled or annotated automatically, for the verifiers; returns how many images are new."""
    ready: dict[int, None] = {}
    for kind in (PREFILL, AUTOMATIC):
        ready |= {job.image_id: None for job in project.jobs.in_state("done", kind, limit=1 << 30)}
    return project.jobs.add(VERIFY, [NewJob(image_id=image_id, rank=float(image_id)) for image_id in ready])


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyTask:
    """The verifiers' look at an image; `model` is the file of the project's model."""

    model: str
    device: str = "cpu"

    def open(self, project: Project) -> Work:
        """Load the model and its verifiers. Raises DataError where there is none."""
        model = load(self.model, device=self.device)
        look = Look(project, model)

        def work(image: StoredImage) -> tuple[Outcome, Sequence[Change], Verdicts]:
            return look(image)

        return work


class Look:
    """Judges the masks of one image after the other. Raises DataError where the project has no verifier."""

    def __init__(self, project: Project, model: Sam) -> None:
        from anymask.engine.verification.completeness import open_completeness
        from anymask.engine.verification.training import open_verifier

        found = open_verifier(project, model)
        if found is None:
            raise DataError(f"{project.folder}: has no verifier yet; `anymask engine verify --train` makes one")
        self.project, self.model = project, model
        self.verifier: MaskVerifier = found[0]
        self.stored: StoredModel = found[1]
        self.complete: tuple[CompletenessVerifier, StoredModel] | None = open_completeness(project, model)
        self.encoder = KeptEmbeddings(project, model)

    def __call__(self, image: StoredImage) -> tuple[Outcome, list[Change], Verdicts]:
        """Return what the verifiers make of an image. Raises ImageError."""
        began = time.perf_counter()
        state = self.project.annotations.state(image.id)
        newest = {each.key: each for each in self.project.annotations.versions(image.id)}
        waiting = [each for each in state.annotations if _is_unseen(each)]
        others = [each for each in state.annotations if not _is_unseen(each)]
        encoded = self.encoder.encode(read_picture(self.project, image))
        chances = self.verifier.judge(
            self.model, encoded, [each.rle for each in waiting], [each.rle for each in others]
        )
        changes: list[Change] = []
        given: list[MachineVerdict] = []
        trusted = {verdict: acceptance(self.project, self.stored, verdict).is_on for verdict in ("accept", "reject")}
        kept = [each.rle for each in others]
        for each, likely in zip(waiting, chances, strict=True):
            said = self._verdict(image, each, newest[each.id], likely.tolist(), trusted)
            given.append(said)
            changes += _change(each, said)
            if said.audited or said.verdict != "reject":
                kept.append(each.rle)
        if self.complete is not None:
            given.append(self._of_image(image, self.complete, self.complete[0].look(self.model, encoded, kept)))
        outcome = Outcome(
            seconds=time.perf_counter() - began,
            prefilled=len(waiting),
            confirmed=sum(each.verdict == "accept" and not each.audited for each in given),
            rejected=sum(each.verdict == "reject" and not each.audited for each in given),
            model=self.verifier.model,
        )
        return outcome, changes, Verdicts(revision=state.revision, given=given)

    def _verdict(
        self, image: StoredImage, each: Annotation, version: Version, likely: list[float], trusted: dict[str, bool]
    ) -> MachineVerdict:
        from anymask.engine.verification.verifier import ACCEPT, REJECT

        verdict, sure = ASK, max(likely[ACCEPT], likely[REJECT])
        if likely[ACCEPT] >= self.verifier.accept_from:
            verdict, sure = "accept", likely[ACCEPT]
        elif likely[REJECT] >= self.verifier.reject_from:
            verdict, sure = "reject", likely[REJECT]
        held = verdict != ASK and (not trusted[verdict] or self._is_drawn(image, each.id, self.stored))
        return MachineVerdict(
            image_id=image.id,
            version_id=version.id,
            verifier_id=self.stored.id,
            verdict=verdict,
            chance=round(sure, 6),
            audited=held,
        )

    def _of_image(
        self,
        image: StoredImage,
        by: tuple[CompletenessVerifier, StoredModel],
        seen: tuple[float, list[tuple[float, float, float, float]]],
    ) -> MachineVerdict:
        verifier, stored = by
        likely, places = seen
        is_complete = likely >= verifier.complete_from
        held = is_complete and (
            not acceptance(self.project, stored, COMPLETE).is_on or self._is_drawn(image, "image", stored)
        )
        return MachineVerdict(
            image_id=image.id,
            version_id=None,
            verifier_id=stored.id,
            verdict=COMPLETE if is_complete else INCOMPLETE,
            chance=round(likely if is_complete else 1 - likely, 6),
            audited=held,
            places=places,
        )

    def _is_drawn(self, image: StoredImage, key: str, stored: StoredModel) -> bool:
        """Whether a verdict is one of the share that people are asked for all the same."""
        return chance(f"{image.location} {key}", f"audit {stored.hash}") < self.project.settings.current().audit


def _is_unseen(each: Annotation) -> bool:
    """Whether a mask is the model's, and neither a person nor a verifier has accepted it."""
    return each.provenance is not None and each.provenance.author == MODEL


def _change(each: Annotation, said: MachineVerdict) -> list[Change]:
    """Return what a verdict comes to; what of the third stage only a person can judge waits as if it were prefilled."""
    assert each.provenance is not None
    if said.verdict == "reject" and not said.audited:
        return [Delete(id=each.id)]
    if said.verdict == "accept" and not said.audited:
        return [Put(annotation=replace(each, provenance=replace(each.provenance, author=VERIFIER, derived_from=None)))]
    if each.provenance.origin != "prefilled":
        waits = replace(each.provenance, origin="prefilled", derived_from=None)
        return [Put(annotation=replace(each, provenance=waits))]
    return []


def ensure_verifiers(project: Project, model: Sam, *, anew: bool = False, plan: VerifierPlan | None = None) -> bool:
    """Train verifiers of masks and of images where the project has none of this model, or `anew`; say whether it was.

    Raises DataError where the project has too few masks to learn from; of images alone too few leave that one out.
    """
    from anymask.engine.verification.completeness import train_completeness
    from anymask.engine.verification.training import open_verifier, train_verifier

    if not anew:
        try:
            if open_verifier(project, model) is not None:
                return False
        except DataError:  # of the model before
            pass
    train_verifier(project, model, plan, trigger="by hand" if anew else "none of this model")
    with suppress(DataError):
        train_completeness(project, model)
    return True


def open_people_queue(project: Project) -> int:
    """Queue for people what the verifiers left to them, where a look is worth most first; returns how many are new."""
    worth = project.verdicts.worth()
    done = {job.image_id for job in project.jobs.in_state("done", VERIFY, limit=1 << 30)}
    new = [
        NewJob(image_id=image_id, rank=-value)
        for image_id, value in worth.items()
        if value is not None and image_id in done
    ]
    return project.jobs.add(SEMI_AUTOMATIC, new)


def undo(project: Project, stored: StoredModel) -> int:
    """Take back what a verifier decided about masks without a person, where nobody has touched them since.

    What it accepted waits for a person again, what it dropped is there again and waits; its images are queued for
    people, those that they had been through for review. Returns how many masks there were.
    """
    by_image: dict[int, list[tuple[int, str]]] = {}
    for image_id, version_id, verdict in project.verdicts.applied(stored.id):
        by_image.setdefault(image_id, []).append((version_id, verdict))
    taken = 0
    for image_id, decided in by_image.items():
        versions = project.annotations.versions(image_id)
        by_id = {each.id: each for each in versions}
        newest = {each.key: each for each in versions}
        changes: list[Change] = []
        for version_id, verdict in decided:
            before = by_id[version_id]
            now = newest[before.key].annotation
            untouched = (now is None) == (verdict == "reject") and (
                now is None or (now.provenance is not None and now.provenance.author == VERIFIER)
            )
            if untouched and before.annotation is not None and before.annotation.provenance is not None:
                waits = replace(before.annotation.provenance, origin="prefilled", derived_from=None)
                changes.append(Put(annotation=replace(before.annotation, provenance=waits)))
        if changes:
            project.annotations.change(image_id, versions[-1].revision, VERIFIER, changes)
            taken += len(changes)
    project.verdicts.forget(stored.id)
    looked_at = {job.image_id for job in project.jobs.in_state("done", SEMI_AUTOMATIC, limit=1 << 30)}
    for kind, some in ((REVIEW, set(by_image) & looked_at), (SEMI_AUTOMATIC, set(by_image) - looked_at)):
        project.jobs.add(kind, [NewJob(image_id=image_id, rank=_FIRST) for image_id in some])
    return taken
