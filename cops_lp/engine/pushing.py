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
from typing import TypeAlias

import numpy as np

from .exact import solve_exact
from .failures import check_time
from .newton import FEW
from .region import Cone, infinite_ray
from .screened import ScreenedArrays
from .several import Search
from .stores import ArrayStore
from .vertex import Vertex

__all__ = ["Repeated", "SampleSearch", "guess_rays", "widened_rays"]

SampleSolver: TypeAlias = Callable[[np.ndarray, int, np.ndarray], tuple[np.ndarray, np.ndarray]]

_STRIDE = 8  # one sampled weight in so many is sampled again
_SPREAD = 5.0
"""Standard deviations for the inner sample. The driver's first pushes, 4 deviations of a sample
_STRIDE times larger, are 1.4 of the inner one's; that leaves 3.6 for the inner sample's error."""
_LEAST = 4096  # sampled weights below which that does not pay


def guess_rays(
    sample: np.ndarray, share: float, floors: np.ndarray, spread: float, solve: SampleSolver
) -> np.ndarray:
    """Rays around the dual optimum of a sample, at right-hand sides pushed both ways.

    Parameters
    ----------
    sample : ndarray of float64, shape (1 + K, r)
        Scores of r weights.
    share : float
        k / d.
    floors : ndarray of float64, shape (K,)
        Floors scaled to the sample, b r / d.
    spread : float
        By how many standard deviations of the sampled sums to push.
    solve : callable
        (sample, k, floors) to the ray of the sample's dual optimum (λ = ∞ where the floors
        cannot be met) and where x = 1.

    Returns
    -------
    ndarray of float64, shape (m, K + 2)

    Notes
    -----
    The sums Σ (1, A_i) x_i of a sample of r weights scatter with the covariance of
    (1, A_i) [kept]; the pushes go both ways along its principal directions. 2(K + 1) + 1
    small problems.
    """
    K, r = len(floors), sample.shape[1]
    # A threshold with few sampled weights beyond it says little: there the region is open.
    k = share * r
    few, rest_few = k < FEW, r - k < FEW
    scale = 1.0
    if few:
        scale = FEW / k if k > 0 else 1.0
        k = FEW
    elif rest_few:
        k = r - FEW
    k = min(max(k, 0.0), float(r))
    target = np.concatenate(([k], floors * scale))
    center, kept = solve(sample, min(max(round(k), 0), r), target[1:])
    rays = [center]
    w = np.vstack((np.ones(r), sample[1:])) * kept
    unit = w.std(axis=1)
    unit[unit == 0.0] = 1.0
    covariance = np.atleast_2d(np.cov(w / unit[:, None]))
    values, directions = np.linalg.eigh(covariance)
    for value, direction in zip(values, directions.T, strict=True):
        push = spread * math.sqrt(max(value, 0.0) * r) * direction * unit
        for sign in (1.0, -1.0):
            pushed = target + sign * push
            pushed[0] += math.copysign(1.0, pushed[0] - k)  # k is whole: round outwards
            if round(pushed[0]) <= 0:
                rays.append(infinite_ray(K, 1.0))
            elif round(pushed[0]) >= r:
                rays.append(infinite_ray(K, -1.0))
            else:
                rays.append(solve(sample, round(pushed[0]), pushed[1:])[0])
    if few:
        rays.append(infinite_ray(K, 1.0))
    if rest_few:
        rays.append(infinite_ray(K, -1.0))
    around = np.unique(np.stack(rays[1:]), axis=0)
    if Cone(around).contains(center):  # as a rule: one ray less to screen by
        return around
    return np.unique(np.stack(rays), axis=0)


def widened_rays(
    rays: np.ndarray, sample: np.ndarray, share: float, ray: np.ndarray, spread: float
) -> np.ndarray:
    """Add to a region that failed the point its reduced problem ended in, and room around it.

    Room means the sample's thresholds of that point's combined score at k pushed both ways.
    """
    r = sample.shape[1]
    combined = ray[:-1] @ sample
    ordered = np.sort(combined)[::-1]
    k = share * r
    push = spread * math.sqrt(max(k * (1.0 - share), FEW)) + FEW
    more = [ray]
    K = len(ray) - 2
    for position, infinity in ((k - push, 1.0), (k + push, -1.0)):
        if 1 <= position <= r:
            more.append(np.concatenate((ray[:-1], [ordered[int(position) - 1]])))
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

    def __call__(
        self, sample: np.ndarray, k: int, floors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ray of the dual optimum (at infinity where the floors cannot be met), and where x = 1."""
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
        search = SampleSearch(inner, self._deadline)
        self._region = Cone(guess_rays(inner, share, scaled, _SPREAD, search))
        self._screened = ArrayStore(tuple(self._sample)).screen(self._region, self._mask)
        opened = np.ascontiguousarray(self._screened.scores, dtype=np.float64)
        hints = self._region.lam_range() if len(floors) == 1 else None
        self._inner = Repeated(opened, hints, self._deadline)


class Repeated:
    """One set of scores, solved again and again; from two controls on, from the last basis.

    `scores`, `hints` and `deadline` as in :func:`.exact.solve_exact`.
    """

    def __init__(
        self, scores: np.ndarray, hints: np.ndarray | None = None, deadline: float = math.inf
    ) -> None:
        self._scores = scores
        self._hints = hints
        self._deadline = deadline
        self._search = Search(scores, deadline) if len(scores) > 2 else None

    def solve(self, k: int, floors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ray of the dual optimum (at infinity where the floors cannot be met), and where x = 1."""
        check_time(self._deadline)
        parts = np.stack((floors, np.zeros(len(floors))), axis=1)
        if self._search is not None and 0 < k < self._scores.shape[1]:
            return self._search.dual_ray(k, parts)
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
