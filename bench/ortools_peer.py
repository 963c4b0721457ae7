"""OR-tools' GLOP and PDLP on the package's Problem, as `cops_lp.reference` does with HiGHS.

Where OR-tools is imported no highspy should be: the two carry libraries of one name. Run it in
a process of its own.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np

from cops_lp import Problem, SolverError
from cops_lp.errors import MissingDependencyError
from cops_lp.reference._model import LinearProgram, Outcome, Verdict, solve_with
from cops_lp.solution import Solution

__all__ = ["solve_ortools"]

_PARAMETERS = {
    "GLOP": "primal_feasibility_tolerance: 1e-10 dual_feasibility_tolerance: 1e-10",
    "PDLP": "termination_criteria { simple_optimality_criteria "
    "{ eps_optimal_absolute: 1e-8 eps_optimal_relative: 1e-8 } }",
}


def solve_ortools(
    problem: Problem,
    *,
    algorithm: Literal["GLOP", "PDLP"],
    raise_on_infeasible: bool = True,
) -> Solution:
    """Solve the relaxation with OR-tools.

    Parameters
    ----------
    problem : Problem
    algorithm : {"GLOP", "PDLP"}
        Its simplex (tolerances 1e-10), or its first-order method (1e-8, of the LP's norms).
    raise_on_infeasible : bool

    Returns
    -------
    Solution

    Raises
    ------
    MissingDependencyError
        ortools is not installed.
    InfeasibleError, ProblemError, SolverError
        As `cops_lp.reference.solve_highs`.
    """
    try:
        from ortools.linear_solver.python import model_builder_helper as ortools
    except ImportError as error:
        raise MissingDependencyError("ortools", "bench", "for OR-tools' rows") from error
    from scipy import sparse

    def run(lp: LinearProgram, _seconds: float | None) -> Outcome:
        start = time.perf_counter()
        model: Any = ortools.ModelBuilderHelper()
        model.fill_model_from_sparse_data(
            np.zeros(len(lp.cost)),
            lp.upper,
            lp.cost,
            np.concatenate(([lp.keep], lp.floors)),
            np.concatenate(([lp.keep], np.full(len(lp.floors), np.inf))),
            sparse.csr_matrix(np.vstack((lp.count, lp.rows))),
        )
        solver: Any = ortools.ModelSolverHelper(algorithm)
        if not solver.solver_is_supported():
            raise SolverError(f"this build of OR-tools has no {algorithm}")
        solver.set_solver_specific_parameters(_PARAMETERS[algorithm])
        built = time.perf_counter()
        solver.solve(model)
        solved = time.perf_counter()
        status = solver.status()
        verdict = {
            ortools.SolveStatus.OPTIMAL: Verdict.SOLVED,
            ortools.SolveStatus.INFEASIBLE: Verdict.INFEASIBLE,
        }.get(status, Verdict.FAILED)
        done = verdict is Verdict.SOLVED
        return Outcome(
            verdict,
            x=np.clip(solver.variable_values(), 0.0, lp.upper) if done else None,
            duals=np.array(solver.dual_values())[1:] if done else None,
            build_seconds=built - start,
            seconds=solved - built,
            vertex=algorithm == "GLOP",
            note=f"status: {status.name}",
        )

    return solve_with(
        run,
        problem,
        kind="highs",  # a minimization's duals ∂(objective)/∂b, as HiGHS has them
        method=f"OR-tools {algorithm}",
        time_limit=None,
        raise_on_infeasible=raise_on_infeasible,
    )
