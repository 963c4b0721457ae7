"""How a solve ends without an answer; the caller turns each into one of the package's errors.

Next to these Python's own OverflowError: a sum of scores is beyond float64.
"""

from __future__ import annotations

import time

__all__ = ["ChangedError", "NotFiniteError", "OutOfTimeError", "check_time"]


class OutOfTimeError(Exception):
    """The deadline came before the relaxation's optimum."""


class NotFiniteError(Exception):
    """A score holds NaN or infinity; the caller says which."""


class ChangedError(Exception):
    """Two passes over the scores contradict each other."""


def check_time(deadline: float) -> None:
    """Raise OutOfTimeError where a deadline on ``time.perf_counter``'s clock has come."""
    if time.perf_counter() >= deadline:
        raise OutOfTimeError
