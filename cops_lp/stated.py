"""What a saved solution states of its problem: everything but the scores."""

from __future__ import annotations

import math
from typing import NoReturn

import numpy as np

from .errors import ProblemError
from .problem import Problem

__all__ = ["StatedProblem"]


class StatedProblem(Problem):
    """A :class:`Problem` without its scores, as :meth:`cops_lp.Solution.load` finds it.

    Shape, budget, names, floors and the attainable bests are there; whatever would read a
    score raises ProblemError. What is stated is proven only by :func:`cops_lp.certify`, which
    takes the scores themselves.

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
        self.names = names
        self.keep = keep
        self.retain = retain
        self._floors = floors

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

    def __getattr__(self, name: str) -> NoReturn:
        if name in ("target", "controls", "_state"):
            raise ProblemError(
                "a solution read from a file knows no scores; check it against them with "
                "certify((target, controls), solution)"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        controls = ", ".join(repr(name) for name in self.names) or "none"
        return f"StatedProblem(shape={self.shape}, keep={self.keep}, controls: {controls})"
