"""A Solution from a relaxed point held as a whole array: what reference solvers return."""

from __future__ import annotations

import math

import numpy as np

from .problem import Problem
from .rounding import assign_fractional, repair_by_swaps
from .solution import Fractional, Solution, Status
from .tolerances import slack_met

__all__ = ["solution_from_relaxed", "unsolved_solution"]

_NEAR = 128  # candidates for swaps on either side of the threshold


def solution_from_relaxed(
    problem: Problem,
    x: np.ndarray,
    multipliers: np.ndarray,
    *,
    method: str,
    build_seconds: float,
    seconds: float,
) -> Solution:
    """Round, sum and bound a relaxed point and its multipliers.

    Parameters
    ----------
    problem : Problem
    x : ndarray of float64, d entries in [0, 1]
        The relaxed point, flat or in the problem's shape.
    multipliers : ndarray of float64, shape (K,), ≥ 0
        The floors' multipliers, in units of the target per unit of the control.
    method : str
    build_seconds, seconds : float

    Returns
    -------
    Solution
        Its bound is the dual function at `multipliers`, so its gap is honest however far
        the point is from optimal.

    Notes
    -----
    O(dK) time, 8(K + 4) bytes per weight: for problems that a general solver can take.
    """
    x = np.asarray(x, dtype=np.float64).reshape(-1)
    scores = np.stack([np.asarray(score, np.float64).reshape(-1) for score in problem.scores])
    c, A = scores[0], scores[1:]
    floors, k = problem.floors, problem.keep
    s = c + multipliers @ A
    order = np.argsort(-s, kind="stable")
    threshold = float(s[order[max(k, 1) - 1]])
    r = s - threshold
    # Over many decades what a sum in any order loses can be worth more than the objective.
    excess = np.array([_sum(row * x, -floor) for row, floor in zip(A, floors, strict=True)])
    gap = _sum(np.maximum(r, 0.0) - x * r, *(multipliers * excess), -threshold * _sum(x, -float(k)))
    objective = _sum(c * x)

    mask = x >= 1.0
    inside = np.flatnonzero((x > 0.0) & (x < 1.0))
    count = k - int(mask.sum())
    slack = slack_met(np.maximum(np.abs(A) @ x, np.abs(floors)))
    if 0 <= count <= len(inside):
        need = floors - A[:, mask].sum(axis=1)
        chosen = assign_fractional(x[inside], c[inside], A[:, inside], count, need, slack)
        mask[inside[chosen]] = True
    else:  # the point breaks 1ᵀx = k by more than its fractional entries can mend
        mask[:] = False
        mask[np.lexsort((np.arange(len(x)), -s, -x))[:k]] = True
    near = order[max(k - _NEAR, 0) : k + _NEAR]
    mask[near] = repair_by_swaps(
        mask[near], c[near], A[:, near], floors - A[:, mask].sum(axis=1), slack
    )
    kept = np.array([_sum(row[mask]) for row in A])
    lack = floors - kept
    changed = np.flatnonzero(x != mask)
    return Solution(
        problem=problem,
        status=Status.OPTIMAL,
        mask=mask.reshape(problem.shape),
        keep=k,
        multipliers=multipliers,
        threshold=threshold,
        objective=objective,
        bound=objective + gap,
        gap=gap,
        mask_objective=_sum(c[mask]),
        kept=kept,
        floors=floors,
        shortfall=np.where(lack > slack, lack, 0.0),
        method=method,
        open_count=problem.size,
        build_seconds=build_seconds,
        seconds=seconds,
        changed=Fractional(changed, x[changed]),
    )


def _sum(terms: np.ndarray, *more: float) -> float:
    """Sum of terms, rounded once; infinite or NaN where float64 does not hold it."""
    try:
        return math.fsum([*terms.tolist(), *more])
    except (OverflowError, ValueError):
        return float(terms.sum() + sum(more))


def unsolved_solution(
    problem: Problem,
    status: Status,
    *,
    method: str,
    certificate: np.ndarray | None = None,
    build_seconds: float = 0.0,
    seconds: float = 0.0,
    passes: int = 0,
) -> Solution:
    """Build the Solution of a solve without an answer: NaN, never zeros that look like one."""
    K = len(problem.names)
    return Solution(
        problem=problem,
        status=status,
        mask=np.zeros(problem.shape, dtype=bool),
        keep=problem.keep,
        multipliers=np.full(K, np.nan),
        threshold=np.nan,
        objective=np.nan,
        bound=np.nan,
        gap=np.nan,
        mask_objective=np.nan,
        kept=np.full(K, np.nan),
        floors=problem.known_floors(),
        shortfall=np.full(K, np.nan),
        method=method,
        certificate=certificate,
        passes=passes,
        build_seconds=build_seconds,
        seconds=seconds,
    )
