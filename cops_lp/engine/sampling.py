"""A sample solved for one right-hand side after another, at little more than the cost of one.

The sample is itself screened once, against a region that a sample of it gives and that is wide
enough for all the right-hand sides to come. Each is then solved on what is open, and in full
where its optimum turns out to lie elsewhere.
"""

from __future__ import annotations

import numpy as np

from .exact import Vertex, solve_exact
from .region import MARGIN, contains, guess_rays
from .stores import ArrayStore, Screened

__all__ = ["SampleSearch", "vertex_ray"]

_STRIDE = 8  # one sampled weight in so many is sampled again
_SPREAD = 5.0
"""Standard deviations for the inner sample. The outer pushes, at most 4 deviations of a sample
_STRIDE times larger, are 1.4 of the inner one's; that leaves 3.6 for the inner sample's error."""
_LEAST = 4096  # sampled weights below which that does not pay


class SampleSearch:
    """Solves ``(k, floors)`` on a sample; see the module.

    Parameters
    ----------
    sample : ndarray of float64, shape (1 + K, r), K ≤ 1
        Finite scores of about 1 at most.
    """

    def __init__(self, sample: np.ndarray) -> None:
        self._sample = sample
        self._rays: np.ndarray | None = None
        self._screened: Screened | None = None
        self._mask = np.zeros(sample.shape[1], dtype=bool)

    def __call__(
        self, sample: np.ndarray, k: int, floors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ray of the dual optimum (λ = ∞ where the floors cannot be met), and where x = 1."""
        r = sample.shape[1]
        wanted = np.stack((floors, np.zeros(len(floors))), axis=1)
        if r >= _LEAST and self._rays is None and 0 < k < r:
            self._screen(k / r, floors)
        if self._rays is not None and self._screened is not None:
            open_ = self._screened
            left = k - open_.kept
            if 0 <= left <= len(open_.index):
                rest = wanted - open_.sums[1:]
                vertex = solve_exact(open_.scores, left, rest)
                ray = vertex_ray(vertex)
                if vertex.feasible and contains(self._rays, ray):
                    kept = self._mask.copy()
                    kept[open_.index] = vertex.kept
                    return ray, kept
        vertex = solve_exact(sample, k, wanted)
        return vertex_ray(vertex), vertex.kept

    def _screen(self, share: float, floors: np.ndarray) -> None:
        inner = np.ascontiguousarray(self._sample[:, ::_STRIDE])
        scaled = floors * (inner.shape[1] / self._sample.shape[1])
        self._rays = guess_rays(inner, share, scaled, _SPREAD, SampleSearch(inner))
        self._screened = ArrayStore(tuple(self._sample)).screen(self._rays, MARGIN, self._mask)


def vertex_ray(vertex: Vertex) -> np.ndarray:
    """Ray of a vertex's dual point; λ = ∞ where the floors cannot be met."""
    K = len(vertex.multipliers)
    ray = np.empty(K + 2)
    ray[0] = 1.0 if vertex.feasible else 0.0
    ray[1:-1] = vertex.multipliers if vertex.feasible else 1.0
    ray[-1] = sum(vertex.threshold)
    return ray
