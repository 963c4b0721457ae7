"""What must hold for any scores: Hypothesis looks for some for which it does not."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

import cops_lp
from cops_lp import Status

from .checks import assert_certified
from .exact_checks import counted_as_best, lowest_first
from .rational import ExactProblem, exact, top_sum

EXAMPLES = int(os.environ.get("COPS_LP_EXAMPLES", "0"))  # more, and others each time
FEW = settings(max_examples=EXAMPLES or 150, deadline=None, derandomize=not EXAMPLES, database=None)
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
    try:
        return cops_lp.solve(
            scores[0],
            list(scores[1:]),
            keep=k,
            floors=floors if len(floors) else None,
            raise_on_infeasible=False,
            **how,
        )
    except cops_lp.SolverError:
        # Over decades, where only rounding could meet the floors: nothing doubtful is returned.
        flat = scores.reshape(len(scores), -1)
        assert counted_as_best(ExactProblem.of(flat, k, floors))[0].value() is None
        reject()


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
    bare = (scores[0], list(scores[1:]))
    assert cops_lp.certify(bare, found)
    lowest_first(scores, found.relaxed())
    lowest_first(scores, found.mask)
    if found.status is Status.OPTIMAL:
        assert found.mask.sum() == k
        other = found.mask.copy()
        other[np.argmin(found.mask)] ^= True  # one more, or one less
        assert not cops_lp.certify(bare, replace(found, mask=other))


@FEW
@given(problems(), st.randoms(use_true_random=False))
def test_an_order_of_weights_changes_no_value(problem, random):
    scores, k, floors = problem
    order = list(range(scores.shape[1]))
    random.shuffle(order)
    one, other = solve(scores, k, floors), solve(scores[:, order], k, floors)
    same_value(scores, one, other)
    assert_certified(other)
    if one.status is Status.OPTIMAL and is_unique(scores, one):
        assert other.relaxed() == pytest.approx(one.relaxed()[order], abs=1e-9)
        assert np.array_equal(other.mask, one.mask[order])


def is_unique(scores, solution):
    """Whether no other point is optimal: no weight but the fractional ones is at the threshold,
    and the floors that cost something determine these. By a margin, and for distinct scores.
    """
    if any(len(np.unique(row)) < len(row) for row in scores):
        return False
    lam = solution.multipliers
    reduced = scores[0] + lam @ scores[1:] - solution.threshold
    terms = np.abs(scores[0]) + lam @ np.abs(scores[1:]) + abs(solution.threshold)
    inside = np.zeros(len(reduced), dtype=bool)
    inside[solution.fractional.indices] = True
    off = np.abs(reduced) > 1e-9 * terms
    return bool(off[~inside].all()) and inside.sum() == ((lam > 0.0).sum() + 1) * inside.any()


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
@given(problems())
def test_the_value_is_concave_in_the_budget(problem):
    """Of any sign: the mean of points for k − 1 and k + 1 is one for k. Not so for masks."""
    scores, k, floors = problem
    assume(0 < k < scores.shape[1])
    less, one, more = (solve(scores, k + step, floors) for step in (-1, 0, 1))
    if less.status is Status.OPTIMAL and more.status is Status.OPTIMAL:
        # A floor that only counts as met is another one for another budget.
        assume(ExactProblem.of(scores, k - 1, floors).value() is not None)
        assume(ExactProblem.of(scores, k + 1, floors).value() is not None)
        assert one.status is Status.OPTIMAL
        room = 2e-12 * max(scale_of(scores, found) for found in (less, one, more))
        assert one.objective >= (less.objective + more.objective) / 2 - room


@FEW
@given(problems(controls=(1, 3)), st.floats(0.0, 1.0))
def test_the_value_is_concave_in_the_floors(problem, share):
    scores, k, floors = problem
    lower = floors - share * np.abs(floors) - share
    most, least = solve(scores, k, floors), solve(scores, k, lower)
    one = solve(scores, k, (floors + lower) / 2)
    if most.status is Status.OPTIMAL:
        room = 2e-12 * max(scale_of(scores, found) for found in (most, least, one))
        assert one.objective >= (most.objective + least.objective) / 2 - room


@FEW
@given(problems(controls=(1, 3)), st.lists(st.floats(0.0, 1e6), min_size=3, max_size=3))
def test_no_multipliers_bound_the_value_from_below(problem, prices):
    """Weak duality: T_k(c + Aᵀλ) − λᵀb is at least the value, for every λ ≥ 0.

    In exact arithmetic, so all the room there is is for what x lacks to the floors, priced.
    """
    scores, k, floors = problem
    found = solve(scores, k, floors)
    exactly = ExactProblem.of(scores, k, floors)
    lam = exact(prices[: len(floors)])
    if found.status is not Status.OPTIMAL:
        # … and where there is no value it falls without end along the certificate.
        y = exact(found.certificate)
        assert exactly.excess(y) > 0
        further = [w + 1000 * v for w, v in zip(lam, y, strict=True)]
        assert exactly.bound(further) <= exactly.bound(lam) - 1000 * exactly.excess(y)
        return
    bound = exactly.bound(lam)
    own = exactly.bound(exact(found.multipliers))
    x = found.relaxed()
    sizes = np.maximum(np.abs(scores[1:]).astype(float) @ x, np.abs(floors))
    room = 1e-12 * (float(np.array(prices[: len(floors)]) @ sizes) + scale_of(scores, found))
    assert bound >= found.objective - room
    assert bound >= own - room  # no λ is better than the solution's
    assert bound >= found.mask_objective - room or found.shortfall.any()


@FEW
@given(problems(dtype=np.float32))
def test_single_precision_scores_are_the_numbers_they_are(problem):
    scores, k, floors = problem
    one, other = solve(scores, k, floors), solve(scores.astype(np.float64), k, floors)
    assert one.status is other.status
    assert np.array_equal(one.mask, other.mask)
    assert_same_answer(one, other)


@FEW
@given(problems(controls=(1, 3)))
def test_shares_and_floors_are_the_same_question(problem):
    scores, k, _ = problem
    scores = np.abs(scores) + 0.5
    assume(k > 0)
    problem = cops_lp.Problem(scores[0], list(scores[1:]), keep=k, retain=0.6)
    one = problem.solve(raise_on_infeasible=False)
    other = solve(scores, k, problem.floors)
    assert_same_answer(one, other)
    for floor, row in zip(exact(problem.floors), scores[1:], strict=True):
        best = top_sum(exact(row), k)
        assert abs(floor - exact([0.6])[0] * best) <= best / 2**52


@FEW
@given(problems(controls=(1, 3)), st.integers(1, 5))
def test_threads_change_nothing(problem, threads):
    scores, k, floors = problem
    assert_same_answer(
        solve(scores, k, floors, threads=1), solve(scores, k, floors, threads=threads)
    )


def assert_same_answer(one, other):
    """Bit by bit."""
    assert one.status is other.status
    assert np.array_equal(one.mask, other.mask)
    assert np.array_equal(one.relaxed(), other.relaxed(), equal_nan=True)
    figures = ("objective", "bound", "gap", "threshold", "mask_objective", "kept", "shortfall")
    for name in (*figures, "multipliers", "multipliers_rest", "floors"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name


@settings(FEW, max_examples=EXAMPLES or 50)
@given(problems(controls=(1, 3)))
def test_the_best_mask_is_between_any_mask_and_the_bound(problem):
    scores, k, floors = problem
    one = solve(scores, k, floors)
    assume(one.status is Status.OPTIMAL)
    best = solve(scores, k, floors, integral=True, time_limit=1.0)
    room = 2e-12 * scale_of(scores, one)
    assert best.integer_bound <= one.bound + room
    if not one.shortfall.any():
        assert not best.shortfall.any()
        assert one.mask_objective - room <= best.mask_objective <= best.integer_bound + room
    assert_certified(best)


@FEW
@given(problems(), st.randoms(use_true_random=False), st.lists(st.integers(-60, 60), min_size=4))
def test_a_balance_knows_no_order_and_no_scale(problem, random, powers):
    scores, k, _ = problem
    scores = np.abs(scores) + 2.0**-10
    assume(k > 0)
    order = list(range(len(scores)))
    random.shuffle(order)
    one = cops_lp.balance(list(scores), keep=k)
    other = cops_lp.balance(list(np.ldexp(scores, np.array(powers[: len(scores)])[:, None])[order]),
                            keep=k)  # fmt: skip
    assert other.share == pytest.approx(one.share, rel=1e-12)
    assert 1.0 / len(scores) - 1e-12 <= one.share <= 1.0 + 1e-12
    assert one.mask_share <= one.share_bound + 1e-12
    assert_certified(one)
    assert_certified(other)


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
