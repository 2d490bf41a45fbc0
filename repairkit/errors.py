"""Every error and warning that repairkit raises on purpose.

    RepairkitError                exit code 3: data or model does not fit
    ├── DataError                 images, labels, groups, manifests, splits
    ├── ModelError                architecture, checkpoint, logits
    │   └── BakeError             a freeze that plain weights cannot express
    ├── FullMemoryError           a pass for whose images there is no memory
    ├── GameError                 a score that is NaN, outside its range, or of the wrong shape
    └── UsageError                exit code 2: arguments that cannot work together
        └── BudgetError           a budget too small for what was asked

    RepairkitWarning
    ├── DataWarning               something was skipped, with its reason
    └── ModelWarning              a model is handled by a slower or coarser path

A message says what was expected, what came, and what to do, in one line.
"""

from __future__ import annotations


class RepairkitError(Exception):
    """Base of all errors; `exit_code` is what the command line returns for it."""

    exit_code = 3


class DataError(RepairkitError):
    """Images, labels, groups, manifests or splits do not fit."""


class ModelError(RepairkitError):
    """An architecture or a checkpoint does not fit, or a model's output cannot be used."""


class BakeError(ModelError):
    """A freeze cannot be written into the plain weights of the architecture."""


class FullMemoryError(RepairkitError):
    """A pass for whose images there is no memory."""


class GameError(RepairkitError):
    """A game returned a score that is NaN, outside its range or of the wrong shape."""


class UsageError(RepairkitError):
    """Arguments that cannot work, alone or together."""

    exit_code = 2


class BudgetError(UsageError):
    """The budget is smaller than the least that the method needs."""


class RepairkitWarning(UserWarning):
    """Base of all warnings."""


class DataWarning(RepairkitWarning):
    """Something in the data was skipped; the message carries the reason."""


class ModelWarning(RepairkitWarning):
    """A model is handled by a slower or coarser path; the message says which and why."""
