"""What the judge says: conditions with their residuals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cops_lp.solution import Status

__all__ = ["TOLERANCE", "Certificate", "Check", "largest", "ratio", "ratios"]

TOLERANCE = 1e-12
"""What a residual of optimality may be, relative to `Certificate.scale`."""


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of optimality.

    Attributes
    ----------
    name : str
    residual : float
        By how much it is violated, relative as `formula` says; ≥ 0, NaN counts as violated.
    tolerance : float
    formula : str
        What was measured, in words.
    """

    name: str
    residual: float
    tolerance: float
    formula: str

    @property
    def passed(self) -> bool:
        """Whether the residual is within the tolerance."""
        return self.residual <= self.tolerance


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the judge found.

    Attributes
    ----------
    status : Status
        The status that the answer claims, and that the checks are about.
    checks : tuple of Check
    objective, bound, gap : float
        As the judge computes them; NaN for an infeasible problem.
    relative_gap : float
        gap over `scale`.
    scale : float
        Σ x_i |c_i| + 10⁻³ Σ_j λ_j Σ x_i |A_ji|, what residuals of optimality are measured by:
        10⁻¹² of it is 10⁻¹² of the objective's terms, and what the rounding of the floors' own
        sums (10⁻¹⁵ of them) is worth.
    fractional : int
        Number of fractional entries of the relaxed solution.
    """

    status: Status
    checks: tuple[Check, ...]
    objective: float = math.nan
    bound: float = math.nan
    gap: float = math.nan
    relative_gap: float = math.nan
    scale: float = math.nan
    fractional: int = 0

    @property
    def ok(self) -> bool:
        """Whether every check passed and the status is one that can be proven."""
        proven = self.status in (Status.OPTIMAL, Status.INFEASIBLE)
        return proven and all(check.passed for check in self.checks)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        name_width = max((len(check.name) for check in self.checks), default=0)
        lines = [
            f"{'ok  ' if check.passed else 'FAIL'}  {check.name.ljust(name_width)}  "
            f"{check.residual:9.2e} ≤ {check.tolerance:.0e}  {check.formula}"
            for check in self.checks
        ]
        verdict = "confirmed" if self.ok else "NOT confirmed"
        return "\n".join([f"{verdict}: claimed {self.status.name}", *lines])


def ratio(value: float, scale: float) -> float:
    """Return value / scale, 0 for 0 / 0 and infinity for anything else over 0."""
    if value == 0.0:
        return 0.0
    return float(value) / scale if scale > 0.0 else math.inf


def ratios(values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return :func:`ratio` entry by entry; both of shape (n,)."""
    return np.array([ratio(v, s) for v, s in zip(values, scales, strict=True)])


def largest(values: np.ndarray) -> float:
    """Return the largest entry, 0 where there is none; NaN where one is NaN."""
    return float(np.max(values, initial=0.0))
