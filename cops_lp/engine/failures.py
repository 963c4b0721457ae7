"""How a solve ends without an answer; the caller turns each into one of the package's errors.

Next to these Python's own OverflowError: a sum of scores is beyond float64.
"""

from __future__ import annotations

__all__ = ["ChangedError", "NotFiniteError", "OutOfTimeError"]


class OutOfTimeError(Exception):
    """The deadline came before the next pass over the scores."""


class NotFiniteError(Exception):
    """A score holds NaN or infinity; the caller says which."""


class ChangedError(Exception):
    """Two passes over the scores contradict each other."""
