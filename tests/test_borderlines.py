"""Cases at the edge of rounding that the comparison with rational arithmetic found."""

from __future__ import annotations

import numpy as np
import pytest

import cops_lp
from cops_lp import Status

from .checks import assert_certified
from .exact_checks import check_integral, check_relaxation, lowest_first
from .small_instances import SmallInstance


def solved(scores, keep, floors, **how):
    solution = cops_lp.solve(
        scores[0], list(scores[1:]), keep=keep, floors=floors, raise_on_infeasible=False, **how
    )
    assert_certified(solution)
    return solution


def compared(scores, keep, floors):
    """Relaxed and best mask, both checked in exact arithmetic."""
    scores = np.array(scores, dtype=float)
    instance = SmallInstance(0, "by hand", "wide", "by hand", scores, keep, floors, None)
    one, best = solved(scores, keep, floors), solved(scores, keep, floors, integral=True)
    check_relaxation(instance, one)
    word = check_integral(instance, one, best)
    return one, best, word


@pytest.mark.parametrize("over", [1e-14, 0.3e-12, 0.9e-12])
@pytest.mark.parametrize("K", [1, 2])
def test_a_floor_that_counts_as_the_best_counts_so_for_masks(K, over):
    controls = [[3.0, 2.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]][:K]
    floors = [5.0 * (1.0 + over), 2.0][:K]
    one, best, word = compared([[0.0, 1.0, 5.0, 7.0], *controls], 2, floors)
    for solution in (one, best):
        assert solution.mask.tolist() == [True, True, False, False]
        assert solution.shortfall.tolist() == [0.0] * K
        assert solution.integer_gap == 0.0
    assert word == "proven"


@pytest.mark.parametrize(
    ("controls", "keep", "floors"),
    [
        ([[2.0, 3.0]], 0, [5e-324]),
        ([[0.0, -1e30]], 1, [1e-310]),
        ([[0.0, 4.0], [1.0, 1.0]], 0, [5e-324, -1.0]),
        ([[-0.0, -1.0], [1.0, 0.0]], 1, [5e-324, 1.0]),
    ],
)
def test_no_floor_is_too_small_to_be_above_nothing(controls, keep, floors):
    solution = solved(np.array([[0.0, 1.0], *controls]), keep, floors)
    assert solution.status is Status.INFEASIBLE


def test_of_equal_weights_the_lowest_stay_after_swaps():
    scores = np.array(
        [
            [0.977, 0.8819, 0.576, 0.977, 0.576, 0.2766, 0.0924, 0.2766],
            [-0.0784, -0.8112, 0.3555, -0.0784, 0.3555, 0.4724, 0.2821, 0.4724],
            [0.303, 1.177, 0.537, 0.303, 0.537, -0.4418, -0.1714, -0.4418],
            [0.1986, 0.3742, 0.3251, 0.1986, 0.3251, 0.7409, 0.4146, 0.7409],
        ]
    )
    one, _, word = compared(scores, 3, [0.7914, -0.0052, 1.7029])
    assert word == "only fractional"
    lowest_first(scores, one.mask)
    assert one.mask[2]
    assert not one.mask[4]


def test_large_entries_that_cancel_prove_no_mask_that_misses_a_floor():
    # Without weight 2, whose 1e30 swallows what the floor asks, it is not met.
    scores = [[0.9, 0.83, 0.71], [0.11, 0.32, 1e30], [0.9, 0.83, 0.71]]
    _, best, word = compared(scores, 2, [0.78, 1.5])
    assert best.mask.tolist() == [True, False, True]
    assert word in ("proven", "open")


def test_large_entries_that_cancel_hide_no_mask_that_meets_a_floor():
    scores = [[2.7e-8, -7.9e-4, 39.0], [4.4e-4, 4.5e10, 1.3e-11]]
    _, best, word = compared(scores, 1, [4.4e-4])
    assert best.mask.tolist() == [True, False, False]
    assert word == "proven"


def test_no_integer_bound_is_above_the_relaxations():
    scores = [
        [-3.1e11, 6.9e11, 1.0e12, 9.6e11, -8.3e11],
        [1.94, 0.50, 0.39, 2.04, 1.01],
        [-(2.0**48), -(2.0**-14), 2.0**-47, 2.0**-72, 2.0**-22],
    ]
    one, best, _ = compared(scores, 1, [1.911, 2.98e-8])
    assert best.integer_bound <= one.bound


def test_a_mask_that_gains_from_what_counts_as_rounding_is_its_own_bound():
    powers = np.array(
        [
            [-55, -82, 5, -52, -12, 27, -26],
            [83, 11, -62, 0, -57, 45, 34],
            [-47, -10, -88, 36, 43, 84, -2],
        ]
    )
    signs = [[-1, 1, 1, -1, 1, 1, -1], [1, -1, -1, -1, -1, 1, -1], [1, 1, -1, 1, -1, 1, 1]]
    scores = np.ldexp(np.array(signs, dtype=float), powers)
    scores[0, 3] = -(2.0**52)
    controls = [scores[1], 3.0 * scores[1], scores[2]]
    problem = cops_lp.Problem(scores[0], controls, keep=5, retain=[0.9, 0.9, 1.0])
    best = problem.solve(integral=True)
    assert_certified(best)
    assert best.integer_gap == 0.0
