"""The relaxation with one control solved by enumeration in exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np


def relaxed_optimum(
    target: np.ndarray, control: np.ndarray, keep: int, floor: float
) -> Fraction | None:
    """Value of max c·x, 1·x = k, a·x ≥ b, 0 ≤ x ≤ 1, or None when infeasible.

    A vertex has no fractional entry, or two whose values 1ᵀx = k and a·x = b determine; all
    of them are tried. O(d 2^d): for d up to about 12.
    """
    c = [Fraction(float(v)) for v in target]
    a = [Fraction(float(v)) for v in control]
    b = Fraction(floor)
    d = len(c)
    best: Fraction | None = None
    for whole in combinations(range(d), keep):
        if sum(a[i] for i in whole) >= b:
            value = sum((c[i] for i in whole), Fraction(0))
            best = value if best is None else max(best, value)
    if keep == 0 or keep == d:
        return best
    for p, q in combinations(range(d), 2):
        if a[p] == a[q]:
            continue
        rest = [i for i in range(d) if i not in (p, q)]
        for whole in combinations(rest, keep - 1):
            need = b - sum(a[i] for i in whole)
            share = (need - a[q]) / (a[p] - a[q])  # x_p
            if 0 < share < 1:
                value = sum(c[i] for i in whole) + share * c[p] + (1 - share) * c[q]
                best = value if best is None else max(best, value)
    return best


def attainable(control: np.ndarray, keep: int) -> Fraction:
    """Sum of the k largest entries."""
    return sum(sorted((Fraction(float(v)) for v in control), reverse=True)[:keep], Fraction(0))


def exact_residuals(
    target: np.ndarray,
    controls: np.ndarray,
    keep: int,
    floors: np.ndarray,
    x: np.ndarray,
    multipliers: np.ndarray,
) -> tuple[Fraction, Fraction, Fraction]:
    """Check a primal and a dual point in rational arithmetic, for any d and K.

    Returns the dual bound T_k(c + Aᵀλ) − λᵀb less cᵀx, the largest lack of a floor over its
    summed absolute control, and |1ᵀx − k|. Needs no threshold and shares nothing with the
    judge. `multipliers` has shape (K, 2): double-doubles.
    """
    c = [Fraction(float(v)) for v in target]
    A = [[Fraction(float(v)) for v in row] for row in controls]
    b = [Fraction(float(v)) for v in floors]
    lam = [sum(map(Fraction, row.tolist()), Fraction(0)) for row in multipliers]
    share = [Fraction(float(v)) for v in x]
    s = [ci + sum(w * row[i] for w, row in zip(lam, A, strict=True)) for i, ci in enumerate(c)]
    top = sum(sorted(s, reverse=True)[:keep], Fraction(0))
    bound = top - sum(w * floor for w, floor in zip(lam, b, strict=True))
    lack = Fraction(0)
    for row, floor in zip(A, b, strict=True):
        held = sum(v * y for v, y in zip(row, share, strict=True))
        size = sum(abs(v) * y for v, y in zip(row, share, strict=True))
        if floor > held:
            lack = max(lack, (floor - held) / size if size else Fraction(1))
    value = sum(v * y for v, y in zip(c, share, strict=True))
    return bound - value, lack, abs(sum(share, Fraction(0)) - keep)
