"""Thousands of instances: against the judge, rational arithmetic, enumeration and HiGHS."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import cops_lp
from cops_lp import Status
from cops_lp.reference import solve_highs

from .checks import GAP, OBJECTIVE, assert_certified, doubt_of, target_scale
from .instances import random_instance
from .oracle import attainable, exact_residuals, relaxed_optimum

CHUNK = 100


def solved(instance) -> cops_lp.Solution:
    return cops_lp.solve(
        instance.target,
        instance.control,
        keep=instance.keep,
        floors=instance.floor,
        raise_on_infeasible=False,
    )


@pytest.mark.parametrize("first", range(0, 2000, CHUNK))
def test_judge_rational_arithmetic_and_highs_agree(first):
    highs_lost = 0
    for seed in range(first, first + CHUNK):
        instance = random_instance(seed)
        solution = solved(instance)
        verdict = assert_certified(solution)
        reference = solve_highs(solution.problem, raise_on_infeasible=False)
        if solution.status is Status.INFEASIBLE:
            best = attainable(instance.control, instance.keep)
            assert Fraction(instance.floor) > best, instance.name
            assert reference.status is Status.INFEASIBLE, instance.name
            continue
        scale = target_scale(solution)
        floor = instance.floor
        if "best" in instance.name:  # a float sum may round to above what is attainable
            floor = min(Fraction(floor), attainable(instance.control, instance.keep))
        gap, lack, count = exact_residuals(
            instance.target,
            instance.control[None],
            instance.keep,
            np.array([float(instance.floor)]),
            solution.relaxed(),
            np.stack((solution.multipliers, solution.multipliers_rest), axis=1),
        )
        gap += Fraction(float(solution.multipliers.sum())) * (Fraction(instance.floor) - floor)
        assert abs(gap) <= GAP * verdict.scale, instance.name
        assert lack <= 1e-12, instance.name
        assert count <= 1e-12, instance.name
        # HiGHS drops coefficients and works to 1e-10: with 30 decades in one row, or a
        # multiplier large because the floor is at its best, it may end with a gap of its own,
        # or short of the floor by what is worth much of the target, and then proves no more.
        if reference.status is not Status.OPTIMAL:
            highs_lost += 1
            continue
        doubt = doubt_of(solution, reference)
        highs_lost += doubt > OBJECTIVE * scale
        difference = abs(reference.objective - solution.objective)
        assert difference <= OBJECTIVE * scale + doubt, instance.name
    assert highs_lost <= CHUNK // 10


def test_small_instances_equal_enumeration():
    checked = infeasible = 0
    for seed in range(10_000, 11_500):
        instance = random_instance(seed, largest=8)
        solution = solved(instance)
        assert_certified(solution)
        value = relaxed_optimum(instance.target, instance.control, instance.keep, instance.floor)
        if value is None:
            best = attainable(instance.control, instance.keep)
            top = np.sort(instance.control)[::-1][: instance.keep]
            excess = Fraction(instance.floor) - best
            if solution.status is Status.OPTIMAL:  # counts as the best: rounding only
                assert excess <= Fraction(1e-12) * sum(map(Fraction, np.abs(top).tolist()))
            infeasible += 1
            continue
        assert solution.status is Status.OPTIMAL
        error = abs(Fraction(solution.objective) - value)
        assert error <= 1e-14 * target_scale(solution), instance.name
        checked += 1
    assert checked > 1000
    assert infeasible > 100


def test_infeasible_by_a_billionth_is_told_and_proven():
    rng = np.random.default_rng(5)
    for _ in range(50):
        control = rng.normal(size=40) + 2.0
        best = math.fsum(np.sort(control)[-10:])
        problem = cops_lp.Problem(rng.normal(size=40), control, keep=10, floors=best * (1 + 1e-9))
        solution = problem.solve(raise_on_infeasible=False)
        assert solution.status is Status.INFEASIBLE
        assert cops_lp.certify(problem, solution).ok
        assert np.isnan(solution.objective)
        assert not solution.mask.any()
        with pytest.raises(cops_lp.InfeasibleError, match="attainable") as caught:
            problem.solve()
        assert caught.value.attainable == pytest.approx([best])
        assert_certified(problem.solve(floors=best))


KEEPS = (0.001, 0.01, 0.1, 0.5)
RETAINS = (0.5, 0.8, 0.95, 0.999, 1.0)


@pytest.mark.parametrize("target", ["magnitude", "snip", "grasp", "synflow"])
def test_every_pair_of_embedded_scores(target):
    scores = cops_lp.sample_scores()
    controls = [name for name in scores if name != target]
    for name in controls:
        for keep in KEEPS:
            problem = cops_lp.Problem(scores[target], {name: scores[name]}, keep=keep, retain=0.5)
            for retain in RETAINS:
                solution = problem.solve(retain=retain)
                assert_certified(solution)
                assert solution.mask.sum() == round(keep * scores[target].size)
                assert (solution.shortfall == 0.0).all()


@pytest.mark.parametrize(("target", "control"), [("snip", "synflow"), ("grasp", "magnitude")])
def test_embedded_scores_against_highs(target, control):
    scores = cops_lp.sample_scores()
    problem = cops_lp.Problem(scores[target], scores[control], keep=0.1, retain=0.9)
    ours = problem.solve()
    theirs = solve_highs(problem, algorithm="ipm", time_limit=300)
    assert theirs.status is Status.OPTIMAL
    scale = target_scale(ours)
    assert abs(ours.objective - theirs.objective) <= OBJECTIVE * scale
    assert ours.multipliers == pytest.approx(theirs.multipliers, rel=1e-6)
