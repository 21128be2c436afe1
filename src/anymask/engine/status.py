"""Where a project stands, for the terminal and for the page: queues, statistics, models, quarantine."""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy import func, select

from anymask.engine.quality import agreement, check_report, honeypot_scores
from anymask.engine.retrain import due
from anymask.engine.stages import PREFILL, STAGES
from anymask.engine.store import Project
from anymask.engine.store.tables import images


def status(project: Project) -> dict[str, Any]:
    """Return plain values: images, masks, queues, stages, people, models, quarantined, quality, due."""
    with project.database.reading() as connection:
        total = connection.execute(select(func.count(), func.coalesce(func.sum(images.c.num_annotations), 0))).one()
    current = project.models.current()
    aside = [(state, job) for state in ("quarantined", "skipped") for job in project.jobs.in_state(state)]
    names = {job.image_id: project.images.get(job.image_id) for _, job in aside}
    return {
        "project": str(project.folder),
        "images": int(total[0]),
        "masks": int(total[1]),
        "queues": project.jobs.counts(),
        "stages": {kind: project.outcomes.statistics(kind).summary() for kind in (*STAGES, PREFILL)},
        "people": {
            kind: {name: each.summary() for name, each in project.outcomes.people(kind).items()} for kind in STAGES[:2]
        },
        "models": [
            {
                "id": each.id,
                "hash": each.hash,
                "trigger": each.trigger,
                "masks": each.num_masks,
                "verdict": each.verdict,
                "scores": {name: round(value, 4) for name, value in each.scores.items()},
                "is_current": current is not None and each.id == current.id,
            }
            for each in project.models.all()
        ],
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
