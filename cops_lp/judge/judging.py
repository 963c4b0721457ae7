"""``certify``: what is judged, and by which conditions."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import numpy as np

from cops_lp.balanced import Balance
from cops_lp.errors import ProblemError
from cops_lp.problem import Problem
from cops_lp.solution import Solution, Status

from .balance import balance_fault, check_balance
from .infeasible import judge_infeasible
from .optimal import judge_optimal
from .question import Question
from .reading import Scores
from .verdict import Certificate, Check

__all__ = ["certify"]

_FAR = 1e6  # from 0; what is beyond is no share of a weight, and sums of it could overflow


def certify(problem: Problem | tuple[Any, Any], solution: Solution) -> Certificate:
    """Check a solution against the scores.

    Parameters
    ----------
    problem : Problem, or tuple (target, controls)
        The scores. With a Problem, keep and floors are the problem's; with arrays, those
        that the solution states. Controls given by the solution's names are taken by name,
        others in its order.
    solution : Solution
        From any solver, of :func:`cops_lp.balance`, or read by :meth:`cops_lp.Solution.load`.

    Returns
    -------
    Certificate
        Truthy when every condition holds. For OPTIMAL: the mask has k weights and is what
        the solution says; the relaxed point is feasible, the multipliers are ≥ 0,
        complementarity holds for floors and weights, so that bound − objective is at most
        1e-12 of `Certificate.scale`. For a Balance also: its weights prove that no mask keeps
        more than `share_bound` of every score, and the relaxed point keeps `share`. For
        INFEASIBLE: the certificate y ≥ 0 has yᵀb > T_k(Aᵀy), by more than what counts as
        rounding. A solution that is not well formed fails that check.

    Raises
    ------
    ProblemError
        The arguments are of the wrong kind, or a score is not finite.

    Notes
    -----
    NumPy only, O(dK): a few passes in blocks of 10^5 weights, two more for every T_k that is
    checked. Some 20 MB for K = 1 besides the scores and the mask, whatever d is; memory-mapped
    scores stay on the disk. The conditions are those of the theorems in docs/formulation.md
    (ours).

    Examples
    --------
    >>> import cops_lp
    >>> target, size = [5, 4, 3, 2, 1], [1, 2, 3, 4, 5]
    >>> solution = cops_lp.solve(target, {"size": size}, keep=2, retain=0.5)
    >>> bool(cops_lp.certify((target, {"size": size}), solution))
    True
    >>> print(str(cops_lp.certify(([5, 4, 3, 2, 2], [size]), solution)).splitlines()[0])
    NOT confirmed: claimed OPTIMAL
    """
    if not isinstance(solution, Solution):
        raise ProblemError(f"solution is {type(solution).__name__}; wanted a Solution")
    if solution.status not in (Status.OPTIMAL, Status.INFEASIBLE):
        return Certificate(solution.status, ())  # claims nothing; its floors may be unknown
    with problem.together() if isinstance(problem, Problem) else nullcontext():
        return _judged(Question.of(problem, solution), solution)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # figures may state anything
def _judged(question: Question, solution: Solution) -> Certificate:
    fault = _fault(question, solution)
    if fault:
        return Certificate(solution.status, (Check("well formed", math.inf, 0.0, fault),))
    scores = Scores(question.problem)
    if solution.status is Status.INFEASIBLE:
        return judge_infeasible(question, scores, solution)
    return judge_optimal(question, scores, solution, check_balance)


def _fault(question: Question, solution: Solution) -> str:
    """Say what about a solution's parts cannot be judged; empty when all is well."""
    problem = question.problem
    K = len(problem.controls)
    mask = solution.mask
    if getattr(mask, "dtype", None) != np.bool_ or mask.shape != problem.shape:
        return f"the mask is not a bool array of shape {problem.shape}"
    for name in ("multipliers", "multipliers_rest", "floors", "kept", "shortfall"):
        value = getattr(solution, name)
        if not isinstance(value, np.ndarray) or value.shape != (K,) or value.dtype.kind != "f":
            return f"{name} is not a float array of shape ({K},)"
    if not np.isfinite(question.floors).all():
        return "a floor is not finite"
    indices, values = solution.changed
    if indices.shape != values.shape or indices.ndim != 1 or indices.dtype.kind != "i":
        return "changed is not a pair of arrays, indices and values, of one length"
    if len(indices) and not (
        indices[0] >= 0 and indices[-1] < problem.size and (np.diff(indices) > 0).all()
    ):
        return "the indices of changed are not ascending positions of weights"
    if not (np.abs(values) <= _FAR).all():
        return "a value of changed is not near [0, 1]"
    if solution.status is Status.INFEASIBLE:
        y = solution.certificate
        if not isinstance(y, np.ndarray) or y.shape != (K,) or not np.isfinite(y).all():
            return f"the certificate y is not a finite array of shape ({K},)"
        if mask.any():
            return "the mask of an infeasible problem keeps weights"
    elif solution.status is Status.OPTIMAL and not (
        np.isfinite(solution.multipliers).all() and np.isfinite(solution.multipliers_rest).all()
    ):
        return "a multiplier is not finite"
    return balance_fault(solution) if isinstance(solution, Balance) else ""
