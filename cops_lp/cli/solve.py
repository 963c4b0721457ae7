"""``cops-lp solve``: scores in files in, a mask in a file out."""

from __future__ import annotations

from pathlib import Path

from cops_lp.errors import SolverError
from cops_lp.files import MASK_SUFFIXES, SOLUTION_SUFFIXES, check_new_file, write_mask
from cops_lp.solution import Status

from .inputs import read_problem, refuse_input_as_output
from .output import (
    infeasible_error,
    print_json,
    print_lines,
    print_solution,
    solution_payload,
    working,
)

__all__ = ["run_solve"]


def run_solve(
    target: str,
    controls: list[str],
    keep: str,
    retain: list[str],
    floors: list[str],
    *,
    output: Path | None,
    save: Path | None,
    integral: bool,
    time_limit: float | None,
    as_json: bool,
    threads: int | None,
    force: bool,
) -> None:
    """Solve, write the mask, print what is proven.

    Parameters
    ----------
    target, controls, keep, retain, floors
        As :func:`cops_lp.cli.inputs.read_problem`.
    output : path or None
        Where the mask goes; None to print only.
    save : path or None
        Where the solution goes, infeasible or not; None to keep none.
    integral : bool
    time_limit : float or None
        Seconds.
    as_json : bool
        JSON instead of a table.
    threads : int or None
    force : bool
        Replace `output` and `save` if they exist.

    Raises
    ------
    CopsError
        Wrong input, or infeasible; the JSON of an infeasible problem is printed before.
    """
    if output is not None:
        refuse_input_as_output(output, target, controls)
        check_new_file(output, MASK_SUFFIXES, overwrite=force)
    if save is not None:
        refuse_input_as_output(save, target, controls)
        check_new_file(save, SOLUTION_SUFFIXES, overwrite=force)
    problem = read_problem(target, controls, keep, retain, floors)
    with working(f"solving for {problem.size:,} weights (the very first time compiles)"):
        solution = problem.solve(
            integral=integral, threads=threads, time_limit=time_limit, raise_on_infeasible=False
        )
        if solution.status is Status.OPTIMAL and output is not None:
            write_mask(output, solution.mask, overwrite=force)
        if save is not None and solution.status in (Status.OPTIMAL, Status.INFEASIBLE):
            solution.save(save, overwrite=force)
        payload = solution_payload(solution)
    if as_json:
        written = {"output": output, "saved": save}
        print_json(payload | {name: path and str(path) for name, path in written.items()})
    if solution.status is Status.INFEASIBLE:
        raise infeasible_error(solution)
    if solution.status is not Status.OPTIMAL:
        raise SolverError(solution.status.value)
    if not as_json:
        print_solution(solution)
        if output is not None:
            print_lines([f"mask written to {output}"])
        if save is not None:
            print_lines([f"solution saved to {save}"])
