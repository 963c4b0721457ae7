"""The tolerances of the tests, in one place, and the check every solve in a test ends in."""

from __future__ import annotations

import numpy as np

from cops_lp import Certificate, Solution, certify

GAP = 1e-12  # of the judge's scale
OBJECTIVE = 1e-9  # against other solvers, of the summed absolute target where x > 0


def target_scale(solution: Solution) -> float:
    """Summed absolute target of the weights with x > 0; 1 when that is 0."""
    inside = solution.relaxed().reshape(-1) > 0.0
    return float(np.abs(solution.problem.target.reshape(-1)[inside].astype(float)).sum()) or 1.0


def assert_certified(solution: Solution) -> Certificate:
    """The judge confirms the solution, and the mask meets every floor it can."""
    verdict = certify(solution.problem, solution)
    assert verdict.ok, str(verdict)
    assert verdict.fractional <= len(solution.problem.controls) + 1
    return verdict
