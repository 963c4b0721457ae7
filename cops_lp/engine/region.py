"""Regions of dual points, and the tests that make a guess a proof.

A dual point (λ, μ) is the ray (1, λ, μ); one at infinity, of floors that cannot be met, is
(0, y, θ) with the certificate y and θ the threshold of Aᵀy, and μ = ±∞ is
(0, 0, ±1). The form α c_i + λ·A_i − μ of a weight is linear in the ray: its least and largest
value over a region are known without looking at more than the region's shape, and a weight
whose form has one sign on all of it is decided. Regions are convex:

* an :class:`Ellipsoid` around Newton's estimate, the usual one (:mod:`.newton`);
* a :class:`Cone` of rays, which can reach infinity, where that estimate means nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

__all__ = ["MARGIN", "Cone", "Ellipsoid", "Region", "infinite_ray"]

MARGIN = 1e-12
"""Relative margin of the screening. It covers the rounding of its few products and sums
(below 1e-15) and the residual that membership allows (1e-13)."""

_RESIDUAL = 1e-13


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """Dual points center + factorᵀ z, |z| ≤ 1.

    Attributes
    ----------
    center : ndarray of float64, shape (K + 2,)
        (α, λ, μ), α > 0.
    factor : ndarray of float64, shape (K + 1, K + 1)
        Upper triangular. Columns in the order λ_1 … λ_K, −μ, with the same α: over the
        region the form of weight i varies by |factor · (A_i, 1)|. Rows of zeros make it flat.
    beside : float
        Weights whose form comes as near as this to 0 somewhere on the region stay open too.
    double : bool
        Whether single precision is too coarse to screen by it.
    """

    center: np.ndarray
    factor: np.ndarray
    beside: float = 0.0
    double: bool = False

    def contains(self, ray: np.ndarray) -> bool:
        """Whether a point is inside, up to 1e-13 of each component's reach."""
        if not ray[0] > 0.0:
            return False
        move = self._move(ray)
        reach = np.maximum(np.abs(self.center[1:]), np.sqrt((self.factor**2).sum(axis=0)))
        if np.any((reach == 0.0) & (move != 0.0)):
            return False
        used = reach > 0.0
        scaled = self.factor[:, used] / reach[used]
        z = np.linalg.lstsq(scaled.T, move[used] / reach[used], rcond=1e-15)[0]
        z /= max(1.0, float(np.linalg.norm(z)))
        rest = scaled.T @ z - move[used] / reach[used]
        return bool(np.abs(rest).max(initial=0.0) <= _RESIDUAL)

    def thresholds(self, lam: np.ndarray) -> np.ndarray:
        """The threshold that is likeliest inside at a λ; shape (1,)."""
        move = self.center[0] * lam - self.center[1:-1]
        covariance = self.factor.T @ self.factor
        scale = np.sqrt(np.diag(covariance))
        scale[scale == 0.0] = 1.0
        covariance /= np.outer(scale, scale)
        pull = np.linalg.lstsq(covariance[:-1, :-1], move / scale[:-1], rcond=1e-15)[0]
        mu = self.center[-1] - scale[-1] * float(covariance[-1, :-1] @ pull)
        return np.array([mu / self.center[0]])

    def lam_range(self) -> np.ndarray:
        """With one control, its least and largest multiplier; shape (2,)."""
        half = float(np.linalg.norm(self.factor[:, 0]))
        ends = np.maximum(0.0, self.center[1] + np.array([-half, half]))
        return np.asarray(ends / self.center[0])

    def width(self) -> float:
        """How near to any threshold inside, in the target's units, all weights stay open."""
        return self.beside / float(self.center[0])

    def unscaled(self, scaling: np.ndarray) -> Ellipsoid:
        """The region whose forms on raw scores are these on scores times 2^-scaling."""
        center, factor = self.center.copy(), self.factor.copy()
        with np.errstate(over="ignore"):  # see finite
            center[:-1] = np.ldexp(center[:-1], -scaling)
            factor[:, :-1] = np.ldexp(factor[:, :-1], -scaling[1:])
        return replace(self, center=center, factor=factor)

    def finite(self) -> bool:
        """Whether float64 can state it."""
        if not (self.center[0] > 0.0 and np.isfinite(self.center).all()):
            return False
        with np.errstate(over="ignore"):
            point = self.center[1:] / self.center[0]
        return bool(np.isfinite(point).all() and np.isfinite(self.factor).all())

    def _move(self, ray: np.ndarray) -> np.ndarray:
        """(λ, −μ) − the center's, in the center's units."""
        move = np.asarray(self.center[0] * (ray[1:] / ray[0]) - self.center[1:])
        move[-1] = -move[-1]
        return move


@dataclass(frozen=True, slots=True)
class Cone:
    """Non-negative combinations of rays.

    Attributes
    ----------
    rays : ndarray of float64, shape (m, K + 2)
    double : bool
        Whether single precision is too coarse to screen by it.
    """

    rays: np.ndarray
    double: bool = False

    def contains(self, ray: np.ndarray) -> bool:
        """Whether a ray is inside, up to 1e-13 of each component's largest value."""
        from scipy.optimize import nnls

        reach = np.abs(self.rays).max(axis=0)
        if np.any((reach == 0.0) & (ray != 0.0)):
            return False
        used = reach > 0.0
        matrix = (self.rays[:, used] / reach[used]).T
        wanted = ray[used] / reach[used]
        weight = np.abs(wanted).max()
        if weight == 0.0:
            return False
        combination, _ = nnls(matrix, wanted / weight)
        # Rays have entries up to 1 in these units: measured against the combination's mass.
        residual = np.abs(matrix @ combination - wanted / weight).max()
        return bool(residual <= _RESIDUAL * max(combination.sum(), 1e-300))

    def thresholds(self, lam: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """Thresholds of its finite rays; shape (any,)."""
        finite = self.rays[self.rays[:, 0] > 0.0]
        return np.asarray(finite[:, -1] / finite[:, 0])

    def lam_range(self) -> np.ndarray:
        """With one control, its least and largest finite multiplier; shape (2,) or (0,)."""
        finite = self.rays[self.rays[:, 0] > 0.0]
        if len(finite) == 0:
            return np.empty(0)
        lam = finite[:, 1] / finite[:, 0]
        return np.array([lam.min(), lam.max()])

    def width(self) -> float:
        """0: no weight is open for its nearness alone."""
        return 0.0

    def unscaled(self, scaling: np.ndarray) -> Cone:
        """The region whose forms on raw scores are these on scores times 2^-scaling."""
        rays = self.rays.copy()
        with np.errstate(over="ignore"):  # see finite
            rays[:, :-1] = np.ldexp(rays[:, :-1], -scaling)
        return replace(self, rays=rays)

    def finite(self) -> bool:
        """Whether float64 can state it."""
        return bool(np.isfinite(self.rays).all())


Region: TypeAlias = Ellipsoid | Cone


def infinite_ray(K: int, sign: float) -> np.ndarray:
    """The ray μ = ±∞ of K controls."""
    ray = np.zeros(K + 2)
    ray[-1] = math.copysign(1.0, sign)
    return ray
