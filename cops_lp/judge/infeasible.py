"""Infeasible: the floors ask more of one mixture of the controls than k weights hold."""

from __future__ import annotations

import numpy as np

from cops_lp.solution import Solution
from cops_lp.tolerances import FLOOR_TOLERANCE, JOINT_TOLERANCE, slack_alone, slack_together

from .arithmetic import ldexp, scaled_floors
from .optimal import above_best, check_attainable, check_retained, check_stated
from .question import Question
from .reading import Scores
from .verdict import Certificate, Check, largest, ratio

__all__ = ["judge_infeasible"]


def judge_infeasible(question: Question, scores: Scores, solution: Solution) -> Certificate:
    """Check the certificate y: Theorem 1 of docs/formulation.md.

    Parameters
    ----------
    question : Question
    scores : Scores
    solution : Solution
        Well formed, with a certificate of shape (K,).

    Returns
    -------
    Certificate
    """
    assert solution.certificate is not None
    exponents = scores.exponents[1:]
    y = _scaled_to_one(solution.certificate)
    used = y != 0.0  # of the others a size would take y's digits
    largest_used = exponents[used].max(initial=np.iinfo(exponents.dtype).min)
    y = _scaled_to_one(ldexp(y, np.where(used, exponents - largest_used, 0)))
    b = scaled_floors(question.floors, exponents)
    best = scores.top_of(np.concatenate(([0.0], y)), question.keep)
    alone = np.count_nonzero(y) == 1
    wanted = -y * b
    if not alone:  # together, floors that count as bests are those
        above = [above_best(scores, int(j), b[j], question.keep) for j in np.flatnonzero(y)]
        wanted = np.append(wanted, y[y != 0.0] * above)
    excess = -best.total.value(*wanted.tolist())
    slack = slack_alone(best.magnitude) if alone else slack_together(best.magnitude)
    tolerance = FLOOR_TOLERANCE if alone else JOINT_TOLERANCE
    share = ratio(excess, best.magnitude)
    holds = excess > slack
    return Certificate(
        solution.status,
        (
            Check("y ≥ 0", largest(np.maximum(-y, 0.0)), 0.0, "largest negative entry"),
            Check(
                "yᵀb > T_k(Aᵀy)",
                0.0 if holds else 1.0,
                0.0,
                f"0 when it holds by more than {tolerance:g}; excess {share:.3g}",
            ),
            *check_retained(question, scores),
            *check_attainable(question, scores),
            check_stated(question, solution),
        ),
    )


def _scaled_to_one(y: np.ndarray) -> np.ndarray:
    return np.asarray(y / max(float(np.abs(y).max(initial=0.0)), 1e-300))
