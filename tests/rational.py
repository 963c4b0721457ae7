"""The relaxation, the best mask and the balance in rational arithmetic, each with its proof.

What is returned as an optimum was proven here, by exact arithmetic on the scores alone: a feasible
point and a bound that agree (docs/formulation.md, Theorems 1 and 4), or all masks tried. So an
error of the simplex method cannot pass for one of the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import numpy as np

from .exact_simplex import maximize

__all__ = ["ExactProblem", "balanced_share", "dot", "exact", "top_sum"]


def exact(values: Sequence[float] | np.ndarray) -> list[Fraction]:
    """The numbers that these floats are."""
    return [Fraction(v) for v in np.asarray(values, dtype=np.float64).reshape(-1).tolist()]


def dot(left: Sequence[Fraction], right: Sequence[Fraction]) -> Fraction:
    return sum((a * b for a, b in zip(left, right, strict=True)), Fraction(0))


def top_sum(score: Sequence[Fraction], keep: int) -> Fraction:
    """T_k: the sum of the k largest."""
    return sum(sorted(score, reverse=True)[:keep], Fraction(0))


@dataclass(frozen=True)
class ExactProblem:
    """max c·m over masks of k weights with A m ≥ b; c is the first of the rows."""

    rows: list[list[Fraction]]
    keep: int
    floors: list[Fraction]

    @classmethod
    def of(cls, scores: np.ndarray, keep: int, floors: Sequence[float]) -> ExactProblem:
        return cls([exact(row) for row in scores], keep, exact(floors))

    @property
    def target(self) -> list[Fraction]:
        return self.rows[0]

    @property
    def controls(self) -> list[list[Fraction]]:
        return self.rows[1:]

    def lowered(self, amounts: Sequence[Fraction]) -> ExactProblem:
        """The same with each floor lower by an amount."""
        floors = [b - amount for b, amount in zip(self.floors, amounts, strict=True)]
        return ExactProblem(self.rows, self.keep, floors)

    def attainable(self) -> list[Fraction]:
        """The best of each control."""
        return [top_sum(row, self.keep) for row in self.controls]

    def combined(self, multipliers: Sequence[Fraction], target: int = 1) -> list[Fraction]:
        """The target, or nothing, and the controls times their multipliers."""
        weights = [Fraction(target), *multipliers]
        return [dot(weights, column) for column in zip(*self.rows, strict=True)]

    def bound(self, multipliers: Sequence[Fraction]) -> Fraction:
        """g(λ) = T_k(c + Aᵀλ) − λᵀb: at least the value of every feasible point."""
        return top_sum(self.combined(multipliers), self.keep) - dot(multipliers, self.floors)

    def excess(self, y: Sequence[Fraction]) -> Fraction:
        """yᵀb − T_k(Aᵀy): positive exactly when y ≥ 0 proves that nothing meets the floors."""
        return dot(y, self.floors) - top_sum(self.combined(y, target=0), self.keep)

    def kept(self, x: Sequence[Fraction]) -> list[Fraction]:
        """What a point keeps of each score, target first."""
        return [dot(row, x) for row in self.rows]

    def is_feasible(self, x: Sequence[Fraction]) -> bool:
        held = self.kept(x)[1:]
        return (
            all(0 <= v <= 1 for v in x)
            and sum(x) == self.keep
            and all(h >= b for h, b in zip(held, self.floors, strict=True))
        )

    def value(self) -> Fraction | None:
        """The relaxation's optimum; None where infeasible. Proven either way."""
        ones = [1] * len(self.target)
        floors = list(zip(self.controls, self.floors, strict=True))
        feasible, x, multipliers = maximize(self.target, (ones, self.keep), floors)
        assert all(v >= 0 for v in multipliers)
        if not feasible:
            assert self.excess(multipliers) > 0
            return None
        value = dot(self.target, x)
        assert self.is_feasible(x)
        assert self.bound(multipliers) == value
        return value

    def best_mask_value(self) -> Fraction | None:
        """The most of the target that a mask of k weights which meets the floors keeps; or None.

        All C(d, k) masks are tried.
        """
        best: Fraction | None = None
        for held in _sums_of_masks(self.rows, self.keep):
            if (best is None or held[0] > best) and all(
                h >= b for h, b in zip(held[1:], self.floors, strict=True)
            ):
                best = held[0]
        return best


def _sums_of_masks(rows: list[list[Fraction]], keep: int) -> list[tuple[Fraction, ...]]:
    columns = list(zip(*rows, strict=True))
    nothing = (Fraction(0),) * len(rows)
    return [tuple(map(sum, zip(nothing, *m, strict=True))) for m in combinations(columns, keep)]


def balanced_share(rows: list[list[Fraction]], keep: int) -> Fraction:
    """The largest t that some point keeps of every score's best; proven.

    All bests must be positive.
    """
    bests = [top_sum(row, keep) for row in rows]
    order = sorted(range(len(rows[0])), key=lambda i: rows[0][i], reverse=True)
    # Some mask's share is the least that t need be; t = low + (2 − low) u with 0 ≤ u ≤ 1.
    low = min(
        sum((row[i] for i in order[:keep]), Fraction(0)) / best
        for row, best in zip(rows, bests, strict=True)
    )
    spread = 2 - low
    d = len(order)
    floors = [([*row, -best * spread], best * low) for row, best in zip(rows, bests, strict=True)]
    feasible, point, multipliers = maximize(
        [Fraction(0)] * d + [Fraction(1)], ([1] * d + [0], keep), floors
    )
    assert feasible
    share = low + spread * point[-1]
    x = point[:-1]
    assert sum(x) == keep
    assert all(0 <= v <= 1 for v in x)
    assert min(dot(row, x) / best for row, best in zip(rows, bests, strict=True)) == share
    assert all(v >= 0 for v in multipliers)
    total = dot(multipliers, bests)
    mixed = [dot(multipliers, column) / total for column in zip(*rows, strict=True)]
    assert top_sum(mixed, keep) == share
    return share
