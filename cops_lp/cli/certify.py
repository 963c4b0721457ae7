"""``cops-lp certify``: a saved solution against the scores, by the judge alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import cops_lp
from cops_lp.errors import ProblemError, SolverError
from cops_lp.files import read_score, read_solution
from cops_lp.judge import Certificate, certify
from cops_lp.solution import Solution

from .arguments import ScoreArgument, parse_control, parse_score
from .output import print_json, print_lines, print_table, working

__all__ = ["run_certify"]


def run_certify(path: Path, target: str, controls: list[str], *, as_json: bool) -> None:
    """Check every condition and print its residual.

    Parameters
    ----------
    path : path
        The saved solution.
    target : str
        ``FILE[:NAME]``; for a balance the score that the solution calls its target.
    controls : list of str
        Each ``[NAME=]FILE[:NAME]``, by the solution's names, in any order.
    as_json : bool
        JSON instead of a table.

    Raises
    ------
    ProblemError
        A file or a name is wrong; nothing was judged.
    SolverError
        The solution is not confirmed; what failed was printed before.

    Notes
    -----
    Neither the engine nor a compiler is loaded. Scores are mapped and read in blocks; the mask
    takes a byte per weight.
    """
    solution = read_solution(path)
    scores = _read_scores(path, solution, target, controls)
    with working(f"checking {solution.problem.size:,} weights"):
        verdict = certify(scores, solution)
    if as_json:
        print_json(_payload(solution, verdict))
    else:
        _print_verdict(solution, verdict)
    if not verdict:
        failed = [check.name for check in verdict.checks if not check.passed]
        raise SolverError(f"{path}: not confirmed: {'; '.join(failed) or solution.status.value}")


def _read_scores(
    path: Path, solution: Solution, target: str, controls: list[str]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    names = solution.problem.names
    sources = [parse_control(text) for text in controls]
    if sorted(source.label for source in sources) != sorted(names):
        given = ", ".join(repr(source.label) for source in sources) or "none"
        wanted = ", ".join(map(repr, names)) or "none"
        raise ProblemError(
            f"--control: got {given}; the controls of {path} are {wanted}; "
            "give each as --control NAME=FILE"
        )

    def read(source: ScoreArgument) -> np.ndarray:
        score = read_score(source.path, source.name, as_stored=True)
        if score.shape != solution.problem.shape:
            raise ProblemError(
                f"{source.path}: has shape {score.shape}; the scores of {path} have "
                f"{solution.problem.shape}"
            )
        return score

    return read(parse_score(target)), {source.label: read(source) for source in sources}


def _print_verdict(solution: Solution, verdict: Certificate) -> None:
    word = "confirmed" if verdict else "NOT confirmed"
    print_lines([f"{word}; claimed: {solution.status.value}"])
    print_table(
        ("condition", "residual", "at most", ""),
        [
            (
                check.name,
                f"{check.residual:.2e}",
                f"{check.tolerance:.0e}" if check.tolerance else "0",
                "holds" if check.passed else "FAILS",
            )
            for check in verdict.checks
        ],
    )
    floors = [
        f"floor of {name}: {floor:.12g}"
        for name, floor in zip(solution.problem.names, solution.floors, strict=True)
    ]
    print_lines([*(solution.summary()[1:-1] if verdict else []), *floors])


def _payload(solution: Solution, verdict: Certificate) -> dict[str, Any]:
    return {
        "version": cops_lp.__version__,
        "confirmed": bool(verdict),
        "status": solution.status.name.lower(),
        "keep": solution.keep,
        "size": solution.problem.size,
        "floors": dict(zip(solution.problem.names, solution.floors, strict=True)),
        "objective": verdict.objective,
        "bound": verdict.bound,
        "gap": verdict.gap,
        "relative_gap": verdict.relative_gap,
        "scale": verdict.scale,
        "fractional": verdict.fractional,
        "checks": [
            {
                "name": check.name,
                "residual": check.residual,
                "tolerance": check.tolerance,
                "passed": check.passed,
                "formula": check.formula,
            }
            for check in verdict.checks
        ],
    }
