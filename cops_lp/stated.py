"""What a saved solution states of its problem: everything but the scores."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np

from .errors import ProblemError
from .problem import Problem

__all__ = ["NoScoresError", "StatedProblem"]

_NO_SCORES = (
    "a solution read from a file knows no scores; check it against them with "
    "certify((target, controls), solution)"
)


class NoScoresError(ProblemError, AttributeError):
    """A score of a :class:`StatedProblem` was asked for; ``hasattr`` takes it for "not there"."""


class StatedProblem(Problem):
    """A :class:`Problem` without its scores, as :meth:`cops_lp.Solution.load` finds it.

    Shape, budget, names, floors and the attainable bests are there; whatever would read a
    score raises :class:`NoScoresError`. What is stated is proven only by
    :func:`cops_lp.certify`, which takes the scores themselves.

    Parameters
    ----------
    shape : tuple of int
    names : tuple of str, length K
    keep : int
    floors : ndarray of float64, shape (K,)
    retain : ndarray of float64, shape (K,), or None
    best : ndarray of float64, shape (1 + K,)
        NaN where it is not known.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        names: tuple[str, ...],
        *,
        keep: int,
        floors: np.ndarray,
        retain: np.ndarray | None,
        best: np.ndarray,
    ) -> None:
        self._shape, self._best = shape, best
        self._names = names
        self._keep = keep
        self._retain = retain
        self._floors = floors

    @property
    def target(self) -> NoReturn:
        """Not there: :class:`NoScoresError`."""
        raise NoScoresError(_NO_SCORES)

    @property
    def controls(self) -> NoReturn:
        """Not there: :class:`NoScoresError`."""
        raise NoScoresError(_NO_SCORES)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the scores and of the mask."""
        return self._shape

    @property
    def size(self) -> int:
        """d, the number of weights."""
        return math.prod(self._shape)

    def best(self, *, threads: int | None = None) -> np.ndarray:  # noqa: ARG002
        """Return the attainable bests that the file states; float64, shape (1 + K,)."""
        return self._best.copy()

    def knows_best(self) -> bool:
        """See :meth:`Problem.knows_best`."""
        return True

    def known_best(self) -> np.ndarray:
        """See :meth:`Problem.known_best`."""
        return self._best.copy()

    def known_floors(self) -> np.ndarray:
        """See :meth:`Problem.known_floors`."""
        return self.floors

    def _attainable(self, *_: Any) -> NoReturn:
        raise NoScoresError(_NO_SCORES)

    def __repr__(self) -> str:
        controls = ", ".join(repr(name) for name in self.names) or "none"
        return f"StatedProblem(shape={self.shape}, keep={self.keep}, controls: {controls})"
