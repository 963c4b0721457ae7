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
