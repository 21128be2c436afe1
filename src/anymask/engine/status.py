"""Where a project stands, for the terminal and for the page: queues, statistics, models, quarantine, and whether a new
model is due.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy import Connection, Select, func, select

from anymask.engine.quality import CHECK, REVIEW, agreement, check_report, honeypot_scores
from anymask.engine.stages import PEOPLES, PREFILL, STAGES, VERIFY
from anymask.engine.store import COMPLETE, Project
from anymask.engine.store.counting import PEOPLES_MASKS, WIDTHS, total
from anymask.engine.store.tables import jobs, outcome_sums, outcomes
from anymask.engine.verification.acceptance import acceptance

_STRETCHES = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400)
"""Lengths of time in seconds; the first that gives few enough points is the one to sum over."""
_POINTS = 40
_HOUR = 3600.0
_COMPARED = 100
"""Images whose masks are compared, of two people or with known ones: the latest."""


def status(project: Project) -> dict[str, Any]:
    """Return plain values.

    Images, masks, queues, stages, people, who works on what, models, verifiers, history over time, the last hour,
    quarantined, quality, due.
    """
    with project.database.reading() as connection:
        now = project.database.now(connection)
        past = _history(connection)
        images, masks = total(connection, "images"), total(connection, "masks")
    current = project.models.current()
    aside = [(state, job) for state in ("quarantined", "skipped") for job in project.jobs.in_state(state)]
    names = project.images.names([job.image_id for _, job in aside])
    return {
        "project": str(project.folder),
        "at": now,
        "images": images,
        "masks": masks,
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
                "image": names.get(job.image_id, str(job.image_id)),
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
            "agreement": dataclasses.asdict(agreement(project, latest=_COMPARED)),
            "honeypots": dict(honeypot_scores(project, latest=_COMPARED)),
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
    # Two statements: SQLite looks either end up in the index, but both at once in all of it.
    first, last = (connection.scalar(select(end(outcomes.c.at))) for end in (func.min, func.max))
    if first is None or last is None:
        return {"width": float(_STRETCHES[0]), "moments": []}
    width = next((each for each in _STRETCHES if (last - first) / each < _POINTS), _STRETCHES[-1])
    known = max((each for each in WIDTHS if width % each == 0), default=None)
    wanted = _jobs_by(width) if known is None else _sums_by(width, known)
    moments = [
        {
            "at": float(row.stretch) * width,
            "stage": row.kind,
            "images": int(row.images),
            "masks": int(row.masks),
            "kept": int(row.confirmed + row.fixed + row.added),
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
    with project.database.reading() as connection:
        fresh = total(connection, PEOPLES_MASKS) - (history[-1].peoples_masks if history else 0)
    if settings.retrain_masks and fresh >= settings.retrain_masks:
        return f"{fresh} masks since the last model"
    with project.database.reading() as connection:
        hours = (project.database.now(connection) - last) / 3600
    if settings.retrain_hours and fresh and hours >= settings.retrain_hours:
        return f"{hours:.1f} hours since the last model"
    return None


_TOLD = ("masks", "confirmed", "fixed", "added", "seconds", "clicks")


def _sums_by(width: int, known: int) -> Select[Any]:
    """Select sums over stretches of time of what is summed over shorter ones already."""
    stretch = (outcome_sums.c.stretch * known // width).label("stretch")
    sums = (func.sum(outcome_sums.c[name]).label(name) for name in ("images", *_TOLD))
    wanted = select(outcome_sums.c.kind, stretch, *sums).where(
        outcome_sums.c.kind.in_(STAGES), outcome_sums.c.width == known
    )
    return wanted.group_by(outcome_sums.c.kind, stretch).order_by(stretch, outcome_sums.c.kind)


def _jobs_by(width: int) -> Select[Any]:
    """Select sums over stretches shorter than are kept: there are few, as all of it took minutes."""
    stretch = func.round(outcomes.c.at / width - 0.5).label("stretch")  # the floor, which SQLite may lack
    sums = (func.sum(outcomes.c[name]).label(name) for name in _TOLD)
    wanted = (
        select(jobs.c.kind, stretch, func.count().label("images"), *sums)
        .select_from(outcomes.join(jobs, jobs.c.id == outcomes.c.job_id))
        .where(jobs.c.kind.in_(STAGES))
    )
    return wanted.group_by(jobs.c.kind, stretch).order_by(stretch, jobs.c.kind)
