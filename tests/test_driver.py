"""The driver is exact whatever the sample: small samples, bad samples, hard inputs."""

from __future__ import annotations

import collections
import math

import numpy as np
import pytest

import cops_lp
from cops_lp import Status
from cops_lp.engine import driver
from cops_lp.engine.region import Cone, Ellipsoid
from cops_lp.engine.stores import ArrayStore

from .checks import assert_certified
from .guessing import guess_early
from .instances import controlled_instance, random_instance


@pytest.fixture(params=["sample", "whole"])
def tiny_samples(request, monkeypatch):
    """Guess from 40 weights on, so that small instances take the large ones' way."""
    guess_early(monkeypatch, request.param)


def direct(monkeypatch, *args, **kwargs):
    with monkeypatch.context() as patch:
        patch.setattr(driver, "_DIRECT", (1 << 60,) * 3)
        return cops_lp.solve(*args, **kwargs)


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_sampled_answers_are_certified_and_equal_direct_ones(first, tiny_samples, monkeypatch):
    rounds = collections.Counter()
    for seed in range(first, first + 100):
        instance = random_instance(50_000 + seed, largest=3000)
        args = (instance.target, instance.control)
        how = {"keep": instance.keep, "floors": instance.floor, "raise_on_infeasible": False}
        solution = cops_lp.solve(*args, **how)
        rounds[solution.passes] += 1
        assert_certified(solution)
        whole = direct(monkeypatch, *args, **how)
        assert solution.status is whole.status, instance.name
        if solution.status is Status.OPTIMAL:
            scale = np.abs(instance.target[whole.mask]).sum() or 1.0
            assert abs(solution.objective - whole.objective) <= 1e-12 * scale, instance.name
    assert rounds[1] > 50


def adversary(monkeypatch, which, order):
    """Let the worst 4,096 weights be every sample of the whole; returns the sizes sampled."""
    picks = {
        "dropped": np.sort(order[:4096]),
        "kept": np.sort(order[-4096:]),
        "constant": np.zeros(4096, dtype=np.int64),
        "first": np.arange(4096),
    }
    honest = driver._sample_index
    asked = []

    def pick(d, K, attempt):
        asked.append(d)
        return picks[which] if d == len(order) else honest(d, K, attempt)

    monkeypatch.setattr(driver, "_sample_index", pick)
    monkeypatch.setattr(driver, "_WHOLE", 0)
    return asked


@pytest.mark.parametrize("which", ["dropped", "kept", "constant", "first"])
@pytest.mark.parametrize("keep", [0.01, 0.5])
@pytest.mark.parametrize("retain", [None, 0.5, 0.95, 1.0])
def test_an_adversary_who_picks_the_sample_changes_time_only(which, keep, retain, monkeypatch):
    rng = np.random.default_rng(9)
    target, control = rng.random((2, 30_000))
    how = {"keep": keep} if retain is None else {"keep": keep, "retain": retain}
    args = (target,) if retain is None else (target, control)
    expected = direct(monkeypatch, *args, **how)
    order = np.argsort(expected.combined_score())
    asked = adversary(monkeypatch, which, order)
    solution = cops_lp.solve(*args, **how)
    assert asked[0] == 30_000
    assert np.array_equal(solution.mask, expected.mask)
    assert solution.multipliers == pytest.approx(expected.multipliers, rel=1e-14)
    assert_certified(solution)


def hard_inputs(d):
    rng = np.random.default_rng(10)
    a = rng.random(d, dtype=np.float32)
    b = rng.random(d, dtype=np.float32)
    quantized = rng.integers(-127, 128, d).astype(np.int8)
    return {
        "all equal": (np.ones(d, np.float32), b),
        "both equal": (np.ones(d, np.float32), np.ones(d, np.float32)),
        "control equal": (a, np.ones(d, np.float32)),
        "quantized": (quantized, rng.integers(-127, 128, d).astype(np.int8)),
        "half zero": (np.where(a < 0.5, 0, a), np.where(b < 0.5, 0, b)),
        "40 decades": (10.0 ** rng.uniform(-40, 0, d), b),
        "mixed sign": (a - 0.5, b - 0.5),
        "identical": (a, a),
        "proportional": (a, 4.0 * a),
        "opposite": (a, 1.0 - a),
        "sorted": (np.sort(a), b),
        "one giant": (np.where(np.arange(d) == d // 2, np.float32(1e30), a), b),
    }


@pytest.mark.parametrize("name", hard_inputs(10))
@pytest.mark.parametrize("keep", [0, 1, 0.1, 99_999, 100_000])
def test_hard_inputs(name, keep):
    target, control = hard_inputs(100_000)[name]
    free = cops_lp.solve(target, keep=keep)
    assert_certified(free)
    problem = cops_lp.Problem(target, control, keep=keep, floors=-1e6)
    best = problem.best()[1]
    own = float(control[free.mask].sum(dtype=np.float64))
    for share in (0.0, 0.5, 1.0):
        assert_certified(problem.solve(floors=own + share * (best - own)))
    if best > 0:
        with pytest.raises(cops_lp.InfeasibleError):
            problem.solve(floors=best * (1 + 1e-9))


def test_two_hundred_seeds(monkeypatch):
    second_rounds = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        target = rng.exponential(size=20_000)
        control = 0.3 * target + rng.exponential(size=20_000)
        solution = cops_lp.solve(target, control, keep=0.1, floors=6000.0)
        second_rounds += solution.passes > 1
        assert_certified(solution)
    assert second_rounds <= 10


def test_cone_membership():
    cone = Cone(np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]))
    assert cone.contains(np.array([1.0, 0.25, 0.25]))
    assert cone.contains(np.array([1.0, 0.5, 0.5]))
    assert not cone.contains(np.array([1.0, 0.5, 0.5 + 1e-9]))
    assert not cone.contains(np.array([1.0, -1e-9, 0.5]))
    line = Cone(cone.rays[:2])
    assert not line.contains(np.array([1.0, 0.5, 1e-300]))


def random_ellipsoid(rng, K):
    factor = np.triu(rng.normal(size=(K + 1, K + 1))) * 0.05
    return Ellipsoid(np.concatenate(([2.0], rng.random(K), [0.4])), factor)


@pytest.mark.parametrize("K", [0, 1, 2, 5])
def test_ellipsoid_membership(K):
    rng = np.random.default_rng(20)
    for _ in range(50):
        oval = random_ellipsoid(rng, K)
        z = rng.normal(size=K + 1)
        move = oval.factor.T @ z / np.linalg.norm(z)
        move[-1] *= -1.0
        for share, inside in ((0.0, True), (0.99, True), (1.0 - 1e-11, True), (1.0 + 1e-9, False)):
            ray = oval.center.copy()
            ray[1:] += share * move
            assert oval.contains(3.0 * ray) is inside
    assert not oval.contains(np.concatenate(([0.0], ray[1:])))


def test_a_flat_ellipsoid_contains_nothing_beside_itself():
    oval = Ellipsoid(np.array([1.0, 0.0, 0.5, 0.3]), np.diag([0.0, 0.1, 0.1]))
    assert oval.contains(np.array([1.0, 0.0, 0.55, 0.35]))
    assert not oval.contains(np.array([1.0, 1e-9, 0.5, 0.3]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("K", [0, 1, 2, 5])
@pytest.mark.parametrize("d", [1_501, 200_001])
def test_an_ellipsoid_decides_only_what_all_its_points_agree_on(d, K, dtype):
    rng = np.random.default_rng(21)
    scores = rng.normal(size=(1 + K, d)).astype(dtype)
    scores[0, [5, d // 3]] = np.nan, np.inf
    if K:
        scores[K, [9, d // 2]] = -np.inf, np.nan
    for strided in (False, True):
        oval = random_ellipsoid(rng, K)
        mask = np.empty(d, dtype=bool)
        rows = [np.repeat(row, 2)[::2] if strided else row for row in scores]
        found = ArrayStore(rows, threads=2).screen(oval, mask)
        wide = scores.astype(np.float64)
        with np.errstate(invalid="ignore"):
            form = oval.center[:-1] @ wide - oval.center[-1]
            spread = np.linalg.norm(oval.factor[:, :-1] @ wide[1:] + oval.factor[:, -1:], axis=0)
            near = np.abs(np.abs(form) - spread) < 1e-4 * np.abs(wide).sum(axis=0)
            kept, dropped = form > spread, form < -spread
        finite = np.isfinite(wide).all(axis=0)
        opened = np.zeros(d, dtype=bool)
        opened[found.index] = True
        assert opened[~finite].all()
        sure = finite & ~near
        assert sure.sum() > 0.995 * d
        assert np.array_equal(mask[sure], kept[sure])
        assert np.array_equal(opened[sure], ~kept[sure] & ~dropped[sure])
        assert not (mask & ~kept)[finite].any()
        assert not (~mask & ~opened & ~dropped)[finite].any()
        assert found.kept == mask.sum()
        for total, size, score in zip(found.sums.sum(axis=1), found.magnitudes, wide, strict=True):
            assert total == pytest.approx(np.float64(np.sum(score[mask])), rel=1e-12)
            assert size == pytest.approx(np.abs(score[mask]).sum(), rel=1e-5)
        assert np.array_equal(found.scores, scores[:, found.index], equal_nan=True)


def test_sums_of_single_precision_beyond_its_range():
    scores = np.full((2, 70_000), 3e38, np.float32)
    scores[1] *= -1.0
    oval = Ellipsoid(np.array([1e-30, 0.0, 1.0]), np.diag([1e-32, 1e-3]))
    found = ArrayStore(scores).screen(oval, None)
    assert found.kept == 70_000
    wide = scores.astype(np.float64)
    assert found.sums.sum(axis=1) == pytest.approx(wide.sum(axis=1), rel=1e-15)
    assert found.magnitudes == pytest.approx(np.abs(wide).sum(axis=1), rel=1e-15)


@pytest.mark.parametrize("spread", [18, 30, 60, 120])
def test_single_precision_sums_are_exact_whatever_the_range(spread):
    """In a tile with one giant, plain sums would lose all the others."""
    rng = np.random.default_rng(22)
    scores = np.ldexp(1.0 + rng.random((3, 150_000)), -spread).astype(np.float32)
    scores[:, ::9] *= -1.0
    scores[:, ::7] = 0.0
    scores[1:, ::5_000] = 1.0
    for K in (0, 1, 2):
        center = np.concatenate(([1.0], np.zeros(K), [-1.0]))  # keeps all
        mask = np.empty(150_000, dtype=bool)
        oval = Ellipsoid(center, 1e-6 * np.eye(K + 1))
        found = ArrayStore(scores[: 1 + K], threads=2).screen(oval, mask)
        assert found.kept == mask.sum() == 150_000
        for total, row in zip(found.sums, scores, strict=False):
            exact = math.fsum(row.tolist())
            rest = math.fsum([*row.tolist(), -exact])
            assert total[0] == exact
            assert math.isclose(total[1], rest, rel_tol=1e-12, abs_tol=1e-30 * abs(exact))


@pytest.mark.parametrize("threshold", [1e-33, 1e-12, 1.0, 1e12])
@pytest.mark.parametrize("spread", [1, 28, 29, 30, 60])
def test_sums_of_one_positive_score_are_exact_whatever_the_range(spread, threshold):
    """All that is kept is above the threshold: no tile is looked at for its least weight."""
    rng = np.random.default_rng(36)
    scores = threshold * (1.0 + 1e-3 * rng.random(150_000)) * 0.9995
    scores[::300] *= 2.0**spread
    scores = scores.astype(np.float32)
    mask = np.empty(150_000, dtype=bool)
    oval = Ellipsoid(np.array([1.0, threshold]), np.array([[1e-5 * threshold]]))
    found = ArrayStore((scores,)).screen(oval, mask)
    kept = scores[mask].tolist()
    assert found.kept == len(kept) > 10_000 < len(scores) - len(kept)
    exact = math.fsum(kept)
    assert found.sums[0, 0] == exact
    assert math.isclose(found.sums[0, 1], math.fsum([*kept, -exact]), rel_tol=1e-12)
    assert found.magnitudes[0] == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("n", [1, 7, 64, 1_000, 70_001])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.4, 1.0])
def test_open_weights_are_found_in_order(n, share):
    rng = np.random.default_rng(37)
    scores = rng.choice([0.0, 2.0], n)
    scores[rng.random(n) < share] = 1.0
    found = ArrayStore((scores,)).screen(Ellipsoid(np.ones(2), np.array([[0.1]])), None)
    assert np.array_equal(found.index, np.flatnonzero(scores == 1.0))
    assert found.kept == np.count_nonzero(scores == 2.0)
    assert np.array_equal(found.scores[0], np.ones(len(found.index)))


@pytest.mark.parametrize("K", [0, 1, 2])
def test_scores_that_are_not_aligned(K):
    rng = np.random.default_rng(24)
    aligned = rng.exponential(size=(1 + K, 50_000)).astype(np.float32)
    raw = [np.frombuffer(b"?" + row.tobytes(), np.uint8)[1:].view(np.float32) for row in aligned]
    assert not raw[0].flags.aligned
    how = {"keep": 0.1} | ({"retain": 0.6} if K else {})
    found, expected = (cops_lp.solve(s[0], list(s[1:]), **how) for s in (raw, aligned))
    assert np.array_equal(found.mask, expected.mask)
    assert found.objective == expected.objective
    assert_certified(found)


@pytest.mark.parametrize("d", [1_501, 40_000])
def test_a_cone_decides_only_what_every_ray_agrees_on(d):
    rng = np.random.default_rng(12)
    scores = (rng.normal(size=d), rng.normal(size=d))
    rays = np.array([[1.0, 0.1, 0.2], [1.0, 0.5, 0.4], [0.5, 0.5, 0.1], [0.0, 0.0, 1.0]])
    for rows in (rays, rays[:3]):
        mask = np.empty(d, dtype=bool)
        found = ArrayStore(scores).screen(Cone(rows), mask)
        forms = rows[:, :2] @ np.stack(scores) - rows[:, 2:]
        kept = (forms > 1e-9).all(axis=0)
        dropped = (forms < -1e-9).all(axis=0)
        assert np.array_equal(mask, kept)
        assert np.array_equal(np.sort(found.index), np.flatnonzero(~kept & ~dropped))
        assert found.kept == kept.sum()
        for total, score in zip(found.sums.sum(axis=1), scores, strict=True):
            assert total == pytest.approx(score[kept].sum(), rel=1e-12)
        assert np.array_equal(found.scores, np.stack(scores)[:, found.index])


@pytest.mark.parametrize("first", range(0, 240, 80))
def test_sampled_answers_for_several_controls(first, tiny_samples, monkeypatch):
    rounds = collections.Counter()
    for seed in range(first, first + 80):
        instance = controlled_instance(50_000 + seed, largest=3000, most=4)
        args = (instance.target, list(instance.controls))
        how = {"keep": instance.keep, "floors": instance.floors, "raise_on_infeasible": False}
        solution = cops_lp.solve(*args, **how)
        rounds[solution.passes] += 1
        assert_certified(solution)
        whole = direct(monkeypatch, *args, **how)
        assert solution.status is whole.status, instance.name
        if solution.status is Status.OPTIMAL:
            scale = np.abs(instance.target[whole.mask]).sum() or 1.0
            assert abs(solution.objective - whole.objective) <= 1e-12 * scale, instance.name
    assert rounds[1] > 20
    assert sum(rounds.values()) > rounds[1]


@pytest.mark.parametrize("which", ["dropped", "kept", "constant", "first"])
@pytest.mark.parametrize("K", [2, 3, 4])
@pytest.mark.parametrize("retain", [0.5, 0.8])
def test_an_adversary_and_several_controls(which, K, retain, monkeypatch):
    rng = np.random.default_rng(13)
    scores = rng.random((1 + K, 20_000)) + 0.5 * rng.random(20_000)
    args = (scores[0], list(scores[1:]))
    expected = direct(monkeypatch, *args, keep=0.1, retain=retain)
    order = np.argsort(expected.combined_score())
    asked = adversary(monkeypatch, which, order)
    solution = cops_lp.solve(*args, keep=0.1, retain=retain)
    assert asked[0] == 20_000
    assert np.array_equal(solution.mask, expected.mask)
    assert solution.multipliers == pytest.approx(expected.multipliers, rel=1e-12)
    assert_certified(solution)


@pytest.mark.parametrize("K", [2, 4])
def test_joint_infeasibility_is_found_and_proven_on_the_whole(K):
    rng = np.random.default_rng(14)
    scores = rng.random((1 + K, 50_000))
    top = np.argsort(-(rng.random(K) @ scores[1:]))[:5_000]
    floors = scores[1:, top].sum(axis=1)
    problem = cops_lp.Problem(scores[0], list(scores[1:]), keep=5_000, floors=floors)
    assert_certified(problem.solve())
    asked = problem.replace(floors=floors * (1 + 1e-9))
    solution = asked.solve(raise_on_infeasible=False)
    assert solution.status is Status.INFEASIBLE
    assert_certified(solution)


def test_several_controls_of_every_kind_and_any_threads():
    rng = np.random.default_rng(15)
    target = rng.exponential(size=(200, 250)).astype(np.float32)
    controls = {
        "half": rng.random((200, 250)).astype(np.float16),
        "bytes": rng.integers(-127, 128, (200, 250)).astype(np.int8),
        "strided": rng.random((250, 200)).T,
    }
    problem = cops_lp.Problem(target, controls, keep=0.2, retain=0.6)
    one = problem.solve(threads=1)
    assert_certified(one)
    assert one.method == "dual simplex"
    two = problem.solve(threads=2)
    assert np.array_equal(one.mask, two.mask)
    assert np.array_equal(one.multipliers, two.multipliers)
    assert one.objective == two.objective


def test_cone_membership_with_several_controls():
    rng = np.random.default_rng(16)
    rays = np.vstack((np.column_stack((np.ones(9), rng.random((9, 5)))), np.eye(6)[5:]))
    for _ in range(20):
        weights = rng.random(10)
        assert Cone(rays).contains(weights @ rays)
    outside = rays[:9].max(axis=0) * (1 + 1e-9)
    assert not Cone(rays[:9]).contains(outside)
    assert Cone(rays).contains(rays[0] + 3 * rays[9])  # the threshold alone may go up
    assert not Cone(rays).contains(rays[0] - 3 * rays[9])


def test_a_combined_store_reads_the_weighted_sum():
    rng = np.random.default_rng(17)
    scores = (rng.random(40_000), rng.random(40_000), rng.integers(-9, 9, 40_000))
    weights = np.array([0.25, 2.0])
    expected = 0.25 * scores[1] + 2.0 * scores[2]
    store = ArrayStore(scores).combined_store(weights)
    assert np.array_equal(store.gather(None)[0], expected)
    assert np.array_equal(store.gather(np.array([5, 7]))[0], expected[[5, 7]])
    best, magnitude, _ = driver.best_sum(store, 4_000)
    top = np.sort(expected)[::-1][:4_000]
    assert best == pytest.approx(top.sum(), rel=1e-13)
    assert magnitude == pytest.approx(np.abs(top).sum(), rel=1e-13)


@pytest.mark.parametrize("K", [2, 3])
def test_swaps_do_not_depend_on_what_was_open(K, monkeypatch):
    """Cones leave other weights open than ellipsoids, other samples others: the mask is one."""
    for seed in range(4):
        rng = np.random.default_rng([K, seed])
        scores = rng.exponential(size=(1 + K, 60_000)).astype(np.float32)
        how = {"keep": 0.1, "retain": 0.6}
        usual = cops_lp.solve(scores[0], list(scores[1:]), **how)
        with monkeypatch.context() as patched:
            patched.setattr(driver, "guess_region", lambda *_: None)
            cone = cops_lp.solve(scores[0], list(scores[1:]), **how)
        assert np.array_equal(cone.mask, usual.mask)
        assert cone.kept.tolist() == usual.kept.tolist()
        assert_certified(cone)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "floors", [(1.1, 1.1), (1.0 + 1e-9, 0.5), (0.5, 1.1), (0.97, 0.97), (0.9, 0.9)]
)
def test_floors_of_several_controls_that_cannot_be_met(floors, threads, monkeypatch):
    """Never with all weights in memory: guessed thresholds once were one and the same."""

    def all_of_them(store, *_, **__):
        raise AssertionError(f"all {store.size} weights are open")

    d = 600_000
    rng = np.random.default_rng(2)
    scores = rng.random((3, d)).astype(np.float32)
    k = d // 10
    best = [float(np.sort(row)[-k:].sum(dtype=float)) for row in scores[1:]]
    how = {"keep": k, "floors": [a * b for a, b in zip(floors, best, strict=True)]}
    real = driver.solve_all
    monkeypatch.setattr(
        driver,
        "solve_all",
        lambda store, *a, **b: (all_of_them if store.size == d else real)(store, *a, **b),
    )
    solution = cops_lp.solve(
        scores[0], list(scores[1:]), **how, threads=threads, raise_on_infeasible=False
    )
    assert solution.status is Status.INFEASIBLE
    assert solution.passes <= 3
    assert_certified(solution)
    scores[0, 1234] = np.nan
    with pytest.raises(cops_lp.ProblemError, match="1 NaN, the first at index 1234"):
        cops_lp.solve(scores[0], list(scores[1:]), **how)
