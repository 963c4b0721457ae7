"""Sums of the k largest in bounded memory, against sorting."""

from __future__ import annotations

import math

import numpy as np
import pytest

import cops_lp
from cops_lp import certify
from cops_lp.judge import reading, selection
from cops_lp.judge.selection import top_sum

from .instances import SCORES


def in_blocks(values, block):
    def blocks():
        for start in range(0, len(values), block):
            part = values[start : start + block]
            yield part, np.abs(part)

    return blocks


@pytest.mark.parametrize("gathered", [0, 3, 64, 10**6])
@pytest.mark.parametrize("name", [*SCORES, "signed zeros", "extremes"])
def test_top_sums_whatever_is_gathered(monkeypatch, name, gathered):
    monkeypatch.setattr(selection, "_GATHERED", gathered)
    rng = np.random.default_rng(5)
    values = {
        "signed zeros": lambda: rng.choice([0.0, -0.0, 1.0, -1.0], 300),
        "extremes": lambda: rng.choice([1.0, -1.0, 5e-324, -5e-324, 1e-310, 2.0**-1000], 300),
    }.get(name, lambda: SCORES[name](rng, 300))()
    ordered = np.sort(values)[::-1]
    for k in (0, 1, 2, 150, 299, 300):
        found = top_sum(in_blocks(values, 77), 300, k)
        assert found.total.value() == math.fsum(ordered[:k])
        assert found.magnitude == pytest.approx(np.abs(ordered[:k]).sum(), rel=1e-14)


def test_ties_are_counted_and_not_gathered(monkeypatch):
    monkeypatch.setattr(selection, "_GATHERED", 10)
    values = np.concatenate((np.full(1000, 0.1), [0.2, -1.0]))
    found = top_sum(in_blocks(values, 100), 1002, 501)
    assert found.total.value() == math.fsum([0.2, *[0.1] * 500])


@pytest.mark.parametrize("block", [7, 64, 1 << 17])
def test_the_verdict_does_not_depend_on_blocks(monkeypatch, block):
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(3, 500)).astype(np.float32)
    solution = cops_lp.solve(scores[0], scores[1:], keep=50, retain=0.5)
    whole = certify(solution.problem, solution)
    monkeypatch.setattr(reading, "_BLOCK", block)
    monkeypatch.setattr(selection, "_GATHERED", 20)
    verdict = certify(solution.problem, solution)
    assert verdict
    assert (verdict.objective, verdict.bound) == (whole.objective, whole.bound)
    assert [c.name for c in verdict.checks] == [c.name for c in whole.checks]


def test_memory_does_not_grow_with_the_scores():
    import tracemalloc

    peaks = []
    for d in (1 << 19, 1 << 21):
        rng = np.random.default_rng(1)
        target, control = rng.random((2, d), dtype=np.float32)
        solution = cops_lp.solve(target, {"size": control}, keep=0.1, retain=0.9)
        tracemalloc.start()
        assert certify((target, {"size": control}), solution)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 4e6  # a float64 copy would be 16 MB more
    assert peaks[1] < 4e7
