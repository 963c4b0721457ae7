"""An oracle in rational arithmetic: a simplex that shares nothing with the package.

Bounded primal simplex on a full tableau of fractions, two phases, Bland's rule: it ends, and its
answers are exact for the numbers given. Milliseconds for ten weights.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["Exact", "balance", "best_mask", "dual", "solve", "top"]

ZERO, ONE = Fraction(0), Fraction(1)


@dataclass(frozen=True)
class Exact:
    """An optimum: its value and point; `value` is None where there is no feasible point."""

    value: Fraction | None
    x: tuple[Fraction, ...]


def solve(scores: list[list[Fraction]], k: int, floors: list[Fraction]) -> Exact:
    """Maximize c·x over 1·x = k, A x ≥ b, 0 ≤ x ≤ 1; `scores` holds c, then the rows of A."""
    d, K = len(scores[0]), len(floors)
    rows = [[ONE] * d + [ZERO] * K]
    for j, row in enumerate(scores[1:]):
        rows.append(row + [-ONE if t == j else ZERO for t in range(K)])
    upper: list[Fraction | None] = [ONE] * d + [None] * K
    found = _simplex(scores[0] + [ZERO] * K, rows, [Fraction(k), *floors], upper)
    return Exact(found.value, found.x[:d])


def balance(scores: list[list[Fraction]], k: int) -> Exact:
    """Maximize t with s_j·x ≥ t T_k(s_j) for all j; the value is t."""
    d, count = len(scores[0]), len(scores)
    bests = [top(row, k) for row in scores]
    least = 1 + max(sum(map(abs, row)) / best for row, best in zip(scores, bests, strict=True))
    rows = [[ONE] * d + [ZERO] * (1 + count)]
    for j, (row, best) in enumerate(zip(scores, bests, strict=True)):
        rows.append([*row, -best, *[-ONE if t == j else ZERO for t in range(count)]])
    right = [Fraction(k), *(-best * least for best in bests)]  # in t + least ≥ 0
    upper: list[Fraction | None] = [ONE] * d + [None] * (1 + count)
    found = _simplex([ZERO] * d + [ONE] + [ZERO] * count, rows, right, upper)
    assert found.value is not None
    return Exact(found.value - least, found.x[:d])


def best_mask(
    scores: list[list[Fraction]], k: int, floors: list[Fraction], slack: list[Fraction]
) -> Fraction | None:
    """Most of the target that k whole weights keep with no floor missed by more than `slack`."""
    best: Fraction | None = None
    for kept in itertools.combinations(range(len(scores[0])), k):
        met = all(
            sum((row[i] for i in kept), ZERO) >= floor - lack
            for row, floor, lack in zip(scores[1:], floors, slack, strict=True)
        )
        if met:
            value = sum((scores[0][i] for i in kept), ZERO)
            best = value if best is None else max(best, value)
    return best


def top(row: list[Fraction], k: int) -> Fraction:
    """T_k: the sum of the k largest."""
    return sum(sorted(row, reverse=True)[:k], ZERO)


def dual(
    scores: list[list[Fraction]], k: int, floors: list[Fraction], lam: list[Fraction]
) -> Fraction:
    """g(λ) = T_k(c + Aᵀλ) − λᵀb."""
    combined = list(scores[0])
    for weight, row in zip(lam, scores[1:], strict=True):
        combined = [s + weight * a for s, a in zip(combined, row, strict=True)]
    return top(combined, k) - sum((w * b for w, b in zip(lam, floors, strict=True)), ZERO)


def _simplex(
    c: list[Fraction],
    rows: list[list[Fraction]],
    right: list[Fraction],
    upper: list[Fraction | None],
) -> Exact:
    """Maximize c·x over rows·x = right, 0 ≤ x ≤ upper."""
    m, n = len(rows), len(c)
    # A column for each row makes the first basis; phase one drives these to 0.
    tableau = [
        [(-a if b < 0 else a) for a in row] + [ONE if t == i else ZERO for t in range(m)]
        for i, (row, b) in enumerate(zip(rows, right, strict=True))
    ]
    values = [abs(b) for b in right]  # of the basic columns
    basis = [n + i for i in range(m)]
    at_upper = [False] * (n + m)
    bounds = [*upper, *[None] * m]
    _run(tableau, values, basis, at_upper, bounds, [ZERO] * n + [-ONE] * m)
    if any(value > 0 for j, value in zip(basis, values, strict=True) if j >= n):
        return Exact(None, ())
    bounds[n:] = [ZERO] * m
    _run(tableau, values, basis, at_upper, bounds, [*c, *[ZERO] * m])
    x = [(bounds[j] or ZERO) if at_upper[j] else ZERO for j in range(n)]
    for j, value in zip(basis, values, strict=True):
        if j < n:
            x[j] = value
    return Exact(sum((a * b for a, b in zip(c, x, strict=True)), ZERO), tuple(x))


def _run(
    tableau: list[list[Fraction]],
    values: list[Fraction],
    basis: list[int],
    at_upper: list[bool],
    bounds: list[Fraction | None],
    profit: list[Fraction],
) -> None:
    """Improve until no column does, by Bland's rule."""
    while True:
        basic = set(basis)
        for j in range(len(profit)):
            if j in basic or bounds[j] == ZERO:
                continue
            reduced = profit[j] - sum(
                (profit[b] * row[j] for b, row in zip(basis, tableau, strict=True)), ZERO
            )
            if reduced < 0 if at_upper[j] else reduced > 0:
                break
        else:
            return
        sign = -1 if at_upper[j] else 1
        step, leaving = bounds[j], -1  # to its own other bound, or until a basic one is at its
        for i, row in enumerate(tableau):
            change = -sign * row[j]
            limit = bounds[basis[i]]
            if change < 0:
                room = values[i] / -change
            elif change > 0 and limit is not None:
                room = (limit - values[i]) / change
            else:
                continue
            if step is None or room < step or (room == step and leaving >= 0
                                               and basis[i] < basis[leaving]):  # fmt: skip
                step, leaving = room, i
        assert step is not None  # x is bounded
        for i, row in enumerate(tableau):
            values[i] -= sign * row[j] * step
        if leaving < 0:
            at_upper[j] = not at_upper[j]
            continue
        out = basis[leaving]
        limit = bounds[out]
        at_upper[out] = limit is not None and values[leaving] == limit and limit > 0
        values[leaving] = ((bounds[j] or ZERO) if at_upper[j] else ZERO) + sign * step
        at_upper[j] = False
        basis[leaving] = j
        pivot = tableau[leaving][j]
        tableau[leaving] = [a / pivot for a in tableau[leaving]]
        for i, row in enumerate(tableau):
            if i != leaving and row[j] != 0:
                factor = row[j]
                tableau[i] = [a - factor * b for a, b in zip(row, tableau[leaving], strict=True)]
