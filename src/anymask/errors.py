"""The exceptions of anymask.

Every error that a user can cause says what was wrong, with what, and what would be right::

    AnymaskError
    ├── InputError (also a ValueError)
    │   ├── ImageError           an image that cannot be read or used
    │   ├── PromptError          points, boxes, masks or words that make no sense for the image
    │   ├── OutputError          a place that cannot be written to
    │   └── MissingPackageError  what was asked for needs an extra that is not installed
    ├── CheckpointError          weights that cannot be found, read or trusted
    │   ├── UnknownModelError    a name that is no model's, or a file of no known kind
    │   ├── UnsafeCheckpointError  a pickle that would run code
    │   └── DownloadError        a download that failed or does not match its hash
    ├── DataError                a data set that cannot be used
    └── RecipeError              a training recipe with unknown or ill-typed keys

The command line turns any of them into one line on standard error and exit status 2.
"""

from __future__ import annotations


class AnymaskError(Exception):
    """Base of every error that anymask raises on purpose."""


class InputError(AnymaskError, ValueError):
    """Something a caller handed in cannot be used."""


class ImageError(InputError):
    """An image is missing, unreadable, empty or too large."""


class PromptError(InputError):
    """A prompt makes no sense for the image it is given for."""


class OutputError(InputError):
    """A result cannot be written where it was asked for."""


class MissingPackageError(InputError):
    """What was asked for needs a package of one of anymask's extras, which is not installed."""


class CheckpointError(AnymaskError):
    """Weights cannot be found, read or trusted."""


class UnknownModelError(CheckpointError):
    """A model's name or a checkpoint's kind is not known."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint is a pickle that would run code when loaded."""


class DownloadError(CheckpointError):
    """A download failed, was refused, or does not match its published hash."""


class DataError(AnymaskError):
    """A data set cannot be used as it is."""


class RecipeError(AnymaskError):
    """A training recipe has unknown or ill-typed keys."""
