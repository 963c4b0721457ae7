"""A sample solved for one right-hand side after another, at little more than the cost of one.

The sample is itself screened once, against a region that a sample of it gives and that is wide
enough for all the right-hand sides to come. Each is then solved on what is open, and in full
where its optimum turns out to lie elsewhere.
"""

from __future__ import annotations

import numpy as np

from .exact import solve_exact
from .region import MARGIN, contains, guess_rays, reach_of
from .several import Search
from .stores import ArrayStore, Screened
from .vertex import Vertex

__all__ = ["SampleSearch"]

_STRIDE = 8  # one sampled weight in so many is sampled again
_SPREAD = 5.0
"""Standard deviations for the inner sample. With up to two controls the outer pushes, at most 4
deviations of a sample _STRIDE times larger, are 1.4 of the inner one's; that leaves 3.6 for the
inner sample's error. With more controls the pushes are wider: more are solved in full."""
_LEAST = 4096  # sampled weights below which that does not pay


class SampleSearch:
    """Solves ``(k, floors)`` on a sample; see the module.

    Parameters
    ----------
    sample : ndarray of float64, shape (1 + K, r)
        Finite scores of about 1 at most.
    """

    def __init__(self, sample: np.ndarray) -> None:
        self._sample = sample
        self._rays: np.ndarray | None = None
        self._screened: Screened | None = None
        self._mask = np.zeros(sample.shape[1], dtype=bool)
        self._outer: _Repeated | None = None
        self.center: np.ndarray | None = None
        """With two controls or more: the first optimum's basis, as positions in the sample."""

    def __call__(
        self, sample: np.ndarray, k: int, floors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ray of the dual optimum (at infinity where the floors cannot be met), and where x = 1."""
        r = sample.shape[1]
        wanted = np.stack((floors, np.zeros(len(floors))), axis=1)
        if r >= _LEAST and self._rays is None and 0 < k < r:
            self._screen(k / r, floors)
        if self._rays is not None and self._screened is not None:
            open_ = self._screened
            left = k - open_.kept
            if 0 < left < len(open_.index):
                ray, kept = self._inner.solve(left, wanted - open_.sums[1:])
                if ray[0] > 0.0 and contains(self._rays, ray):
                    whole = self._mask.copy()
                    whole[open_.index] = kept
                    self._note(self._inner, open_.index)
                    return ray, whole
        if self._outer is None:
            self._outer = _Repeated(sample)
        found = self._outer.solve(k, wanted)
        self._note(self._outer, np.arange(r))
        return found

    def _note(self, solver: _Repeated, index: np.ndarray) -> None:
        basis = solver.basis()
        if self.center is None and basis is not None:
            weights = basis >= 0
            basis[weights] = index[basis[weights]]
            self.center = basis

    def _screen(self, share: float, floors: np.ndarray) -> None:
        inner = np.ascontiguousarray(self._sample[:, ::_STRIDE])
        scaled = floors * (inner.shape[1] / self._sample.shape[1])
        self._rays = guess_rays(inner, share, scaled, _SPREAD, SampleSearch(inner))
        self._screened = ArrayStore(tuple(self._sample)).screen(self._rays, MARGIN, self._mask)
        opened = np.ascontiguousarray(self._screened.scores, dtype=np.float64)
        self._inner = _Repeated(opened, reach_of(self._rays))


class _Repeated:
    """One set of scores, solved again and again; from two controls on, from the last basis."""

    def __init__(self, scores: np.ndarray, hints: np.ndarray | None = None) -> None:
        self._scores = scores
        self._hints = hints
        self._search = Search(scores) if len(scores) > 2 else None

    def basis(self) -> np.ndarray | None:
        return None if self._search is None else self._search.end()

    def solve(self, k: int, floors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._search is not None and 0 < k < self._scores.shape[1]:
            return self._search.dual_ray(k, floors)
        vertex = solve_exact(self._scores, k, floors, hints=self._hints)
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
