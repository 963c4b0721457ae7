"""The driver is exact whatever the sample: small samples, bad samples, hard inputs."""

from __future__ import annotations

import collections

import numpy as np
import pytest

import cops_lp
from cops_lp import Status
from cops_lp.engine import driver, region
from cops_lp.engine.stores import ArrayStore

from .checks import assert_certified
from .instances import random_instance


@pytest.fixture
def tiny_samples(monkeypatch):
    """Sample from 40 weights on, so that small instances take the large ones' way."""
    monkeypatch.setattr(driver, "_DIRECT", 40)
    monkeypatch.setattr(driver, "_SAMPLE", (64, 128))


def direct(monkeypatch, *args, **kwargs):
    with monkeypatch.context() as patch:
        patch.setattr(driver, "_DIRECT", 1 << 60)
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
    picks = {
        "dropped": np.sort(order[:4096]),
        "kept": np.sort(order[-4096:]),
        "constant": np.zeros(4096, dtype=np.int64),
        "first": np.arange(4096),
    }

    def adversary(d, attempt):
        return picks[which][:d] if d == 30_000 else honest(d, attempt)

    honest = driver._sample_index
    monkeypatch.setattr(driver, "_sample_index", adversary)
    solution = cops_lp.solve(*args, **how)
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


def test_region_membership():
    rays = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    assert region.contains(rays, np.array([1.0, 0.25, 0.25]))
    assert region.contains(rays, np.array([1.0, 0.5, 0.5]))
    assert not region.contains(rays, np.array([1.0, 0.5, 0.5 + 1e-9]))
    assert not region.contains(rays, np.array([1.0, -1e-9, 0.5]))
    line = rays[:2]
    assert not region.contains(line, np.array([1.0, 0.5, 1e-300]))


def test_screening_decides_only_what_every_ray_agrees_on():
    rng = np.random.default_rng(12)
    scores = (rng.normal(size=40_000), rng.normal(size=40_000))
    rays = np.array([[1.0, 0.1, 0.2], [1.0, 0.5, 0.4], [0.5, 0.5, 0.1], [0.0, 0.0, 1.0]])
    for rows in (rays, rays[:3]):
        mask = np.empty(40_000, dtype=bool)
        found = ArrayStore(scores).screen(rows, 1e-12, mask)
        forms = rows[:, :2] @ np.stack(scores) - rows[:, 2:]
        kept = (forms > 1e-9).all(axis=0)
        dropped = (forms < -1e-9).all(axis=0)
        assert np.array_equal(mask, kept)
        assert np.array_equal(np.sort(found.index), np.flatnonzero(~kept & ~dropped))
        assert found.kept == kept.sum()
        for total, score in zip(found.sums.sum(axis=1), scores, strict=True):
            assert total == pytest.approx(score[kept].sum(), rel=1e-12)
        assert np.array_equal(found.scores, np.stack(scores)[:, found.index])
