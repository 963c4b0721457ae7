"""What must hold for any scores: Hypothesis looks for some for which it does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import cops_lp
from cops_lp import Status

from .checks import assert_certified

FEW = settings(max_examples=150, deadline=None)
LEVELS = 8  # exponents that scores may be apart by


@st.composite
def problems(draw, controls=(0, 3), dtype=np.float64):
    """Scores with ties and of any sign, a budget, and floors as shares of what is attainable."""
    d = draw(st.integers(1, 40))
    K = draw(st.integers(*controls))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    kind = draw(st.sampled_from(["few values", "normal", "positive", "wide"]))
    if kind == "few values":
        scores = rng.integers(-2, 3, (1 + K, d)).astype(float)
    elif kind == "normal":
        scores = rng.standard_normal((1 + K, d))
    elif kind == "positive":
        scores = rng.exponential(size=(1 + K, d))
    else:
        scores = 10.0 ** rng.uniform(-LEVELS, LEVELS, (1 + K, d))
    if draw(st.booleans()):
        scores[:, rng.integers(0, d, d // 2)] = scores[:, [0]]
    scores = scores.astype(dtype)
    k = draw(st.integers(0, d))
    best = np.array([math.fsum(np.sort(row.astype(float))[d - k :]) for row in scores[1:]])
    own = np.argsort(-scores[0], kind="stable")[:k]
    held = np.array([math.fsum(row[own].astype(float)) for row in scores[1:]])
    share = draw(st.sampled_from([0.0, 0.3, 0.6, 0.9, 1.0]))
    floors = held + share * (best - held) / max(K, 1)
    return scores, k, floors


def solve(scores, k, floors, **how):
    return cops_lp.solve(
        scores[0],
        list(scores[1:]),
        keep=k,
        floors=floors if len(floors) else None,
        raise_on_infeasible=False,
        **how,
    )


def scale_of(scores, solution):
    """What rounding of the value is measured by, as the judge does."""
    x = solution.relaxed().ravel()
    sizes = np.abs(scores.astype(float)) @ x
    return float(sizes[0] + 1e-3 * solution.multipliers @ sizes[1:])


def same_value(scores, one, other):
    assert one.status is other.status
    if one.status is Status.OPTIMAL:
        room = 2e-12 * max(scale_of(scores, one), scale_of(scores, other))
        assert abs(one.objective - other.objective) <= room


@FEW
@given(problems())
def test_every_answer_is_certified(problem):
    scores, k, floors = problem
    found = solve(scores, k, floors)
    assert_certified(found)
    if found.status is Status.OPTIMAL:
        assert found.mask.sum() == k


@FEW
@given(problems(), st.randoms(use_true_random=False))
def test_an_order_of_weights_changes_no_value(problem, random):
    scores, k, floors = problem
    order = list(range(scores.shape[1]))
    random.shuffle(order)
    one, other = solve(scores, k, floors), solve(scores[:, order], k, floors)
    same_value(scores, one, other)
    assert_certified(other)


@FEW
@given(problems(), st.randoms(use_true_random=False))
def test_an_order_of_controls_changes_no_value(problem, random):
    scores, k, floors = problem
    order = list(range(len(floors)))
    random.shuffle(order)
    other = np.vstack((scores[:1], scores[1:][order])) if order else scores
    same_value(scores, solve(scores, k, floors), solve(other, k, floors[order]))


@FEW
@given(problems(), st.lists(st.integers(-60, 60), min_size=4, max_size=4))
def test_scaling_by_powers_of_two_changes_no_bit_of_the_mask(problem, powers):
    scores, k, floors = problem
    e = np.array(powers[: len(scores)])
    one = solve(scores, k, floors)
    other = solve(np.ldexp(scores, e[:, None]), k, np.ldexp(floors, e[1:]))
    assert one.status is other.status
    if one.status is Status.OPTIMAL:
        assert np.array_equal(one.mask, other.mask)
        assert np.ldexp(one.objective, e[0]) == other.objective
        assert np.array_equal(np.ldexp(one.multipliers, e[0] - e[1:]), other.multipliers)


@FEW
@given(problems(), st.data())
def test_the_shape_is_the_masks_and_nothing_else(problem, data):
    scores, k, floors = problem
    d = scores.shape[1]
    rows = data.draw(st.sampled_from([n for n in range(1, d + 1) if d % n == 0]))
    one = solve(scores, k, floors)
    other = solve(scores.reshape(len(scores), rows, d // rows), k, floors)
    assert other.mask.shape == (rows, d // rows)
    assert one.status is other.status
    assert np.array_equal(one.mask, other.mask.ravel())
    assert one.objective == other.objective or math.isnan(one.objective)


@FEW
@given(problems(controls=(1, 3)), st.floats(0.0, 1.0))
def test_lower_floors_cost_nothing(problem, share):
    """The set of masks grows as floors fall, so the value does."""
    scores, k, floors = problem
    lower = floors - share * np.abs(floors) - share
    one, other = solve(scores, k, floors), solve(scores, k, lower)
    if one.status is Status.OPTIMAL:
        assert other.status is Status.OPTIMAL
        room = 2e-12 * max(scale_of(scores, one), scale_of(scores, other))
        assert other.objective >= one.objective - room


@FEW
@given(problems())
def test_a_larger_budget_of_scores_that_are_not_negative_keeps_more(problem):
    """Adding a weight then loses nothing of any score; with negative entries it may."""
    scores, k, floors = problem
    scores = np.abs(scores)
    best = np.array([math.fsum(np.sort(row)[scores.shape[1] - k :]) for row in scores[1:]])
    floors = np.minimum(np.abs(floors), 0.6 * best)
    assume(k < scores.shape[1])
    one, other = solve(scores, k, floors), solve(scores, k + 1, floors)
    if one.status is Status.OPTIMAL:
        assert other.status is Status.OPTIMAL
        room = 2e-12 * max(scale_of(scores, one), scale_of(scores, other))
        assert other.objective >= one.objective - room


@FEW
@given(problems(controls=(1, 3)), st.lists(st.floats(0.0, 100.0), min_size=3, max_size=3))
def test_no_multipliers_bound_the_value_from_below(problem, lam):
    """Weak duality: T_k(c + Aᵀλ) − λᵀb is at least the value, for every λ ≥ 0."""
    scores, k, floors = problem
    found = solve(scores, k, floors)
    assume(found.status is Status.OPTIMAL)
    lam = np.array(lam[: len(floors)])
    combined = scores[0] + lam @ scores[1:]
    bound = math.fsum([*np.sort(combined)[scores.shape[1] - k :], *(-lam * floors)])
    sizes = np.abs(scores[0]).sum() + lam @ (np.abs(scores[1:]).sum(axis=1) + np.abs(floors))
    assert bound >= found.objective - 2e-12 * float(sizes) - 2e-12 * scale_of(scores, found)
    assert bound >= found.mask_objective - 2e-12 * float(sizes) or found.shortfall.any()


@FEW
@given(problems(dtype=np.float32))
def test_single_precision_scores_are_the_numbers_they_are(problem):
    scores, k, floors = problem
    one, other = solve(scores, k, floors), solve(scores.astype(np.float64), k, floors)
    assert one.status is other.status
    assert np.array_equal(one.mask, other.mask)
    if one.status is Status.OPTIMAL:
        assert one.objective == other.objective
        assert one.threshold == other.threshold
        assert np.array_equal(one.multipliers, other.multipliers)


@FEW
@given(problems(controls=(1, 3)))
def test_shares_and_floors_are_the_same_question(problem):
    scores, k, _ = problem
    scores = np.abs(scores) + 0.5
    assume(k > 0)
    problem = cops_lp.Problem(scores[0], list(scores[1:]), keep=k, retain=0.6)
    one = problem.solve(raise_on_infeasible=False)
    other = solve(scores, k, problem.floors)
    assert one.status is other.status
    assert np.array_equal(one.mask, other.mask)


@pytest.mark.parametrize("K", [0, 1, 2, 4])
def test_sampled_answers_are_those_of_any_dtype_order_and_threads(K):
    """The same beyond what is solved directly: 200,000 weights, sampled and screened."""
    rng = np.random.default_rng(K)
    scores = rng.exponential(size=(1 + K, 200_000)).astype(np.float32)
    how = {"keep": 0.1} | ({"retain": 0.6} if K else {})
    one = cops_lp.solve(scores[0], list(scores[1:]), threads=1, **how)
    wide = scores.astype(np.float64)
    other = cops_lp.solve(wide[0], list(wide[1:]), threads=2, **how)
    assert np.array_equal(one.mask, other.mask)
    assert one.objective == other.objective
    assert np.array_equal(one.multipliers, other.multipliers)
    order = rng.permutation(200_000)
    again = cops_lp.solve(scores[0, order], [row[order] for row in scores[1:]], **how)
    assert again.objective == pytest.approx(one.objective, rel=1e-14)
    assert again.threshold == pytest.approx(one.threshold, rel=1e-12)
    assert np.array_equal(again.mask, one.mask[order])
    assert_certified(again)
