"""``balance``: by hand, against HiGHS, and by its own proof."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import OptimizeWarning, linprog

import cops_lp
from cops_lp import Balance, ProblemError, balance
from tests.checks import GAP, OBJECTIVE, assert_certified
from tests.instances import RELATIONS, SCORES, budget, related


def bests(scores, keep):
    return np.array([math.fsum(np.sort(s.ravel())[::-1][:keep]) for s in map(np.asarray, scores)])


def rounding_scale(scores, keep):
    """1 where no score is negative: what a share's rounding is measured by."""
    top = [np.sort(np.asarray(s, dtype=float).ravel())[::-1][:keep] for s in scores]
    return max(math.fsum(np.abs(t)) / math.fsum(t) for t in top)


def assert_balanced(scores, keep, solution: Balance):
    """The judge confirms the solution, and its shares and bound are what it says."""
    arrays = [np.asarray(s, dtype=float).ravel() for s in scores]
    best, scale = bests(arrays, keep), rounding_scale(arrays, keep)
    assert_certified(solution)
    assert solution.mask.sum() == keep
    assert abs(solution.share_bound - solution.share) <= GAP * scale
    x = solution.relaxed().ravel()
    for score, most in zip(arrays, best, strict=True):
        held = math.fsum(score * x)
        size = math.fsum(np.abs(score) * x)
        assert held >= solution.share * most - GAP * (size + scale * most)
    most = best[solution.target_index]
    assert solution.objective >= solution.share * most - GAP * scale * most
    w = solution.weights
    assert (w >= 0.0).all()
    assert w.sum() == pytest.approx(1.0, abs=1e-14)
    combined = sum(wj * s / b for wj, s, b in zip(w, arrays, best, strict=True))
    assert math.fsum(np.sort(combined)[::-1][:keep]) == pytest.approx(
        solution.share_bound, abs=1e-13 * scale
    )
    masked = [math.fsum(s[solution.mask.ravel()]) / b for s, b in zip(arrays, best, strict=True)]
    assert solution.mask_share == pytest.approx(min(masked), abs=1e-12 * scale)


def test_two_opposite_scores_share_the_budget():
    solution = balance([[1.0, 0.0], [0.0, 1.0]], keep=1)
    assert_balanced([[1.0, 0.0], [0.0, 1.0]], 1, solution)
    assert solution.share == 0.5
    assert solution.relaxed().tolist() == [0.5, 0.5]
    assert solution.weights.tolist() == [0.5, 0.5]


def test_three_scores_on_a_weight_each():
    solution = balance(dict(zip("abc", np.diag([1.0, 10.0, 100.0]), strict=True)), keep=1)
    assert solution.share == pytest.approx(1 / 3, rel=1e-15)
    assert solution.relaxed() == pytest.approx(np.full(3, 1 / 3), rel=1e-15)
    assert solution.score_names == ("a", "b", "c")
    assert len(solution.problem.names) == 2


def test_by_hand():
    size, use = [4.0, 2.0, 0.0], [0.0, 1.0, 3.0]
    solution = balance([size, use], keep=2)
    # (1, 0, 1) keeps 4/6 and 3/4; (1, 1, 0) keeps 1 and 1/4. They mix to equal shares:
    # 4/6 + z/3 = 3/4 − z/2 at z = 1/10.
    assert solution.share == pytest.approx(0.7, rel=1e-15)
    assert solution.relaxed() == pytest.approx([1.0, 0.1, 0.9], rel=1e-14)
    assert solution.weights == pytest.approx([0.6, 0.4], rel=1e-14)
    assert_balanced([size, use], 2, solution)


def test_opposing_scores_of_mixed_sign_have_a_negative_share():
    scores = [[1.0, -2.0], [-2.0, 1.0]]
    solution = balance(scores, keep=1)
    assert solution.share == -0.5
    assert_balanced(scores, 1, solution)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_score_that_is_no_bottleneck_has_no_weight(first):
    # The third is kept best by what balances the other two.
    scores = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
    order = np.roll(range(3), first)
    solution = balance([scores[j] for j in order], keep=1)
    assert solution.share == pytest.approx(0.5, rel=1e-15)
    assert solution.weights[order == 2] == pytest.approx(0.0, abs=1e-15)
    assert_balanced([scores[j] for j in order], 1, solution)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_identical_scores_keep_all_of_their_best(count):
    score = np.random.default_rng(1).lognormal(size=50)
    scores = [score * 3.0**j for j in range(count)]
    solution = balance(scores, keep=0.3)
    assert solution.share == pytest.approx(1.0, abs=1e-15)
    assert (solution.mask == (score >= np.sort(score)[-15])).all()
    assert_balanced(scores, 15, solution)


def test_one_score_is_plain_top_k():
    solution = balance({"magnitude": [1.0, 3.0, 2.0]}, keep=2)
    assert solution.mask.tolist() == [False, True, True]
    assert (solution.share, solution.share_bound, solution.weights.tolist()) == (1.0, 1.0, [1.0])
    assert solution.solves == 1
    assert_balanced([[1.0, 3.0, 2.0]], 2, solution)


def test_all_weights_kept():
    scores = [[1.0, 2.0], [3.0, 1.0]]
    solution = balance(scores, keep=1.0)
    assert solution.mask.all()
    assert solution.share == 1.0


def instance(seed):
    """Two to six scores with positive bests, from every family and relation."""
    rng = np.random.default_rng(seed)
    while True:
        d, count = int(rng.integers(2, 301)), int(rng.integers(2, 7))
        if rng.random() < 0.3:
            d = int(rng.integers(2, 13))
        names = [*(name for name in SCORES if "decades" not in name), "lognormal"]
        rows = []
        for name in rng.choice(names, count):
            own = rng.lognormal(size=d) if name == "lognormal" else SCORES[name](rng, d)
            relation = str(rng.choice(RELATIONS)) if rows and rng.random() < 0.4 else "independent"
            rows.append(related(rng, relation, rows[rng.integers(len(rows))] if rows else own, own))
        keep = max(1, budget(rng, d))
        if (bests(rows, keep) > 0.0).all() and rounding_scale(rows, keep) < 1e3:
            return rows, keep


HIGHS = {
    "primal_feasibility_tolerance": 1e-10,
    "dual_feasibility_tolerance": 1e-10,
    "small_matrix_value": 1e-12,  # coefficients below are dropped: 1e-9 by default
}


def by_highs(scores, keep):
    """Solve the linear program with the extra variable t."""
    shares = np.array(scores) / bests(scores, keep)[:, None]
    count, d = shares.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)  # an option that SciPy hands through
        found = linprog(
            np.append(np.zeros(d), -1.0),
            A_ub=np.hstack((-shares, np.ones((count, 1)))),
            b_ub=np.zeros(count),
            A_eq=np.append(np.ones(d), 0.0)[None, :],
            b_eq=[keep],
            bounds=[(0.0, 1.0)] * d + [(None, None)],
            method="highs",
            options=HIGHS,
        )
    assert found.status == 0
    return -found.fun


@pytest.mark.parametrize("batch", range(20))
def test_against_highs(batch):
    for seed in range(100 * batch, 100 * batch + 100):
        scores, keep = instance(seed)
        solution = balance(scores, keep=keep)
        assert_balanced(scores, keep, solution)
        scale = rounding_scale(scores, keep)
        assert abs(solution.share - by_highs(scores, keep)) <= OBJECTIVE * scale, seed
        assert solution.solves <= 30, seed


@pytest.mark.parametrize("seed", range(1000, 1020))
def test_order_and_scale_do_not_matter(seed):
    scores, keep = instance(seed)
    solution = balance(scores, keep=keep)
    scale = rounding_scale(scores, keep)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(scores))
    shuffled = balance([scores[j] for j in order], keep=keep)
    assert shuffled.share == pytest.approx(solution.share, abs=GAP * scale)
    powers = rng.integers(-60, 60, len(scores))
    scaled = balance([np.ldexp(s, p) for s, p in zip(scores, powers, strict=True)], keep=keep)
    assert scaled.share == pytest.approx(solution.share, abs=GAP * scale)
    assert_balanced([scores[j] for j in order], keep, shuffled)


@pytest.mark.parametrize("seed", range(30))
def test_thirty_decades(seed):
    rng = np.random.default_rng(seed)
    d, count = int(rng.integers(5, 300)), int(rng.integers(2, 6))
    scores = [10.0 ** rng.uniform(-30, 0, d) for _ in range(count)]
    keep = int(rng.integers(1, d))
    assert_balanced(scores, keep, balance(scores, keep=keep))


def test_small_integers_in_rational_arithmetic():
    # The minimum over w of T_k(Σ w_j s_j / best_j) for two scores is at a breakpoint of w.
    rng = np.random.default_rng(3)
    for _ in range(30):
        d = int(rng.integers(2, 9))
        keep = int(rng.integers(1, d + 1))
        scores = rng.integers(0, 5, (2, d)) + np.eye(2, d, dtype=int)
        a, b = (
            [Fraction(int(v), int(most)) for v in row]
            for row, most in zip(scores, bests(scores, keep), strict=True)
        )
        points = {Fraction(0), Fraction(1)}
        for i in range(d):
            for j in range(i):
                slope = (a[i] - b[i]) - (a[j] - b[j])
                if slope != 0:
                    points.add((b[j] - b[i]) / slope)
        optimum = min(
            sum(sorted((w * p + (1 - w) * q for p, q in zip(a, b, strict=True)))[d - keep :])
            for w in points
            if 0 <= w <= 1
        )
        assert balance(list(scores), keep=keep).share == pytest.approx(float(optimum), rel=1e-14)


def test_a_million_weights_give_the_same_bits_for_any_threads():
    rng = np.random.default_rng(5)
    scores = {
        name: rng.lognormal(sigma=sigma, size=(1000, 1000)).astype(np.float32)
        for name, sigma in (("a", 0.5), ("b", 1.0), ("c", 2.0))
    }
    solution = balance(scores, keep=0.1, threads=2)
    again = balance(scores, keep=0.1, threads=1)
    assert solution.mask.shape == (1000, 1000)
    assert solution.mask.sum() == 100_000
    assert abs(solution.share_bound - solution.share) <= GAP
    assert solution.share - solution.mask_share < 1e-4
    assert_certified(solution)
    assert (solution.share, solution.share_bound) == (again.share, again.share_bound)
    assert (solution.mask == again.mask).all()


def test_sample_scores():
    scores = cops_lp.sample_scores()
    solution = balance(scores, keep=0.1)
    assert_balanced(list(scores.values()), solution.keep, solution)


def test_printing():
    solution = balance({"size": [4.0, 2.0, 0.0], "use": [0.0, 1.0, 3.0]}, keep=2)
    printed = str(solution)
    for text in ("size", "use", "of best", "66.67%", "75.00%", "weight", "70.0000%", "solves"):
        assert text in printed
    assert "<Balance OPTIMAL: keep=2, share=0.7" in repr(solution)
    assert "<td>use</td>" in solution._repr_html_()


@pytest.mark.parametrize(
    ("scores", "keep", "message"),
    [
        ([], 1, "one or more"),
        ({}, 1, "one or more"),
        (None, 1, "one or more"),
        ("ab", 1, "one or more"),
        ([1.0, 2.0], 1, "one or more"),
        (np.ones(3), 1, "one or more"),
        ({1: [1.0]}, 1, "name is 1"),
        ({"a": [1.0, 2.0], "target": [1.0, 2.0]}, 1, "is taken"),
        ({"a": [1.0, 2.0], "b": [1.0]}, 1, r"score 'b' has shape \(1,\)"),
        ([[1.0, 2.0], ["x", "y"]], 1, "score 'score 2' has dtype"),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0]}, 0, "score 'a' has no share to balance: its 0 largest"),
        ({"a": [1.0, 2.0], "b": [-1.0, 0.0]}, 1, "score 'b' .* sum to 0; wanted a positive"),
        ({"a": [1.0, np.nan], "b": [1.0, 2.0]}, 1, "score 'a' holds 1 NaN, the first at index 1"),
        ({"a": [1.0, 2.0], "b": [np.inf, 2.0]}, 1, "score 'b' holds 1 infinity"),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0]}, 3, "keep is 3"),
    ],
)
def test_errors_name_what_is_wrong(scores, keep, message):
    with pytest.raises(ProblemError, match=message):
        balance(scores, keep=keep)


def test_threads_are_checked():
    with pytest.raises(ProblemError, match="threads"):
        balance([[1.0, 2.0]], keep=1, threads=0)
