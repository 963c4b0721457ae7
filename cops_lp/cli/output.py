"""How results are shown: tables for people, JSON for programs, a spinner while they wait."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import cops_lp
from cops_lp.errors import InfeasibleError
from cops_lp.solution import Solution, Status

__all__ = [
    "duration",
    "infeasible_error",
    "print_json",
    "print_lines",
    "print_solution",
    "print_table",
    "solution_payload",
    "working",
]

_PATIENCE = 1.0  # seconds before a spinner appears


@contextmanager
def working(message: str) -> Iterator[None]:
    """Show a spinner on stderr while the block runs, if that is a terminal and it takes long."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    status = console.status(Text(message))
    timer = threading.Timer(_PATIENCE, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # else it could start after it was stopped
        status.stop()


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, space: int = 2) -> None:
    """Print a table to stdout, the first column to the left and the others to the right.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequence of str
    space : int, ≥ 1
        Blanks between columns.
    """
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, space - 1, 0, 0)
    )
    for column, title in enumerate(header):
        table.add_column(Text(title), justify="right" if column else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def print_lines(lines: Sequence[str]) -> None:
    """Print lines to stdout, wrapped to the terminal, with nothing in them taken for markup."""
    console = Console(highlight=False)
    for line in lines:
        console.print(Text(line))


def print_solution(solution: Solution) -> None:
    """Print the table of a solution, fitted to the terminal's width."""
    header, *rows = solution.rows()
    first, *rest = solution.summary()
    print_lines([first])
    print_table(header, rows)
    print_lines(rest)


def print_json(payload: Mapping[str, Any]) -> None:
    """Print JSON to stdout. NaN and infinities, which JSON lacks, become null."""
    print(json.dumps(_plain(payload), indent=2, allow_nan=False))


def solution_payload(solution: Solution) -> dict[str, Any]:
    """Collect what JSON says of a solution; every field is a property or argument of its name."""
    problem = solution.problem
    names = problem.names
    return {
        "version": cops_lp.__version__,
        "status": solution.status.name.lower(),
        "message": solution.status.value,
        "method": solution.method,
        "shape": problem.shape,
        "size": problem.size,
        "keep": solution.keep,
        "objective": solution.objective,
        "bound": solution.bound,
        "gap": solution.gap,
        "relative_gap": solution.relative_gap,
        "mask_objective": solution.mask_objective,
        "integer_bound": solution.integer_bound,
        "integer_gap": solution.integer_gap,
        "threshold": solution.threshold,
        "best": dict(zip(problem.score_names, problem.best(), strict=True)),
        "kept": dict(zip(names, solution.kept, strict=True)),
        "floors": dict(zip(names, solution.floors, strict=True)),
        "shortfall": dict(zip(names, solution.shortfall, strict=True)),
        "multipliers": dict(zip(names, solution.multipliers, strict=True)),
        "certificate": (
            None
            if solution.certificate is None
            else dict(zip(names, solution.certificate, strict=True))
        ),
        "fractional": {
            "indices": solution.fractional.indices if solution.status is Status.OPTIMAL else [],
            "values": solution.fractional.values if solution.status is Status.OPTIMAL else [],
        },
        "passes": solution.passes,
        "open_count": solution.open_count,
        "build_seconds": solution.build_seconds,
        "seconds": solution.seconds,
    }


def infeasible_error(solution: Solution) -> InfeasibleError:
    """Build the error that an infeasible solution stands for."""
    problem = solution.problem
    assert solution.certificate is not None
    return InfeasibleError(
        problem.names, problem.floors, problem.best()[1:], solution.certificate, problem.keep
    )


def duration(seconds: float) -> str:
    """Write a time in the unit that suits it.

    Examples
    --------
    >>> duration(0.00123), duration(75.0)
    ('1.23 ms', '75 s')
    """
    if math.isnan(seconds):
        return "–"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    if seconds < 1.0:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s"


def _plain(value: Any) -> Any:
    """Turn arrays and NumPy's numbers into what JSON has."""
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value
