"""Against rational arithmetic: 3,000 small instances here, 100,000 with ``pytest -m slow``.

Of each the relaxation, the best mask and the balance: statuses, values, bounds, multipliers,
certificates, masks, shortfalls and ties, as exact_checks.py says what float64 must reach.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog

import cops_lp
from cops_lp import SolverError, Status

from .checks import assert_certified
from .exact_checks import (
    check_balance,
    check_integral,
    check_relaxation,
    counted_as_best,
    on_the_edge,
)
from .oracle import relaxed_optimum_several
from .rational import ExactProblem, balanced_share, exact, top_sum
from .small_instances import SmallInstance, small_instance


def compare(instance: SmallInstance) -> list[str]:
    """Solve in all three ways and check; what each came to."""
    scores = (instance.scores[0], list(instance.scores[1:]))
    how = {"keep": instance.keep, "threads": 1, "raise_on_infeasible": False, **instance.limits}
    try:
        solution = cops_lp.solve(*scores, **how)
    except SolverError:
        return ["no answer", *balanced(instance)]
    if on_the_edge(ExactProblem.of(instance.scores, instance.keep, solution.floors)):
        assert_certified(solution)
        return ["on the edge"]
    value = check_relaxation(instance, solution)
    assert_certified(solution)
    if solution.status is Status.INFEASIBLE:
        return ["infeasible", *balanced(instance)]
    words = ["optimal" if value is not None else "met by rounding", *balanced(instance)]
    if len(instance.scores) > 1:
        best = cops_lp.solve(*scores, **how, integral=True)
        words.append(check_integral(instance, solution, best))
        assert_certified(best)
    return words


def balanced(instance: SmallInstance) -> list[str]:
    if instance.seed % 2:  # it takes as long as the rest
        return []
    return [check_balance(instance)]


def may_fail(instance: SmallInstance) -> bool:
    """Whether float64 may have no answer: over decades, or for floors met by rounding only."""
    limits = instance.limits
    problem = cops_lp.Problem(
        instance.scores[0], list(instance.scores[1:]), keep=instance.keep, **limits
    )
    asked = ExactProblem.of(instance.scores, instance.keep, problem.floors)
    return instance.kind == "wide" or counted_as_best(asked)[0].value() is None


def compare_all(seeds: range) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        instance = small_instance(seed)
        try:
            words = compare(instance)
            assert "no answer" not in words or may_fail(instance)
        except Exception as error:
            error.add_note(f"small_instance({seed}) is {instance.name}")
            raise
        seen.update(words)
    count = len(seeds)
    assert seen["optimal"] > 0.7 * count
    assert seen["infeasible"] > 0.05 * count
    assert seen["met by rounding"] > 0
    assert seen["proven"] > 0.6 * count
    assert seen["only fractional"] > 0
    assert seen["balanced"] > 0.15 * count
    assert seen["no share"] > 0.15 * count
    assert seen["open"] == 0
    assert seen["no answer"] + seen["no balance"] <= max(2, count // 2000)
    return seen


@pytest.mark.parametrize("batch", range(10))
def test_three_thousand_instances(batch):
    compare_all(range(300 * batch, 300 * batch + 300))


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(10))
def test_a_hundred_thousand_instances(batch):
    seen = compare_all(range(10_000 * (1 + batch), 10_000 * (2 + batch)))
    print(dict(seen))


def scored(*rows):
    return [exact(row) for row in rows]


def test_the_oracle_by_hand():
    problem = ExactProblem(scored([5, 4, 3, 2, 1], [1, 2, 3, 4, 5]), 2, [Fraction(9, 2)])
    assert problem.value() == Fraction(15, 2)
    assert problem.best_mask_value() == 7
    assert problem.bound([Fraction(1)]) == Fraction(15, 2)
    assert problem.bound([Fraction(0)]) == 9
    assert problem.lowered([Fraction(-9, 2)]).value() == 3
    beyond = problem.lowered([Fraction(-5)])
    assert beyond.value() is None
    assert beyond.best_mask_value() is None
    assert beyond.excess([Fraction(2)]) == 1
    # Only x = (1/2, 1/2) meets both floors, and no mask.
    half = ExactProblem(scored([3, 1], [1, 0], [0, 1]), 1, [Fraction(1, 2)] * 2)
    assert half.value() == 2
    assert half.best_mask_value() is None
    assert balanced_share(scored([1, 0], [0, 1]), 1) == Fraction(1, 2)
    assert balanced_share(scored([4, 2, 0], [0, 1, 3]), 2) == Fraction(7, 10)
    assert balanced_share(scored([1, -2], [-2, 1]), 1) == Fraction(-1, 2)


def test_the_oracle_equals_the_enumeration_of_vertices():
    """The other oracle: no simplex, no duality."""
    infeasible = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        d, K = int(rng.integers(1, 7)), int(rng.integers(0, 4))
        k = int(rng.integers(0, d + 1))
        scores = rng.integers(-2, 4, (1 + K, d)).astype(float)
        floors = scores[1:, rng.permutation(d)[:k]].sum(axis=1) + rng.integers(-1, 2, K)
        value = ExactProblem.of(scores, k, floors).value()
        assert value == relaxed_optimum_several(scores[0], scores[1:], k, floors)
        infeasible += value is None
    assert 50 < infeasible < 200


def test_the_oracle_of_balance_equals_highs():
    done = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        d, count = int(rng.integers(1, 11)), int(rng.integers(1, 5))
        k = int(rng.integers(1, d + 1))
        scores = rng.normal(size=(count, d)) + 0.5
        rows = scored(*scores)
        bests = [float(top_sum(row, k)) for row in rows]
        if min(bests) < 0.1:
            continue
        found = linprog(
            [0.0] * d + [-1.0],
            A_ub=np.hstack((-scores, np.array(bests)[:, None])),
            b_ub=np.zeros(count),
            A_eq=[[1.0] * d + [0.0]],
            b_eq=[k],
            bounds=[(0, 1)] * d + [(None, None)],
        )
        assert -found.fun == pytest.approx(float(balanced_share(rows, k)), abs=1e-7)
        done += 1
    assert done > 200


def test_instances_are_what_they_are_meant_to_be():
    """All kinds of floors, budgets and relations, and many that tie."""
    seen: Counter[str] = Counter()
    for seed in range(3000):
        instance = small_instance(seed)
        d = instance.scores.shape[1]
        assert 1 <= d <= 10
        assert 0 <= instance.keep <= d
        assert np.isfinite(instance.scores).all()
        columns = {tuple(column) for column in instance.scores.T.tolist()}
        seen.update(
            {
                "equal weights": len(columns) < d,
                "no budget": instance.keep == 0,
                "all": instance.keep == d,
                "zero control": bool((instance.scores[1:] == 0.0).all(axis=1).any()),
                "target again": bool((instance.scores[1:] == instance.scores[0]).all(axis=1).any()),
                "opposite": bool((instance.scores[1:] == -instance.scores[0]).all(axis=1).any()),
                "decades": bool(np.abs(instance.scores).max() > 1e20),
                "negative zero": bool(np.signbit(instance.scores[instance.scores == 0.0]).any()),
                instance.floors_kind: True,
                instance.kind: True,
            }
        )
    assert min(seen.values()) >= 50, seen
    assert seen["equal weights"] > 1000
