"""A linear program in exact arithmetic: the primal simplex method with Bland's rule.

Shares nothing with the package: integers only, no floating point, and another method than its
solvers'. The tableau keeps its entries as integers over one common denominator, the last pivot
(Edmonds 1967, Bareiss 1968), and divides without a remainder. Bland's rule ends on any
degenerate vertex.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

__all__ = ["maximize"]


def maximize(
    objective: Sequence[Fraction],
    count: tuple[Sequence[int], int],
    floors: Sequence[tuple[Sequence[Fraction], Fraction]],
) -> tuple[bool, list[Fraction], list[Fraction]]:
    """Solve max c·x over e·x = k, a_j·x ≥ b_j, 0 ≤ x ≤ 1.

    Parameters
    ----------
    objective : c, n numbers
    count : (e, k)
    floors : (a_j, b_j), K of them

    Returns
    -------
    feasible : bool
    x : n numbers
        A vertex, optimal where feasible.
    multipliers : K numbers ≥ 0
        Those of the floors at the optimum; where infeasible those that prove it.
    """
    n, K = len(objective), len(floors)
    c, unit = _whole(objective)
    rows, units = [[*count[0], *[0] * K, count[1]]], []
    for j, (row, floor) in enumerate(floors):
        (*entries, last), factor = _whole([*row, floor])
        rows.append([*entries, *[-(i == j) for i in range(K)], last])
        units.append(factor)
    table = _Tableau([[-v for v in row] if row[-1] < 0 else row for row in rows], n)
    # First the artificial variables' sum is brought to 0.
    table.objective = [sum(column) for column in zip(*table.rows, strict=True)]
    table.run()
    if table.objective[-1] > 0:
        prices = table.objective[n : n + K]
        return False, [], [Fraction(-v * f, table.unit) for v, f in zip(prices, units, strict=True)]
    table.drop_artificial()
    table.set_objective([*c, *[0] * K])
    table.run()
    prices = table.objective[n : n + K]
    return (
        True,
        table.point()[:n],
        [Fraction(-v * f, table.unit * unit) for v, f in zip(prices, units, strict=True)],
    )


def _whole(values: Sequence[Fraction]) -> tuple[list[int], int]:
    """The values times their common denominator, and that."""
    factor = lcm(*(v.denominator for v in values))
    return [v.numerator * (factor // v.denominator) for v in values], factor


class _Tableau:
    """Rows of B⁻¹(A | b) times `unit`; the first `boxed` columns have an upper bound of 1.

    A column whose variable is at 1 is turned over, so that nonbasic variables are always at 0.
    """

    def __init__(self, rows: list[list[int]], boxed: int) -> None:
        self.rows = rows
        self.boxed = boxed
        self.columns = len(rows[0]) - 1
        self.basis = [self.columns + i for i in range(len(rows))]  # artificial
        self.turned = [False] * self.columns
        self.objective: list[int] = []
        self.unit = 1

    def run(self) -> None:
        """Pivot until no reduced cost is positive; the first that is enters, by Bland."""
        while True:
            q = next((q for q in range(self.columns) if self.objective[q] > 0), None)
            if q is None:
                return
            # The step is the least of these ratios, of equal ones the first variable's.
            best = (1, 1, q, -1) if q < self.boxed else None
            for i, row in enumerate(self.rows):
                entry, value = row[q], row[-1]
                if entry < 0 and self.basis[i] < self.boxed:
                    entry, value = -entry, self.unit - value
                elif entry <= 0:
                    continue
                found = (value, entry, self.basis[i], i)
                if best is None:
                    best = found
                    continue
                left, right = value * best[1], best[0] * entry
                if left < right or (left == right and found[2] < best[2]):
                    best = found
            assert best is not None, "unbounded: no box holds a column with a positive cost"
            i = best[3]
            if i < 0:
                self._turn(q)
                continue
            if self.rows[i][q] < 0:  # it leaves at its upper bound
                self._turn_basic(i)
            self._pivot(i, q)

    def drop_artificial(self) -> None:
        """Pivot artificial variables, all of them 0, out of the basis; drop rows without a pivot.

        A pivot in a row of value 0 moves nothing, whatever its sign.
        """
        for i in reversed(range(len(self.rows))):
            if self.basis[i] < self.columns:
                continue
            row = self.rows[i]
            q = next((q for q in range(self.columns) if row[q] and q not in self.basis), None)
            if q is None:
                del self.rows[i], self.basis[i]
                continue
            if row[q] < 0:
                self.rows[i] = [-v for v in row]
            self._pivot(i, q)

    def set_objective(self, c: list[int]) -> None:
        """Reduced costs of another objective at the present basis."""
        turned = [-v if t else v for v, t in zip(c, self.turned, strict=True)]
        reduced = [v * self.unit for v in turned] + [0]
        for row, basic in zip(self.rows, self.basis, strict=True):
            if turned[basic]:
                reduced = [r - turned[basic] * v for r, v in zip(reduced, row, strict=True)]
        self.objective = reduced

    def point(self) -> list[Fraction]:
        x = [Fraction(0)] * self.columns
        for row, basic in zip(self.rows, self.basis, strict=True):
            x[basic] = Fraction(row[-1], self.unit)
        return [1 - v if t else v for v, t in zip(x, self.turned, strict=True)]

    def _turn(self, q: int) -> None:
        """Replace a nonbasic variable at 0 by 1 less it: it is at its upper bound now."""
        for row in (*self.rows, self.objective):
            row[-1] -= row[q]
            row[q] = -row[q]
        self.turned[q] = not self.turned[q]

    def _turn_basic(self, i: int) -> None:
        row, basic = self.rows[i], self.basis[i]
        value = self.unit - row[-1]
        self.rows[i] = [-v for v in row]
        self.rows[i][-1] = value
        self.rows[i][basic] = self.unit
        self.turned[basic] = not self.turned[basic]

    def _pivot(self, i: int, q: int) -> None:
        row = self.rows[i]
        pivot, unit = row[q], self.unit
        for h, other in enumerate(self.rows):
            if h != i:
                self.rows[h] = _eliminated(other, row, other[q], pivot, unit)
        self.objective = _eliminated(self.objective, row, self.objective[q], pivot, unit)
        self.basis[i], self.unit = q, pivot


def _eliminated(other: list[int], row: list[int], entry: int, pivot: int, unit: int) -> list[int]:
    if entry == 0:
        return other if pivot == unit else [v * pivot // unit for v in other]
    return [(v * pivot - entry * w) // unit for v, w in zip(other, row, strict=True)]
