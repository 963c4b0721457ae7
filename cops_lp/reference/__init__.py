"""General LP solvers on the same :class:`~cops_lp.Problem`, to compare with and to check by.

Each takes a Problem and returns a :class:`~cops_lp.Solution` with the package's own signs
(multipliers ≥ 0) and an honest gap, build and solve time apart. They share no code with the
engine. A verdict of theirs is checked in float64 before it is passed on: an answer with a gap
or residual above 1e-4 is a numerical error, and "infeasible" needs a proof that holds (a floor
above what its control can keep alone is told by a top-k sum, without asking).

Importing this subpackage imports none of the solvers: ``pip install 'cops-lp[reference]'``
brings them.

===================  ==========================================================
`solve_highs`        highspy: dual simplex, interior point with crossover, PDLP
`solve_scipy`        :func:`scipy.optimize.linprog` and the HiGHS inside SciPy
`solve_cvxpy`        CVXPY and any LP solver it finds
`run_isolated`       any of the three in a process of its own, ended at a time limit
===================  ==========================================================

Several copies of HiGHS (highspy's, SciPy's, one in ortools) may meet in one process.
highspy's and SciPy's get along, in any order; for others, and wherever a time limit must
hold, use :func:`run_isolated`.
"""

from __future__ import annotations

from ._process import run_isolated
from .cvxpy import solve_cvxpy
from .highs import solve_highs
from .scipy import solve_scipy

__all__ = ["run_isolated", "solve_cvxpy", "solve_highs", "solve_scipy"]
