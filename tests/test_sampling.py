"""Samples drawn by size, calibration, faces: the same sample everywhere, and what they are for."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import cops_lp
from cops_lp import Status
from cops_lp.engine import driver
from cops_lp.engine.calibration import Known, Sampled
from cops_lp.engine.stores import ArrayStore

from .checks import assert_certified


def drawn_by_numpy(scores, base, units, first=0):
    """Index and upper bounds, by NumPy alone."""
    size = np.full(scores[0].size, base)
    for row, unit in zip(scores, units, strict=True):
        size += unit * np.abs(row.astype(np.float64).reshape(-1))
    chance = np.exp2(np.floor(np.log2(size)))
    with np.errstate(over="ignore"):
        h = (np.arange(len(size), dtype=np.uint64) + np.uint64(first + 1)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        h ^= h >> np.uint64(31)
    index = np.flatnonzero((h >> np.uint64(11)).astype(np.float64) * 2.0**-53 < chance)
    return index + first, np.maximum(1.0, 1.0 / chance[index])


KINDS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.int8, "strided"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_sample_is_a_function_of_scores_and_index_alone(kind, threads):
    d = 150_001
    rng = np.random.default_rng(3)
    rows = [np.exp(2.0 * rng.standard_normal(2 * d)).clip(0.0, 100.0) for _ in range(2)]
    scores = [row[::2] if kind == "strided" else row[:d].astype(kind, copy=False) for row in rows]
    store = ArrayStore(scores, threads)
    sizes = store.total_sizes()
    assert sizes == pytest.approx([np.abs(row.astype(np.float64)).sum() for row in scores])
    base, units = 0.01, np.array([0.002, 0.001])
    found = store.draw(base, units)
    index, upper = drawn_by_numpy(scores, base, units)
    assert np.array_equal(found.index, index)
    assert np.array_equal(found.upper, upper)
    assert np.array_equal(found.scores, [row[index].astype(np.float64) for row in scores])
    assert abs(float(upper.sum()) - d) < 10.0 * np.sqrt(float((upper**2).sum()))
    part = store.draw(base, units, 70_000, 140_000, 5)
    index, upper = drawn_by_numpy([row[70_000:140_000] for row in scores], base, units, 5)
    assert np.array_equal(part.index, index)
    assert np.array_equal(part.upper, upper)
    assert np.array_equal(part.scores[0], scores[0][70_000 - 5 + index].astype(np.float64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tensors_give_the_same_sample(dtype):
    torch = pytest.importorskip("torch")
    from cops_lp.torch.pieces import TensorPieces
    from cops_lp.torch.store import TorchStore

    d = 100_000
    rng = np.random.default_rng(4)
    scores = np.exp(3.0 * rng.standard_normal((3, d))).astype(dtype)
    pieces = [
        TensorPieces([torch.from_numpy(row[:70_000]), torch.from_numpy(row[70_000:])])
        for row in scores
    ]
    array, tensor = ArrayStore(tuple(scores)), TorchStore(pieces)
    assert tensor.total_sizes() == pytest.approx(array.total_sizes())
    for span in ((0, None, 0), (10_000, 90_000, 123)):
        one, two = (
            each.draw(1e-3, np.array([1e-4, 1e-5, 1e-4]), *span) for each in (array, tensor)
        )
        assert len(one.index) > 100
        assert np.array_equal(one.index, two.index)
        assert np.array_equal(one.upper, two.upper)
        assert np.array_equal(one.scores, two.scores)


def lognormal(sigma):
    return lambda rng, d: np.exp(sigma * rng.standard_normal(d))


def sparse(share):
    return lambda rng, d: np.where(rng.random(d) < share, 0.0, rng.exponential(size=d))


HARD = {
    "lognormal 2": lognormal(2.0),
    "lognormal 5": lognormal(5.0),
    "lognormal 15": lognormal(15.0),
    "half zero": sparse(0.5),
    "nine tenths zero": sparse(0.9),
    "nearly all zero": sparse(0.99),
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hard_scores_are_certified(name, dtype):
    d = 300_000
    rng = np.random.default_rng(5)
    with np.errstate(over="ignore"):
        c, a = (HARD[name](rng, d).clip(0.0, 1e30).astype(dtype) for _ in range(2))
    problem = cops_lp.Problem(c, a, keep=0.1, retain=0.5)
    for retain in (0.5, 0.9, 0.99, 0.999, 1.0):
        solution = problem.solve(retain=retain)
        assert_certified(solution)
        if "lognormal" in name and retain < 1.0:
            assert solution.open_count < d // 2


def test_calibration_narrows_the_region_of_floors_near_the_best():
    """Without it a sample cannot tell whether they can be met."""
    d = 400_000
    rng = np.random.default_rng(6)
    c, a = rng.exponential(size=(2, d))
    problem = cops_lp.Problem(c, a, keep=0.1, retain=0.99)
    solution = problem.solve()
    assert_certified(solution)
    told = problem.solve(floors=problem.floors, retain=None)
    assert np.array_equal(told.mask, solution.mask)
    fresh = cops_lp.solve(c, a, keep=0.1, floors=problem.floors)
    assert np.array_equal(fresh.mask, solution.mask)
    assert solution.open_count < 0.6 * fresh.open_count


def test_what_a_sample_gets_wrong_about_known_sums_is_told_exactly():
    """Where the optimum's mask is the one that is known, nothing scatters and nothing is left."""
    d, r = 100_000, 2_000
    rng = np.random.default_rng(7)
    a = rng.exponential(size=d)
    k = 10_000
    order = np.argsort(-a)
    known = Known(np.array([a[order[:k]].sum()]), np.array([a[order[k - 1]] * (1 - 1e-12)]))
    index = np.sort(rng.choice(d, r, replace=False))
    scores = np.stack((rng.random(r), a[index]))
    told = Sampled(scores, np.empty(0), r / d, d, known)
    kept = scores[1] > known.threshold[0]
    wanted = np.array([known.best[0], k]) * r / d
    corrected, scatter = told.corrected(wanted, kept, k * r / d)
    assert corrected == pytest.approx([scores[1, kept].sum(), kept.sum()], rel=1e-9)
    assert np.abs(scatter).max() < 1e-9 * r


@pytest.mark.parametrize("K", [1, 2, 3])
@pytest.mark.parametrize("kind", ["constant", "zero", "half zero", "three levels"])
def test_targets_that_tie_are_faces(K, kind, monkeypatch):
    taken = []
    real = driver._solve_face

    def watched(*args):
        found = real(*args)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(driver, "_solve_face", watched)
    d = 200_000
    rng = np.random.default_rng([K, len(kind)])
    target = {
        "constant": np.full(d, 0.3),
        "zero": np.zeros(d),
        "half zero": np.where(rng.random(d) < 0.5, 0.0, rng.exponential(size=d)),
        "three levels": rng.integers(0, 3, d) / 4,
    }[kind].astype(np.float32)
    controls = [row.astype(np.float32) for row in rng.exponential(size=(K, d))]
    k = 100_000 if kind == "three levels" else 130_000
    mask = np.lexsort((-sum(controls), -target))[:k]
    faces = 0
    for share in (0.97, 0.9999, 1.05):
        taken.clear()
        floors = [share * float(row[mask].sum(dtype=np.float64)) for row in controls]
        found = [
            cops_lp.solve(
                target, controls, keep=k, floors=floors, threads=t, raise_on_infeasible=False
            )
            for t in (1, 2)
        ]
        solution = found[0]
        assert_certified(solution)
        assert np.array_equal(solution.mask, found[1].mask)
        if solution.status is Status.OPTIMAL:
            assert not solution.shortfall.any()
            if any(taken):
                faces += 1
                assert not solution.multipliers.any()
                assert solution.gap == 0.0
                assert len(solution.fractional.indices) <= K + 1
    assert faces >= 1


def test_opposite_scores_are_told_apart_in_double_precision():
    d = 400_000
    rng = np.random.default_rng(9)
    a = rng.exponential(size=d).astype(np.float32)
    c = a.max() - a
    for retain in (0.5, 0.9, 0.99):
        solution = cops_lp.solve(c, a, keep=0.1, retain=retain)
        assert_certified(solution)
        assert solution.open_count < d // 4
