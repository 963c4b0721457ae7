"""The driver: sample, guess a region, screen in one pass, solve what is open, verify.

The answer never depends on the sample; only the time does. On the region, the dual of the
whole problem and that of the open weights differ by a linear function, so an optimum of the
latter inside the region is one of the former (docs/algorithm.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..kernels.two_score import sum_dd
from ..problem import FLOOR_TOLERANCE
from .exact import Vertex, solve_exact
from .region import MARGIN, contains, dual_ray, guess_rays, widened_rays
from .stores import Screened, Store

__all__ = ["NotFiniteError", "Relaxation", "best_sum", "solve_relaxation"]

_DIRECT = 1 << 14  # weights up to which no sample pays
_SAMPLE = 1 << 14
_SPREADS = (4.0, 6.0, 10.0, 20.0)  # standard deviations, a round each
_SEED = 20_210_712


class NotFiniteError(Exception):
    """A score holds NaN or infinity; the caller says which."""


@dataclass(frozen=True, slots=True)
class Relaxation:
    """The relaxation's optimum over a whole store.

    `kept_sums` and `magnitudes`, shape (1 + K,), are over the weights with x = 1;
    `fractional` are flat indices with `values` and their scores `fractional_scores`
    (1 + K, f); `near_*` are the open weights, x there, and their scores.
    """

    feasible: bool
    multipliers: np.ndarray
    threshold: float
    kept_sums: np.ndarray
    magnitudes: np.ndarray
    fractional: np.ndarray
    values: np.ndarray
    fractional_scores: np.ndarray
    near_index: np.ndarray
    near_kept: np.ndarray
    near_scores: np.ndarray
    gap: float
    passes: int
    open_count: int


def solve_relaxation(
    store: Store, k: int, floors: np.ndarray, mask: np.ndarray | None
) -> Relaxation:
    """Solve the relaxation over a store exactly.

    Parameters
    ----------
    store : Store
    k : int, 0 ≤ k ≤ d
    floors : ndarray of float64, shape (K,)
    mask : ndarray of bool, shape (d,), or None
        Filled with x = 1 where given.

    Returns
    -------
    Relaxation
        Infeasible ones carry the control-only optimum's sums.

    Raises
    ------
    NotFiniteError

    Notes
    -----
    O(dK) a pass, one pass unless the guess fails; memory for the open weights only.
    """
    d, K = store.size, store.controls
    if d <= _DIRECT:
        return _solve_all(store, k, floors, mask)
    scaling = None
    rays = np.empty((0, K + 2))
    passes = 0
    vertex: Vertex | None = None
    for round_, spread in enumerate(_SPREADS):
        sample = _finite(store.gather(_sample_index(d, _SAMPLE << round_, round_)))
        if scaling is None:
            scaling = _exponents(sample)
        sample = np.ldexp(sample, -scaling[:, None])
        small_floors = np.ldexp(floors, -scaling[1:])
        if vertex is None:
            r = sample.shape[1]
            rays = guess_rays(sample, k / d, small_floors * (r / d), spread)
        else:
            rays = widened_rays(rays, sample, k / d, vertex, spread)
        raw = rays.copy()
        raw[:, :-1] = np.ldexp(rays[:, :-1], -scaling)
        screened = store.screen(raw, MARGIN, mask)
        passes += 1
        left = k - screened.kept
        if not 0 <= left <= len(screened.index):
            vertex = None  # the guess is wrong by more than its open weights can mend
            continue
        open_scores = np.ldexp(_finite(screened.scores), -scaling[:, None])
        sums = np.ldexp(screened.sums, -scaling[:, None])
        magnitudes = np.ldexp(screened.magnitudes, -scaling)
        if np.abs(open_scores).max(initial=0.0) > 2.0**400:
            scaling = _exponents(screened.scores)
            vertex = None
            continue
        rest = _difference(small_floors, sums[1:])
        vertex = solve_exact(open_scores, left, rest, magnitudes[1:])
        if not vertex.feasible:
            if _proves_infeasible(store, k, floors):
                return _relaxation(screened, open_scores, vertex, scaling, floors, passes + 1)
            continue
        if any(contains(rays, ray) for ray in _optimal_rays(vertex, open_scores, rays)):
            if mask is not None:
                mask[screened.index] = vertex.kept
            return _relaxation(screened, open_scores, vertex, scaling, floors, passes)
    return _solve_all(store, k, floors, mask, passes)


def best_sum(store: Store, k: int) -> tuple[float, float] | None:
    """Sum of the k largest entries of a store of one score, and of their absolute values.

    None when a score is not finite.
    """
    try:
        found = solve_relaxation(store, k, np.empty(0), None)
    except NotFiniteError:
        return None
    return float(found.kept_sums[0]), float(found.magnitudes[0])


def _solve_all(
    store: Store, k: int, floors: np.ndarray, mask: np.ndarray | None, passes: int = 0
) -> Relaxation:
    """Leave every weight open: for small problems, and where guesses keep failing."""
    raw = _finite(store.gather(None))
    scaling = _exponents(raw)
    scores = np.ldexp(raw, -scaling[:, None])
    K = store.controls
    small_floors = np.zeros((K, 2))
    small_floors[:, 0] = np.ldexp(floors, -scaling[1:])
    vertex = solve_exact(scores, k, small_floors, np.zeros(K))
    if mask is not None:
        mask[:] = vertex.kept
    screened = Screened(
        0, np.zeros((1 + K, 2)), np.zeros(1 + K), np.arange(store.size), raw
    )
    return _relaxation(screened, scores, vertex, scaling, floors, passes + 1)


def _relaxation(
    screened: Screened,
    open_scores: np.ndarray,
    vertex: Vertex,
    scaling: np.ndarray,
    floors: np.ndarray,
    passes: int,
) -> Relaxation:
    """Undo the scaling and add what was kept at once to what the open weights gave."""
    kept = open_scores[:, vertex.kept]
    open_sums = np.array([sum(sum_dd(row)) for row in kept])
    magnitudes = np.array([np.abs(row).sum() for row in kept])
    with np.errstate(over="ignore"):
        multipliers = np.ldexp(vertex.multipliers, scaling[0] - scaling[1:])
        return Relaxation(
            feasible=vertex.feasible,
            multipliers=multipliers,
            threshold=float(np.ldexp(sum(vertex.threshold), scaling[0])),
            kept_sums=screened.sums.sum(axis=1) + np.ldexp(open_sums, scaling),
            magnitudes=screened.magnitudes + np.ldexp(magnitudes, scaling),
            fractional=screened.index[vertex.fractional],
            values=vertex.values,
            fractional_scores=screened.scores[:, vertex.fractional],
            near_index=screened.index,
            near_kept=vertex.kept,
            near_scores=screened.scores,
            gap=float(np.ldexp(vertex.complementarity + vertex.residual, scaling[0])),
            passes=passes,
            open_count=len(screened.index),
        )


def _optimal_rays(vertex: Vertex, scores: np.ndarray, rays: np.ndarray) -> list[np.ndarray]:
    """Rays of one λ and the thresholds that are optimal with it: from the least kept to the
    largest dropped combined score, or beyond the region where all or none is kept."""
    out = [dual_ray(vertex)]
    if len(vertex.fractional) == 0:
        combined = scores[0] + vertex.multipliers @ scores[1:]
        dropped = combined[~vertex.kept]
        least = combined[vertex.kept].min(initial=np.inf)
        largest = dropped.max(initial=-np.inf)
        for edge in (least, largest):
            if math.isfinite(edge):
                out.append(dual_ray(vertex, float(edge)))
        finite = rays[rays[:, 0] > 0.0]
        for mu in finite[:, -1] / finite[:, 0]:
            if largest <= mu <= least:
                out.append(dual_ray(vertex, float(mu)))
    return out


def _proves_infeasible(store: Store, k: int, floors: np.ndarray) -> bool:
    """Check the certificate y = 1 of one control with its exact attainable best."""
    found = best_sum(store.control_store(0), k)
    if found is None:
        raise NotFiniteError
    best, magnitude = found
    return bool(floors[0] - best > FLOOR_TOLERANCE * magnitude)


def _difference(floors: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """floors − sums as double-doubles; sums are such, both shape (K, 2) but floors (K,)."""
    total = floors - sums[:, 0]
    part = total - floors
    error = (floors - (total - part)) + (-sums[:, 0] - part) - sums[:, 1]
    high = total + error
    return np.stack((high, error - (high - total)), axis=1)


def _sample_index(d: int, r: int, seed: int) -> np.ndarray:
    """r indices, one at random in each of r equal strata; fixed by d and the seed."""
    r = min(r, d)
    offsets = np.random.default_rng(_SEED + seed).random(r)
    return np.minimum(((np.arange(r) + offsets) * (d / r)).astype(np.int64), d - 1)


def _exponents(scores: np.ndarray) -> np.ndarray:
    """Powers of two that bring each score's largest absolute value to about 1."""
    _, exponents = np.frexp(np.abs(scores).max(axis=1, initial=0.0))
    return np.clip(exponents, -1000, 1000)


def _finite(scores: np.ndarray) -> np.ndarray:
    if not np.isfinite(scores).all():
        raise NotFiniteError
    return scores
