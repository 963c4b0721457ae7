"""The child of :func:`run_isolated`: ``python -m cops_lp.reference._worker FOLDER``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from cops_lp.errors import CopsError
from cops_lp.solution import Solution

from ._process import load_job, save_error, save_solution
from .cvxpy import solve_cvxpy
from .highs import solve_highs
from .scipy import solve_scipy


def main(folder: Path) -> None:
    """Read the job, solve it, write the answer or the error."""
    name, problem, options = load_job(folder)
    solvers: dict[str, Callable[..., Solution]] = {
        "highs": solve_highs,
        "scipy": solve_scipy,
        "cvxpy": solve_cvxpy,
    }
    try:
        solution = solvers[name](problem, **options, raise_on_infeasible=False)
    except (CopsError, TypeError) as error:
        save_error(folder, error)
    else:
        save_solution(folder, solution)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
