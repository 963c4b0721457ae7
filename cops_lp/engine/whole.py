"""The relaxation's optimum, and how it is found where every weight is left open."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..kernels.direct import scale_rows, sum_kept
from .candidates import AllWeights, Candidates
from .columns import Columns, exact_sum
from .exact import scaled_floors, solve_exact
from .failures import NotFiniteError
from .stores import Store

__all__ = ["Relaxation", "exponents_of", "scaled_by", "solve_all"]


@dataclass(frozen=True, slots=True)
class Relaxation:
    """The relaxation's optimum over a whole store.

    Attributes
    ----------
    feasible : bool
        When False the rest describes the best mask of the certificate's combined control.
    multipliers, multipliers_rest : ndarray of float64, shape (K,)
        λ is the sum of the two.
    threshold : float
    kept_sums : ndarray of float64, shape (1 + K, 2)
        Each score's sum over the weights with x = 1, double-doubles.
    magnitudes : ndarray of float64, shape (1 + K,)
        The same of absolute scores.
    fractional : ndarray of int64
        Flat indices, ascending, where 0 < x < 1; d + j for column j of `columns`.
    values, fractional_scores : ndarray of float64, shapes (f,) and (1 + K, f)
    gap : float
        Σ max(0, r) − x r + Σ λ_j (A_j x − b_j), r = s − μ.
    floors_gap : float
        Σ λ_j |A_j x − b_j|.
    passes, open_count : int
        Reads of the whole store, and weights that the last one left open.
    certificate : ndarray of float64, shape (K,), or None
        When infeasible: y ≥ 0 with yᵀb > T_k(Aᵀy); `threshold` is then the k-th largest Aᵀy.
    candidates : Candidates
        The last read's open weights.
    columns : ndarray of float64, shape (m,)
        Of the columns that were solved with the store, how many weights have x = 1.
    """

    feasible: bool
    multipliers: np.ndarray
    multipliers_rest: np.ndarray
    threshold: float
    kept_sums: np.ndarray
    magnitudes: np.ndarray
    fractional: np.ndarray
    values: np.ndarray
    fractional_scores: np.ndarray
    gap: float
    floors_gap: float
    passes: int
    open_count: int
    candidates: Candidates
    certificate: np.ndarray | None = None
    columns: np.ndarray = field(default_factory=lambda: np.empty(0))


@np.errstate(over="ignore")  # an overflow shows in the result and fails its checks
def solve_all(
    store: Store,
    k: int,
    floors: np.ndarray,
    mask: np.ndarray | None,
    magnitudes: np.ndarray,
    passes: int = 0,
    hints: np.ndarray | None = None,
    columns: Columns | None = None,
    deadline: float = math.inf,
) -> Relaxation:
    """Leave every weight open: for small problems, and where guesses keep failing.

    `columns` are solved with the store's weights.
    """
    scores = store.gather(None)
    n, upper = store.size, None
    if columns is not None and len(columns.counts):
        scores = np.hstack((scores, columns.scores))
        upper = np.append(np.ones(n), columns.counts)
    scaling = np.empty(len(scores), np.int64)
    if not scale_rows(scores, scaling):
        raise NotFiniteError
    vertex = solve_exact(
        scores,
        k,
        scaled_floors(floors, scaling[1:, None]),
        np.ldexp(magnitudes, -scaling[1:]),
        hints=hints if hints is None else np.ldexp(hints, scaling[1:] - scaling[0]),
        upper=upper,
        deadline=deadline,
    )
    if mask is not None:
        store.close()  # what may still make the mask's pages would overwrite it
        mask[:] = vertex.kept[:n]
    units = scaling[0] - scaling[1:]
    multipliers = np.ldexp(vertex.multipliers, units) + 0.0  # no −0
    back = np.ldexp(multipliers, -units)
    gap = vertex.complementarity + vertex.residual
    if vertex.feasible and not (back == vertex.multipliers).all():
        gap = np.nan  # λ is beyond float64 in these units
    certificate = None
    if vertex.certificate is not None:
        certificate = np.ldexp(vertex.certificate, -scaling[1:])
    kept_sums, sizes = np.empty((len(scores), 2)), np.empty(len(scores))
    if upper is None:
        sum_kept(scores, scaling, vertex.kept, kept_sums, sizes)
    else:
        chosen = np.flatnonzero(vertex.amounts())
        amounts = vertex.amounts()[chosen]
        kept_sums[:] = [exact_sum(row, amounts)[:2] for row in scores[:, chosen]]
        kept_sums = np.ldexp(kept_sums, scaling[:, None])
        sizes = np.ldexp(np.abs(scores[:, chosen]) @ amounts, scaling)
    if not np.isfinite(sizes).all():
        raise OverflowError
    return Relaxation(
        feasible=vertex.feasible,
        multipliers=multipliers,
        multipliers_rest=np.ldexp(vertex.multipliers_rest, units),
        threshold=float(np.ldexp(sum(vertex.threshold), scaling[0] * vertex.feasible)),
        kept_sums=kept_sums,
        magnitudes=sizes,
        fractional=vertex.fractional,
        values=vertex.values,
        fractional_scores=np.ldexp(scores[:, vertex.fractional], scaling[:, None]),
        gap=float(np.ldexp(gap, scaling[0])),
        floors_gap=float(np.ldexp(vertex.floors_gap, scaling[0])),
        passes=passes + 1,
        open_count=store.size,
        candidates=AllWeights(scores[:, :n], scaling),
        certificate=certificate,
        columns=np.empty(0) if upper is None else vertex.amounts()[n:],
    )


def exponents_of(largest: np.ndarray) -> np.ndarray:
    """Powers of two that bring each score's largest absolute value to about 1.

    Raises
    ------
    NotFiniteError
    """
    if not np.isfinite(largest).all():  # extremes pass NaN on
        raise NotFiniteError
    _, exponents = np.frexp(largest.astype(np.float64))
    return np.asarray(np.clip(exponents, -1000, 1000))


def scaled_by(x: np.ndarray | float, exponents: np.ndarray) -> np.ndarray:
    """x · 2^exponents."""
    with np.errstate(over="ignore"):  # an overflow shows in the result and fails its checks
        return np.asarray(np.ldexp(x, exponents))
