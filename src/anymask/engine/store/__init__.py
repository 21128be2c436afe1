"""What a project keeps: images by reference, annotations as versions that are never overwritten, jobs, models."""

from anymask.engine import is_project
from anymask.engine.store.annotations import (
    Annotation,
    Annotations,
    Change,
    Delete,
    Provenance,
    Put,
    State,
    Version,
    is_peoples,
)
from anymask.engine.store.classes import Class, Classes, ClassSet
from anymask.engine.store.database import Conflict, Database, DatabaseUnavailable, retry
from anymask.engine.store.images import Images, NewImage, StoredImage
from anymask.engine.store.jobs import TRIES, Jobs, JobState, Lease, LeaseLost, NewJob
from anymask.engine.store.models import Models, StoredModel
from anymask.engine.store.names import MACHINES, MODEL, VERIFIER
from anymask.engine.store.outcomes import Outcome, Outcomes, Statistics
from anymask.engine.store.project import Project, init_project, open_project
from anymask.engine.store.reviews import Review, Reviews
from anymask.engine.store.settings import MEANINGS, EngineSettings, SettingsHistory
from anymask.engine.store.verdicts import ASK, COMPLETE, INCOMPLETE, Audit, MachineVerdict, MachineVerdicts

__all__ = [
    "ASK",
    "COMPLETE",
    "INCOMPLETE",
    "MACHINES",
    "MEANINGS",
    "MODEL",
    "TRIES",
    "VERIFIER",
    "Annotation",
    "Annotations",
    "Audit",
    "Change",
    "Class",
    "ClassSet",
    "Classes",
    "Conflict",
    "Database",
    "DatabaseUnavailable",
    "Delete",
    "EngineSettings",
    "Images",
    "JobState",
    "Jobs",
    "Lease",
    "LeaseLost",
    "MachineVerdict",
    "MachineVerdicts",
    "Models",
    "NewImage",
    "NewJob",
    "Outcome",
    "Outcomes",
    "Project",
    "Provenance",
    "Put",
    "Review",
    "Reviews",
    "SettingsHistory",
    "State",
    "Statistics",
    "StoredImage",
    "StoredModel",
    "Version",
    "init_project",
    "is_peoples",
    "is_project",
    "open_project",
    "retry",
]
