"""The tolerances of the tests, in one place, and the check every solve in a test ends in."""

from __future__ import annotations

import math

import numpy as np

from cops_lp import Certificate, Solution, certify
from cops_lp.judge.arithmetic import two_product

GAP = 1e-12  # of the judge's scale
OBJECTIVE = 1e-9  # against other solvers, of the summed absolute target where x > 0


def target_scale(solution: Solution) -> float:
    """Summed absolute target of the weights with x > 0; 1 when that is 0."""
    inside = solution.relaxed().reshape(-1) > 0.0
    return float(np.abs(solution.problem.target.reshape(-1)[inside].astype(float)).sum()) or 1.0


def exact_dot(a: np.ndarray, b: np.ndarray, *more: float) -> float:
    """Σ a_i b_i and `more`, rounded once: no processor's order of summation can matter.

    For products that neither overflow nor lose digits to denormals.
    """
    product, error = two_product(*(np.asarray(v, dtype=np.float64).reshape(-1) for v in (a, b)))
    return math.fsum([*product.tolist(), *error.tolist(), *more])


def doubt_of(ours: Solution, theirs: Solution) -> float:
    """What another solver's answer leaves open of the optimum: its gap, and floors it lacks.

    Its target is at least the optimum less its own gap, and at most the optimum and what it
    lacks of the floors and of the count at our multipliers.
    """
    x = theirs.relaxed()
    problem = ours.problem
    lacks = [
        max(0.0, -exact_dot(row, x, -floor))
        for row, floor in zip(problem.controls, problem.floors.tolist(), strict=True)
    ]
    count = math.fsum([*x.reshape(-1).tolist(), -ours.keep])
    prices = ours.multipliers.tolist()
    priced = [price * lack for price, lack in zip(prices, lacks, strict=True)]
    return math.fsum([abs(theirs.gap), abs(ours.threshold * count), *priced])


def assert_certified(solution: Solution) -> Certificate:
    """The judge confirms the solution, and the mask meets every floor it can."""
    verdict = certify(solution.problem, solution)
    assert verdict.ok, str(verdict)
    assert verdict.fractional <= len(solution.problem.controls) + 1
    return verdict
