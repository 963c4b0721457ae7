"""What an exact solver needs done around it, in whole steps.

At a thousand weights the arithmetic takes a tenth of a millisecond, and a chain of small NumPy
calls takes several times that.
"""

from __future__ import annotations

import math

import numpy as np

from ._jit import compiled
from .two_score import (
    INFEASIBLE,
    OPTIMAL,
    STOPPED,
    _add,
    _is_near,
    _size_where,
    floor_excess,
    gap_terms,
    least_kept,
    near_threshold,
    two_score,
)

__all__ = ["scale_rows", "sum_kept", "two_score_vertex"]

_NUMBER = np.int64(0x7FFF_FFFF_FFFF_FFFF)  # a float64's bits without its sign
_INFINITE = np.int64(0x7FF0_0000_0000_0000)  # those of infinity; beyond them NaN
_TIES = 64  # weights at the threshold, up to which each pair is compared
_MANY = 4_096  # weights from which a multiplier is guessed
_STRIDE = 16  # from one weight in so many
_BESIDE = 0.4  # multipliers tried first are so far from the guess, as a share of it
_NONE = np.int64(-1)


@compiled
def scale_rows(scores, exponents):
    """Scale each row by a power of two to absolute values of about 1, in place.

    Parameters
    ----------
    scores : float64, shape (m, n), C order
    exponents : int64, shape (m,), filled
        Of the powers of two that the rows are divided by; within ±1000.

    Returns
    -------
    bool
        False where an entry is not finite; then nothing was scaled.
    """
    rows = scores.view(np.int64)
    for j in range(len(scores)):
        row = rows[j]
        largest = np.int64(0)
        for i in range(len(row)):
            largest = max(largest, row[i] & _NUMBER)
        if largest >= _INFINITE:
            return False
        # Below 2^-1022 the bits say no more, but that far nothing is scaled.
        exponents[j] = min(max((largest >> 52) - 1022, -1000), 1000) if largest else 0
    for j in range(len(scores)):
        row = scores[j]
        factor = math.ldexp(1.0, int(-exponents[j]))
        for i in range(len(row)):
            row[i] *= factor
    return True


@compiled
def sum_kept(scores, exponents, kept, sums, sizes):
    """Fill each row's sum over the kept weights, as a double-double, and its absolute values'.

    Parameters
    ----------
    scores : float64, shape (m, n)
    exponents : int64, shape (m,), within ±1000
        Of the powers of two by which the sums of each row are multiplied.
    kept : bool, shape (n,)
    sums : float64, shape (m, 2), filled
    sizes : float64, shape (m,), filled
    """
    for j in range(len(scores)):
        hi = lo = size = 0.0
        row = scores[j]
        for i in range(len(row)):
            if kept[i]:
                hi, lo = _add(hi, lo, row[i], 0.0)
                size += abs(row[i])
        factor = math.ldexp(1.0, int(exponents[j]))
        sums[j, 0], sums[j, 1], sizes[j] = hi * factor, lo * factor, size * factor


@compiled
def _guessed(c, a, k, floor, flags, stop):
    """Multipliers on both sides of a few weights' optimal one; none where they have none."""
    few_c, few_a = c[::_STRIDE].copy(), a[::_STRIDE].copy()
    n = len(few_c)
    few = min(max((k * n) // len(c), 1), n - 1)
    found = two_score(few_c, few_a, few, floor / _STRIDE, 0.0, 0.0, np.empty(0), flags[:n], stop)
    guesses = np.empty(2)
    guesses[0], guesses[1] = found[1] * (1.0 - _BESIDE), found[1] * (1.0 + _BESIDE)
    return guesses if found[0] == OPTIMAL else guesses[:0]


@compiled
def _settled(c, a, flags, lam, rest, mu_hi, mu_lo, terms):
    """Move λ off the wrong side of its own rounding.

    A whole optimum is optimal for an interval of λ, whose end the search returns, rounded;
    a neighbor of that float lies inside. Returns the best of both directions.
    """
    for end in (np.inf, 0.0):
        trial = lam
        for _ in range(2):
            trial = np.nextafter(trial, end)
            hi, lo = least_kept(c, a, trial, 0.0, flags)
            more = gap_terms(c, a, trial, 0.0, hi, lo, flags, _NONE, _NONE, 0.0, 0.0)
            if more < terms:
                lam, rest, mu_hi, mu_lo, terms = trial, 0.0, hi, lo, more
    return lam, rest, mu_hi, mu_lo, terms


@compiled
def _any_equal(c, a, lam, rest, mu_hi, mu_lo):
    """Whether two weights tied with the threshold may be equal in both scores."""
    ties = np.empty(_TIES, np.int64)
    m = 0
    for i in range(len(c)):
        if _is_near(c[i], a[i], lam, rest, mu_hi, mu_lo):
            if m == _TIES:
                return True
            for j in ties[:m]:
                if c[i] == c[j] and a[i] == a[j]:
                    return True
            ties[m] = i
            m += 1
    return False


@compiled
def two_score_vertex(
    scores, k, b_hi, b_lo, size, tolerance, hints, flags, near, point, fractional, values, stop
):
    """Solve with one control, and measure what the answer lacks to a proof.

    Parameters
    ----------
    scores : float64, shape (2, n), C order
        Finite, |entries| at most about 1.
    k : int, 1 ≤ k < n
    b_hi, b_lo : float64
        The floor, a double-double.
    size, tolerance : float64, ≥ 0
        A floor above the attainable best counts as the best up to this share of `size` and the
        summed absolute control of the best mask.
    hints : float64, shape (m,)
        Values of λ to try first. They save time only.
    flags : uint8, shape (n,), filled
        1 where x = 1.
    near : bool, shape (n,), or empty
        Filled where some weights that tie with the threshold may be equal in both scores: the
        ties. Of shape (0,) where equal weights are not looked for.
    point : float64, shape (6,), filled
        λ and μ, double-doubles, the weights' part of the gap, and by how much x exceeds the floor.
    fractional, values : int64 and float64, shape (2,), filled
        Where 0 < x < 1, ascending, and x there.
    stop : uint8, shape (1,)
        As of :func:`.two_score.two_score`.

    Returns
    -------
    code : int
        OPTIMAL, INFEASIBLE or, with nothing else of use, STOPPED.
    inside : int
        How many weights are fractional.
    equal : bool
        Whether `near` was filled.
    """
    c, a = scores[0], scores[1]
    if len(c) >= _MANY and len(hints) == 0:
        hints = _guessed(c, a, k, b_hi, flags, stop)
    found = two_score(c, a, k, b_hi, b_lo, 0.0, hints, flags, stop)
    if found[0] == INFEASIBLE and tolerance > 0.0:
        slack = tolerance * (size + _size_where(a, flags))
        found = two_score(c, a, k, b_hi, b_lo, slack, hints[:0], flags, stop)
    code, lam, rest, mu_hi, mu_lo, p, q, x_p, x_q, _, b_hi, b_lo = found
    if code == STOPPED:
        return code, 0, False
    if code == INFEASIBLE:
        point[2], point[3] = mu_hi, mu_lo
        return code, 0, False
    terms = gap_terms(c, a, lam, rest, mu_hi, mu_lo, flags, p, q, x_p, x_q)
    if p < 0 and terms > 0.0 and lam > 0.0:
        lam, rest, mu_hi, mu_lo, terms = _settled(c, a, flags, lam, rest, mu_hi, mu_lo, terms)
    point[0], point[1], point[2], point[3], point[4] = lam, rest, mu_hi, mu_lo, terms
    point[5] = floor_excess(a, b_hi, b_lo, flags, p, q, x_p, x_q)
    if p > q:
        p, q, x_p, x_q = q, p, x_q, x_p
    fractional[0], fractional[1], values[0], values[1] = p, q, x_p, x_q
    inside = 0 if p < 0 else 2
    equal = len(near) > 0 and _any_equal(c, a, lam, rest, mu_hi, mu_lo)
    if equal:
        near_threshold(c, a, lam, rest, mu_hi, mu_lo, near)
    return code, inside, equal
