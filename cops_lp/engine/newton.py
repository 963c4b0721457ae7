"""Newton's method on the dual of a sample: a region that very likely holds the optimum.

The dual D(λ, μ) = kμ − λ·b + Σ max(0, r_i), r = c + λ·A − μ, is piecewise linear with so many
pieces that it looks smooth from afar: its gradient is what is wanted less what is kept, its
curvature the density of weights at the threshold, measured in a window around it. A few steps,
with windows that shrink as the point settles, end within a few weights of the optimum. What is
left is how far a sample's optimum scatters: the covariance of the kept sums, brought to
(λ, μ) by the inverse curvature. That is an ellipsoid.

Nothing here needs to be right: the driver proves the region or takes another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..kernels import newton as kernel
from .calibration import Sampled
from .failures import check_time
from .region import Ellipsoid

__all__ = ["FEW", "estimate_region"]

FEW = 16
"""Sampled weights on one side of the threshold below which a sample says little about it."""

_STEPS = 12
_SURE = 6.0  # standard deviations of slack beyond which a floor does not bind
_QUANTILE = 3.0  # of a standard normal distribution: the region misses one time in 700
_MOST = 0.3
"""Share of open weights beyond which the curvature says nothing so far out: where few weights hold
most of a score, that score's sum scatters by more than moves of the threshold can make up for."""
_LOOK = 4096  # values from which a window's width is told
_SINGULAR = 1e-9  # of the curvature's correlations: floors that depend on each other


def estimate_region(
    sample: Sampled,
    k: float,
    floors: np.ndarray,
    start: np.ndarray,
    rough: float,
    exact: bool,
    beside: float,
    deadline: float = math.inf,
) -> Ellipsoid | None:
    """Ellipsoid around the dual optimum.

    Parameters
    ----------
    sample : Sampled
        Of K ≥ 1 controls.
    k : float
        Budget, at least FEW from 0 and from n; a sample's, k r / d, need not be whole.
    floors : ndarray of float64, shape (K,)
    start : ndarray of float64, shape (K + 2,)
        Ray of a first guess.
    rough : float
        How many weights may lie between it and the optimum.
    exact : bool
        False for a sample: the region then allows for its scatter.
    beside : float
        How many weights on either side of the threshold to leave open in any case.
    deadline : float
        On ``time.perf_counter``'s clock. OutOfTimeError where it comes first.

    Returns
    -------
    Ellipsoid or None
        None where Newton's method does not settle: masses of ties, floors that cannot be met
        or depend on each other, a score that a few weights hold most of.

    Notes
    -----
    O(nK) a step, 3 to 6 steps; ours.
    """
    if not start[0] > 0.0:
        return None
    K = len(floors)
    wanted = np.append(sample.like_own_best(k, floors), k)
    least = float(min(24 * (K + 1), sample.scores.shape[1]))
    few = min(k, sample.scores.shape[1] - k)
    goal = least if exact else max(6.0 * math.sqrt(few), least)
    found = _descend(sample, wanted, start[1:] / start[0], rough, goal, deadline)
    if found is None:
        return None
    scatter = np.zeros((K + 1, K + 1))
    if not exact:
        r = np.empty(sample.scores.shape[1])
        kernel.reduced(sample.scores, found.y, r)
        if sample.known is None:
            scatter = sample.scatter(r > 0.0, found.held)
        else:
            wanted, scatter = sample.corrected(np.append(floors, k), r > 0.0, k)
            found = _descend(sample, wanted, found.y, 3.0 * math.sqrt(few), goal, deadline)
            if found is None:
                return None
    oval = _ellipsoid(found, scatter, beside)
    if oval is None or _open_share(sample, oval) > _MOST:
        return None
    return oval


def _descend(
    sample: Sampled, wanted: np.ndarray, y: np.ndarray, rough: float, goal: float, deadline: float
) -> _State | None:
    """Newton's method from a point (λ, μ), with windows that shrink; None where it fails."""
    scores = sample.scores
    K, n = len(wanted) - 1, scores.shape[1]
    # The curvature is only as good as the window's count: nearer than this it circles.
    settled = 2.0 * math.sqrt(goal)
    size = min(max(2.0 * rough, goal), n / 2)
    r, move = np.empty(n), np.empty(K + 1)
    best: _State | None = None
    window, count = 0.0, 0
    for _ in range(_STEPS):
        check_time(deadline)
        if count:  # the density at the threshold hardly changes from one step to the next
            window *= size / count
        else:
            kernel.reduced(scores, y, r)
            window = _width(r, size)
        if not window > 0.0:
            return None  # masses of ties
        held, moments, scale = np.empty(K + 1), np.empty((K + 1, K + 1)), np.empty(K + 1)
        count, usual = kernel.advance(
            scores, sample.upper, y, wanted, window, r, held, moments, scale, move
        )
        if not 0 < count <= 4 * size + 64 or not scale.min() > 0.0:
            return None
        lack = wanted - held
        free = np.ones(K + 1, dtype=bool)
        if not usual:
            # In these units the curvature has a unit diagonal; μ counts with the opposite sign.
            curvature = moments / np.outer(scale, scale)
            found, free = _step(curvature, lack / scale * (2.0 * window), y[:-1] * scale[:-1])
            if found is None:
                return None
            move[:] = found
        moved = move / scale
        spread = max(0.0, float(moved @ moments @ moved)) / moments[K, K]
        crossed = count * math.sqrt(spread) / window
        if size <= goal:
            last = best
            if best is None or crossed < best.crossed:
                best = _State(y, held, moments, lack, free, window, count, crossed)
            if crossed <= settled or (last is not None and crossed > 0.7 * last.crossed):
                break
        limit = min(1.0, 2.0 * count / crossed) if crossed > 0.0 else 1.0
        moved[-1] = -moved[-1]
        y = y + limit * moved
        y[:-1] = np.maximum(y[:-1], 0.0)
        size = min(max(goal, 4.0 * math.sqrt(count), 0.5 * crossed), n / 2)
    if best is None or best.crossed > goal / 2:
        return None
    return best


def _open_share(sample: Sampled, oval: Ellipsoid) -> float:
    """Share of weights that an ellipsoid leaves open, of some."""
    stride = max(1, sample.scores.shape[1] // 2048)
    part = sample.scores[:, ::stride]
    form = oval.center[:-1] @ part - oval.center[-1]
    spread = np.linalg.norm(oval.factor[:, :-1] @ part[1:] + oval.factor[:, -1:], axis=0)
    return float(
        np.average(np.abs(form) <= spread + oval.beside, weights=sample.bounds()[::stride])
    )


@dataclass(frozen=True, slots=True)
class _State:
    """A point (λ, μ), what is kept there and lacking, and its window."""

    y: np.ndarray
    held: np.ndarray
    moments: np.ndarray
    lack: np.ndarray
    free: np.ndarray
    window: float
    count: int
    crossed: float


def _width(r: np.ndarray, size: float) -> float:
    """Half the width of a window around 0 that holds about `size` of the values."""
    stride = max(1, len(r) // _LOOK)
    part = np.abs(r[::stride])
    rank = min(len(part) - 1, max(0, round(size / stride)))
    return float(np.partition(part, rank)[rank])


def _step(
    curvature: np.ndarray, lack: np.ndarray, lam: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray]:
    """Minimize ½ m·H m − lack·m over moves m with λ + m ≥ 0; and which entries are free.

    A handful of variables: fix the worst at its bound until none is beyond.
    """
    n = len(lack)
    free = np.ones(n, dtype=bool)
    move = np.zeros(n)
    for _ in range(2 * n):
        part = curvature[np.ix_(free, free)]
        fixed = ~free
        move[fixed] = -np.append(lam, 0.0)[fixed]
        right = lack[free] - curvature[np.ix_(free, fixed)] @ move[fixed]
        try:
            move[free] = np.linalg.solve(part, right)
        except np.linalg.LinAlgError:
            return None, free
        after = lam + move[:-1]
        bad = free[:-1] & (after < 0.0)
        if bad.any():
            free[int(np.argmin(np.where(bad, after, np.inf)))] = False
            continue
        force = (lack - curvature @ move)[:-1]
        wrong = fixed[:-1] & (force > 0.0)
        if not wrong.any():
            return move, free
        free[int(np.argmax(np.where(wrong, force, -np.inf)))] = True
    return None, free


def _ellipsoid(at: _State, scatter: np.ndarray, beside: float) -> Ellipsoid | None:
    """The points that a right-hand side with this covariance may have for an optimum."""
    moments, lack, free = at.moments, at.lack, at.free
    K = len(at.y) - 1
    # Between the point and the optimum, counts scatter by the root of what is crossed; the
    # optimum itself leaves up to K + 1 weights between 0 and 1.
    crossings = at.crossed + 2.0 * (K + 1)
    crossings += math.sqrt(max(scatter[K, K], 0.0)) * at.count / moments[K, K]
    noise = scatter + (crossings / at.count) * moments
    deviation = np.sqrt(np.diag(noise))
    # A floor that is met with little to spare may bind after all.
    slack = -lack[:-1]
    maybe = free.copy()
    maybe[:-1] |= slack < _SURE * deviation[:-1]
    scale = np.sqrt(np.diag(moments))
    curvature = moments / np.outer(scale, scale)
    scaled = noise / np.outer(scale, scale)
    parts = []
    for used in [free] if np.array_equal(free, maybe) else [free, maybe]:
        dimensions = int(used.sum())
        radius = _radius(dimensions) * (1.0 + 2.0 / math.sqrt(at.count))  # curvature's own error
        inside = np.ix_(used, used)
        values, directions = np.linalg.eigh(scaled[inside])
        root = directions * np.sqrt(np.maximum(values, 0.0)) * radius
        shift = np.where(free, lack, 0.0)[used] / scale[used] * 2.0
        columns = np.column_stack((root, shift))
        values, directions = np.linalg.eigh(curvature[inside])
        if not values[0] > _SINGULAR * values[-1]:
            return None
        moved = directions @ ((directions.T @ columns) / values[:, None]) * (2.0 * at.window)
        part = np.zeros((columns.shape[1], K + 1))
        part[:, used] = moved.T
        parts.append(part / scale)
    # The triangle of the sum of squares: an ellipsoid that holds both.
    parts.append(np.zeros((K + 1, K + 1)))
    factor: np.ndarray = np.linalg.qr(np.vstack(parts))[1]
    center = np.concatenate(([1.0], at.y))
    typical = math.sqrt(max(0.0, float(np.sum((factor @ moments) * factor))) / moments[K, K])
    if not (0.0 < typical < math.inf and np.isfinite(factor).all()):
        return None
    # Squares of forms near the threshold are about 1, far from over- and underflow.
    unit = 2.0 ** -math.frexp(typical)[1]
    factor = factor * unit
    factor[np.abs(factor) < 1e-9 * np.abs(factor).max(axis=0)] = 0.0
    width = beside * 2.0 * at.window / at.count
    return Ellipsoid(center * unit, np.triu(factor), width * unit)


def _radius(dimensions: int) -> float:
    """Radius that holds a standard normal vector but one time in 700 (Wilson, Hilferty 1931)."""
    part = 2.0 / (9.0 * dimensions)
    return math.sqrt(dimensions * (1.0 - part + _QUANTILE * math.sqrt(part)) ** 3)
