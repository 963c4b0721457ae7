"""What an answer is judged against: the scores, the budget and the floors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cops_lp.errors import ProblemError
from cops_lp.problem import Problem
from cops_lp.solution import Solution
from cops_lp.stated import StatedProblem

__all__ = ["Question"]


@dataclass(frozen=True, slots=True)
class Question:
    """The scores and what was asked of them, with no way into the engine.

    Attributes
    ----------
    problem : Problem
        The scores, validated; of it only what reads no score is used.
    keep : int
    floors : ndarray of float64, shape (K,)
    retain : ndarray of float64, shape (K,), or None
        The shares that the floors are said to be.
    best : ndarray of float64, shape (1 + K,), or None
        The attainable best of each score as a saved solution states them.
    """

    problem: Problem
    keep: int
    floors: np.ndarray
    retain: np.ndarray | None
    best: np.ndarray | None

    @classmethod
    def of(cls, problem: Problem | tuple[Any, Any], solution: Solution) -> Question:
        """Collect what is asked, from a Problem or, for bare arrays, from the solution.

        Raises
        ------
        ProblemError
            The arguments are of the wrong kind.
        """
        stated = solution.problem
        best = stated.best() if isinstance(stated, StatedProblem) else None
        if isinstance(problem, Problem):
            if isinstance(problem, StatedProblem):
                raise ProblemError(
                    "problem was read with a solution from a file, which holds no scores; "
                    "pass (target, controls)"
                )
            # Floors that are not known yet are not asked of the engine: the judge checks the
            # solution's against its own sums.
            floors = problem.floors if problem.has_floors() else solution.floors
            return cls(problem, problem.keep, floors, problem.retain, best)
        if not (isinstance(problem, tuple) and len(problem) == 2):
            raise ProblemError("problem is neither a Problem nor a tuple (target, controls)")
        target, controls = problem
        if isinstance(controls, Mapping) and set(controls) == set(stated.names):
            controls = {name: controls[name] for name in stated.names}
        asked = solution.floors if len(solution.floors) else None
        arrays = Problem(target, controls, keep=solution.keep, floors=asked)
        return cls(arrays, arrays.keep, arrays.floors, stated.retain, best)
