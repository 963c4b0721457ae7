"""The problem that a command line states, its scores mapped from their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cops_lp.errors import ProblemError
from cops_lp.files import read_score
from cops_lp.problem import Problem

from .arguments import parse_control, parse_keep, parse_per_control, parse_score

__all__ = ["read_problem", "refuse_input_as_output"]


def read_problem(
    target: str, controls: Sequence[str], keep: str, retain: list[str], floors: list[str]
) -> Problem:
    """Read the scores and validate what is asked of them.

    Parameters
    ----------
    target : str
        ``FILE[:NAME]``.
    controls : sequence of str
        Each ``[NAME=]FILE[:NAME]``.
    keep : str
        A count or a share.
    retain, floors : list of str
        Each ``[NAME=]NUMBER``.

    Returns
    -------
    Problem

    Raises
    ------
    ProblemError
        Anything of it is wrong; the message names what.
    """
    budget = parse_keep(keep)
    shares, absolute = parse_per_control("retain", retain), parse_per_control("floor", floors)
    sources = [parse_control(text) for text in controls]
    if sources and (shares is None) == (absolute is None):
        raise ProblemError(
            "--control needs a floor: give --retain, as in --retain 0.9, or --floor"
            if shares is None
            else "--retain and --floor exclude each other: give one of the two"
        )
    labels = [source.label for source in sources]
    for label in labels:
        if label == "target" or labels.count(label) > 1:
            raise ProblemError(
                f"a control cannot be called {label!r}, which is taken; "
                "name it yourself: --control NAME=FILE"
            )
    path, name = parse_score(target)[1:]
    wanted = read_score(path, name)
    return Problem(
        wanted,
        {source.label: read_score(source.path, source.name) for source in sources},
        keep=budget,
        retain=shares,
        floors=absolute,
    )


def refuse_input_as_output(output: Path, target: str, controls: Sequence[str]) -> None:
    """Raise where a result would replace a score that it is computed from, even when forced.

    Raises
    ------
    ProblemError
    """
    for source in (parse_score(target), *map(parse_control, controls)):
        if output.exists() and source.path.exists() and output.samefile(source.path):
            raise ProblemError(f"{output}: holds a score that is read; a result cannot replace it")
