"""What a project keeps: images by reference, annotations as versions that are never overwritten, classes."""

from anymask.engine.store.annotations import Annotation, Annotations, Change, Delete, Put, State
from anymask.engine.store.classes import Class, Classes, ClassSet
from anymask.engine.store.conflict import Conflict
from anymask.engine.store.database import Database
from anymask.engine.store.images import Images, StoredImage
from anymask.engine.store.project import Project, open_project

__all__ = [
    "Annotation",
    "Annotations",
    "Change",
    "Class",
    "ClassSet",
    "Classes",
    "Conflict",
    "Database",
    "Delete",
    "Images",
    "Project",
    "Put",
    "State",
    "StoredImage",
    "open_project",
]
