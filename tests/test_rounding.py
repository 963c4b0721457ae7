"""Rounding: exactly k weights, and the floors met whenever an assignment or a swap meets them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

import cops_lp
from cops_lp.engine import nearest
from cops_lp.engine.candidates import CandidateArrays
from cops_lp.engine.nearest import nearest_weights
from cops_lp.engine.stores import ArrayStore
from cops_lp.rounding import assign_fractional, repair_by_swaps

from .checks import assert_certified

NOTHING = np.zeros(1)


def test_assignment_is_the_best_of_those_that_meet_the_floors():
    rng = np.random.default_rng(0)
    for _ in range(300):
        f = int(rng.integers(1, 7))
        K = int(rng.integers(1, 4))
        count = int(rng.integers(0, f + 1))
        c, A, x = rng.normal(size=f), rng.normal(size=(K, f)), rng.random(f)
        need = A[:, rng.permutation(f)[:count]].sum(axis=1) - rng.random(K) * 0.5
        chosen = assign_fractional(x, c, A, count, need, np.zeros(K))
        assert chosen.sum() == count
        meeting = [
            c[list(s)].sum()
            for s in combinations(range(f), count)
            if (A[:, list(s)].sum(axis=1) >= need).all()
        ]
        assert (A[:, chosen].sum(axis=1) >= need).all()
        assert c[chosen].sum() == max(meeting)


def test_assignment_that_cannot_meet_the_floor_lacks_least():
    chosen = assign_fractional(
        np.array([0.5, 0.5]),
        np.array([9.0, 0.0]),
        np.array([[1.0, 2.0]]),
        1,
        np.array([3.0]),
        np.array([1e-12]),
    )
    assert chosen.tolist() == [False, True]


def test_many_fractional_weights_keep_the_largest():
    x = np.linspace(0.1, 0.9, 40)
    chosen = assign_fractional(x, x, x[None], 20, NOTHING, NOTHING)
    assert np.flatnonzero(chosen).tolist() == list(range(20, 40))


def test_one_swap_meets_the_floor_at_least_loss():
    kept = np.array([True, True, False, False, False])
    c = np.array([9.0, 5.0, 4.0, 3.0, 1.0])
    A = np.array([[0.0, 1.0, 1.0, 3.0, 9.0]])
    swapped = repair_by_swaps(kept, c, A, np.array([2.0]), NOTHING)
    assert swapped.tolist() == [True, False, False, True, False]
    assert np.array_equal(repair_by_swaps(kept, c, A, np.array([0.0]), NOTHING), kept)


def test_several_swaps_and_no_way():
    kept = np.array([True, True, False, False])
    c = np.array([4.0, 3.0, 2.0, 1.0])
    A = np.array([[0.0, 0.0, 1.0, 1.0]])
    assert repair_by_swaps(kept, c, A, np.array([2.0]), NOTHING).tolist() == [0, 0, 1, 1]
    beyond = repair_by_swaps(kept, c, A, np.array([3.0]), NOTHING)
    assert beyond.sum() == 2
    everything = np.ones(4, dtype=bool)
    assert repair_by_swaps(everything, c, A, np.array([9.0]), NOTHING).all()


@pytest.mark.parametrize("known", [1, 20, 200])
def test_candidates_for_swaps_are_the_nearest_whatever_is_known(known):
    rng = np.random.default_rng(known)
    scores = rng.exponential(size=(3, 5_000)).astype(np.float32)
    store = ArrayStore(tuple(scores))
    lam, mu = np.array([0.5, 0.25]), 3.0
    reduced = np.append(1.0, lam) @ scores.astype(np.float64) - mu
    mask = reduced > 0.0
    order = np.argsort(np.abs(reduced))
    near = np.sort(order[:known])
    candidates = CandidateArrays(near, scores[:, near], float(np.abs(reduced[order[known - 1]])))
    nothing = np.empty(0, np.int64)
    index, found, passes = nearest_weights(
        store, candidates, lam, mu, mask, nothing, int(mask.sum()), np.inf
    )
    wanted = [
        np.flatnonzero(side)[np.argsort(np.abs(reduced[side]))][:64] for side in (mask, ~mask)
    ]
    assert index.tolist() == sorted(np.concatenate(wanted).tolist())
    assert (found == scores[:, index]).all()
    assert (passes > 0) == (known < 200)


@pytest.mark.parametrize("k", [30, 4_000, 29_980])
@pytest.mark.parametrize("levels", [3, 40, 0])
def test_candidates_are_the_same_whether_all_are_looked_at(levels, k, monkeypatch):
    """Ties by the thousands, one side with fewer than are wanted; `levels` 0 stands for none."""
    rng = np.random.default_rng(levels)
    scores = rng.exponential(size=(3, 30_000))
    if levels:
        scores = np.floor(scores * levels / 3.0)
    store = ArrayStore(tuple(scores))
    lam = np.array([0.5, 0.25])
    combined = np.append(1.0, lam) @ scores
    order = np.argsort(-combined, kind="stable")
    mu = float(combined[order[k - 1]])
    mask = np.zeros(30_000, dtype=bool)
    mask[order[:k]] = True
    fractional = np.sort(order[k - 2 : k])
    mask[fractional] = False
    looked = []
    real = nearest._closest
    monkeypatch.setattr(nearest, "_closest", lambda far: looked.append(real(far)) or looked[-1])
    everything = np.arange(30_000)
    found = []
    for many in (nearest._MANY, 1 << 60):
        monkeypatch.setattr(nearest, "_MANY", many)
        for index in (None, everything):
            candidates = CandidateArrays(index, scores, np.inf)
            found.append(
                nearest_weights(store, candidates, lam, mu, mask, fractional, k - 2, np.inf)
            )
    assert len(looked[0]) < 30_000 == len(looked[-1]) or levels == 3
    for index, values, passes in found:
        assert np.array_equal(index, found[0][0])
        assert np.array_equal(values, scores[:, index])
        assert passes == 0
    assert mask[found[0][0]].sum() == min(64, k - 2)


@pytest.mark.parametrize("kind", ["constant", "few", "sparse"])
@pytest.mark.parametrize("K", [2, 3])
def test_floors_with_room_are_met_whatever_ties(K, kind):
    """A target that is equal nearly everywhere: a vertex meets floors exactly, others with ease."""
    for seed in range(12):
        rng = np.random.default_rng([seed, K])
        d = int(rng.choice([1_500, 3_000, 20_000]))
        controls = np.exp(rng.normal(size=(K, d)))
        target = {
            "constant": np.ones(d),
            "few": (np.arange(d) < 40).astype(float),
            "sparse": np.where(rng.random(d) < 0.05, rng.random(d), 0.0),
        }[kind]
        solution = cops_lp.solve(target, list(controls), keep=0.2, retain=0.5)
        assert not solution.shortfall.any()
        assert solution.mask.sum() == solution.keep
        assert (
            solution.mask_objective >= solution.bound - 1e-9 * abs(solution.bound)
            or (solution.multipliers > 0).any()
        )
        assert_certified(solution)
        best = cops_lp.solve(
            target, list(controls), keep=0.2, retain=0.5, integral=True, time_limit=20.0
        )
        assert not best.shortfall.any()
        assert_certified(best)


@pytest.mark.parametrize("floor", [-1.0, -1e290, -1.7e308])
@pytest.mark.parametrize("size", [1.0, 1e-10])
def test_a_floor_that_is_none_changes_nothing(floor, size):
    rng = np.random.default_rng(5)
    controls = np.exp(rng.normal(size=(2, 3_000)))
    third = rng.random(3_000) * size
    how = {"keep": 0.1}
    one = cops_lp.Problem(np.ones(3_000), list(controls), **how, retain=0.5)
    floors = [*one.floors.tolist(), floor]
    solution = cops_lp.solve(np.ones(3_000), [*controls, third], **how, floors=floors)
    assert not solution.shortfall.any()
    assert solution.integer_gap == 0.0


def test_a_mask_that_misses_a_floor_is_no_best_one():
    """Of whole weights none meets both floors, and nothing says so without a search."""
    controls = [[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]
    solution = cops_lp.solve([1.0, 1.0, 0.5, 0.5], controls, keep=1, floors=[0.5, 0.5])
    assert solution.shortfall.any()
    assert solution.integer_gap == np.inf
    assert "the mask misses a floor" in str(solution)
    assert "within" not in str(solution)
