"""Exact solvers for problems whose weights are all in memory, by the number of controls.

None: selection. One: the two-score algorithm. More: the dual simplex. Each ends in a vertex of
the relaxation and its dual point.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..kernels import two_score as kernel
from ..kernels.direct import two_score_vertex
from ..tolerances import slack_alone
from .columns import exact_sum, find_columns, solve_selection
from .failures import OutOfTimeError
from .several import solve_several
from .threads import stop_at
from .ties import lowest_first
from .vertex import Vertex

__all__ = ["BEYOND", "Vertex", "scaled_floors", "solve_exact"]

BEYOND = 2.0**900
"""Of scaled scores: no sum of controls comes near, no product of two overflows."""

_LEAST = 2.0**-1074
_MANY = 1 << 14  # weights from which equal ones are looked for
_LONG = 1 << 19  # weights from which a step may take so long that time is looked at
_NO_INDEX = np.empty(0, np.int64)
_NO_VALUES = np.empty(0)


def solve_exact(
    scores: np.ndarray,
    k: int,
    floors: np.ndarray,
    magnitudes: np.ndarray | None = None,
    hints: np.ndarray | None = None,
    ordered: bool = True,
    upper: np.ndarray | None = None,
    deadline: float = math.inf,
) -> Vertex:
    """Solve max c·x over 1·x = k, A x ≥ b, 0 ≤ x ≤ u for finite scores in memory.

    Parameters
    ----------
    scores : ndarray of float64, shape (1 + K, n)
        Scaled to absolute values of about 1 at most. Contiguous rows.
    k : int, 0 ≤ k ≤ Σ u
    floors : ndarray of float64, shape (K, 2)
        Double-doubles.
    magnitudes : ndarray of float64, shape (K,), optional
        Summed absolute controls of weights kept elsewhere: the scale of the floors' rounding.
        Without it no tolerance is granted.
    hints : ndarray of float64, optional
        For K = 1, multipliers to try first. They save time only.
    ordered : bool
        Whether, for K = 1, the lowest of equal weights must be the ones that are kept.
    upper : ndarray of float64, shape (n,), optional
        Upper bounds, whole numbers: how many equal weights each column stands for. 1 if not given.
    deadline : float
        On ``time.perf_counter``'s clock. OutOfTimeError where it comes first, unless the
        answer is a moment away.

    Returns
    -------
    Vertex

    Notes
    -----
    Expected O(n) for K = 0, O(n) a step with few steps for K = 1, O(n K) an iteration of the
    dual simplex with a few dozen for K ≥ 2.
    """
    n = scores.shape[1]
    total = n if upper is None else int(upper.sum())
    if not 0 <= k <= total:  # compiled code would not look
        raise AssertionError(f"{k} of {total} weights are to be kept")
    if k == 0 or k == total:
        return _forced(scores, k, floors, magnitudes, upper)
    if upper is None:
        equal = find_columns(scores) if n >= _MANY else scores[:, :0]
        if equal.shape[1]:
            return _solve_grouped(scores, equal, k, floors, magnitudes, deadline)
        return _solve_each(scores, k, floors, magnitudes, ordered, hints, deadline)
    if len(floors) == 0:
        return solve_selection(scores[0], k, upper)
    return solve_several(scores, k, floors, magnitudes, upper, deadline)


def _solve_each(
    scores: np.ndarray,
    k: int,
    floors: np.ndarray,
    magnitudes: np.ndarray | None,
    ordered: bool,
    hints: np.ndarray | None = None,
    deadline: float = math.inf,
) -> Vertex:
    """Solve with every weight a column of its own."""
    n = scores.shape[1]
    flags = np.zeros(n, dtype=np.uint8)
    c = scores[0]
    if len(floors) == 0:
        threshold = kernel.top_k(c, k, flags)
        nothing = np.empty(0)
        return Vertex(
            True, nothing, nothing, (threshold, 0.0), flags.view(bool), _NO_INDEX, _NO_VALUES
        )
    if len(floors) > 1:
        return solve_several(scores, k, floors, magnitudes, deadline=deadline)
    return _solve_two_scores(scores, k, floors, magnitudes, ordered, hints, deadline)


def _solve_two_scores(
    scores: np.ndarray,
    k: int,
    floors: np.ndarray,
    magnitudes: np.ndarray | None,
    ordered: bool,
    hints: np.ndarray | None,
    deadline: float,
) -> Vertex:
    n = scores.shape[1]
    kept, near = np.empty(n, dtype=bool), np.empty(n if ordered else 0, dtype=bool)
    point, fractional, values = np.zeros(6), np.empty(2, np.int64), np.empty(2)
    with stop_at(deadline if n >= _LONG else math.inf) as stop:
        code, inside, equal = two_score_vertex(
            scores,
            k,
            *floors[0],
            0.0 if magnitudes is None else magnitudes[0],
            0.0 if magnitudes is None else slack_alone(1.0),
            _NO_VALUES if hints is None else hints,
            kept.view(np.uint8),
            near,
            point,
            fractional,
            values,
            stop,
        )
    if code == kernel.STOPPED:
        raise OutOfTimeError
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


def _solve_grouped(
    scores: np.ndarray,
    equal: np.ndarray,
    k: int,
    floors: np.ndarray,
    magnitudes: np.ndarray | None,
    deadline: float,
) -> Vertex:
    """Solve where many weights are equal to a column of `equal`, shape (1 + K, m)."""
    members = [np.flatnonzero((scores == column[:, None]).all(axis=0)) for column in equal.T]
    outside = np.ones(scores.shape[1], dtype=bool)
    for member in members:
        outside[member] = False
    rest = np.flatnonzero(outside)
    n = len(rest)
    upper = np.append(np.ones(n), [len(member) for member in members])
    columns = np.hstack((scores[:, rest], equal))
    vertex = solve_exact(columns, k, floors, magnitudes, upper=upper, deadline=deadline)
    amounts = vertex.amounts().astype(np.int64)
    kept = np.zeros(scores.shape[1], dtype=bool)
    kept[rest] = amounts[:n] > 0
    for member, amount in zip(members, amounts[n:], strict=True):
        kept[member[:amount]] = True
    fractional = np.array(
        [rest[i] if i < n else members[i - n][amounts[i]] for i in vertex.fractional], np.int64
    )
    order = np.argsort(fractional)
    return replace(
        vertex,
        kept=kept,
        fractional=fractional[order],
        values=vertex.values[order],
        whole=None,
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


def _forced(
    scores: np.ndarray,
    k: int,
    floors: np.ndarray,
    magnitudes: np.ndarray | None,
    upper: np.ndarray | None,
) -> Vertex:
    """K = 0 or k = Σ u leave one mask; any threshold below or above all scores proves it."""
    n = scores.shape[1]
    K = len(floors)
    kept = np.full(n, k > 0)
    whole = np.zeros(n) if k == 0 else np.ones(n) if upper is None else upper
    parts = [exact_sum(row, whole) for row in scores[1:]] if k else np.zeros((K, 3))
    slack: np.ndarray | float = 0.0
    if magnitudes is not None:
        slack = slack_alone(magnitudes + np.abs(scores[1:]) @ whole)
    short = np.hstack((floors, -np.reshape(parts, (K, 3))))
    excess = np.array([math.fsum(row) for row in short.tolist()]) - slack
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
        whole=None if upper is None else whole,
    )
