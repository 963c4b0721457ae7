"""The best 0/1 mask: equal to enumeration, proven beyond its reach, honest when stopped."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

import cops_lp
from cops_lp import InfeasibleError, IntegerInfeasibleError, ProblemError, Status
from cops_lp.integral import joins, proving
from cops_lp.integral.enumerating import best_of_all
from cops_lp.integral.items import Best, Items
from cops_lp.integral.pairs import most_beside
from cops_lp.kernels import subsets

from .checks import assert_certified
from .small_instances import small_instance


def instance(seed):
    """A small problem whose floors lie between the target's own mask and the attainable."""
    rng = np.random.default_rng(seed)
    d, K = int(rng.integers(2, 14)), int(rng.integers(1, 4))
    scores = (
        rng.standard_normal((1 + K, d)),
        rng.exponential(size=(1 + K, d)),
        rng.integers(-2, 4, (1 + K, d)).astype(float),
        rng.integers(0, 2, (1 + K, d)).astype(float),
    )[seed % 4]
    k = int(rng.integers(1, d))
    best = -np.sort(-scores[1:], axis=1)[:, :k].sum(axis=1)
    own = scores[1:, np.argsort(-scores[0], kind="stable")[:k]].sum(axis=1)
    return scores, k, own + rng.choice([0.2, 0.6, 0.95]) * (best - own)


def enumerated(scores, k, floors):
    best = -math.inf
    for kept in itertools.combinations(range(scores.shape[1]), k):
        if np.all(scores[1:, list(kept)].sum(axis=1) >= floors - 1e-9):
            best = max(best, float(scores[0, list(kept)].sum()))
    return best


@pytest.mark.parametrize("first", range(0, 600, 150))
def test_equal_to_enumeration(first):
    seen = {"optimal": 0, "infeasible": 0, "only in whole weights": 0}
    for seed in range(first, first + 150):
        scores, k, floors = instance(seed)
        best = enumerated(scores, k, floors)
        args = (scores[0], list(scores[1:]))
        how = {"keep": k, "floors": list(floors), "integral": True}
        solution = cops_lp.solve(*args, **how, raise_on_infeasible=False)
        if solution.status is Status.INFEASIBLE:
            seen["infeasible"] += 1
            assert best == -math.inf
        elif best == -math.inf:
            seen["only in whole weights"] += 1
            assert solution.integer_bound == -math.inf
            with pytest.raises(IntegerInfeasibleError, match=r"no mask of \d+ whole weights"):
                cops_lp.solve(*args, **how)
        else:
            seen["optimal"] += 1
            assert solution.mask_objective == pytest.approx(best, abs=1e-9)
            assert solution.integer_gap == pytest.approx(0.0, abs=1e-12 * max(1.0, abs(best)))
            assert not solution.shortfall.any()
        assert_certified(solution)
    assert min(seen.values()) > 0, seen


@pytest.mark.parametrize(
    ("K", "d"), [(1, 1_000), (1, 100_000), (2, 1_000), (2, 100_000), (3, 20_000)]
)
def test_proven_where_enumeration_is_out_of_reach(K, d):
    rng = np.random.default_rng([K, d])
    scores = rng.exponential(size=(1 + K, d)).astype(np.float32)
    problem = cops_lp.Problem(scores[0], list(scores[1:]), keep=0.1, retain=(0.8, 0.7, 0.55)[K - 1])
    default, best = problem.solve(), problem.solve(integral=True)
    assert best.integer_gap == 0.0
    assert default.integer_gap > 0.0
    assert default.mask_objective <= best.mask_objective <= best.integer_bound <= default.bound
    assert not best.shortfall.any()
    assert best.mask.sum() == problem.keep
    assert best.passes <= default.passes + 1
    assert np.array_equal(best.fractional.indices, default.fractional.indices)
    assert_certified(best)


def test_against_a_general_integer_solver():
    from scipy.optimize import Bounds, LinearConstraint, milp

    for seed in range(12):
        rng = np.random.default_rng(seed)
        d, K = 60, 1 + seed % 2
        scores = rng.integers(1, 1000, (1 + K, d)).astype(float)
        k = 20
        problem = cops_lp.Problem(scores[0], list(scores[1:]), keep=k, retain=0.8)
        rows = np.vstack((np.ones(d), scores[1:]))
        low = np.concatenate(([k], problem.floors))
        high = np.concatenate(([k], np.full(K, np.inf)))
        found = milp(
            -scores[0],
            constraints=LinearConstraint(rows, low, high),
            integrality=np.ones(d),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 0.0},
        )
        solution = problem.solve(integral=True)
        assert solution.integer_gap == 0.0
        assert solution.mask_objective == round(-found.fun)


def test_masses_of_ties_are_proven_or_honest():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (3, 50_000)).astype(np.float32)
    solution = cops_lp.solve(
        scores[0], list(scores[1:]), keep=0.3, retain=0.8, integral=True, time_limit=3.0
    )
    assert_certified(solution)
    assert solution.integer_gap >= 0.0
    assert solution.integer_bound <= solution.bound


def test_a_time_limit_ends_the_search_and_the_gap_says_so():
    rng = np.random.default_rng(1)
    scores = rng.exponential(size=(7, 100_000)).astype(np.float32)
    start = time.perf_counter()
    solution = cops_lp.solve(
        scores[0], list(scores[1:]), keep=0.1, retain=0.5, integral=True, time_limit=1.0
    )
    assert time.perf_counter() - start < 10.0
    assert solution.status is Status.OPTIMAL
    assert solution.integer_gap > 0.0
    assert_certified(solution)


def test_no_pass_is_begun_after_the_time_limit():
    scores = np.random.default_rng(0).random((2, 100_000))
    solution = cops_lp.solve(scores[0], scores[1], keep=0.1, floors=6_000.0, time_limit=0.0)
    assert solution.status is Status.TIME_LIMIT
    assert not solution.mask.any()
    assert math.isnan(solution.objective)
    assert not cops_lp.certify(solution.problem, solution)


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e290])
def test_scores_far_from_1(scale):
    rng = np.random.default_rng(38)
    scores = rng.random((3, 40))
    expected = cops_lp.solve(scores[0], list(scores[1:]), keep=10, retain=0.8, integral=True)
    power = 2.0 ** round(math.log2(scale))
    for target in (1.0, power):
        found = cops_lp.solve(
            target * scores[0], list(power * scores[1:]), keep=10, retain=0.8, integral=True
        )
        assert found.integer_gap == expected.integer_gap == 0.0
        assert np.array_equal(found.mask, expected.mask)


def test_doubt_that_is_wide_beside_what_a_set_may_lose():
    """Where cells were as wide as the latter, a set looked into billions of them."""
    instance = small_instance(27_332)  # scores of forty decades, a floor met by rounding only
    limits = {"keep": instance.keep, **instance.limits}
    scores = instance.scores
    found = cops_lp.solve(scores[0], list(scores[1:]), integral=True, time_limit=60.0, **limits)
    assert found.integer_gap == 0.0
    assert np.flatnonzero(found.mask).tolist() == [1, 7]


@pytest.mark.parametrize("wrong", [-1.0, math.nan, "soon"])
def test_time_limits_that_are_none(wrong):
    with pytest.raises(ProblemError, match="time_limit is"):
        cops_lp.solve([1.0, 2.0], keep=1, time_limit=wrong)


def test_infeasible_stays_infeasible():
    with pytest.raises(InfeasibleError) as raised:
        cops_lp.solve([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], keep=2, floors=2.5, integral=True)
    assert not isinstance(raised.value, IntegerInfeasibleError)


def test_the_bound_is_saved(tmp_path):
    scores = np.random.default_rng(5).exponential(size=(2, 3_000))
    solution = cops_lp.solve(scores[0], scores[1], keep=0.2, retain=0.8, integral=True)
    solution.save(tmp_path / "s.npz")
    loaded = cops_lp.Solution.load(tmp_path / "s.npz")
    assert loaded.integer_bound == solution.integer_bound < solution.bound
    assert cops_lp.certify((scores[0], scores[1]), loaded)


@pytest.mark.parametrize("change", [-1e-3, 1e-3, math.nan, math.inf])
def test_a_bound_below_the_mask_or_above_the_relaxation_is_caught(change):
    from dataclasses import replace

    scores = np.random.default_rng(5).exponential(size=(2, 3_000))
    solution = cops_lp.solve(scores[0], scores[1], keep=0.2, retain=0.8, integral=True)
    base = solution.mask_objective if change < 0 else solution.bound
    verdict = cops_lp.certify(
        solution.problem, replace(solution, integer_bound=base * (1.0 + change))
    )
    if math.isnan(change):  # not stated: the relaxation's
        assert verdict
    else:
        assert [check.name for check in verdict.checks if not check.passed] == [
            "stated integer bound"
        ]


def test_lists_of_subsets_are_complete():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 11))
        cost = np.sort(rng.integers(0, 5, n) / 4.0)
        after = np.zeros(n, dtype=bool)
        after[1:] = (np.diff(cost) == 0.0) & (rng.random(n - 1) < 0.5)
        entries = rng.standard_normal((n, 2))
        limit = float(rng.uniform(0.0, 3.0))
        wanted = {
            sum(1 << j for j in chosen)
            for size in range(n + 1)
            for chosen in itertools.combinations(range(n), size)
            if cost[list(chosen)].sum() <= limit
            and all(not after[j] or j - 1 in chosen for j in chosen)
        }
        costs, sums = np.empty(2048), np.empty((2048, 2))
        origin = np.empty(2048, np.int32), np.empty(2048, np.int32)
        count = subsets.list_subsets(cost, after, entries, limit, costs, sums, *origin)
        found = [[]]
        for q in range(1, count):
            assert origin[0][q] < q
            found.append([*found[origin[0][q]], int(origin[1][q])])
        assert {sum(1 << j for j in chosen) for chosen in found} == wanted
        assert count == len(wanted)
        for q, chosen in enumerate(found):
            assert sums[q] == pytest.approx(entries[chosen].sum(axis=0), abs=1e-12)
            assert costs[q] == pytest.approx(cost[chosen].sum())
        few = np.empty(max(count - 1, 0)), np.empty((max(count - 1, 0), 2))
        if count > 1:
            short = np.empty(count - 1, np.int32), np.empty(count - 1, np.int32)
            assert subsets.list_subsets(cost, after, entries, limit, *few, *short) == count


@pytest.mark.parametrize("quartered", [False, True])
def test_the_joins_look_at_every_set(quartered, monkeypatch):
    """A set of items is in a join where its parts cost what the join walks to and lists."""
    monkeypatch.setattr(joins, "_QUARTERED", 0 if quartered else 1000)
    n = 40
    row = np.arange(1.0, n + 1.0)
    jobs = joins.jobs(Items(np.arange(n), np.stack((row, row)), row), n)
    assert len(jobs) == (14 if quartered else 2)
    for job in jobs:
        assert sorted([*job.left, *job.right, *job.listed]) == list(range(n))
    rng = np.random.default_rng(0)
    for _ in range(20_000):
        # Costs of a set, few of them, that add up to at most 1; sometimes exactly.
        cost = np.where(rng.random(n) < rng.uniform(0.02, 0.3), rng.exponential(size=n), 0.0)
        cost[rng.integers(n)] += rng.choice([0.0, 0.1, 1.0, 10.0])
        total = cost.sum()
        cost *= rng.choice([1.0, 0.999, rng.random()]) * (1.0 - 1e-12) / total if total else 0.0

        def looks_at(job, cost=cost):
            left, right = cost[job.left].sum(), cost[job.right].sum()
            pair = job.over < left + right <= job.cap and max(left, right) <= job.each
            # As exactly as lists of costs are compared.
            beside = not job.quarters or right <= most_beside(np.array(left)) + 1e-9
            return pair and beside and cost[job.listed].sum() <= job.most

        assert any(looks_at(job) for job in jobs)


@pytest.mark.parametrize("quartered", [False, True])
def test_a_walk_finds_the_best_of_all_sets(quartered, monkeypatch):
    """Against a list of all of them, whatever the floors are worth and whatever is in doubt."""
    monkeypatch.setattr(joins, "_QUARTERED", 0 if quartered else 1000)
    n, found = 12, 0
    chosen = (np.arange(1 << n)[:, None] >> np.arange(n)) & 1 == 1
    for seed in range(400):
        rng = np.random.default_rng(seed)
        K = int(rng.integers(1, 4))
        scores = rng.standard_normal((1 + K, n))
        if seed % 4 == 0:
            scores = np.round(scores)
        if seed % 8 == 0:  # copies
            scores[:, 6:] = scores[:, :6]
        reduced = (rng.standard_normal(1 + K) @ scores - 0.3) * rng.choice([1.0, 0.01])
        items = Items(np.arange(n), scores, reduced)
        prices = rng.exponential(size=K) * rng.choice([0.0, 1e-3, 1.0, 1e3], size=K)
        need = np.concatenate(([rng.integers(-2, 3)], rng.normal(0.0, 0.7, K)))
        doubt = np.where(prices > 0.0, rng.choice([0.0, 1e-14, -0.01], size=K), 0.3)
        limit = float(rng.choice([rng.random() * items.cost.sum(), np.inf]))
        cost, sums = chosen @ items.cost, chosen @ items.entries
        excess = sums[:, 1:] - need[1:]
        met = (sums[:, 0] == need[0]) & np.all(excess >= -doubt, axis=1) & (cost <= limit)
        losses = np.where(met, cost + excess @ prices, np.inf)
        known = float(rng.choice([np.inf, np.median(losses[met]) if met.any() else 1.0]))
        best = Best(known)
        assert joins.walk(items, n, limit, need, prices, doubt, best, np.inf, 1)
        if min(losses.min(), known) > limit:  # sets that lose more need not be looked at
            assert best.loss > limit
            continue
        assert best.loss == pytest.approx(min(losses.min(), known), rel=1e-9, abs=1e-12)
        if best.items is not None:
            at = int((1 << best.items).sum())
            assert losses[at] == pytest.approx(best.loss, rel=1e-9, abs=1e-12)
            found += 1
    assert found > 50, found


@pytest.mark.parametrize("seed", range(40))
def test_quarters_find_what_halves_find(seed, monkeypatch):
    scores, k, floors = instance(seed)
    args = (scores[0], list(scores[1:]))
    how = {"keep": k, "floors": list(floors), "integral": True, "raise_on_infeasible": False}
    halves = cops_lp.solve(*args, **how)
    monkeypatch.setattr(joins, "_QUARTERED", 0)
    quarters = cops_lp.solve(*args, **how)
    assert quarters.integer_bound == halves.integer_bound or (
        halves.status is quarters.status is Status.INFEASIBLE
    )
    assert np.array_equal(quarters.mask_objective, halves.mask_objective, equal_nan=True)


def test_threads_do_not_matter():
    rng = np.random.default_rng(7)
    scores = rng.exponential(size=(3, 20_000)).astype(np.float32)
    how = {"keep": 0.1, "retain": 0.7, "integral": True}
    one = cops_lp.solve(scores[0], list(scores[1:]), threads=1, **how)
    two = cops_lp.solve(scores[0], list(scores[1:]), threads=2, **how)
    assert one.integer_gap == two.integer_gap == 0.0
    assert np.array_equal(one.mask, two.mask)
    assert one.mask_objective == two.mask_objective


@pytest.mark.parametrize(
    ("scores", "k", "floors"),
    [
        # The search keeps the mask that it knows, whose target is 2e-9: sums of 3e23 hide the rest.
        ([[2.0**78, 2.0**-29, 2.0**69, 0.125], [-(2.0**78), -(2.0**-29), -(2.0**69), -0.125]], 1,
         [-0.1]),
        ([[2.0**78, 2.0**-29, 2.0**69, 0.0625], [-(2.0**78), -(2.0**-29), -(2.0**69), -0.0625]], 1,
         [-0.1]),
    ],
)  # fmt: skip
def test_the_best_mask_where_rounding_hides_what_a_set_loses(scores, k, floors):
    scores = np.array(scores)
    found = cops_lp.solve(scores[0], list(scores[1:]), keep=k, floors=floors, integral=True)
    wanted = best_of_all(scores, k, np.array(floors), np.zeros(1))
    assert np.array_equal(found.mask, wanted)
    assert found.integer_gap == 0.0


def test_all_masks_tried():
    rng = np.random.default_rng(0)
    none = 0
    for _ in range(100):
        K, d = int(rng.integers(0, 3)), int(rng.integers(1, 8))
        k = int(rng.integers(0, d + 1))
        scores = rng.integers(-3, 4, (1 + K, d)).astype(float)
        floors, slack = rng.integers(-3, 6, K).astype(float), rng.integers(0, 2, K).astype(float)
        masks = [np.isin(np.arange(d), chosen) for chosen in itertools.combinations(range(d), k)]
        meeting = [m for m in masks if (scores[1:, m].sum(axis=1) >= floors - slack).all()]
        best = best_of_all(scores, k, floors, slack)
        if best is None:
            none += 1
            assert not meeting
        else:
            values = [scores[0, m].sum() for m in meeting]
            assert np.array_equal(best, meeting[int(np.argmax(values))])
    assert 10 < none < 90


def test_few_masks_are_tried_one_by_one(monkeypatch):
    """Of 146 of one weight, sets of weights that tie in six controls are without number."""

    def fail(*args, **how):
        raise AssertionError("searched")

    monkeypatch.setattr(proving, "search_core", fail)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        d, K = int(rng.integers(5, 147)), int(rng.integers(1, 7))
        k = (1, d - 1)[seed % 2]
        scores = np.round(rng.random((1 + K, d)), (1, 8)[seed % 3 == 0])
        sums = scores if k == 1 else scores.sum(axis=1, keepdims=True) - scores
        floors = np.quantile(sums[1:], 0.3, axis=1)
        solution = cops_lp.solve(
            scores[0], list(scores[1:]), keep=k, floors=list(floors), integral=True,
            raise_on_infeasible=False,
        )  # fmt: skip
        meets = (sums[1:] >= floors[:, None] - 1e-12).all(axis=0)
        if solution.status is not Status.OPTIMAL:
            assert not meets.any()
        elif not meets.any():
            assert solution.integer_bound == -np.inf
            assert "misses a floor, as all of whole weights do" in str(solution)
        else:
            assert solution.mask_objective == pytest.approx(sums[0, meets].max(), abs=1e-9)
            assert solution.integer_gap == 0.0
