"""Promises of docs/guarantees.md that were once broken, each as a kind: a case and a small fuzz."""

from __future__ import annotations

import math

import numpy as np

import cops_lp
from cops_lp import Status

from .checks import assert_certified


def floors_above_by_rounding(seed):
    """Scores, a budget, and floors of which several exceed what is attainable by about 1e-12."""
    rng = np.random.default_rng(seed)
    d, K = int(rng.integers(2, 13)), int(rng.integers(1, 6))
    k = int(rng.integers(0, d + 1))
    scores = [
        rng.integers(0, 9, (1 + K, d)).astype(float),
        rng.random((1 + K, d)),
        rng.integers(-4, 9, (1 + K, d)).astype(float),
    ][rng.integers(3)]
    kept = [
        rng.permutation(d)[:k],
        np.argsort(-scores[1 + rng.integers(K)], kind="stable")[:k],
    ][rng.integers(2)]
    floors = []
    for row in scores[1:]:
        top = np.argsort(-row, kind="stable")[:k] if rng.random() < 0.4 else kept
        size = math.fsum(np.abs(row[top])) or 1.0
        share = rng.choice([0.0, 1e-13, 2e-13, 9e-13, 0.99e-12, 1e-12, 1.3e-12 * rng.random()])
        floors.append(math.fsum(row[top]) + share * size)
    return scores, k, np.array(floors)


def test_floors_that_exceed_by_rounding_together_are_judged_by_the_solvers_rule():
    solution = cops_lp.solve(
        [7.0, 6, 8], [[2.0, 0, 7], [5.0, 0, 2]], keep=1, floors=[2.0000000000018, 5.0000000000045]
    )
    assert_certified(solution)
    seen = dict.fromkeys(Status, 0)
    refused = 0
    for seed in range(1_500):
        scores, k, floors = floors_above_by_rounding(seed)
        how = {"keep": k, "floors": floors, "raise_on_infeasible": False, "threads": 1}
        try:
            solution = cops_lp.solve(scores[0], list(scores[1:]), **how)
        except cops_lp.SolverError:
            refused += 1
            continue
        assert_certified(solution)
        seen[solution.status] += 1
    assert min(seen[Status.OPTIMAL], seen[Status.INFEASIBLE]) > 300
    assert refused < 30  # contradictions by about the tolerance, which may be refused
