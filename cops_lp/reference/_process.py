"""One solve in a process of its own: a time limit that holds, a crash that stays outside."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from cops_lp.assembly import unsolved_solution
from cops_lp.errors import InfeasibleError, MissingDependencyError, ProblemError, SolverError
from cops_lp.problem import Problem
from cops_lp.solution import Fractional, Solution, Status

from ._model import check_choice, check_positive

__all__ = ["NAMES", "load_job", "run_isolated", "save_error", "save_solution"]

NAMES = ("highs", "scipy", "cvxpy")
_WORKER = ("-P", "-m", "cops_lp.reference._worker")  # -P: the current folder hides no package
_JOB, _ARRAYS, _ANSWER = "job.json", "arrays.npz", "answer.json"


def run_isolated(
    name: str,
    problem: Problem,
    *,
    time_limit: float | None = None,
    raise_on_infeasible: bool = True,
    **options: Any,
) -> Solution:
    """Run one reference solver in a child process and end it when its time is over.

    The child is a fresh Python started on a module of this package, so this works from any
    script, notebook or test, without a ``__main__`` guard. Two copies of one solver's
    library can't clash, and a crash ends the child only.

    Parameters
    ----------
    name : {"highs", "scipy", "cvxpy"}
        Which of ``solve_highs``, ``solve_scipy``, ``solve_cvxpy``.
    problem : Problem
    time_limit : float, optional
        Seconds, > 0, after which the child is killed: for all it does, its start (0.3 to 2 s,
        mostly imports) and reading the scores included. The solver is given none of its own.
    raise_on_infeasible : bool
        Otherwise return a Solution whose status and certificate say so.
    **options
        The solver's own keyword arguments, such as ``algorithm="ipm"``; strings, numbers or
        None.

    Returns
    -------
    Solution
        As the solver's, times included (those of the child's own clock). Its status is
        TIME_LIMIT when the child was killed, and `seconds` is then the time it had.

    Raises
    ------
    InfeasibleError, MissingDependencyError, ProblemError, SolverError
        As the solver raises them; SolverError also when the child crashed, with the signal
        and the end of what it wrote.

    Notes
    -----
    The scores go through a temporary folder: 8(K + 1) bytes or less per weight on disk.

    Examples
    --------
    >>> from cops_lp import Problem
    >>> problem = Problem([3.0, 2.0, 1.0, 0.0], [[0.0, 1.0, 2.0, 3.0]], keep=2, floors=3.5)
    >>> solution = run_isolated("highs", problem, time_limit=60.0)
    >>> solution.objective, solution.multipliers.tolist()
    (2.5, [1.0])
    """
    check_choice("name", name, NAMES)
    check_positive("time_limit", time_limit)
    if not isinstance(problem, Problem):
        raise ProblemError(f"problem is a {type(problem).__name__}; wanted a cops_lp.Problem")
    method = f"{name} in its own process"
    with tempfile.TemporaryDirectory(prefix="cops_lp-") as name_of_folder:
        folder = Path(name_of_folder)
        _save_job(folder, name, problem, options)
        start = time.perf_counter()
        try:
            child = subprocess.run(
                [sys.executable, *_WORKER, str(folder)],
                env={**os.environ, "PYTHONPATH": _search_path()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=time_limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return unsolved_solution(
                problem,
                Status.TIME_LIMIT,
                method=method,
                seconds=time.perf_counter() - start,
            )
        except OSError as error:
            raise SolverError(f"{method} could not be started: {error}") from error
        if child.returncode != 0 or not (folder / _ANSWER).exists():
            raise SolverError(f"{method} {_crash(child.returncode, child.stderr)}")
        solution = _load_answer(folder, problem)
    if solution.status is Status.INFEASIBLE and raise_on_infeasible:
        raise _infeasible_error(solution)
    return solution


def load_job(folder: Path) -> tuple[str, Problem, dict[str, Any]]:
    """Read what `run_isolated` left for the child: solver, problem, options."""
    job = json.loads((folder / _JOB).read_text(encoding="utf-8"))
    scores = [np.load(folder / f"{j}.npy", mmap_mode="r") for j in range(1 + len(job["names"]))]
    problem = Problem(
        scores[0],
        dict(zip(job["names"], scores[1:], strict=True)),
        keep=job["keep"],
        floors=job["floors"] if job["names"] else None,
    )
    return job["name"], problem, job["options"]


def save_solution(folder: Path, solution: Solution) -> None:
    """Write every field but the problem: arrays to an npz, the rest to JSON, last."""
    arrays: dict[str, np.ndarray] = {}
    plain: dict[str, Any] = {}
    for field in dataclasses.fields(solution):
        value = getattr(solution, field.name)
        if field.name == "problem":
            continue
        if isinstance(value, Fractional):
            arrays[f"{field.name}.indices"], arrays[f"{field.name}.values"] = value
        elif isinstance(value, np.ndarray):
            arrays[field.name] = value
        else:
            plain[field.name] = value.name if isinstance(value, Status) else value
    np.savez(folder / _ARRAYS, **arrays)  # type: ignore[arg-type]
    _write(folder / _ANSWER, {"solution": plain})


def save_error(folder: Path, error: Exception) -> None:
    """Write an error, so that the parent can raise it as its own."""
    answer: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, MissingDependencyError):
        answer["package"] = error.package
    _write(folder / _ANSWER, answer)


def _save_job(folder: Path, name: str, problem: Problem, options: dict[str, Any]) -> None:
    for j, score in enumerate(problem.scores):
        array = np.asarray(score)
        if array.dtype.name == "bfloat16":  # .npy knows no such type; float32 holds it exactly
            array = array.astype(np.float32)
        np.save(folder / f"{j}.npy", array, allow_pickle=False)
    job = {
        "name": name,
        "names": problem.names,
        "keep": problem.keep,
        "floors": problem.floors.tolist(),
        "options": options,
    }
    try:
        _write(folder / _JOB, job)
    except TypeError as error:
        raise ProblemError(f"options can be strings, numbers or None: {error}") from error


def _load_answer(folder: Path, problem: Problem) -> Solution:
    answer = json.loads((folder / _ANSWER).read_text(encoding="utf-8"))
    if "error" in answer:
        raise _error(answer)
    fields = answer["solution"]
    fields["status"] = Status[fields["status"]]
    with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
        for key in arrays.files:
            name, _, part = key.partition(".")
            if not part:
                fields[name] = arrays[key]
            elif part == "indices":
                fields[name] = Fractional(arrays[key], arrays[f"{name}.values"])
    return Solution(problem=problem, **fields)


def _error(answer: dict[str, Any]) -> Exception:
    name, message = answer["error"], answer["message"]
    if name == "MissingDependencyError":
        return MissingDependencyError(answer["package"], "reference", "by the solver asked for")
    if name == "ProblemError":
        return ProblemError(message)
    return SolverError(message if name == "SolverError" else f"{name} in the child: {message}")


def _infeasible_error(solution: Solution) -> InfeasibleError:
    problem, k = solution.problem, solution.keep
    attainable = np.zeros(len(problem.names))
    for j, control in enumerate(problem.controls):
        values = np.asarray(control).reshape(-1).astype(np.float64)
        if k:
            attainable[j] = np.partition(values, len(values) - k)[len(values) - k :].sum()
    certificate = solution.certificate
    assert certificate is not None, "an infeasible Solution carries its certificate"
    return InfeasibleError(problem.names, problem.floors, attainable, certificate, k)


def _crash(code: int, stderr: bytes) -> str:
    how = f"ended with exit code {code}"
    if code < 0:
        try:
            how = f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            how = f"was ended by signal {-code}"
        if -code == getattr(signal, "SIGKILL", None):
            how += ", perhaps for want of memory"
    said = stderr.decode(errors="replace").strip()[-2000:]
    return f"{how}; it said: {said}" if said else how


def _search_path() -> str:
    """List what this process imports from, so that the child finds the same packages."""
    return os.pathsep.join(
        str(Path(entry).resolve()) if entry == "" else entry for entry in sys.path
    )


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
