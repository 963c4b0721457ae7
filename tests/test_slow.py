"""What takes minutes: ``pytest -m slow``."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import cops_lp
from cops_lp import Status
from cops_lp.reference import run_isolated

from .checks import OBJECTIVE, assert_certified, target_scale

pytestmark = pytest.mark.slow

NAMES = ("magnitude", "snip", "grasp", "synflow")


@pytest.mark.parametrize(("target", "control"), list(itertools.permutations(NAMES, 2)))
@pytest.mark.parametrize("keep", [0.001, 0.01, 0.1, 0.5])
def test_every_pair_of_embedded_scores_against_highs(target, control, keep):
    scores = cops_lp.sample_scores()
    problem = cops_lp.Problem(scores[target], {control: scores[control]}, keep=keep, retain=0.5)
    lost = 0
    for retain in (0.5, 0.8, 0.95, 0.999, 1.0):
        ours = problem.solve(retain=retain)
        assert_certified(ours)
        try:
            theirs = run_isolated(
                "highs", ours.problem, time_limit=20, algorithm="ipm", raise_on_infeasible=False
            )
        except cops_lp.SolverError:
            lost += 1
            continue
        if theirs.status is not Status.OPTIMAL:
            lost += 1
            continue
        scale = target_scale(ours)
        # What HiGHS's own gap and its lack to the floor, priced, leave in doubt.
        row = scores[control].astype(np.float64)
        lack = max(0.0, float(ours.floors[0] - row @ theirs.relaxed()))
        doubt = abs(theirs.gap) + float(ours.multipliers[0]) * lack
        lost += doubt > OBJECTIVE * scale
        difference = abs(ours.objective - theirs.objective)
        assert difference <= OBJECTIVE * scale + doubt
    assert lost <= 2  # floors at or next to their best: HiGHS's tolerance, times λ
