"""Small instances for exact arithmetic: ties, degenerate vertices, extreme scales, borderlines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from .rational import exact, top_sum

__all__ = ["BEYOND", "FLOORS", "SmallInstance", "small_instance"]

Draw = Callable[[np.random.Generator, int], np.ndarray]

WHOLE: dict[str, Draw] = {  # all sums of these are exact in float64
    "bits": lambda rng, d: rng.integers(0, 2, d).astype(float),
    "signs": lambda rng, d: rng.integers(-1, 2, d).astype(float),
    "digits": lambda rng, d: rng.integers(0, 10, d).astype(float),
    "few": lambda rng, d: rng.integers(-2, 4, d).astype(float),
    "eighths": lambda rng, d: rng.integers(-20, 21, d) / 8.0,
    "constant": lambda rng, d: np.full(d, float(rng.integers(-2, 3))),
    "zero": lambda rng, d: np.zeros(d),
    "large": lambda rng, d: rng.integers(-(2**40), 2**40, d).astype(float),
}
REAL: dict[str, Draw] = {
    "uniform": lambda rng, d: rng.random(d),
    "normal": lambda rng, d: rng.normal(size=d),
    "float32": lambda rng, d: rng.exponential(size=d).astype(np.float32).astype(float),
    "thirds": lambda rng, d: rng.integers(-3, 4, d) / 3.0,
    "near 1": lambda rng, d: 1.0 + rng.integers(0, 4, d) * 2.0**-52,
    "half zero": lambda rng, d: np.where(rng.random(d) < 0.5, 0.0, rng.random(d)),
}
WIDE: dict[str, Draw] = {
    "decades": lambda rng, d: 10.0 ** rng.uniform(-30, 30, d),
    "signed decades": lambda rng, d: 10.0 ** rng.uniform(-15, 15, d) * rng.choice([-1.0, 1.0], d),
    "powers": lambda rng, d: 2.0 ** rng.integers(-90, 90, d) * rng.choice([-1.0, 1.0], d),
    "one large": lambda rng, d: np.where(np.arange(d) == rng.integers(d), 1e30, rng.random(d)),
}
FAMILIES = {"whole": WHOLE, "real": REAL, "wide": {**WHOLE, **REAL, **WIDE}}

RELATIONS: dict[str, Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]] = {
    "same": lambda rng, other, own: other.copy(),
    "opposite": lambda rng, other, own: -other,
    "double": lambda rng, other, own: 2.0 * other,
    "sum": lambda rng, other, own: other + own,
    "less": lambda rng, other, own: own - other,
}
NEAR_RELATIONS = {  # only where float64 cannot be exact anyway
    **RELATIONS,
    "triple": lambda rng, other, own: 3.0 * other,
    "noisy": lambda rng, other, own: other + 1e-9 * own,
    "noisy opposite": lambda rng, other, own: 1e-2 * own - other,
    "an ulp off": lambda rng, other, own: np.where(  # beside 0 that would be 5e-324
        (rng.random(len(other)) < 0.3) & (other != 0.0), np.nextafter(other, np.inf), other
    ),
}

BEYOND = {"within": 0.9e-12, "beyond": 1.1e-12, "a billionth": 1e-9}
"""By what share of its best mask's summed absolute score a floor exceeds its best."""

FLOORS = (
    "a mask's",
    "a mask's",
    "the target's own",
    "between masks",
    "between masks",
    "a mixture's",
    "a mixture's",
    "best",
    "best and a mixture's",
    "next above the best",
    *BEYOND,
    "a mixture's and more",
    "low",
    "anywhere",
    "retain",
    "retain",
)


@dataclass(frozen=True)
class SmallInstance:
    """Scores of shape (1 + K, d), target first; `floors` or, where None, `retain`."""

    seed: int
    name: str
    kind: str  # whole, real or wide
    floors_kind: str
    scores: np.ndarray
    keep: int
    floors: list[float] | None
    retain: list[float] | None

    @property
    def limits(self) -> dict[str, list[float] | None]:
        """The keyword arguments that say them."""
        if len(self.scores) == 1:
            return {}
        return {"retain": self.retain} if self.floors is None else {"floors": self.floors}


def small_instance(seed: int) -> SmallInstance:
    """d up to 10, K up to 3; the seed decides all."""
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(["whole", "whole", "real", "wide"]))
    d = int(rng.integers(1, 11))
    K = int(rng.choice([0, 1, 1, 1, 2, 2, 2, 3, 3, 3]))
    keep = int(rng.choice([0, 1, d - 1, d])) if rng.random() < 0.3 else int(rng.integers(0, d + 1))
    scores, words = _scores(rng, kind, K, d)
    if kind != "whole" and rng.random() < 0.3:
        scale = rng.choice([1e-30, 1e30, 3.0, 2.0**-200, 2.0**200], 1 + K)
        with np.errstate(under="ignore"):
            scores *= scale[:, None]
        words += " scaled"
    floors_kind, floors, retain = _floors(rng, scores, keep)
    name = f"{seed}: {kind} K={K} d={d} k={keep}, {floors_kind};{words}"
    return SmallInstance(seed, name, kind, floors_kind, scores, keep, floors, retain)


def _scores(rng: np.random.Generator, kind: str, K: int, d: int) -> tuple[np.ndarray, str]:
    draws = FAMILIES[kind]
    names = [str(name) for name in rng.choice(list(draws), 1 + K)]
    if rng.random() < 0.4:
        names = names[:1] * (1 + K)
    relations = RELATIONS if kind == "whole" else NEAR_RELATIONS
    # Few distinct columns make weights that are equal in every score.
    pool = int(rng.integers(1, d + 1)) if rng.random() < 0.3 else d
    rows = [draws[names[0]](rng, pool)]
    words = f" {names[0]}"
    for name in names[1:]:
        own = draws[name](rng, pool)
        if rng.random() < 0.3:
            relation = str(rng.choice(list(relations)))
            other = int(rng.integers(len(rows)))
            own = relations[relation](rng, rows[other], own)
            name = f"{relation} as {other}"
        rows.append(own)
        words += f" {name}"
    scores = np.array(rows)
    if pool < d:
        scores = scores[:, rng.integers(0, pool, d)]
        words += " repeated"
    if rng.random() < 0.2:
        scores = np.where(scores == 0.0, -0.0, scores)
    return np.ascontiguousarray(scores), words


def _floors(
    rng: np.random.Generator, scores: np.ndarray, keep: int
) -> tuple[str, list[float] | None, list[float] | None]:
    """Floors at, between and beyond what masks keep; correctly rounded sums."""
    rows = [exact(row) for row in scores[1:]]
    if not rows:
        return "none", [], None
    d = scores.shape[1]
    kind = str(rng.choice(FLOORS))
    bests = [top_sum(row, keep) for row in rows]
    if kind == "retain":
        if all(best > 0 for best in bests) or keep == 0:
            return (
                kind,
                None,
                [float(v) for v in rng.choice([0.0, 0.5, 0.9, 1.0, rng.random()], len(rows))],
            )
        kind = "a mixture's"

    def kept(order: np.ndarray) -> list[Fraction]:
        return [sum((row[i] for i in order[:keep].tolist()), Fraction(0)) for row in rows]

    def mixture() -> list[Fraction]:
        _, exponents = np.frexp(np.abs(scores[1:]).max(axis=1))
        weights = rng.random(len(rows)) * (rng.random(len(rows)) < 0.8)
        mixed = weights @ np.ldexp(scores[1:], -exponents[:, None])
        return kept(np.argsort(-mixed, kind="stable"))

    sizes = [top_sum([abs(v) for v in row], keep) or Fraction(1) for row in rows]
    j = int(rng.integers(len(rows)))
    if kind == "a mask's":
        floors = kept(rng.permutation(d))
    elif kind == "the target's own":
        floors = kept(np.argsort(-scores[0], kind="stable"))
    elif kind == "between masks":
        part = Fraction(int(rng.integers(1, 8)), 8)
        pairs = zip(kept(rng.permutation(d)), mixture(), strict=True)
        floors = [p + part * (q - p) for p, q in pairs]
    elif kind == "best":
        floors = bests
    elif kind == "low":
        floors = [v - 1 - size for v, size in zip(kept(rng.permutation(d)), sizes, strict=True)]
    elif kind == "anywhere":
        floors = [size * Fraction(rng.uniform(-1.0, 1.0)) for size in sizes]
    else:
        floors = mixture()
        order = np.argsort(-scores[1 + j], kind="stable")
        if kind == "a mixture's and more":
            by = Fraction(float(rng.choice([1e-14, 1e-9, 1e-3])))
            floors = [v + by * size for v, size in zip(floors, sizes, strict=True)]
        elif kind != "a mixture's":
            floors = kept(order)  # so that the others do not add to it
            floors[j] = bests[j]
        if kind in BEYOND:
            own = sum((abs(rows[j][i]) for i in order[:keep].tolist()), Fraction(0))
            floors[j] += Fraction(BEYOND[kind]) * own
    rounded = [float(v) for v in floors]
    if kind == "next above the best":
        rounded[j] = float(np.nextafter(rounded[j], np.inf))
    return kind, rounded, None
