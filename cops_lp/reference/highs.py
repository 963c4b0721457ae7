"""HiGHS through highspy: dual simplex, interior point with crossover, PDLP."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np

from cops_lp.errors import MissingDependencyError, SolverError
from cops_lp.problem import Problem
from cops_lp.solution import Solution

from ._model import LinearProgram, Outcome, Verdict, check_choice, check_positive, solve_with

__all__ = ["solve_highs"]

_ALGORITHMS = {"simplex": "simplex", "ipm": "ipm", "pdlp": "pdlp"}
_TOLERANCE = {"simplex": 1e-10, "ipm": 1e-10, "pdlp": 1e-8}
_SMALLEST = 1e-12  # coefficients up to this count as zero; HiGHS takes nothing lower
_MOST_ENTRIES = 2**31 - 1


def solve_highs(
    problem: Problem,
    *,
    algorithm: Literal["simplex", "ipm", "pdlp"] = "simplex",
    time_limit: float | None = None,
    tolerance: float | None = None,
    raise_on_infeasible: bool = True,
) -> Solution:
    """Solve the relaxation with HiGHS.

    ``maximize cᵀx  subject to  1ᵀx = k,  A x ≥ b,  0 ≤ x ≤ 1``

    Parameters
    ----------
    problem : Problem
    algorithm : {"simplex", "ipm", "pdlp"}
        Dual simplex; interior point with crossover to a vertex; or the first-order method
        PDLP, whose gap and residuals end at about `tolerance`. PDLP may never get there: give
        it a time limit.
    time_limit : float, optional
        Seconds, > 0. HiGHS looks at it between iterations only: its simplex and presolve
        overrun it at times, by minutes from 1e5 weights on. Where it must hold, use
        :func:`~cops_lp.reference.run_isolated`.
    tolerance : float, optional
        Feasibility and optimality tolerance in scaled units (an average score is 1), ≥ 1e-10.
        Default 1e-10 for "simplex" and "ipm"; for "pdlp" 1e-8, relative to the LP's norms.
    raise_on_infeasible : bool
        Otherwise return a Solution whose status and certificate say so.

    Returns
    -------
    Solution
        `build_seconds` covers scaling and passing the model, `seconds` HiGHS's own run (and
        that of the LP which proves infeasibility).

    Raises
    ------
    InfeasibleError
        No point meets the floors; it carries the certificate.
    MissingDependencyError
        highspy is not installed.
    ProblemError
        An argument is not as described, or a score holds NaN or an infinity.
    SolverError
        HiGHS refused the model or raised.

    Notes
    -----
    Scores are scaled first, since HiGHS drops coefficients below 1e-9 (here below 1e-12 of
    the mean). The model holds 12 bytes per coefficient, (K + 1)·d of them, besides 8(K + 1)
    bytes per weight for the scaled scores. "ipm" takes 11 s for 1e6 weights and one control
    on one core of a small machine, and minutes where a floor is within 1e-6 of the attainable
    best; "simplex" is for up to 1e5 weights.
    """
    check_choice("algorithm", algorithm, tuple(_ALGORITHMS))
    check_positive("time_limit", time_limit)
    check_positive("tolerance", tolerance)
    try:
        import highspy
    except ImportError as error:
        raise MissingDependencyError("highspy", "reference", "by solve_highs") from error
    wanted = _TOLERANCE[algorithm] if tolerance is None else max(tolerance, 1e-10)

    def run(lp: LinearProgram, seconds: float | None) -> Outcome:
        start = time.perf_counter()
        solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        options: dict[str, bool | float | str] = {
            "output_flag": False,
            "solver": _ALGORITHMS[algorithm],
            "run_crossover": "on",
            "small_matrix_value": _SMALLEST,
            "primal_feasibility_tolerance": wanted,
            "dual_feasibility_tolerance": wanted,
            "ipm_optimality_tolerance": wanted,
        }
        if algorithm == "pdlp":
            options["pdlp_optimality_tolerance"] = wanted
        if seconds is not None:
            options["time_limit"] = float(seconds)
        for name, value in options.items():
            if solver.setOptionValue(name, value) == highspy.HighsStatus.kError:
                raise SolverError(f"HiGHS refused its option {name} = {value!r}")
        if solver.passModel(_model(highspy, lp)) == highspy.HighsStatus.kError:
            raise SolverError("HiGHS refused the model")
        built = time.perf_counter()
        solver.run()
        solved = time.perf_counter()

        status = solver.getModelStatus()
        known = highspy.HighsModelStatus
        verdict = {
            known.kOptimal: Verdict.SOLVED,
            known.kUnknown: Verdict.SOLVED,  # done, short of its tolerances: the gap decides
            known.kInfeasible: Verdict.INFEASIBLE,
            known.kUnboundedOrInfeasible: Verdict.INFEASIBLE,  # bounded by construction
            known.kTimeLimit: Verdict.TIME_LIMIT,
        }.get(status, Verdict.FAILED)
        solution = solver.getSolution()
        valid = solution.value_valid and solution.dual_valid
        return Outcome(
            verdict,
            x=np.array(solution.col_value) if valid else None,
            duals=np.array(solution.row_dual)[1:] if valid else None,
            build_seconds=built - start,
            seconds=solved - built,
            vertex=algorithm != "pdlp",
            note=f"model status: {solver.modelStatusToString(status)}",
        )

    return solve_with(
        run,
        problem,
        kind="highs",
        method=f"HiGHS {algorithm}",
        time_limit=time_limit,
        raise_on_infeasible=raise_on_infeasible,
    )


def _model(highspy: Any, lp: LinearProgram) -> Any:
    """Fill HiGHS's own model with arrays, rows first, without the coefficients that are 0."""
    rows = (lp.count, *lp.rows)
    indices = [np.flatnonzero(row).astype(np.int32) for row in rows]
    starts = np.cumsum([0, *map(len, indices)])
    if starts[-1] > _MOST_ENTRIES:
        raise SolverError(
            f"the model has {starts[-1]:,} coefficients; HiGHS counts up to {_MOST_ENTRIES:,}"
        )
    model = highspy.HighsLp()
    model.num_col_ = len(lp.cost)
    model.num_row_ = len(rows)
    model.sense_ = highspy.ObjSense.kMinimize
    model.col_cost_ = lp.cost
    model.col_lower_ = np.zeros(len(lp.cost))
    model.col_upper_ = lp.upper
    model.row_lower_ = np.concatenate(([lp.keep], lp.floors))
    model.row_upper_ = np.concatenate(([lp.keep], np.full(len(lp.floors), highspy.kHighsInf)))
    matrix = model.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kRowwise
    matrix.start_ = starts.astype(np.int32)
    matrix.index_ = np.concatenate(indices)
    matrix.value_ = np.concatenate([row[index] for row, index in zip(rows, indices, strict=True)])
    return model
