"""Balance: the relaxed point keeps a share of every score; weights prove that none keeps more."""

from __future__ import annotations

import math

import numpy as np

from cops_lp.balanced import Balance
from cops_lp.solution import Solution, Status
from cops_lp.tolerances import FLOOR_TOLERANCE

from .arithmetic import BEYOND, ldexp
from .optimal import Sums
from .question import Question
from .reading import Scores
from .verdict import TOLERANCE, Check, ratio

__all__ = ["balance_fault", "check_balance"]


def balance_fault(solution: Balance) -> str:
    """Say what about a Balance's own parts cannot be judged; empty when all is well."""
    if solution.status is Status.INFEASIBLE:
        return "a balance is never infeasible"
    count = len(solution.multipliers) + 1
    if len(solution.score_names) != count:
        return f"score_names are not {count}"
    if not 0 <= solution.target_index < count:
        return f"target_index is not a position in {count} scores"
    for name in ("best", "weights"):
        value = getattr(solution, name)
        if not isinstance(value, np.ndarray) or value.shape != (count,):
            return f"{name} is not a float array of shape ({count},)"
        if not np.isfinite(value).all():
            return f"{name} is not finite"
    if not (solution.best > 0.0).all():
        return "a best is not positive"
    others = [name for j, name in enumerate(solution.score_names) if j != solution.target_index]
    if tuple(others) != solution.problem.names:
        return "score_names are not the target's and the controls'"
    return ""


def check_balance(
    question: Question, scores: Scores, solution: Solution, sums: Sums
) -> tuple[Check, ...]:
    """Check a Balance by Theorem 4 of docs/formulation.md; no checks for another Solution.

    Parameters
    ----------
    question : Question
    scores : Scores
    solution : Solution
        Well formed.
    sums : Sums
        Of the walk over its relaxed point.

    Returns
    -------
    tuple of Check
    """
    if not isinstance(solution, Balance):
        return ()
    k = question.keep
    # In the problem's order, target first, and scaled as the scores are.
    order = np.argsort(
        [j != solution.target_index for j in range(len(solution.best))], kind="stable"
    )
    weights = solution.weights[order]
    best = ldexp(solution.best[order], -scores.exponents)
    tops = [scores.top(j, k) for j in range(len(best))]
    best_off = [
        ratio(abs(b - top.total.value()), top.magnitude) for b, top in zip(best, tops, strict=True)
    ]
    lacks = [
        ratio(max(solution.share * b - total.value(), 0.0), max(float(scale), b))
        if math.isfinite(solution.share)
        else math.inf
        for b, total, scale in zip(best, sums.x_totals, sums.x_scale, strict=True)
    ]
    mix = np.clip(np.nan_to_num(weights / best), -BEYOND, BEYOND)
    mixed = scores.top_of(mix, k)
    scale = max(1.0, mixed.magnitude)
    return (
        Check(
            "stated best",
            max(best_off),
            FLOOR_TOLERANCE,
            "largest difference from the judge's T_k over the best mask's summed |score|",
        ),
        Check(
            "balance weights",
            max(float(np.max(-weights)), abs(math.fsum(weights.tolist()) - 1.0)),
            TOLERANCE,
            "largest negative weight, and |Σ w − 1|",
        ),
        Check(
            "share is kept",
            max(lacks),
            FLOOR_TOLERANCE,
            "largest lack of s_j x to share · best_j, over the summed |score| kept",
        ),
        Check(
            "stated share bound",
            ratio(abs(solution.share_bound - mixed.total.value()), scale),
            TOLERANCE,
            "difference from T_k(Σ w_j s_j / best_j) over max(1, its summed |terms|)",
        ),
        Check(
            "balance gap",
            ratio(abs(solution.share_bound - solution.share), scale),
            TOLERANCE,
            "|share bound − share| over the same",
        ),
    )
