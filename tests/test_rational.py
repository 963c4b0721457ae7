"""Against rational arithmetic: values, statuses, certificates, bounds and ties on tiny instances.

3,000 instances here, 100,000 with ``pytest -m slow``.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog

import cops_lp
from cops_lp import Status

from . import rational

KINDS = ("integers", "zeros and ones", "sixty-fourths", "normal", "wide", "lognormal")


def fractions(row):
    return [Fraction(float(value)) for value in row]


def scores_of(rng, kind, rows, d):
    if kind == "integers":
        return rng.integers(-2, 4, (rows, d)).astype(float)
    if kind == "zeros and ones":
        return rng.integers(0, 2, (rows, d)).astype(float)
    if kind == "sixty-fourths":
        return rng.integers(-40, 200, (rows, d)) / 64.0
    if kind == "normal":
        return rng.standard_normal((rows, d))
    if kind == "wide":
        return 10.0 ** rng.uniform(-6.0, 6.0, (rows, d)) * rng.choice([1.0, -1.0], (rows, d))
    return rng.lognormal(sigma=2.0, size=(rows, d))


def instance(seed):
    """Up to ten weights and three controls of any relation, and floors near all that matters."""
    rng = np.random.default_rng(seed)
    d, K = int(rng.integers(1, 11)), int(rng.integers(0, 4))
    kind = str(rng.choice(KINDS))
    scores = scores_of(rng, kind, 1 + K, d)
    if rng.random() < 0.3:  # weights that are equal in every score
        scores[:, rng.integers(0, d, max(1, d // 2))] = scores[:, [int(rng.integers(d))]]
    for j in range(1, 1 + K):
        relation = rng.random()
        if relation < 0.08:
            scores[j] = 0.0
        elif relation < 0.16:
            scores[j] = scores[0]
        elif relation < 0.24:
            scores[j] = -scores[0]
        elif relation < 0.32:
            scores[j] = scores[rng.integers(1, j + 1)]
    scores = np.ldexp(scores, rng.choice([0, 0, 0, -90, 70], (1 + K, 1)))
    k = int(rng.choice([0, 1, d - 1, d, int(rng.integers(0, d + 1)), d // 2, d // 2, d // 3]))
    floors = []
    for row in scores[1:]:
        best = float(rational.top(fractions(row), k))
        some = float(sum(fractions(rng.permutation(row)[:k]), Fraction(0)))
        share = rng.random()
        size = float(np.abs(row).sum())
        floors.append(
            float(
                rng.choice(
                    [best, some, some, share * best, best - share * (best - some), -size, 0.0,
                     best + 2.0**-20 * size]
                )
            )
        )  # fmt: skip
    return kind, scores, k, floors


def held(x, row):
    return sum((Fraction(float(v)) * a for v, a in zip(x.ravel(), row, strict=True)), Fraction(0))


def check(seed):
    kind, scores, k, floors = instance(seed)
    K, d = len(floors), scores.shape[1]
    exact_scores = [fractions(row) for row in scores]
    exact_floors = fractions(floors)
    truth = rational.solve(exact_scores, k, exact_floors)
    found = cops_lp.solve(
        scores[0],
        list(scores[1:]),
        keep=k,
        floors=floors if K else None,
        raise_on_infeasible=False,
    )
    # What a floor may be above the best by, and still count as it.
    doubt = [
        Fraction(1, 10**12) * max(rational.top([abs(a) for a in row], k), abs(b))
        for row, b in zip(exact_scores[1:], exact_floors, strict=True)
    ]
    if found.status is Status.INFEASIBLE:
        assert truth.value is None
        y = fractions(found.certificate)
        combined = [
            sum((w * row[i] for w, row in zip(y, exact_scores[1:], strict=True)), Fraction(0))
            for i in range(d)
        ]
        assert min(y) >= 0
        wanted = sum((w * b for w, b in zip(y, exact_floors, strict=True)), Fraction(0))
        assert wanted > rational.top(combined, k)
        return "infeasible"
    assert found.status is Status.OPTIMAL
    lowered = False
    if truth.value is None:
        lowered = True
        truth = rational.solve(
            exact_scores, k, [b - e for b, e in zip(exact_floors, doubt, strict=True)]
        )
        assert truth.value is not None
    x = found.relaxed()
    scale = held(np.asarray(x), [abs(a) for a in exact_scores[0]])
    prices = fractions(found.multipliers)
    weighed = sum(
        (
            w * held(np.asarray(x), [abs(a) for a in row])
            for w, row in zip(prices, exact_scores[1:], strict=True)
        ),
        Fraction(0),
    )
    tolerance = Fraction(1, 10**12) * (scale + weighed / 1000)
    if not lowered:
        assert abs(Fraction(found.objective) - truth.value) <= tolerance
        # In whole numbers, or 64ths of them, float64 leaves next to nothing to rounding.
        if kind in ("integers", "zeros and ones", "sixty-fourths"):
            assert abs(Fraction(found.objective) - truth.value) <= Fraction(1, 10**14) * (
                scale + weighed / 1000
            )
    lam = [
        Fraction(float(high)) + Fraction(float(low))
        for high, low in zip(found.multipliers, found.multipliers_rest, strict=True)
    ]
    assert min(lam, default=Fraction(0)) >= 0
    bound = rational.dual(exact_scores, k, exact_floors, lam)
    if not lowered:
        assert bound >= truth.value  # no λ gets below it
        assert bound - truth.value <= tolerance
    for row, b, e in zip(exact_scores[1:], exact_floors, doubt, strict=True):
        assert held(x, row) >= b - e
    assert sum(map(Fraction, x.tolist()), Fraction(0)) - k == pytest.approx(0, abs=1e-15 * d)
    assert int(((x > 0.0) & (x < 1.0)).sum()) <= K + 1
    # Of equal weights those of lowest index.
    mask = found.mask
    assert int(mask.sum()) == k
    for i in range(d):
        for j in range(i + 1, d):
            if (scores[:, i] == scores[:, j]).all():
                assert x[i] >= x[j]
                assert mask[i] or not mask[j]
    kept = [
        sum((a for a, m in zip(row, mask, strict=True) if m), Fraction(0)) for row in exact_scores
    ]
    for total, b, e, lack in zip(kept[1:], exact_floors, doubt, found.shortfall, strict=True):
        assert abs(max(b - total, Fraction(0)) - Fraction(float(lack))) <= e
    whole = cops_lp.solve(
        scores[0], list(scores[1:]), keep=k, floors=floors if K else None, integral=True,
        raise_on_infeasible=False,
    )  # fmt: skip
    least = rational.best_mask(exact_scores, k, exact_floors, [Fraction(0)] * K)
    most = rational.best_mask(exact_scores, k, exact_floors, doubt)
    if most is None:
        assert whole.integer_bound == -math.inf
    elif least is not None or whole.integer_bound > -math.inf:
        size = sum(map(abs, exact_scores[0]), Fraction(0))
        loose = Fraction(1, 10**12) * (size + weighed)
        assert Fraction(whole.mask_objective) <= most + loose
        assert least is None or Fraction(whole.mask_objective) >= least - loose
        assert whole.integer_gap <= float(loose)
        assert not whole.shortfall.any()
    return "lowered" if lowered else "optimal"


def check_all(seeds):
    seen: dict[str, int] = {}
    for seed in seeds:
        try:
            outcome = check(seed)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        seen[outcome] = seen.get(outcome, 0) + 1
    assert seen["optimal"] > 0.4 * len(seeds)
    assert seen["infeasible"] > 0


@pytest.mark.parametrize("batch", range(15))
def test_three_thousand_instances(batch):
    check_all(range(200 * batch, 200 * batch + 200))


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(100))
def test_a_hundred_thousand_instances(batch):
    check_all(range(10_000 + 1000 * batch, 10_000 + 1000 * batch + 1000))


@pytest.mark.parametrize("batch", range(4))
def test_balance(batch):
    done = 0
    for seed in range(100 * batch, 100 * batch + 100):
        _, scores, k, _ = instance(50_000 + seed)
        rows = [fractions(row) for row in scores]
        if any(rational.top(row, k) <= 0 for row in rows):
            continue
        rounding = max(
            sum(sorted(map(abs, row), reverse=True)[:k], Fraction(0)) / rational.top(row, k)
            for row in rows
        )
        if rounding > 1000:
            continue
        truth = rational.balance(rows, k).value
        found = cops_lp.balance(list(scores), keep=k)
        assert abs(Fraction(found.share) - truth) <= Fraction(1, 10**12) * rounding, seed
        assert abs(Fraction(found.share_bound) - truth) <= Fraction(1, 10**12) * rounding, seed
        done += 1
    assert done >= 20


def test_the_oracle_itself():
    """By hand, and against HiGHS, to its tolerance."""
    scores = [fractions(row) for row in ([5, 4, 3, 2, 1], [1, 2, 3, 4, 5])]
    found = rational.solve(scores, 2, [Fraction(9, 2)])
    assert found.value == Fraction(15, 2)
    assert sum(found.x) == 2
    assert rational.solve(scores, 2, [Fraction(10)]).value is None
    assert rational.solve(scores, 2, [Fraction(9)]).value == 3
    assert rational.best_mask(scores, 2, [Fraction(9, 2)], [Fraction(0)]) == 7
    assert rational.balance([fractions([1, 0]), fractions([0, 1])], 1).value == Fraction(1, 2)
    for seed in range(300):
        _, scores, k, floors = instance(seed)
        scores = scores / np.maximum(np.abs(scores).max(axis=1, keepdims=True), 1e-300)
        floors = [float(rational.top(fractions(row), k)) - 0.3 for row in scores[1:]]
        truth = rational.solve([fractions(row) for row in scores], k, fractions(floors))
        found = linprog(
            -scores[0], A_ub=-scores[1:] if floors else None, b_ub=-np.array(floors) if floors
            else None, A_eq=np.ones((1, scores.shape[1])), b_eq=[k], bounds=(0, 1),
        )  # fmt: skip
        assert (found.status == 2) == (truth.value is None), seed
        if truth.value is not None:
            assert -found.fun == pytest.approx(float(truth.value), abs=1e-6)
