"""Inputs that once broke the solver or the judge, each with what must happen."""

from __future__ import annotations

import copy
import itertools
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import cops_lp
from cops_lp import (
    InfeasibleError,
    MissingDependencyError,
    Problem,
    ProblemError,
    Status,
    certify,
)
from cops_lp.solution import Fractional

from .checks import assert_certified

PACKAGE = Path(cops_lp.__file__).parent


def solved(*args, **kwargs):
    solution = cops_lp.solve(*args, **kwargs, raise_on_infeasible=False)
    assert_certified(solution)
    return solution


@pytest.mark.parametrize(
    ("target", "control", "keep", "floor"),
    [
        (
            [0.0, 0, 4, 2, 4, 3],
            [
                -8.868527899769299e-25,
                0.02157902515514187,
                1.9889234693059943e-26,
                2.097981168825239e-30,
                -3.824004387674889e-29,
                1.0378931613227862e-06,
            ],
            2,
            1.985099466911067e-26,
        ),
        (
            [-4.0, -3, 3, -2, 5, 4, 2],
            [
                1.2696551168298881e-17,
                0.00014679823907245968,
                2.4011679688449653e-16,
                3.023858007396101e-21,
                1.1793036333788711e-26,
                4.806448297925374e-22,
                0.6744889943475844,
            ],
            2,
            4.806566233095278e-22,
        ),
    ],
)
def test_a_floor_far_below_what_other_masks_hold(target, control, keep, floor):
    assert solved(target, control, keep=keep, floors=floor).status is Status.OPTIMAL


@pytest.mark.parametrize("decades", [32, 60])
def test_floors_just_above_the_targets_own_over_many_decades(decades):
    refused = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        d = int(rng.integers(3, 60))
        target = rng.integers(-5, 6, d).astype(float)
        control = rng.choice([-1, 1], d, p=[0.2, 0.8]) * 10.0 ** rng.uniform(-decades, 0, d)
        problem = Problem(target, control, keep=int(rng.integers(1, d)), floors=-1e9)
        own = problem.solve().kept[0]
        floor = own + abs(own) * 10.0 ** rng.uniform(-16, 3)
        try:
            assert_certified(problem.solve(floors=floor, raise_on_infeasible=False))
        except cops_lp.SolverError:
            refused += 1
    assert refused <= 3


def test_a_nearly_constant_control_and_its_huge_multiplier():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        target, control = rng.random(100), 3 + 1e-9 * rng.random(100)
        problem = Problem(target, control, keep=50, floors=0)
        own, best = control[problem.solve().mask].sum(), problem.best()[1]
        assert_certified(problem.solve(floors=own + 0.7 * (best - own)))


def test_of_equal_weights_the_lowest_indices_are_kept():
    solution = solved([2.0, -1, -1, 2], [-2.0, 0, 3, -2], keep=2, floors=-1.9)
    assert solution.relaxed()[0] >= solution.relaxed()[3]
    for seed in range(400):
        rng = np.random.default_rng(seed)
        d = int(rng.integers(2, 12))
        target, control = rng.integers(-2, 3, (2, d)).astype(float)
        keep = int(rng.integers(1, d + 1))
        best = np.sort(control)[-keep:].sum()
        own = control[np.argsort(-target, kind="stable")[:keep]].sum()
        solution = solved(target, control, keep=keep, floors=own + rng.random() * (best - own))
        x = solution.relaxed()
        for i, j in itertools.combinations(range(d), 2):
            if target[i] == target[j] and control[i] == control[j]:
                assert x[i] >= x[j]
                assert solution.mask[i] >= solution.mask[j]


def test_ties_of_a_large_quantized_array_go_to_the_lowest_indices():
    rng = np.random.default_rng(3)
    target, control = rng.integers(-3, 4, (2, 50_000)).astype(np.int8)
    solution = solved(target, control, keep=0.3, retain=0.9)
    x = solution.relaxed()
    for t, c in itertools.product(range(-3, 4), repeat=2):
        assert (np.diff(x[(target == t) & (control == c)]) <= 0).all()


def test_the_judge_weighs_a_tiny_share_of_a_huge_score_by_its_share():
    problem = Problem([10.0, 1.0, -1e30], [0.0, 0.0, 1e30], keep=1, floors=0.0)
    solution = problem.solve()
    assert certify(problem, solution)
    forged = replace(
        solution,
        mask=np.array([False, True, False]),
        objective=1.0,
        bound=10.0,
        gap=9.0,
        mask_objective=1.0,
        kept=np.zeros(1),
        threshold=0.0,
        multipliers=np.ones(1),
        changed=Fractional(np.array([2]), np.array([1e-45])),
    )
    assert not certify(problem, forged)


def test_no_problem_is_confirmed_both_optimal_and_infeasible():
    problem = Problem([1.0, 2, 3], [1.0, 2, 3], keep=2, floors=5 * (1 + 4e-13))
    solution = problem.solve()
    assert certify(problem, solution)
    forged = replace(
        solution,
        status=Status.INFEASIBLE,
        certificate=np.ones(1),
        mask=np.zeros(3, dtype=bool),
    )
    assert not certify(problem, forged)


def test_floors_beyond_any_sum():
    target, control = np.arange(10.0), np.arange(10.0) * 1e-10
    for keep in (0, 3, 10):
        assert solved(target, control, keep=keep, floors=-1.7e308).mask.sum() == keep
        high = solved(target, control, keep=keep, floors=1.7e308)
        assert high.status is Status.INFEASIBLE


@pytest.mark.parametrize(
    ("target_unit", "control_unit"),
    [(1e-300, 1e300), (1e300, 1e-300), (1e-320, 1.0)],
)
def test_multipliers_beyond_float64_are_refused(target_unit, control_unit):
    target, control = np.random.default_rng(0).random((2, 50))
    with pytest.raises(cops_lp.SolverError, match=r"numerical error.*similar magnitudes"):
        cops_lp.solve(target * target_unit, control * control_unit, keep=5, retain=0.9)


def test_sums_beyond_float64_are_refused_and_just_within_are_fine():
    target, control = np.random.default_rng(0).random((2, 50))
    with pytest.raises(ProblemError, match="sum to inf, beyond float64"):
        cops_lp.solve(target, control * 1e308, keep=5, retain=0.9)
    solved(target, control * 1e307, keep=5, retain=0.9)


@pytest.mark.parametrize("kind", ["one mass", "apart", "both signs"])
@pytest.mark.parametrize("K", [0, 1])
def test_a_target_whose_sum_is_beyond_float64_is_an_error(kind, K):
    rng = np.random.default_rng(0)
    target = {
        "one mass": np.full(100_000, 1e308),
        "apart": 1.7e308 * rng.random(100_000),
        "both signs": 1e308 * rng.uniform(-1.0, 1.0, 100_000),
    }[kind]
    how = {"floors": 1.0} if K else {}
    with pytest.raises(ProblemError, match="sum to more than float64 holds"):
        cops_lp.solve(target, [rng.random(100_000)] * K, keep=0.5, **how)


def test_a_floor_too_small_for_its_share_to_count():
    assert solved([1.0, 0.0], [0.0, 1.0], keep=1, floors=1e-300).kept.tolist() == [1.0]


def test_solutions_that_are_not_well_formed():
    problem = Problem([3.0, 2.0, 1.0], [1.0, 2.0, 3.0], keep=2, floors=4.5)
    solution = problem.solve()
    two = np.array([1, 0])
    for change in (
        {"mask": [True]},
        {"mask": np.ones(3)},
        {"multipliers": np.ones(2)},
        {"multipliers": np.array([np.nan])},
        {"kept": np.ones(0)},
        {"changed": Fractional(two, np.array([0.5, 0.5]))},
        {"changed": Fractional(two + 5, np.array([0.5, 0.5]))},
        {"changed": Fractional(two, np.array([0.5]))},
        {"status": Status.INFEASIBLE, "certificate": np.ones(2)},
        {"status": Status.INFEASIBLE, "certificate": np.array([np.inf])},
        {"status": Status.INFEASIBLE, "certificate": np.ones(1)},
    ):
        verdict = certify(problem, replace(solution, **change))
        assert [check.name for check in verdict.checks] == ["well formed"]
        assert not verdict
    assert not certify(problem, replace(solution, multipliers=np.array([1e306])))
    with pytest.raises(ProblemError, match="wanted a Solution"):
        certify(problem, None)
    with pytest.raises(ProblemError, match="neither a Problem nor"):
        certify(None, solution)


def test_errors_cross_process_borders():
    infeasible = InfeasibleError(("a",), np.array([2.0]), np.array([1.0]), np.ones(1), 3)
    missing = MissingDependencyError("highspy", "reference", "to compare")
    for error in (infeasible, missing):
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert str(twin) == str(error)
            assert type(twin) is type(error)


def test_arguments_read_as_their_users_mean_them():
    square = [[1.0, 2.0], [3.0, 4.0]]
    assert cops_lp.solve(square, square, keep=2, retain=0.5).mask.tolist() == [[0, 0], [1, 1]]
    assert Problem([1, 2], [[1, 2]], keep=1, floors=Fraction(1, 2)).floors.tolist() == [0.5]
    assert cops_lp.solve([1, 2], keep=1, threads=np.int64(2)).mask.tolist() == [False, True]
    with pytest.raises(ProblemError, match="masked array"):
        cops_lp.solve(np.ma.array([1.0, 99.0], mask=[0, 1]), keep=1)
    with pytest.raises(ProblemError, match="controls is dict_values"):
        cops_lp.solve([1, 2], {"a": [1, 2]}.values(), keep=1, retain=1)
    with pytest.raises(ProblemError, match="wanted a count"):
        cops_lp.solve([1, 2], keep=Fraction(10**400))
    with pytest.raises(ProblemError, match=r"1\.0000001; wanted a share"):
        cops_lp.solve([1, 2], [[1, 2]], keep=1, retain=1.0000001)
    problem = Problem([1, 2], [[1, 2]], keep=1, retain=0.5)
    with pytest.raises(ValueError, match="read-only"):
        problem.floors[0] = 9


SOLVE = "import cops_lp; print(cops_lp.solve(range(600), [range(600)], keep=300, retain=0.9).gap)"


def python(code, **settings):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        timeout=300,
        check=False,
        **settings,
    )


def test_where_numba_cannot_cache_the_kernels_compile_all_the_same(monkeypatch):
    from cops_lp.kernels import _jit

    real = _jit.njit

    def refusing(*, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(_jit, "njit", refusing)
    assert _jit.compiled(lambda x: x + 1)(1) == 2


def test_without_the_compiler():
    done = python(SOLVE, env={**os.environ, "NUMBA_DISABLE_JIT": "1"})
    assert done.stdout == "0.0\n", done.stderr


def test_kernels_stay_inside_their_arrays():
    code = (
        "import numpy as np, cops_lp\n"
        "for seed in range(300):\n"
        "    rng = np.random.default_rng(seed)\n"
        "    d = int(rng.integers(1, 40))\n"
        "    t, c = rng.integers(-2, 3, (2, d)) * 10.0 ** rng.uniform(-15, 15, (2, d))\n"
        "    p = cops_lp.Problem(t, c, keep=int(rng.integers(0, d + 1)), floors=-1e99)\n"
        "    own = p.solve().kept[0]\n"
        "    try:\n"
        "        p.solve(floors=own + abs(own) * rng.random(), raise_on_infeasible=False)\n"
        "    except cops_lp.SolverError:\n"
        "        pass\n"
        "print('inside')\n"
    )
    done = python(code, env={**os.environ, "NUMBA_DISABLE_JIT": "1"})
    assert done.stdout == "inside\n", done.stderr
