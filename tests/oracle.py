"""The relaxation by enumeration of its vertices, and residuals, in exact rational arithmetic.

For values, best masks and balances of larger problems see rational.py.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np

from .rational import ExactProblem, dot, exact, top_sum


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
    return top_sum(exact(control), keep)


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
    problem = ExactProblem.of(np.vstack((target, controls)), keep, floors)
    share = exact(x)
    value, *held = problem.kept(share)
    lack = Fraction(0)
    for row, floor, kept in zip(problem.controls, problem.floors, held, strict=True):
        size = dot([abs(v) for v in row], share)
        if floor > kept:
            lack = max(lack, (floor - kept) / size if size else Fraction(1))
    bound = problem.bound([sum(exact(row), Fraction(0)) for row in multipliers])
    return bound - value, lack, abs(sum(share, Fraction(0)) - keep)


def certificate_excess(
    controls: np.ndarray, keep: int, floors: np.ndarray, y: np.ndarray
) -> Fraction:
    """Evaluate yᵀb − T_k(Aᵀy): positive exactly when y ≥ 0 proves that no x meets the floors."""
    problem = ExactProblem.of(np.vstack((np.zeros_like(controls[0]), controls)), keep, floors)
    return problem.excess(exact(y))


def relaxed_optimum_several(
    target: np.ndarray, controls: np.ndarray, keep: int, floors: np.ndarray
) -> Fraction | None:
    """Value of max c·x, 1·x = k, A x ≥ b, 0 ≤ x ≤ 1 by enumerating vertices; None if infeasible.

    A vertex has f fractional entries and at least f − 1 tight floors that determine them with
    the count (docs/formulation.md, Theorem 3). O(2^d d^K): for d up to 8 and K up to 3.
    """
    c = [Fraction(float(v)) for v in target]
    A = [[Fraction(float(v)) for v in row] for row in controls]
    b = [Fraction(float(v)) for v in floors]
    d, K = len(c), len(A)
    best: Fraction | None = None
    for f in range(min(K + 1, d) + 1):
        if f == 1:
            continue
        for inside in combinations(range(d), f):
            rest = [i for i in range(d) if i not in inside]
            for tight in combinations(range(K), max(f - 1, 0)):
                inverse = _inverse([[Fraction(1)] * f] + [[A[j][i] for i in inside] for j in tight])
                if f and inverse is None:
                    continue
                for count in range(max(0, keep - f), min(keep, len(rest)) + 1):
                    for whole in combinations(rest, count):
                        need = [Fraction(keep - count)]
                        need += [b[j] - sum(A[j][i] for i in whole) for j in tight]
                        x = [
                            sum((p * q for p, q in zip(row, need, strict=True)), Fraction(0))
                            for row in (inverse or [])
                        ]
                        if (f == 0 and count != keep) or any(not 0 < v < 1 for v in x):
                            continue
                        held = [
                            sum((row[i] for i in whole), Fraction(0))
                            + sum((row[i] * v for i, v in zip(inside, x, strict=True)), Fraction(0))
                            for row in [*A, c]
                        ]
                        if all(h >= floor for h, floor in zip(held, b, strict=False)):
                            best = held[-1] if best is None else max(best, held[-1])
    return best


def _inverse(rows: list[list[Fraction]]) -> list[list[Fraction]] | None:
    """Invert a square matrix; None where it is singular."""
    n = len(rows[0])
    if n == 0:
        return []
    work = [[*row, *(Fraction(i == j) for j in range(n))] for i, row in enumerate(rows)]
    for t in range(n):
        pivot = next((i for i in range(t, n) if work[i][t] != 0), None)
        if pivot is None:
            return None
        work[t], work[pivot] = work[pivot], work[t]
        work[t] = [v / work[t][t] for v in work[t]]
        for i in range(n):
            if i != t and work[i][t] != 0:
                factor = work[i][t]
                work[i] = [v - factor * w for v, w in zip(work[i], work[t], strict=True)]
    return [row[n:] for row in work]
