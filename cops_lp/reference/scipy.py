"""SciPy's linprog, which carries a copy of HiGHS of its own."""

from __future__ import annotations

import time
import warnings
from typing import Any, Literal

import numpy as np

from cops_lp.errors import MissingDependencyError
from cops_lp.problem import Problem
from cops_lp.solution import Solution

from ._model import LinearProgram, Outcome, Verdict, check_choice, check_positive, solve_with

__all__ = ["solve_scipy"]

_ALGORITHMS = ("highs", "highs-ds", "highs-ipm")


def solve_scipy(
    problem: Problem,
    *,
    algorithm: Literal["highs", "highs-ds", "highs-ipm"] = "highs",
    time_limit: float | None = None,
    tolerance: float = 1e-10,
    raise_on_infeasible: bool = True,
) -> Solution:
    """Solve the relaxation with :func:`scipy.optimize.linprog`.

    ``maximize cᵀx  subject to  1ᵀx = k,  A x ≥ b,  0 ≤ x ≤ 1``

    Parameters
    ----------
    problem : Problem
    algorithm : {"highs", "highs-ds", "highs-ipm"}
        linprog's `method`: HiGHS's choice, its dual simplex, or its interior point with
        crossover.
    time_limit : float, optional
        Seconds, > 0, as far as HiGHS heeds it (see :func:`~cops_lp.reference.solve_highs`).
    tolerance : float
        Feasibility tolerances in scaled units (an average score is 1), ≥ 1e-10.
    raise_on_infeasible : bool
        Otherwise return a Solution whose status and certificate say so.

    Returns
    -------
    Solution
        `build_seconds` covers scaling; `seconds` all of linprog, which builds its model
        inside.

    Raises
    ------
    InfeasibleError
        No point meets the floors; it carries the certificate.
    MissingDependencyError
        SciPy is not installed.
    ProblemError
        An argument is not as described, or a score holds NaN or an infinity.
    SolverError
        linprog raised.

    Notes
    -----
    HiGHS drops coefficients below 1e-12 of the score's mean (1e-9 with SciPy before 1.15); the
    fractional entries are recomputed without that loss. Memory: several copies of (K + 1)·d
    float64.

    Examples
    --------
    >>> from cops_lp import Problem
    >>> problem = Problem([3.0, 2.0, 1.0, 0.0], [[0.0, 1.0, 2.0, 3.0]], keep=2, floors=3.5)
    >>> solution = solve_scipy(problem)
    >>> solution.objective, solution.multipliers.tolist()
    (2.5, [1.0])
    """
    check_choice("algorithm", algorithm, _ALGORITHMS)
    check_positive("time_limit", time_limit)
    check_positive("tolerance", tolerance)
    try:
        from scipy.optimize import linprog
    except ImportError as error:
        raise MissingDependencyError("scipy", "reference", "by solve_scipy") from error
    wanted = max(tolerance, 1e-10)

    def run(lp: LinearProgram, seconds: float | None) -> Outcome:
        options: dict[str, Any] = {
            "primal_feasibility_tolerance": wanted,
            "dual_feasibility_tolerance": wanted,
            "small_matrix_value": 1e-12,  # SciPy hands it through, or ignores it before 1.15
        }
        if algorithm == "highs-ipm":
            options["ipm_optimality_tolerance"] = wanted
        if seconds is not None:
            options["time_limit"] = float(seconds)
        some = len(lp.floors) > 0
        built = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on options, or repeating the status
            result = linprog(
                lp.cost,
                A_ub=-lp.rows if some else None,
                b_ub=-lp.floors if some else None,
                A_eq=lp.count[None, :],
                b_eq=[lp.keep],
                bounds=np.column_stack((np.zeros(len(lp.cost)), lp.upper)),
                method=algorithm,
                options=options,
            )
        solved = time.perf_counter()
        limited = seconds is not None and solved - built > 0.9 * seconds
        verdict = {
            0: Verdict.SOLVED,
            1: Verdict.TIME_LIMIT if limited else Verdict.FAILED,  # 1: of time or iterations
            2: Verdict.INFEASIBLE,
        }.get(result.status, Verdict.FAILED)
        done = verdict is Verdict.SOLVED
        return Outcome(
            verdict,
            x=np.asarray(result.x) if done else None,
            duals=np.asarray(result.ineqlin.marginals) if done else None,
            seconds=solved - built,
            vertex=True,
            note=str(result.message),
        )

    return solve_with(
        run,
        problem,
        kind="scipy",
        method=f"SciPy {algorithm}",
        time_limit=time_limit,
        raise_on_infeasible=raise_on_infeasible,
    )
