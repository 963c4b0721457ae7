"""A cone around the dual optimum of a sample, from its optima at right-hand sides pushed both ways.

Slower than Newton's estimate (:mod:`.newton`), and right where that means nothing: masses of ties,
floors that cannot be met, a threshold at infinity. The sample is solved for one right-hand side
after another, at little more than the cost of one: it is itself screened once, against a
region that a sample of it gives and that is wide enough for all the right-hand sides to come.
Each is then solved on what is open, and in full where its optimum turns out to lie elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .calibration import Sampled
from .columns import Columns, find_columns, solve_selection
from .exact import solve_exact
from .failures import check_time
from .newton import FEW
from .region import Cone, infinite_ray
from .screened import ScreenedArrays
from .several import Search
from .stores import ArrayStore
from .vertex import Vertex

__all__ = ["Repeated", "SampleSearch", "guess_rays", "sample_solver", "widened_rays"]

_STRIDE = 8  # one sampled weight in so many is sampled again
_SPREAD = 5.0
"""Standard deviations for the inner sample. The driver's first pushes, 4 deviations of a sample
_STRIDE times larger, are 1.4 of the inner one's; that leaves 3.6 for the inner sample's error."""
_NONE = np.empty(0)
_LEAST = 4096  # sampled weights below which that does not pay


def guess_rays(
    told: Sampled,
    columns: Columns,
    share: float,
    floors: np.ndarray,
    spread: float,
    deadline: float = math.inf,
) -> np.ndarray:
    """Rays around the dual optimum of a sample, at right-hand sides pushed both ways.

    Parameters
    ----------
    told : Sampled
    columns : Columns
        More weights, which are known and do not scatter; counts scaled to the sample.
    share : float
        k / d.
    floors : ndarray of float64, shape (K,)
        Floors scaled to the sample, b r / d.
    spread : float
        By how many standard deviations of the sampled sums to push.
    deadline : float
        On ``time.perf_counter``'s clock. OutOfTimeError where it comes first.

    Returns
    -------
    ndarray of float64, shape (m, K + 2)

    Notes
    -----
    The sums Σ (1, A_i) x_i of a sample of r weights scatter with the covariance of
    (1, A_i) [kept]; the pushes go both ways along its principal directions. 2(K + 1) + 1
    small problems.
    """
    sample, upper = told.scores, told.upper if len(told.upper) else None
    K, r = len(floors), sample.shape[1]
    total = (r if upper is None else float(upper.sum())) + float(columns.counts.sum())
    solve = sample_solver(sample, columns, upper, deadline)
    floors = told.like_own_best(share * r, floors)
    # A threshold with few sampled weights beyond it says little: there the region is open.
    k = share * r
    few, rest_few = k < FEW, total - k < FEW
    scale = 1.0
    if few:
        scale = FEW / k if k > 0 else 1.0
        k = FEW
    elif rest_few:
        k = total - FEW
    k = min(max(k, 0.0), total)
    target = np.concatenate(([k], floors * scale))
    center, kept = solve(min(max(round(k), 0), math.floor(total)), target[1:])
    rays = [center]
    kept = kept[:r]
    held = (sample[1:] * kept) @ told.bounds()
    covariance = told.scatter(kept, np.append(held, told.bounds()[kept].sum()))
    covariance = np.roll(covariance, 1, axis=(0, 1))  # the count comes first
    unit = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    unit[unit == 0.0] = 1.0
    values, directions = np.linalg.eigh(covariance / np.outer(unit, unit))
    for value, direction in zip(values, directions.T, strict=True):
        push = spread * math.sqrt(max(value, 0.0)) * direction * unit
        for sign in (1.0, -1.0):
            pushed = target + sign * push
            pushed[0] += math.copysign(1.0, pushed[0] - k)  # k is whole: round outwards
            if round(pushed[0]) <= 0:
                rays.append(infinite_ray(K, 1.0))
            elif round(pushed[0]) >= total:
                rays.append(infinite_ray(K, -1.0))
            else:
                rays.append(solve(round(pushed[0]), pushed[1:])[0])
    if few:
        rays.append(infinite_ray(K, 1.0))
    if rest_few:
        rays.append(infinite_ray(K, -1.0))
    around = np.unique(np.stack(rays[1:]), axis=0)
    if Cone(around).contains(center):  # as a rule: one ray less to screen by
        return around
    return np.unique(np.stack(rays), axis=0)


def sample_solver(
    sample: np.ndarray,
    columns: Columns,
    bounds: np.ndarray | None,
    deadline: float = math.inf,
) -> Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Solve (k, floors) on a sample; see :class:`Repeated`."""
    equal = find_columns(sample)
    if bounds is None and equal.shape[1] + len(columns.counts) == 0:
        return SampleSearch(sample, deadline)
    own = np.ones(sample.shape[1]) if bounds is None else bounds
    # Equal weights are one column: a sample of masses is a small problem.
    place = np.full(sample.shape[1], -1)
    for j, column in enumerate(equal.T):
        place[(sample == column[:, None]).all(axis=0)] = j
    rest = np.flatnonzero(place < 0)
    scores = np.hstack((sample[:, rest], equal, columns.scores))
    counts = np.bincount(place[place >= 0], own[place >= 0], minlength=equal.shape[1])
    upper = np.concatenate((own[rest], counts, columns.counts)).astype(np.float64)
    place[rest] = equal.shape[1] + np.arange(len(rest))
    every = np.concatenate((len(rest) + np.arange(equal.shape[1]), np.arange(len(rest))))
    search = Repeated(scores, upper=upper, deadline=deadline)

    def solve(k: int, floors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ray, kept = search.solve(k, floors)
        return ray, kept[every[place]]

    return solve


def widened_rays(
    rays: np.ndarray,
    told: Sampled,
    columns: Columns,
    share: float,
    ray: np.ndarray,
    spread: float,
) -> np.ndarray:
    """Add to a region that failed the point its reduced problem ended in, and room around it.

    Room means the sample's thresholds of that point's combined score at k pushed both ways.
    """
    r = told.scores.shape[1]
    combined = ray[:-1] @ np.hstack((told.scores, columns.scores))
    order = np.argsort(-combined)
    ends = np.cumsum(np.append(told.bounds(), columns.counts)[order])
    k = share * r
    push = spread * math.sqrt(max(k * (1.0 - share), FEW)) + FEW
    more = [ray]
    K = len(ray) - 2
    for position, infinity in ((k - push, 1.0), (k + push, -1.0)):
        if 1 <= position <= ends[-1]:
            last = order[np.searchsorted(ends, int(position))]
            more.append(np.concatenate((ray[:-1], [combined[last]])))
        else:
            more.append(infinite_ray(K, infinity))
    return np.unique(np.vstack((rays, more)), axis=0)


class SampleSearch:
    """Solves ``(k, floors)`` on a sample; see the module.

    Parameters
    ----------
    sample : ndarray of float64, shape (1 + K, r)
        Finite scores of about 1 at most.
    deadline : float
        On ``time.perf_counter``'s clock. OutOfTimeError where it comes first.
    """

    def __init__(self, sample: np.ndarray, deadline: float = math.inf) -> None:
        self._sample = sample
        self._deadline = deadline
        self._region: Cone | None = None
        self._screened: ScreenedArrays | None = None
        self._mask = np.zeros(sample.shape[1], dtype=bool)
        self._outer: Repeated | None = None

    def __call__(self, k: int, floors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ray of the dual optimum (at infinity where the floors cannot be met), and where x = 1."""
        sample = self._sample
        r = sample.shape[1]
        if r >= _LEAST and self._region is None and 0 < k < r:
            self._screen(k / r, floors)
        if self._region is not None and self._screened is not None:
            open_ = self._screened
            left = k - open_.kept
            if 0 < left < len(open_.index):
                ray, kept = self._inner.solve(left, floors - open_.sums[1:].sum(axis=1))
                if ray[0] > 0.0 and self._region.contains(ray):
                    whole = self._mask.copy()
                    whole[open_.index] = kept
                    return ray, whole
        if self._outer is None:
            self._outer = Repeated(sample, deadline=self._deadline)
        return self._outer.solve(k, floors)

    def _screen(self, share: float, floors: np.ndarray) -> None:
        inner = np.ascontiguousarray(self._sample[:, ::_STRIDE])
        scaled = floors * (inner.shape[1] / self._sample.shape[1])
        told = Sampled(inner, _NONE, 1.0, 0)
        self._region = Cone(
            guess_rays(told, Columns.none(len(inner)), share, scaled, _SPREAD, self._deadline)
        )
        self._screened = ArrayStore(tuple(self._sample)).screen(self._region, self._mask)
        opened = np.ascontiguousarray(self._screened.scores, dtype=np.float64)
        hints = self._region.lam_range() if len(floors) == 1 else None
        self._inner = Repeated(opened, hints, deadline=self._deadline)


class Repeated:
    """One set of scores, solved again and again; from two controls on, from the last basis.

    `scores`, `hints`, `upper` and `deadline` as in :func:`.exact.solve_exact`, with any upper
    bounds above 0.
    """

    def __init__(
        self,
        scores: np.ndarray,
        hints: np.ndarray | None = None,
        upper: np.ndarray | None = None,
        deadline: float = math.inf,
    ) -> None:
        self._deadline = deadline
        self._scores = scores
        self._hints = hints
        self._upper = upper
        self._search = None
        if len(scores) > 2 or (upper is not None and len(scores) > 1):
            self._search = Search(scores, upper, deadline)

    def solve(self, k: int, floors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ray of the dual optimum (at infinity where the floors cannot be met), and where x = u."""
        check_time(self._deadline)
        parts = np.stack((floors, np.zeros(len(floors))), axis=1)
        total = self._scores.shape[1] if self._upper is None else self._upper.sum()
        if self._search is not None and 0 < k < total:
            return self._search.dual_ray(k, parts)
        if self._upper is not None:
            vertex = solve_selection(self._scores[0], min(max(k, 1), int(total)), self._upper)
            return np.array([1.0, *np.zeros(len(floors)), vertex.threshold[0]]), vertex.kept
        vertex = solve_exact(
            self._scores, k, parts, hints=self._hints, ordered=False, deadline=self._deadline
        )
        return _vertex_ray(vertex), vertex.kept


def _vertex_ray(vertex: Vertex) -> np.ndarray:
    ray = np.empty(len(vertex.multipliers) + 2)
    if vertex.feasible:
        ray[0], ray[1:-1] = 1.0, vertex.multipliers
    else:
        assert vertex.certificate is not None
        ray[0], ray[1:-1] = 0.0, vertex.certificate
    ray[-1] = sum(vertex.threshold)
    return ray
