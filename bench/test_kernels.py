"""Kernels alone, in memory that is warm: ``pytest bench``.

Every benchmark ends with an assertion on what it computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cops_lp
from cops_lp.engine.region import Ellipsoid
from cops_lp.engine.stores import ArrayStore
from cops_lp.kernels import two_score as kernel

SIZES = (1 << 10, 1 << 14, 1 << 17)

Benchmark = Any  # pytest-benchmark's fixture has no public type


def exponential(d: int, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    target: np.ndarray = rng.standard_exponential(d).astype(dtype)
    control: np.ndarray = (0.3 * target + rng.standard_exponential(d)).astype(dtype)
    return target, control


def middle_floor(target: np.ndarray, control: np.ndarray, k: int) -> float:
    """Halfway between what the target's top k keeps and the best."""
    own = control[np.argsort(-target)[:k]].sum(dtype=np.float64)
    best = np.sort(control)[-k:].sum(dtype=np.float64)
    return float(0.5 * (own + best))


@pytest.mark.parametrize("d", SIZES)
def test_top_k(benchmark: Benchmark, d: int) -> None:
    target, _ = exponential(d)
    flags = np.zeros(d, dtype=np.uint8)
    k = d // 10
    threshold = benchmark(kernel.top_k, target, k, flags)
    assert threshold == np.sort(target)[-k]
    assert flags.sum() == k


@pytest.mark.parametrize("d", SIZES)
def test_numpy_partition(benchmark: Benchmark, d: int) -> None:
    """What `top_k` is to be compared with."""
    target, _ = exponential(d)
    found = benchmark(np.partition, target, d - d // 10)
    assert found[d - d // 10] == np.sort(target)[d - d // 10]


@pytest.mark.parametrize("d", SIZES)
def test_two_score(benchmark: Benchmark, d: int) -> None:
    target, control = exponential(d)
    scale = max(target.max(), control.max())
    target, control = target / scale, control / scale
    k = d // 10
    floor = middle_floor(target, control, k)
    flags = np.zeros(d, dtype=np.uint8)
    go_on = np.zeros(1, dtype=np.uint8)
    answer = benchmark(
        kernel.two_score, target, control, k, floor, 0.0, 0.0, np.empty(0), flags, go_on
    )
    assert answer[0] == kernel.OPTIMAL
    kept = flags.astype(float)
    for index, value in zip(answer[5:7], answer[7:9], strict=True):
        if index >= 0:
            kept[index] = value
    assert kept.sum() == pytest.approx(k, rel=1e-12)
    assert control @ kept == pytest.approx(floor, rel=1e-12)


@pytest.mark.parametrize("K", [0, 1])
@pytest.mark.parametrize("d", [1 << 14, 1 << 20])
def test_screening(benchmark: Benchmark, d: int, K: int) -> None:
    """One thread's pass: 2^14 weights are a block, 2^20 are beyond the second-level cache."""
    scores = exponential(d, np.float32)[: K + 1]
    factor = np.triu(np.full((K + 1, K + 1), 0.02))
    center = np.array([1.0] + [0.5] * K + [2.2])
    mask = np.empty(d, dtype=bool)
    store = ArrayStore(scores)
    found = benchmark(store.screen, Ellipsoid(center, factor), mask)
    rows = np.stack(scores).astype(float)
    form = center[:-1] @ rows - center[-1]
    spread = np.linalg.norm(factor[:, :-1] @ rows[1:] + factor[:, -1:], axis=0)
    assert not mask[form <= spread].any()
    assert found.kept == mask.sum()
    undecided = np.count_nonzero(np.abs(form) <= spread)
    # Single precision leaves a few more open than the exact signs would.
    assert undecided <= len(found.index) <= undecided + 1e-4 * d


@pytest.mark.parametrize("d", SIZES)
def test_solve(benchmark: Benchmark, d: int) -> None:
    target, control = exponential(d, np.float32)
    floor = middle_floor(target, control, d // 10)
    solution = benchmark(cops_lp.solve, target, control, keep=d // 10, floors=floor)
    assert cops_lp.certify(solution.problem, solution)


@pytest.mark.parametrize("d", SIZES)
def test_judge(benchmark: Benchmark, d: int) -> None:
    target, control = exponential(d, np.float32)
    floor = middle_floor(target, control, d // 10)
    solution = cops_lp.solve(target, control, keep=d // 10, floors=floor)
    assert benchmark(cops_lp.certify, solution.problem, solution)
