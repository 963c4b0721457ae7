"""What an exact solver ends in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Vertex"]


@dataclass(frozen=True, slots=True)
class Vertex:
    """An optimal vertex, or the optimum of the controls alone that shows there is none.

    Attributes
    ----------
    feasible : bool
    multipliers, multipliers_rest : ndarray of float64, shape (K,)
        λ is the sum of the two: the second are low-order parts.
    threshold : tuple of float
        μ as a double-double. When infeasible: the k-th largest of Aᵀy.
    kept : ndarray of bool, shape (n,)
        Where x = 1.
    fractional : ndarray of int64
        Where 0 < x < 1; at most K + 1.
    values : ndarray of float64
        x there.
    residual : float
        Σ_j λ_j (A_j x − b_j), the floors' part of the gap.
    complementarity : float
        Σ max(0, r) − x r, r = s − μ, the weights' part of the gap. Infinite
        where the solver failed.
    floors_gap : float
        Σ_j λ_j |A_j x − b_j|, which `residual` may hide where terms cancel.
    certificate : ndarray of float64, shape (K,), or None
        When infeasible: y ≥ 0 with yᵀb > T_k(Aᵀy).
    whole : ndarray of float64, shape (n,), or None
        ⌊x⌋ of columns of equal weights; None where they are all weights. `kept` is then where
        x = u, and `values` are x − ⌊x⌋.
    """

    feasible: bool
    multipliers: np.ndarray
    multipliers_rest: np.ndarray
    threshold: tuple[float, float]
    kept: np.ndarray
    fractional: np.ndarray
    values: np.ndarray
    residual: float = 0.0
    complementarity: float = 0.0
    floors_gap: float = 0.0
    certificate: np.ndarray | None = None
    whole: np.ndarray | None = None

    def amounts(self) -> np.ndarray:
        """⌊x⌋; float64, shape (n,)."""
        return self.kept.astype(np.float64) if self.whole is None else self.whole
