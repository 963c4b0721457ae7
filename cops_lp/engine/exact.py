"""Exact solvers for problems whose weights are all in memory, by the number of controls.

None: selection. One: the two-score algorithm. More: the dual simplex. Each ends in a vertex of
the relaxation and its dual point.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from ..kernels import two_score as kernel
from ..kernels.direct import two_score_vertex
from ..problem import FLOOR_TOLERANCE
from . import doubles
from .masses import Masses, Windows, count_at_least, find_masses, solve_by_windows, told_signs
from .screened import largest_sizes
from .several import solve_several
from .ties import lowest_first
from .vertex import Vertex

__all__ = ["BEYOND", "Vertex", "kept_copies", "scaled_floors", "solve_exact"]

BEYOND = 2.0**900
"""Of scaled scores: no sum of controls comes near, no product of two overflows."""

_LEAST = 2.0**-1074
_MANY = 1 << 14  # weights from which masses are looked for
_NO_INDEX = np.empty(0, np.int64)
_NO_VALUES = np.empty(0)


def solve_exact(
    scores: np.ndarray,
    k: int,
    floors: np.ndarray,
    magnitudes: np.ndarray | None = None,
    hints: np.ndarray | None = None,
    ordered: bool = True,
) -> Vertex:
    """Solve max c·x over 1·x = k, A x ≥ b, 0 ≤ x ≤ 1 for finite scores in memory.

    Parameters
    ----------
    scores : ndarray of float64, shape (1 + K, n)
        Scaled to absolute values of about 1 at most. Contiguous rows.
    k : int, 0 ≤ k ≤ n
    floors : ndarray of float64, shape (K, 2)
        Double-doubles.
    magnitudes : ndarray of float64, shape (K,), optional
        Summed absolute controls of weights kept elsewhere: the scale of the floors' rounding.
        Without it no tolerance is granted.
    hints : ndarray of float64, optional
        For K = 1, multipliers to try first. They save time only.
    ordered : bool
        Whether, for K = 1, the lowest of equal weights must be the ones that are kept.

    Returns
    -------
    Vertex

    Notes
    -----
    Expected O(n) for K = 0, O(n) a step with few steps for K = 1, O(n K) an iteration of the
    dual simplex with a few dozen for K ≥ 2.
    """
    n = scores.shape[1]
    if not 0 <= k <= n:  # compiled code would not look
        raise AssertionError(f"{k} of {n} weights are to be kept")
    if k == 0 or k == n:
        return _forced(scores, k, floors, magnitudes)
    if n >= _MANY:
        equal = find_masses(scores)
        if equal.shape[1]:
            return _solve_with_masses(scores, equal, k, floors, magnitudes, ordered)
    return _solve_each(scores, k, floors, magnitudes, ordered, hints)


def _solve_each(
    scores: np.ndarray,
    k: int,
    floors: np.ndarray,
    magnitudes: np.ndarray | None,
    ordered: bool,
    hints: np.ndarray | None = None,
) -> Vertex:
    """Solve with every weight a column of its own."""
    n = scores.shape[1]
    if k == 0 or k == n:
        return _forced(scores, k, floors, magnitudes)
    flags = np.zeros(n, dtype=np.uint8)
    c = scores[0]
    if len(floors) == 0:
        threshold = kernel.top_k(c, k, flags)
        nothing = np.empty(0)
        return Vertex(
            True, nothing, nothing, (threshold, 0.0), flags.view(bool), _NO_INDEX, _NO_VALUES
        )
    if len(floors) > 1:
        return solve_several(scores, k, floors, magnitudes)
    return _solve_two_scores(scores, k, floors, magnitudes, ordered, hints)


def _solve_two_scores(
    scores: np.ndarray,
    k: int,
    floors: np.ndarray,
    magnitudes: np.ndarray | None,
    ordered: bool,
    hints: np.ndarray | None,
) -> Vertex:
    n = scores.shape[1]
    kept, near = np.empty(n, dtype=bool), np.empty(n if ordered else 0, dtype=bool)
    point, fractional, values = np.zeros(6), np.empty(2, np.int64), np.empty(2)
    code, inside, equal = two_score_vertex(
        scores,
        k,
        *floors[0],
        0.0 if magnitudes is None else magnitudes[0],
        0.0 if magnitudes is None else FLOOR_TOLERANCE,
        _NO_VALUES if hints is None else hints,
        kept.view(np.uint8),
        near,
        point,
        fractional,
        values,
    )
    lam, _, mu_hi, mu_lo, terms, excess = point.tolist()
    if code == kernel.INFEASIBLE:
        return Vertex(
            False,
            np.array([np.inf]),
            np.zeros(1),
            (mu_hi, mu_lo),
            kept,
            _NO_INDEX,
            _NO_VALUES,
            certificate=np.ones(1),
        )
    fractional, values = fractional[:inside], values[:inside]
    if equal:
        fractional, values = lowest_first(scores, np.flatnonzero(near), kept, fractional, values)
    return Vertex(
        True,
        point[:1],
        point[1:2],
        (mu_hi, mu_lo),
        kept,
        fractional,
        values,
        residual=lam * excess if lam > 0.0 else 0.0,
        complementarity=terms,
    )


def _solve_with_masses(
    scores: np.ndarray,
    equal: np.ndarray,
    k: int,
    floors: np.ndarray,
    magnitudes: np.ndarray | None,
    ordered: bool,
) -> Vertex:
    """Solve where many weights are equal to a column of `equal`, shape (1 + K, m)."""
    members = [np.flatnonzero((scores == column[:, None]).all(axis=0)) for column in equal.T]
    outside = np.ones(scores.shape[1], dtype=bool)
    for member in members:
        outside[member] = False
    rest_index = np.flatnonzero(outside)
    rest, n = scores[:, rest_index], len(rest_index)
    masses = Masses(equal, np.array([len(member) for member in members]))

    def solve(windows: Windows, left: int) -> tuple[Vertex, np.ndarray, np.ndarray, np.ndarray]:
        taken = None if magnitudes is None else magnitudes + np.abs(equal[1:]) @ windows.first
        vertex = _solve_each(
            np.hstack((rest, windows.copies(masses))),
            left,
            doubles.subtract(floors, windows.sums(equal[1:])),
            taken,
            ordered,
        )
        inside = np.zeros(len(vertex.kept), dtype=bool)
        inside[vertex.fractional] = True
        if vertex.feasible:
            weights = np.append(1.0, vertex.multipliers + vertex.multipliers_rest)
        else:
            assert vertex.certificate is not None
            weights = np.append(0.0, vertex.certificate)
        signs = told_signs(weights, sum(vertex.threshold), equal)
        return vertex, vertex.kept[n:], inside[n:], signs

    def coarse(windows: Windows, copies: np.ndarray, step: int, left: int) -> np.ndarray:
        beyond = doubles.subtract(floors, windows.sums(equal[1:]))
        return kept_copies(rest[:, step // 2 :: step], equal, copies, step, left, beyond)

    guess = np.zeros(len(scores))
    guess[0] = 1.0
    above = count_at_least(rest, guess, equal)
    vertex, windows, amounts = solve_by_windows(above, masses, n, k, guess, solve, coarse)
    kept = np.zeros(scores.shape[1], dtype=bool)
    kept[rest_index] = vertex.kept[:n]
    for member, amount in zip(members, amounts, strict=True):
        kept[member[:amount]] = True
    inner = vertex.fractional
    mass, rank = windows.ranks(amounts, inner[inner >= n] - n)
    copies = [int(members[m][i]) for m, i in zip(mass, rank, strict=True)]
    fractional = np.concatenate((rest_index[inner[inner < n]], copies)).astype(np.int64)
    order = np.argsort(fractional)
    gap = vertex.complementarity
    if vertex.feasible:
        gap += windows.gap(masses, _reduced(equal, vertex))
    return replace(
        vertex,
        kept=kept,
        fractional=fractional[order],
        values=vertex.values[order],
        complementarity=gap,
    )


def scaled_floors(floors: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """Floors times 2^-exponents, for scores of about 1; what is too small keeps its sign.

    For where nothing is kept but zeros, any positive floor is too much. Those beyond any sum of
    scores stay so, but do not overflow.
    """
    with np.errstate(over="ignore"):
        scaled = np.ldexp(floors, -exponents)
    scaled = np.minimum(np.maximum(scaled, -BEYOND), BEYOND)
    return np.asarray(np.where(scaled, scaled, np.sign(floors) * _LEAST))


def kept_copies(
    rest: np.ndarray,
    equal: np.ndarray,
    copies: np.ndarray,
    step: int,
    k: int,
    floors: np.ndarray,
) -> np.ndarray:
    """Sum of x over some copies of each mass, where a weight stands for `step` of them; shape (m,).

    Parameters
    ----------
    rest : ndarray, shape (1 + K, n)
        Other weights, one in so many.
    equal : ndarray of float64, shape (1 + K, m)
        The masses' scores.
    copies : ndarray of int64, shape (m,)
    step, k : int
    floors : ndarray of float64, shape (K, 2)
        Of the problem that is `step` times as large.
    """
    scores = np.hstack((rest.astype(np.float64), np.repeat(equal, copies, axis=1)))
    exponents = np.frexp(largest_sizes(scores))[1][:, None]
    np.ldexp(scores, -exponents, out=scores)
    wanted = scaled_floors(floors / step, exponents[1:])
    n = scores.shape[1]
    vertex = _solve_each(scores, min(max(round(k / step), 0), n), wanted, None, False)
    x = vertex.kept.astype(np.float64)
    x[vertex.fractional] = vertex.values
    ends = np.concatenate(([0.0], np.cumsum(x[rest.shape[1] :])))
    stops = np.cumsum(copies)
    return np.asarray(ends[stops] - ends[stops - copies])


def _reduced(scores: np.ndarray, vertex: Vertex) -> np.ndarray:
    """Reduced costs, rounded once: a few weights' only."""
    lam = [
        Fraction(high) + Fraction(low)
        for high, low in zip(
            vertex.multipliers.tolist(), vertex.multipliers_rest.tolist(), strict=True
        )
    ]
    mu = sum(map(Fraction, map(float, vertex.threshold)), Fraction(0))
    weights = [Fraction(1), *lam]
    return np.array(
        [
            float(sum((w * Fraction(x) for w, x in zip(weights, column, strict=True)), -mu))
            for column in scores.T.tolist()
        ]
    )


def _forced(
    scores: np.ndarray, k: int, floors: np.ndarray, magnitudes: np.ndarray | None
) -> Vertex:
    """K = 0 or k = n leave one mask; any threshold below or above all scores proves it."""
    n = scores.shape[1]
    K = len(floors)
    kept = np.full(n, k > 0)
    reached = np.array([kernel.sum_dd(row) for row in scores[1:]]).reshape(K, 2) if k else 0.0
    slack: np.ndarray | float = 0.0
    if magnitudes is not None:
        slack = FLOOR_TOLERANCE * (magnitudes + (np.abs(scores[1:]).sum(axis=1) if k else 0.0))
    excess = (floors - reached).sum(axis=1) - slack
    feasible = bool(np.all(excess <= 0.0))
    if feasible:
        row, certificate = scores[0], None
    else:
        worst = int(excess.argmax())
        row = scores[1 + worst]
        certificate = np.zeros(K)
        certificate[worst] = 1.0
    if n == 0:
        threshold = 0.0
    else:
        threshold = float(row.min() if k else row.max())
    return Vertex(
        feasible,
        np.zeros(K) if feasible else np.full(K, np.inf),
        np.zeros(K),
        (threshold, 0.0),
        kept,
        _NO_INDEX,
        _NO_VALUES,
        certificate=certificate,
    )
