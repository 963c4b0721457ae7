"""No time without a proof: every answer of a timed run ends with the judge."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import cops_lp

__all__ = ["Judged", "verdict"]

_PRIMAL = ("0 ≤ x ≤ 1", "1ᵀx = k", "A x ≥ b")
_STATED = ("keep", "threshold", "objective", "bound", "gap", "mask_objective", "status")


class Judged:
    """Watches the answers to one problem: the first is judged, the others must equal it.

    One mask is held in memory. Judging takes far longer than solving, and answers that are
    equal to the last bit have one verdict.
    """

    def __init__(self) -> None:
        self.first: cops_lp.Solution | None = None
        self.answers = 0
        self.same = True

    def watch(self, solution: cops_lp.Solution) -> None:
        """Take in an answer."""
        self.answers += 1
        if self.first is None:
            self.first = solution
        else:
            self.same = self.same and _same_bits(self.first, solution)

    def verdict(self) -> dict[str, Any]:
        """Judge the first answer.

        Returns
        -------
        dict
            As :func:`verdict`, with the number of `answers` and whether all were the
            `same_bits`; `certified` only if they were.
        """
        if self.first is None:
            raise RuntimeError("nothing was solved")
        found = verdict(self.first)
        found["certified"] = found["certified"] and self.same
        return {**found, "answers": self.answers, "same_bits": self.same}


def verdict(solution: cops_lp.Solution) -> dict[str, Any]:
    """What the judge says about an answer, ours or another solver's.

    Returns
    -------
    dict
        `status`; `certified`; `relative_gap` (|bound − objective| over the summed absolute
        target kept; None without a point); `residual` (the largest of the primal ones:
        bounds, count, floors, each relative as the judge states); `fractional`.
    """
    found = cops_lp.certify(solution.problem, solution)
    residuals = [check.residual for check in found.checks if check.name in _PRIMAL]
    return {
        "status": solution.status.name,
        "certified": found.ok,
        "relative_gap": _finite(abs(found.relative_gap)),
        "residual": _finite(max(residuals, default=math.nan)),
        "fractional": found.fractional,
    }


def _same_bits(one: cops_lp.Solution, other: cops_lp.Solution) -> bool:
    numbers = all(_equal(getattr(one, name), getattr(other, name)) for name in _STATED)
    arrays = all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
        for name in ("multipliers", "kept")
    )
    changed = all(np.array_equal(a, b) for a, b in zip(one.changed, other.changed, strict=True))
    return numbers and arrays and changed and np.array_equal(one.mask, other.mask)


def _equal(x: Any, y: Any) -> bool:
    both_nan = isinstance(x, float) and isinstance(y, float) and math.isnan(x) and math.isnan(y)
    return bool(x == y) or both_nan


def _finite(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None
