"""Small inputs through every kernel, quick without the compiler too.

``python -m tests.covered`` runs this file with NUMBA_DISABLE_JIT=1, where kernels are Python code
whose lines can be followed.
"""

from __future__ import annotations

import numpy as np
import pytest

import cops_lp
from cops_lp import Status

from .checks import assert_certified
from .guessing import guess_early
from .instances import controlled_instance, random_instance
from .small_instances import small_instance
from .test_rational import compare


@pytest.mark.parametrize("first", range(200_000, 200_200, 10))
def test_against_rational_arithmetic(first):
    words = {word for seed in range(first, first + 10) for word in compare(small_instance(seed))}
    assert words & {"optimal", "infeasible", "met by rounding"}


@pytest.fixture(params=["sample", "whole"])
def tiny_samples(request, monkeypatch):
    """Guess from 40 weights on."""
    guess_early(monkeypatch, request.param)


@pytest.mark.parametrize("seed", range(80_000, 80_020))
def test_guesses_with_one_control(seed, tiny_samples):
    instance = random_instance(seed, largest=500)
    solution = cops_lp.solve(
        instance.target, instance.control, keep=instance.keep, floors=instance.floor,
        threads=1, raise_on_infeasible=False,
    )  # fmt: skip
    assert solution.status in (Status.OPTIMAL, Status.INFEASIBLE)
    assert_certified(solution)


@pytest.mark.parametrize("seed", range(80_000, 80_020))
def test_guesses_with_several_controls(seed, tiny_samples):
    instance = controlled_instance(seed, largest=400, most=4)
    solution = cops_lp.solve(
        instance.target, list(instance.controls), keep=instance.keep, floors=instance.floors,
        threads=1, raise_on_infeasible=False,
    )  # fmt: skip
    assert solution.status in (Status.OPTIMAL, Status.INFEASIBLE)
    assert_certified(solution)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
@pytest.mark.parametrize("K", [0, 1, 2])
def test_masses_of_ties(K, dtype, tiny_samples):
    rng = np.random.default_rng(39)
    scores = rng.integers(0, 3, (1 + K, 800)).astype(dtype)
    how = {"retain": 0.7} if K else {}
    solution = cops_lp.solve(scores[0], list(scores[1:]), keep=200, threads=1, **how)
    assert solution.mask.sum() == 200
    assert_certified(solution)


@pytest.mark.parametrize("K", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_of_forty_weights(seed, K):
    rng = np.random.default_rng(40 + seed)
    scores = rng.random((1 + K, 40))
    found = cops_lp.solve(
        scores[0], list(scores[1:]), keep=12, retain=0.75, integral=True, threads=1
    )
    assert found.integer_gap == 0.0
    assert not found.shortfall.any()
    assert_certified(found)
