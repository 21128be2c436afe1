"""When a project's model is to be trained anew; training itself is `anymask.engine.retrain`."""

from __future__ import annotations

from sqlalchemy import func, select

from anymask.engine.stages import AUTOMATIC
from anymask.engine.store import MACHINES, Project
from anymask.engine.store.tables import annotation_versions, change_sets


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
