"""Regions of dual points: guessed from a sample, and the test that makes the guess a proof.

A dual point (λ, μ) is the ray (1, λ, μ); one at infinity, of floors that cannot be met, is
(0, y, θ) with the certificate y and θ the threshold of Aᵀy, and μ = ±∞ is
(0, 0, ±1). A region is the cone of a few rays. The sign of α c_i + λ·A_i − μ is that of a
linear function of the ray, so what is positive (negative) at every ray is so on the cone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

__all__ = ["MARGIN", "SampleSolver", "contains", "guess_rays", "reach_of", "widened_rays"]

SampleSolver: TypeAlias = Callable[[np.ndarray, int, np.ndarray], tuple[np.ndarray, np.ndarray]]

MARGIN = 1e-12
"""Relative margin of the screening. It covers the rounding of its few products and sums
(below 1e-15) and the residual that :func:`contains` allows (1e-13)."""

_RESIDUAL = 1e-13
_FEW = 16.0  # sampled weights on one side of the threshold below which a spread means nothing


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
    few, rest_few = k < _FEW, r - k < _FEW
    scale = 1.0
    if few:
        scale = _FEW / k if k > 0 else 1.0
        k = _FEW
    elif rest_few:
        k = r - _FEW
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
                rays.append(_infinite(K, 1.0))
            elif round(pushed[0]) >= r:
                rays.append(_infinite(K, -1.0))
            else:
                rays.append(solve(sample, round(pushed[0]), pushed[1:])[0])
    if few:
        rays.append(_infinite(K, 1.0))
    if rest_few:
        rays.append(_infinite(K, -1.0))
    around = np.unique(np.stack(rays[1:]), axis=0)
    if contains(around, center):  # as a rule: one ray less to screen by
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
    push = spread * math.sqrt(max(k * (1.0 - share), _FEW)) + _FEW
    more = [ray]
    K = len(ray) - 2
    for position, infinity in ((k - push, 1.0), (k + push, -1.0)):
        if 1 <= position <= r:
            more.append(np.concatenate((ray[:-1], [ordered[int(position) - 1]])))
        else:
            more.append(_infinite(K, infinity))
    return np.unique(np.vstack((rays, more)), axis=0)


def reach_of(rays: np.ndarray) -> np.ndarray:
    """With one control, the least and the largest finite λ of a region; empty otherwise."""
    finite = rays[rays[:, 0] > 0.0]
    if rays.shape[1] != 3 or len(finite) == 0:
        return np.empty(0)
    lam = finite[:, 1] / finite[:, 0]
    return np.array([lam.min(), lam.max()])


def contains(rays: np.ndarray, ray: np.ndarray) -> bool:
    """Whether a ray is a non-negative combination of the region's rays.

    The residual allowed is 1e-13 of each component's largest value among the rays, which the
    screening's margin covers.
    """
    from scipy.optimize import nnls

    reach = np.abs(rays).max(axis=0)
    if np.any((reach == 0.0) & (ray != 0.0)):
        return False
    used = reach > 0.0
    matrix = (rays[:, used] / reach[used]).T
    wanted = ray[used] / reach[used]
    weight = np.abs(wanted).max()
    if weight == 0.0:
        return False
    combination, _ = nnls(matrix, wanted / weight)
    # Rays have entries up to 1 in these units: measured against the mass of the combination.
    residual = np.abs(matrix @ combination - wanted / weight).max()
    return bool(residual <= _RESIDUAL * max(combination.sum(), 1e-300))


def _infinite(K: int, sign: float) -> np.ndarray:
    ray = np.zeros(K + 2)
    ray[-1] = sign
    return ray
