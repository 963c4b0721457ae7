"""``cops-lp validate``: the same problem by every solver there is, each answer judged."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import typer

import cops_lp
from cops_lp.errors import CopsError, MissingDependencyError
from cops_lp.judge import Certificate, certify
from cops_lp.problem import Problem
from cops_lp.reference import run_isolated
from cops_lp.solution import Solution, Status

from .failures import FAILED
from .inputs import read_problem
from .output import infeasible_error, print_json, print_lines, print_table, working

__all__ = ["AGREEMENT", "run_validate"]

AGREEMENT = 1e-6
"""Objectives within this share of the mask's summed absolute target are the same."""

# What each peer is called here, and how `run_isolated` is asked for it.
_PEERS: dict[str, tuple[str, dict[str, str]]] = {
    "HiGHS simplex": ("highs", {"algorithm": "simplex"}),
    "HiGHS ipm": ("highs", {"algorithm": "ipm"}),
    "HiGHS PDLP": ("highs", {"algorithm": "pdlp"}),
    "SciPy HiGHS": ("scipy", {}),
    "CVXPY Clarabel": ("cvxpy", {"solver": "CLARABEL"}),
    "CVXPY HiGHS": ("cvxpy", {"solver": "HIGHS"}),
}
_LONGEST_NOTE = 240
_PRIMAL_CHECKS = ("0 ≤ x ≤ 1", "1ᵀx = k", "A x ≥ b")


@dataclass(frozen=True)
class _Row:
    """What one solver came to.

    `outcome` is "certified", "rejected" (by the judge), "timed out", "missing" or "failed";
    `note` says why where it is none of the first.
    """

    name: str
    outcome: str
    note: str = ""
    solution: Solution | None = None
    certificate: Certificate | None = None

    @property
    def ended(self) -> bool:
        return self.solution is not None

    @property
    def primal_residual(self) -> float:
        """The worst relative violation of a constraint by the relaxed solution."""
        if self.certificate is None:
            return math.nan
        found = [c.residual for c in self.certificate.checks if c.name in _PRIMAL_CHECKS]
        return max(found, default=math.nan)


def run_validate(
    target: str,
    controls: list[str],
    keep: str,
    retain: list[str],
    floors: list[str],
    *,
    time_limit: float,
    as_json: bool,
    threads: int | None,
) -> None:
    """Solve with ours and all others, print the comparison.

    Parameters
    ----------
    target, controls, keep, retain, floors
        As :func:`cops_lp.cli.inputs.read_problem`.
    time_limit : float
        Seconds for each of the others.
    as_json : bool
    threads : int or None
        For ours.

    Raises
    ------
    CopsError
        Wrong input, or infeasible as all others agree.
    typer.Exit
        With 1 where ours is not certified or a certified answer differs from it.
    """
    problem = read_problem(target, controls, keep, retain, floors)
    ours = _solve_ours(problem, threads)
    assert ours.solution is not None
    rows = [ours]
    for name in _PEERS:
        with working(f"{name} on {problem.size:,} weights, up to {time_limit:g} s"):
            rows.append(_solve_peer(name, problem, time_limit))
    scale = _scale(ours.solution)
    differing = [row.name for row in rows[1:] if _differs(row, ours, scale)]
    agreed = ours.outcome == "certified" and not differing
    if as_json:
        print_json(_payload(problem, rows, scale, agreed))
    else:
        _print(problem, rows, scale, differing)
    if not agreed:
        raise typer.Exit(FAILED)
    if ours.solution.status is Status.INFEASIBLE:
        raise infeasible_error(ours.solution)


def _solve_ours(problem: Problem, threads: int | None) -> _Row:
    """Solve twice, so that compiling the kernels is not counted, and judge the second."""
    with working(f"cops_lp on {problem.size:,} weights"):
        for _ in range(2):
            solution = problem.solve(threads=threads, raise_on_infeasible=False)
        return _judged("cops_lp", problem, solution)


def _solve_peer(name: str, problem: Problem, time_limit: float) -> _Row:
    solver, options = _PEERS[name]
    try:
        solution = run_isolated(
            solver, problem, time_limit=time_limit, raise_on_infeasible=False, **options
        )
    except MissingDependencyError as error:
        return _Row(name, "missing", str(error))
    except (CopsError, OSError, MemoryError) as error:
        note = textwrap.shorten(str(error) or type(error).__name__, _LONGEST_NOTE, placeholder=" …")
        return _Row(name, "failed", note)
    if solution.status is Status.TIME_LIMIT:
        return _Row(name, "timed out", f"not done after {solution.seconds:.3g} s")
    if solution.status is Status.NUMERICAL_ERROR:
        return _Row(name, "failed", solution.status.value)
    return _judged(name, problem, solution)


def _judged(name: str, problem: Problem, solution: Solution) -> _Row:
    certificate = certify(problem, solution)
    if certificate.ok:
        return _Row(name, "certified", "", solution, certificate)
    broken = [check for check in certificate.checks if not check.passed]
    note = ", ".join(f"{check.name} ({check.residual:.1e})" for check in broken[:4])
    if not broken:
        note = solution.status.value
    return _Row(name, "rejected", note, solution, certificate)


def _differs(row: _Row, ours: _Row, scale: float) -> bool:
    """Whether a certified answer contradicts ours."""
    if row.outcome != "certified":
        return False
    assert row.solution is not None
    assert ours.solution is not None
    if row.solution.status is not ours.solution.status:
        return True
    if row.solution.status is Status.INFEASIBLE:
        return False
    return not all(
        abs(difference) <= AGREEMENT for difference in _differences(row, ours.solution, scale)
    )


def _differences(row: _Row, ours: Solution, scale: float) -> tuple[float, float]:
    """Objective and bound less ours, over the scale; NaN where there is none."""
    if row.solution is None:
        return math.nan, math.nan
    return (
        (row.solution.objective - ours.objective) / scale,
        (row.solution.bound - ours.bound) / scale,
    )


def _scale(ours: Solution) -> float:
    kept = ours.problem.target[ours.mask].astype(np.float64)
    return float(np.abs(kept).sum()) or 1.0


def _print(problem: Problem, rows: list[_Row], scale: float, differing: list[str]) -> None:
    ours, *others = rows
    assert ours.solution is not None
    header = ("solver", "objective", "bound", "primal", "gap", "fract.", "build", "solve", "× ours")
    print_lines([f"keeps {problem.keep:,} of {problem.size:,} weights; {_controls(problem)}"])
    print_table(header, [_cells(row, ours.solution, scale) for row in rows], space=1)
    print_lines(
        [
            "objective, bound: below ours, the relative difference to it; primal: the worst "
            "relative violation of a constraint; gap: relative; fract.: weights neither 0 nor 1; "
            "build, solve: seconds; × ours: their sum over ours"
        ]
    )
    for row in rows:
        if row.note:
            print_lines([f"{row.name}: {_describe(row)}"])
    print_lines([_verdict(ours, others, differing)])


def _describe(row: _Row) -> str:
    return (
        f"rejected by the judge, who asks for 1e-12: {row.note}"
        if row.outcome == "rejected"
        else row.note
    )


def _controls(problem: Problem) -> str:
    if not problem.names:
        return "no controls"
    floors = zip(problem.names, problem.floors, strict=True)
    return "floors: " + ", ".join(f"{name} ≥ {floor:.6g}" for name, floor in floors)


def _verdict(ours: _Row, others: list[_Row], differing: list[str]) -> str:
    if ours.outcome != "certified":
        return "ours is NOT certified"
    if differing:
        return f"ours is certified, and so is what differs from it: {', '.join(differing)}"
    certified = sum(row.outcome == "certified" for row in others)
    ended = sum(row.ended for row in others)
    if ended == 0:
        return "ours is certified; no other solver ended, so there is nothing to compare with"
    text = f"ours is certified; {ended} of {len(others)} others ended, {certified} certified"
    return f"{text}, and those agree with ours within {AGREEMENT:g}" if certified else text


def _cells(row: _Row, ours: Solution, scale: float) -> tuple[str, ...]:
    name = row.name if row.outcome != "rejected" else f"{row.name}\n  rejected"
    solution = row.solution
    if solution is None:
        return (name, row.outcome, *[""] * 7)
    times = (_seconds(solution.build_seconds), _seconds(solution.seconds), _times(solution, ours))
    if solution.status is not Status.OPTIMAL:
        return (name, "infeasible", *[""] * 4, *times[:2], "")
    values = [f"{ours.objective:.8g}", f"{ours.bound:.8g}"]
    if solution is not ours:
        values = [f"{value:+.1e}" if value else "0" for value in _differences(row, ours, scale)]
    return (
        name,
        *values,
        _small(row.primal_residual),
        _small(abs(solution.gap) / scale),
        f"{len(solution.fractional.indices):,}",
        *times,
    )


def _small(value: float) -> str:
    return "0" if value == 0.0 else f"{value:.1e}"


def _seconds(seconds: float) -> str:
    if seconds == 0.0:
        return "–"
    return f"{seconds:.2g}" if seconds < 10.0 else f"{seconds:.0f}"


def _slower(solution: Solution, ours: Solution) -> float:
    mine = ours.build_seconds + ours.seconds
    return (solution.build_seconds + solution.seconds) / mine if mine > 0.0 else math.nan


def _times(solution: Solution, ours: Solution) -> str:
    factor = _slower(solution, ours)
    return f"{factor:.2g}" if factor < 10.0 else f"{factor:,.0f}"


def _payload(problem: Problem, rows: list[_Row], scale: float, agreed: bool) -> dict[str, Any]:
    ours = rows[0].solution
    assert ours is not None
    return {
        "version": cops_lp.__version__,
        "size": problem.size,
        "keep": problem.keep,
        "floors": dict(zip(problem.names, problem.floors, strict=True)),
        "tolerance": AGREEMENT,
        "agreed": agreed,
        "compared": sum(row.outcome == "certified" for row in rows[1:]),
        "solvers": [_row_payload(row, ours, scale) for row in rows],
    }


def _row_payload(row: _Row, ours: Solution, scale: float) -> dict[str, Any]:
    solution = row.solution
    objective_difference, bound_difference = _differences(row, ours, scale)
    payload: dict[str, Any] = {"solver": row.name, "outcome": row.outcome, "note": row.note}
    if solution is None:
        return payload
    return payload | {
        "method": solution.method,
        "status": solution.status.name.lower(),
        "objective": solution.objective,
        "bound": solution.bound,
        "objective_difference": objective_difference,
        "bound_difference": bound_difference,
        "primal_residual": row.primal_residual,
        "gap": solution.gap,
        "relative_gap": abs(solution.gap) / scale,
        "fractional": len(solution.fractional.indices),
        "multipliers": dict(zip(solution.problem.names, solution.multipliers, strict=True)),
        "build_seconds": solution.build_seconds,
        "seconds": solution.seconds,
        "times_ours": _slower(solution, ours),
    }
