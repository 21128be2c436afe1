"""Where a project stands, for the terminal and for the page: queues, statistics, models, quarantine, and whether a new
model is due.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy import Connection, func, select

from anymask.engine.quality import CHECK, REVIEW, agreement, check_report, honeypot_scores
from anymask.engine.stages import AUTOMATIC, PEOPLES, PREFILL, STAGES, VERIFY
from anymask.engine.store import COMPLETE, MACHINES, Project
from anymask.engine.store.tables import annotation_versions, change_sets, images, jobs, outcomes
from anymask.engine.verification.acceptance import acceptance

_STRETCHES = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400)
"""Lengths of time in seconds; the first that gives few enough points is the one to sum over."""
_POINTS = 40
_HOUR = 3600.0


def status(project: Project) -> dict[str, Any]:
    """Return plain values.

    Images, masks, queues, stages, people, who works on what, models, verifiers, history over time, the last hour,
    quarantined, quality, due.
    """
    with project.database.reading() as connection:
        now = project.database.now(connection)
        past = _history(connection)
        total = connection.execute(select(func.count(), func.coalesce(func.sum(images.c.num_annotations), 0))).one()
    current = project.models.current()
    aside = [(state, job) for state in ("quarantined", "skipped") for job in project.jobs.in_state(state)]
    names = {job.image_id: project.images.get(job.image_id) for _, job in aside}
    return {
        "project": str(project.folder),
        "at": now,
        "images": int(total[0]),
        "masks": int(total[1]),
        "queues": project.jobs.counts(),
        "stages": {kind: project.outcomes.statistics(kind).summary() for kind in (*STAGES, PREFILL, VERIFY)},
        "people": {
            kind: {name: each.summary() for name, each in project.outcomes.people(kind).items()}
            for kind in (*PEOPLES, REVIEW, CHECK)
        },
        "working": [
            {"worker": job.worker, "stage": job.kind, "image_id": job.image_id}
            for job in project.jobs.in_state("leased", limit=50)
        ],
        "history": past,
        "last_hour": {
            kind: project.outcomes.statistics(kind, since=now - _HOUR).summary() for kind in (*STAGES, PREFILL, VERIFY)
        },
        "models": [
            {
                "id": each.id,
                "at": each.at,
                "hash": each.hash,
                "trigger": each.trigger,
                "masks": each.num_masks,
                "verdict": each.verdict,
                "scores": {name: round(value, 4) for name, value in each.scores.items()},
                "is_current": current is not None and each.id == current.id,
            }
            for each in project.models.all()
        ],
        "verifiers": _verifiers(project),
        "quarantined": [
            {
                "image": image.name if (image := names[job.image_id]) else str(job.image_id),
                "image_id": job.image_id,
                "stage": job.kind,
                "state": state,
                "tries": job.attempts,
                "reason": job.reason,
            }
            for state, job in aside
        ],
        "quality": {
            "check": dataclasses.asdict(check_report(project)),
            "agreement": dataclasses.asdict(agreement(project)),
            "honeypots": dict(honeypot_scores(project)),
        },
        "due": due(project),
    }


def _verifiers(project: Project) -> list[dict[str, Any]]:
    """Return the verifiers in use: their scores, and of each verdict how many there were and what the audit says."""
    found = []
    for history, verdicts in ((project.verifiers, ("accept", "reject")), (project.completeness, (COMPLETE,))):
        stored = history.current()
        if stored is None:
            continue
        told = [acceptance(project, stored, verdict) for verdict in verdicts]
        found.append(
            {
                "id": stored.id,
                "at": stored.at,
                "kind": history.kind,
                "hash": stored.hash,
                "trigger": stored.trigger,
                "masks": stored.num_masks,
                "scores": {name: round(value, 4) for name, value in stored.scores.items()},
                "verdicts": [
                    {
                        "verdict": each.verdict,
                        "is_on": each.is_on,
                        "word": each.word,
                        "applied": each.audit.applied,
                        "audited": each.audit.looked_at,
                        "agreed": each.audit.agreed,
                        "waiting": each.audit.waiting,
                        "low": round(each.audit.interval[0], 4),
                        "high": round(each.audit.interval[1], 4),
                    }
                    for each in told
                ],
            }
        )
    return found


def _history(connection: Connection) -> dict[str, Any]:
    """Return what was finished in each stage over time, in stretches that are long enough for few points."""
    first, last = connection.execute(select(func.min(outcomes.c.at), func.max(outcomes.c.at))).one()
    if first is None:
        return {"width": float(_STRETCHES[0]), "moments": []}
    width = next((each for each in _STRETCHES if (last - first) / each < _POINTS), _STRETCHES[-1])
    stretch = func.round(outcomes.c.at / width - 0.5).label("stretch")  # the floor, which SQLite may lack
    kept = outcomes.c.confirmed + outcomes.c.fixed + outcomes.c.added
    sums = {
        "masks": outcomes.c.masks,
        "kept": kept,
        "seconds": outcomes.c.seconds,
        "clicks": outcomes.c.clicks,
    }
    wanted = (
        select(jobs.c.kind, stretch, func.count().label("images"), *(func.sum(of).label(to) for to, of in sums.items()))
        .select_from(outcomes.join(jobs, jobs.c.id == outcomes.c.job_id))
        .where(jobs.c.kind.in_(STAGES))
        .group_by(jobs.c.kind, stretch)
        .order_by(stretch, jobs.c.kind)
    )
    moments = [
        {
            "at": float(row.stretch) * width,
            "stage": row.kind,
            "images": int(row.images),
            "masks": int(row.masks),
            "kept": int(row.kept),
            "seconds": round(float(row.seconds), 3),
            "clicks": int(row.clicks),
        }
        for row in connection.execute(wanted)
    ]
    return {"width": float(width), "moments": moments}


def due(project: Project) -> str | None:
    """Return why a new model is due, or None: masks since the last, or hours."""
    settings = project.settings.current()
    history = project.models.all()
    last = history[-1].at if history else 0.0
    fresh = masks_since(project, last)
    if settings.retrain_masks and fresh >= settings.retrain_masks:
        return f"{fresh} masks since the last model"
    with project.database.reading() as connection:
        hours = (project.database.now(connection) - last) / 3600
    if settings.retrain_hours and fresh and hours >= settings.retrain_hours:
        return f"{hours:.1f} hours since the last model"
    return None


def masks_since(project: Project, at: float) -> int:
    """Return how many masks people have left since a time: drawn, fixed, confirmed or imported."""
    versions = annotation_versions
    joined = versions.join(change_sets, change_sets.c.id == versions.c.change_set_id)
    people = versions.c.stage.is_(None) | ((versions.c.stage != AUTOMATIC) & versions.c.author.not_in(MACHINES))
    wanted = select(func.count()).select_from(joined).where(change_sets.c.at > at, ~versions.c.deleted, people)
    with project.database.reading() as connection:
        return int(connection.scalar(wanted) or 0)
