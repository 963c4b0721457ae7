"""CVXPY: the model as one would write it, and whichever LP solver it finds."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np

from cops_lp.errors import MissingDependencyError, ProblemError
from cops_lp.problem import Problem
from cops_lp.solution import Solution

from ._model import LinearProgram, Outcome, Verdict, check_positive, solve_with

__all__ = ["solve_cvxpy"]

# What each solver calls its time limit and its tolerances, and the default of the latter.
_TIME_LIMIT = {
    "HIGHS": "time_limit",
    "CLARABEL": "time_limit",
    "SCS": "time_limit_secs",
}
_TOLERANCES = {
    "HIGHS": ("primal_feasibility_tolerance", "dual_feasibility_tolerance"),
    "CLARABEL": ("tol_gap_abs", "tol_gap_rel", "tol_feas"),
    "SCS": ("eps_abs", "eps_rel"),
}
_DEFAULT_TOLERANCE = {"HIGHS": 1e-10, "CLARABEL": 1e-9, "SCS": 1e-6}
_FIXED: dict[str, dict[str, Any]] = {
    "HIGHS": {"small_matrix_value": 1e-12},
    "SCS": {"max_iters": 100_000},
}
_PACKAGES = {"HIGHS": "highspy", "CLARABEL": "clarabel", "SCS": "scs"}


def solve_cvxpy(
    problem: Problem,
    *,
    solver: str = "CLARABEL",
    time_limit: float | None = None,
    tolerance: float | None = None,
    raise_on_infeasible: bool = True,
) -> Solution:
    """Solve the relaxation with a solver of CVXPY's.

    ``maximize cᵀx  subject to  1ᵀx = k,  A x ≥ b,  0 ≤ x ≤ 1``

    Parameters
    ----------
    problem : Problem
    solver : str
        CVXPY's name of an installed solver: "CLARABEL" (an interior point without
        crossover: entries are fractional, not at bounds, where many optima exist), "HIGHS",
        "SCS" (first-order), or any other that solves LPs and returns duals.
    time_limit : float, optional
        Seconds, > 0. For the three named above; for any other use
        :func:`~cops_lp.reference.run_isolated`.
    tolerance : float, optional
        Of gap and feasibility, in scaled units (an average score is 1). Default 1e-10 for
        HIGHS, 1e-9 for CLARABEL, 1e-6 for SCS; any other keeps its own.
    raise_on_infeasible : bool
        Otherwise return a Solution whose status and certificate say so.

    Returns
    -------
    Solution
        `build_seconds` covers scaling and CVXPY's compilation, `seconds` the solver
        (including how CVXPY hands the data over).

    Raises
    ------
    InfeasibleError
        No point meets the floors; it carries the certificate.
    MissingDependencyError
        CVXPY, or the package of a solver named above, is not installed.
    ProblemError
        An argument is not as described, or a score holds NaN or an infinity.
    SolverError
        CVXPY or the solver raised.

    Notes
    -----
    An answer that the solver itself calls inaccurate is accepted when its gap and residuals
    are within 1e-4; the Solution's gap says how good it is.

    Examples
    --------
    >>> from cops_lp import Problem
    >>> problem = Problem([3.0, 2.0, 1.0, 0.0], [[0.0, 1.0, 2.0, 3.0]], keep=2, floors=3.5)
    >>> solution = solve_cvxpy(problem)
    >>> round(solution.objective, 6), solution.multipliers.round(6).tolist()
    (2.5, [1.0])
    """
    check_positive("time_limit", time_limit)
    check_positive("tolerance", tolerance)
    try:
        import cvxpy
    except ImportError as error:
        raise MissingDependencyError("cvxpy", "reference", "by solve_cvxpy") from error
    if not isinstance(solver, str):
        raise ProblemError(f"solver is {solver!r}; wanted the name of a solver of CVXPY's")
    name = solver.upper()
    installed: list[str] = cvxpy.installed_solvers()  # type: ignore[no-untyped-call]
    if name not in installed:
        if name in _PACKAGES:
            raise MissingDependencyError(_PACKAGES[name], "reference", f"by CVXPY's {name}")
        raise ProblemError(
            f"solver is {solver!r}; CVXPY finds only {', '.join(map(repr, installed))}"
        )
    if time_limit is not None and name not in _TIME_LIMIT:
        raise ProblemError(f"time_limit cannot be given to {name}; use run_isolated instead")
    if tolerance is not None and name not in _TOLERANCES:
        raise ProblemError(f"tolerance cannot be given to {name}; leave it at its default")

    def run(lp: LinearProgram, seconds: float | None) -> Outcome:
        options: dict[str, Any] = dict(_FIXED.get(name, {}))
        for option in _TOLERANCES.get(name, ()):
            wanted = _DEFAULT_TOLERANCE[name] if tolerance is None else tolerance
            options[option] = max(wanted, 1e-10) if name == "HIGHS" else wanted
        if seconds is not None:
            options[_TIME_LIMIT[name]] = float(seconds)
        start = time.perf_counter()
        x = cvxpy.Variable(len(lp.cost), bounds=[0.0, lp.upper])
        constraints = [lp.count @ x == lp.keep]
        if len(lp.floors):
            constraints.append(lp.rows @ x >= lp.floors)
        model = cvxpy.Problem(cvxpy.Minimize(lp.cost @ x), constraints)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they repeat the status, or advise on modeling
            data, chain, inverse = model.get_problem_data(name, solver_opts=dict(options))
            built = time.perf_counter()
            raw = chain.solve_via_data(model, data, solver_opts=options)
            solved = time.perf_counter()
            answer = chain.invert(raw, inverse)
        limited = seconds is not None and solved - built > 0.9 * seconds
        verdict = {
            cvxpy.OPTIMAL: Verdict.SOLVED,
            cvxpy.OPTIMAL_INACCURATE: Verdict.SOLVED,
            cvxpy.INFEASIBLE: Verdict.INFEASIBLE,
            cvxpy.INFEASIBLE_INACCURATE: Verdict.INFEASIBLE,
            cvxpy.settings.INFEASIBLE_OR_UNBOUNDED: Verdict.INFEASIBLE,  # it is bounded
            cvxpy.settings.USER_LIMIT: Verdict.TIME_LIMIT if limited else Verdict.FAILED,
        }.get(answer.status, Verdict.FAILED)
        point = duals = None
        if verdict is Verdict.SOLVED:
            model.unpack(answer)
            point = x.value
            dual = constraints[1].dual_value if len(lp.floors) else []
            duals = None if dual is None else np.array(dual, dtype=np.float64).reshape(-1)
        return Outcome(
            verdict,
            x=point,
            duals=duals,
            build_seconds=built - start,
            seconds=solved - built,
            vertex=name == "HIGHS",
            note=f"status: {answer.status}",
        )

    return solve_with(
        run,
        problem,
        kind="cvxpy",
        method=f"CVXPY {name}",
        time_limit=time_limit,
        raise_on_infeasible=raise_on_infeasible,
    )
