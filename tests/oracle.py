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
