"""The general LP solvers: how each is called, how far it can go, and why no further."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cops_lp import Problem, Solution
from cops_lp.reference import solve_cvxpy, solve_highs, solve_scipy

from .ortools_peer import solve_ortools

__all__ = ["SOLVERS", "General"]

_SIMPLEX = "a simplex method from scratch takes more than a quarter of an hour at 10^6 weights"
_MILLION = "needs more memory or time than a benchmark can give beyond 10^6 weights"


@dataclass(frozen=True, slots=True)
class General:
    """A general solver.

    Attributes
    ----------
    solve : callable
        Problem to Solution, raising the package's errors.
    vertex : bool
        Whether it ends in a vertex by design.
    largest : int
        The most weights it is tried with.
    reason : str
        Why not more.
    """

    solve: Callable[[Problem], Solution]
    vertex: bool
    largest: int
    reason: str


SOLVERS: dict[str, General] = {
    "HiGHS simplex": General(partial(solve_highs, algorithm="simplex"), True, 10**5, _SIMPLEX),
    "HiGHS interior point": General(partial(solve_highs, algorithm="ipm"), True, 10**6, _MILLION),
    "HiGHS PDLP": General(partial(solve_highs, algorithm="pdlp"), False, 10**6, _MILLION),
    "SciPy (HiGHS)": General(partial(solve_scipy, algorithm="highs"), True, 10**5, _SIMPLEX),
    "SciPy (HiGHS interior point)": General(
        partial(solve_scipy, algorithm="highs-ipm"), True, 10**6, _MILLION
    ),
    "CVXPY Clarabel": General(partial(solve_cvxpy, solver="CLARABEL"), False, 10**6, _MILLION),
    "CVXPY SCS": General(partial(solve_cvxpy, solver="SCS"), False, 10**6, _MILLION),
    "OR-tools PDLP": General(partial(solve_ortools, algorithm="PDLP"), False, 10**6, _MILLION),
    "OR-tools GLOP": General(partial(solve_ortools, algorithm="GLOP"), True, 10**5, _SIMPLEX),
}
