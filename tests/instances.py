"""Random and hand-made instances: ties, zeros, mixed signs, 30 decades, extreme budgets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Instance:
    name: str
    target: np.ndarray
    control: np.ndarray
    keep: int
    floor: float


def _uniform(rng, d):
    return rng.random(d)


def _normal(rng, d):
    return rng.normal(size=d)


def _integers(rng, d):
    return rng.integers(-3, 4, d).astype(float)


def _quantized(rng, d):
    return np.round(rng.normal(size=d) * 20) / 16


def _half_zero(rng, d):
    return np.where(rng.random(d) < 0.5, 0.0, rng.random(d))


def _constant(rng, d):
    return np.full(d, rng.normal())


def _decades(rng, d):
    return 10.0 ** rng.uniform(-30, 0, d)


def _signed_decades(rng, d):
    return 10.0 ** rng.uniform(-15, 15, d) * rng.choice([-1.0, 1.0], d)


def _single(rng, d):
    return rng.exponential(size=d).astype(np.float32).astype(float)


SCORES = {
    "uniform": _uniform,
    "normal": _normal,
    "integers": _integers,
    "quantized": _quantized,
    "half zero": _half_zero,
    "constant": _constant,
    "decades": _decades,
    "signed decades": _signed_decades,
    "float32": _single,
}

RELATIONS = ("independent", "independent", "mixed", "same", "opposite", "scaled", "noisy opposite")


def related(rng: np.random.Generator, relation: str, target: np.ndarray, other: np.ndarray):
    if relation == "same":
        return target.copy()
    if relation == "opposite":
        return -target
    if relation == "scaled":
        return 3.0 * target
    if relation == "mixed":
        return 0.5 * target + other
    if relation == "noisy opposite":
        return -target + 1e-9 * other
    return other


def budget(rng: np.random.Generator, d: int) -> int:
    special = [0, 1, d - 1, d]
    return int(rng.choice(special)) if rng.random() < 0.3 else int(rng.integers(0, d + 1))


FLOORS = ("middle", "middle", "middle", "best", "low", "tight", "attained", "infeasible")


def floor_for(rng: np.random.Generator, kind: str, c: np.ndarray, a: np.ndarray, k: int) -> float:
    """A floor between what the target's own mask keeps and the best, or at an edge."""
    top = np.argsort(-a, kind="stable")[:k]
    best = math.fsum(a[top])
    own = math.fsum(a[np.argsort(-c, kind="stable")[:k]])
    if kind == "best":
        return best
    if kind == "low":
        return own - abs(own) * rng.random() - rng.random()
    if kind == "tight":
        return own + (best - own) * 1e-9
    if kind == "attained":
        return math.fsum(a[rng.permutation(len(a))[:k]])
    if kind == "infeasible":
        return best + 1e-9 * (math.fsum(np.abs(a[top])) or 1.0)
    return own + (best - own) * rng.random()


def random_instance(seed: int, largest: int = 300) -> Instance:
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, largest + 1)) if rng.random() < 0.7 else int(rng.integers(1, 13))
    d = min(d, largest)
    names = list(SCORES)
    first, second = rng.choice(names), rng.choice(names)
    relation = str(rng.choice(RELATIONS))
    target = SCORES[first](rng, d)
    control = related(rng, relation, target, SCORES[second](rng, d))
    keep = budget(rng, d)
    kind = str(rng.choice(FLOORS))
    floor = floor_for(rng, kind, target, control, keep)
    return Instance(f"{seed}: {first}, {second}, {relation}, {kind}", target, control, keep, floor)


@dataclass(frozen=True)
class Controlled:
    """An instance with several controls, shape (K, d)."""

    name: str
    target: np.ndarray
    controls: np.ndarray
    keep: int
    floors: np.ndarray


JOINT_FLOORS = (
    "mixed",
    "mixed",
    "mixed",
    "attained",
    "attained",
    "best",
    "low",
    "tight",
    "infeasible",
    "jointly infeasible",
    "too much",
)


def _mixture(weights: np.ndarray, A: np.ndarray) -> np.ndarray:
    """Σ w_j A_j, added in this order on every processor: a product of matrices need not be."""
    total = np.zeros(A.shape[1])
    for weight, row in zip(weights, A, strict=True):
        total += weight * row
    return total


def joint_floors(
    rng: np.random.Generator, kind: str, c: np.ndarray, A: np.ndarray, k: int
) -> np.ndarray:
    """Floors around what masks of k weights keep of all controls at once."""
    K, d = A.shape

    def kept(score):
        top = np.argsort(-score, kind="stable")[:k]
        return np.array([math.fsum(row[top]) for row in A])

    best = np.array([math.fsum(np.sort(row)[::-1][:k]) for row in A])
    size = np.array([math.fsum(np.sort(np.abs(row))[::-1][:k]) for row in A])
    own = kept(c)
    unit = np.where(size > 0.0, size, 1.0)
    mixed = kept(_mixture(rng.random(K) / unit, A))
    if kind == "attained":  # by some mask, chosen at random
        return kept(rng.random(d))
    if kind == "best":  # one control at its best, the others where that leaves them
        j = int(rng.integers(K))
        floors = kept(A[j] + 0.0)
        floors[j] = best[j]
        slack = rng.random(K) * (rng.random(K) < 0.7)
        return np.where(np.arange(K) == j, best[j], floors - slack * unit)
    if kind == "low":
        return own - rng.random(K) * unit
    if kind == "tight":
        return own + (mixed - own) * 1e-9
    if kind == "infeasible":
        j = int(rng.integers(K))
        floors = kept(A[j]) - rng.random(K) * unit
        floors[j] = best[j] + 1e-9 * unit[j]
        return floors
    if kind == "jointly infeasible":  # by a billionth, along a random combination
        y = rng.random(K) / unit
        floors = kept(_mixture(y, A))
        return floors + 1e-9 * unit
    if kind == "too much":
        return best - 0.01 * rng.random(K) * unit
    return own + (mixed - own) * rng.random(K) ** 2


def controlled_instance(seed: int, largest: int = 300, most: int = 8) -> Controlled:
    """A random instance with 2 to `most` controls, some of them related to each other."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, largest + 1)) if rng.random() < 0.7 else int(rng.integers(1, 13))
    d = min(d, largest)
    K = int(rng.integers(2, most + 1))
    names = list(SCORES)
    # One family for all, or one for each score.
    family = rng.choice(names, K + 1) if rng.random() < 0.5 else [rng.choice(names)] * (K + 1)
    rows = [SCORES[family[0]](rng, d)]
    relations = []
    for name in family[1:]:
        relation = str(rng.choice(RELATIONS)) if rng.random() < 0.4 else "independent"
        j = int(rng.integers(len(rows)))
        own = SCORES[name](rng, d)
        if relation == "noisy opposite" and j > 0:
            # Closer to −A_j than this the two floors contradict each other, or their
            # multipliers are too large for float64 to state: see test_nearly_opposite_controls.
            rows.append(-rows[j] + 1e-2 * own)
        else:
            rows.append(related(rng, relation, rows[j], own))
        relations.append(relation)
    if rng.random() < 0.1 and K > 2:
        rows[K] = rows[1] + rows[2]  # linearly dependent
    target, controls = rows[0], np.array(rows[1:])
    keep = budget(rng, d)
    kind = str(rng.choice(JOINT_FLOORS))
    floors = joint_floors(rng, kind, target, controls, keep)
    name = f"{seed}: K={K} d={d} k={keep} {kind}; {', '.join(family)}; {', '.join(relations)}"
    return Controlled(name, target, controls, keep, floors)
