"""Equal weights are one column with an upper bound: counted, solved so, handed out exactly."""

from __future__ import annotations

import operator
from fractions import Fraction

import numpy as np
import pytest

import cops_lp
from cops_lp import Status
from cops_lp.engine import columns, driver, exact
from cops_lp.engine.region import Ellipsoid
from cops_lp.engine.several import solve_several
from cops_lp.engine.stores import ArrayStore

from .checks import assert_certified, target_scale
from .exact_simplex import maximize
from .guessing import guess_early


def relaxed(vertex):
    x = vertex.kept.astype(float)
    x[vertex.fractional] = vertex.values
    return x


def assert_lowest_first(scores, x):
    order = np.lexsort(scores)
    rows, x = scores[:, order], x.reshape(-1)[order]
    same = (rows[:, 1:] == rows[:, :-1]).all(axis=0)
    assert same.sum() > len(x) // 2
    assert not np.any(same & (np.diff(x) > 0.0))


def levels(rng, K, n, count, spread):
    """Scores of a few levels each; `spread` is the share of weights whose scores are continuous."""
    scores = rng.integers(0, count, (1 + K, n)).astype(np.float64)
    part = rng.random(n) < spread
    scores[:, part] = rng.standard_normal((1 + K, int(part.sum())))
    return scores


@pytest.mark.parametrize("K", range(4))
def test_columns_find_what_every_weight_for_itself_does(K, monkeypatch):
    monkeypatch.setattr(exact, "_MANY", 64)
    outcomes = set()
    used = 0
    for seed in range(180):
        rng = np.random.default_rng([seed, K])
        n = int(rng.integers(64, 600))
        scores = levels(rng, K, n, int(rng.integers(1, 5)), rng.choice([0.0, 0.2])) / 4
        used += columns.find_columns(scores).shape[1] > 0
        k = int(rng.integers(1, n))
        best = -np.sort(-scores[1:], axis=1)[:, :k].sum(axis=1)
        own = scores[1:, np.argsort(-scores[0])[:k]].sum(axis=1)
        floors = own + rng.choice([0.3, 0.9, 1.0]) * (best - own)
        parts = np.stack((floors, np.zeros(K)), axis=1)
        few = exact.solve_exact(scores, k, parts, np.zeros(K))
        each = exact._solve_each(scores, k, parts, np.zeros(K), True)
        assert few.feasible == each.feasible
        outcomes.add(few.feasible)
        if not few.feasible:
            assert few.certificate @ floors > np.sort(few.certificate @ scores[1:])[-k:].sum()
            continue
        x, y = relaxed(few), relaxed(each)
        assert x.sum() == pytest.approx(k, abs=1e-9)
        assert np.all(scores[1:] @ x >= floors - 1e-9)
        assert scores[0] @ x == pytest.approx(scores[0] @ y, abs=1e-9)
        assert few.complementarity <= 1e-12 * k
        assert len(few.fractional) <= K + 1
        assert np.all(np.diff(few.fractional) > 0)
    assert used > 60
    assert outcomes == ({True, False} if K > 1 else {True})


@pytest.mark.parametrize("K", range(1, 5))
def test_upper_bounds_against_rational_simplex(K):
    """A column with u = n is n equal weights, exactly; n up to some, checked in fractions."""
    solved = infeasible = 0
    for seed in range(250):
        rng = np.random.default_rng([seed, K, 7])
        n = int(rng.integers(2, 9))
        scores = rng.choice([rng.integers(-3, 4, (1 + K, n)) / 4, rng.standard_normal((1 + K, n))])
        upper = rng.integers(1, rng.choice([2, 5, 1000]) + 1, n).astype(float)
        total = int(upper.sum())
        k = int(rng.integers(1, total)) if total > 1 else 0
        x = rng.random(n) * upper
        x *= k / x.sum()
        floors = scores[1:] @ np.minimum(x, upper) * rng.choice([0.9, 1.0], K)
        floors += rng.choice([0.0, 0.0, 0.3], K) * np.abs(floors)
        parts = np.stack((floors, np.zeros(K)), axis=1)
        vertex = exact.solve_exact(scores, k, parts, upper=upper)
        value = rational_value(scores, upper, k, floors)
        if vertex.feasible:
            solved += 1
            assert value is not None
            amounts = vertex.amounts().copy()
            assert np.all(amounts == np.floor(amounts))
            amounts[vertex.fractional] += vertex.values
            assert np.all((amounts >= 0.0) & (amounts <= upper))
            assert amounts.sum() == pytest.approx(k, abs=1e-9)
            assert np.all(scores[1:] @ amounts >= floors - 1e-12 * np.abs(scores[1:]) @ upper)
            scale = 1e-12 * max(1.0, float(np.abs(scores[0]) @ upper))
            assert abs(float(scores[0] @ amounts) - float(value)) <= scale
            assert vertex.complementarity <= scale
        else:
            infeasible += 1
            assert value is None
    assert solved > 100
    assert infeasible > 10


def rational_value(scores, upper, k, floors):
    """The optimum in exact arithmetic, None where there is none."""
    rows = [
        [Fraction(v) * Fraction(u) for v, u in zip(row, upper.tolist(), strict=True)]
        for row in scores.tolist()
    ]
    count = ([int(u) for u in upper], k)
    floored = [(row, Fraction(b)) for row, b in zip(rows[1:], floors.tolist(), strict=True)]
    feasible, shares, _ = maximize(rows[0], count, floored)
    return sum(map(operator.mul, rows[0], shares), Fraction(0)) if feasible else None


@pytest.mark.parametrize("K", range(4))
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("spread", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_masses_are_counted_and_the_answer_is_exact(K, count, spread, dtype, monkeypatch):
    handed = []
    real = ArrayStore.hand_out

    def watched(self, mask, screened, amounts, around):
        handed.append(int(screened.masses.counts.max()))
        return real(self, mask, screened, amounts, around)

    monkeypatch.setattr(ArrayStore, "hand_out", watched)
    d = 150_000
    rng = np.random.default_rng([K, count, int(10 * spread)])
    scores = levels(rng, K, d, count, spread).astype(dtype)
    for keep in (0.1, 0.6):
        k = round(keep * d)
        best = -np.sort(-scores[1:].astype(float), axis=1)[:, :k].sum(axis=1)
        own = scores[1:, np.argsort(-scores[0], kind="stable")[:k]].sum(axis=1, dtype=float)
        floors = list(own + 0.5 * (best - own))
        how = {"keep": k, "raise_on_infeasible": False, **({"floors": floors} if K else {})}
        found = [cops_lp.solve(scores[0], list(scores[1:]), threads=t, **how) for t in (1, 2)]
        assert np.array_equal(found[0].mask, found[1].mask)
        solution = found[0]
        assert_certified(solution)
        with monkeypatch.context() as patch:
            patch.setattr(driver, "_DIRECT", (1 << 60,) * 3)
            patch.setattr(exact, "_MANY", 1 << 60)
            each = cops_lp.solve(scores[0], list(scores[1:]), **how)
        assert solution.status is each.status
        if solution.status is Status.OPTIMAL:
            assert solution.mask.sum() == k
            assert abs(solution.objective - each.objective) <= 1e-12 * target_scale(each)
            if spread == 0.0:
                assert_lowest_first(scores, solution.relaxed())
    if count == 1:
        assert max(handed) > d // 2


def test_handing_out_keeps_the_first_and_names_those_around():
    d = 300_000
    rng = np.random.default_rng(0)
    a = rng.integers(0, 4, d).astype(np.float32)
    store = ArrayStore((a,), threads=2)
    # Everything from 0.5 to 2.5 is open; of these, 1 is a mass and 2 is gathered.
    region = Ellipsoid(np.array([1.0, 1.5]), np.array([[1.0]]))
    for amount in (0, 1, 70_000, int((a == 1).sum())):
        mask = np.empty(d, dtype=bool)
        screened = store.screen(region, mask, np.array([[1.0, 7.0]]))
        assert screened.masses.counts.tolist() == [(a == 1).sum(), 0]
        assert np.array_equal(screened.index, np.flatnonzero(a == 2))
        assert screened.open_count == ((a == 1) | (a == 2)).sum()
        assert screened.kept == (a == 3).sum()
        places = store.hand_out(mask, screened, np.array([amount, 0]), 5)
        own = np.flatnonzero(a == 1)
        wanted = a == 3
        wanted[own[:amount]] = True
        assert np.array_equal(mask, wanted)
        assert set(np.unique(mask.view(np.uint8))) <= {0, 1}
        assert np.array_equal(places[0], own[max(amount - 5, 0) : amount + 5])
        assert len(places[1]) == 0


def test_swaps_that_need_the_copies_of_a_mass():
    """Floors met only by a whole weight more: the copies are among the candidates."""
    d = 200_000
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 2, (4, d)).astype(np.float32)
    k = 60_001
    best = [float(np.sort(row)[-k:].sum()) for row in scores[1:]]
    own = scores[1:, np.argsort(-scores[0], kind="stable")[:k]].sum(axis=1)
    for share in (0.1, 0.2, 0.3):
        floors = [float(o + share * (b - o)) + 0.5 for o, b in zip(own, best, strict=True)]
        solution = cops_lp.solve(scores[0], list(scores[1:]), keep=k, floors=floors)
        assert_certified(solution)
        assert solution.mask.sum() == k
        assert not solution.shortfall.any()


@pytest.mark.parametrize("more", [1.001, 1.1])
@pytest.mark.parametrize("keep", [0.95, 599_500])
@pytest.mark.parametrize("K", [1, 2])
def test_floors_that_cannot_be_met_among_masses(K, keep, more):
    """Windows once moved by a mask that an infeasible problem had not written."""
    rng = np.random.default_rng(0)
    d = 600_000
    target = np.where(rng.random(d) < 0.7, 0.0, rng.random(d))
    control = np.where(rng.random(d) < 0.3, rng.random(d), 0.0)
    controls = [control, target][:K]
    how = {"keep": keep, "floors": [more * control.sum(), 0.0][:K]}
    solution = cops_lp.solve(target, controls, **how, raise_on_infeasible=False)
    assert solution.status is Status.INFEASIBLE
    assert_certified(solution)


@pytest.mark.parametrize("K", [1, 2])
def test_a_part_that_cannot_meet_its_floors_says_what_comes_near(K):
    """By that mask windows move; once it was not written."""
    rng = np.random.default_rng(K)
    d, k = 300_000, 30_000
    scores = rng.random((1 + K, d))
    best = [float(np.sort(row)[-k:].sum()) for row in scores[1:]]
    floors = np.array([[1.1 * each, 0.0] for each in best])
    mask = rng.random(d) < 0.5
    found = driver.solve_relaxation(
        ArrayStore(tuple(scores)), k, floors, mask, magnitudes=np.ones(K)
    )
    assert not found.feasible
    assert found.open_count < d // 4
    assert mask.sum() == k
    held = scores[1:, mask].sum(axis=1)
    assert found.certificate @ held > 0.9 * found.certificate @ best


@pytest.mark.parametrize("seed", [18, 33, 45])
def test_balances_among_masses(seed):
    rng = np.random.default_rng(seed)
    d = 262_145
    scores = [
        np.where(rng.random(d) < 0.3, rng.integers(1, 20, d), 0).astype(np.float32),
        np.where(rng.random(d) < 1e-4, rng.random(d) - 0.5, 0).astype(np.float32),
        np.where(rng.random(d) < 0.3, rng.random(d), 0).astype(np.float32),
    ]
    found = cops_lp.balance(scores, keep=float(rng.choice([0.5, 0.8])))
    assert found.share > 0.99
    assert_certified(found)


@pytest.mark.parametrize("way", ["sample", "whole"])
@pytest.mark.parametrize("K", [1, 2, 3])
def test_sparse_scores_and_floors_around_what_is_attainable(K, way, monkeypatch):
    guess_early(monkeypatch, way)
    monkeypatch.setattr(driver, "_CROWDED", 1_000_000)  # masses are looked for at any rate
    outcomes = dict.fromkeys((Status.OPTIMAL, Status.INFEASIBLE), 0)
    for seed in range(60):
        rng = np.random.default_rng([seed, K])
        d = int(rng.integers(1_000, 4_000))
        dense = rng.uniform(0.01, 0.5, (1 + K, 1))
        scores = rng.random((1 + K, d)) * (rng.random((1 + K, d)) < dense)
        k = int(d * rng.choice([0.05, 0.5, 0.95]))
        best = -np.sort(-scores[1:], axis=1)[:, :k].sum(axis=1)
        floors = best * rng.choice([0.2, 0.5, 0.9, 1.0, 1.0 + 1e-9, 1.1], K)
        try:
            solution = cops_lp.solve(
                scores[0], list(scores[1:]), keep=k, floors=floors, raise_on_infeasible=False
            )
        except cops_lp.SolverError:
            continue  # floors that only together exceed what is attainable, by rounding
        outcomes[solution.status] += 1
        assert_certified(solution)
    assert min(outcomes.values()) > 5
    assert sum(outcomes.values()) > 55


def test_millions_of_equal_weights_are_a_few_columns(monkeypatch):
    d = 2_000_000
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 2, (3, d)).astype(np.float32)
    seen = []
    real = solve_several

    def watched(own, *how):
        seen.append(own.shape[1])
        return real(own, *how)

    monkeypatch.setattr(exact, "solve_several", watched)
    solution = cops_lp.solve(scores[0], list(scores[1:]), keep=0.5, retain=0.7)
    assert_certified(solution)
    assert 0 < max(seen) <= 8


def test_more_weights_than_there_are_never_reach_compiled_code():
    with pytest.raises(AssertionError, match="6 of 5 weights"):
        exact.solve_exact(np.ones((2, 5)), 6, np.zeros((1, 2)))
    with pytest.raises(AssertionError, match="8 of 7 weights"):
        exact.solve_exact(np.ones((2, 2)), 8, np.zeros((1, 2)), upper=np.array([3.0, 4.0]))
