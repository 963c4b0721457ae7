"""The complexity study: time, passes, open weights and memory against d and K."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from .cases import Case, bytes_of_scores, pose
from .judged import Judged
from .measure import Rounds, alternate, loglog_slope, summary
from .memory import peak_extra, shortage
from .study import Cell

__all__ = ["CONTROLS", "LARGEST", "cells", "measure", "sizes", "slopes"]

CONTROLS = (0, 1, 2, 4, 8)
LARGEST = 10**9
SLOPE_FROM = 10**6
"""Below, the constant cost of a solve bends the line."""

_WARM = 200_000  # weights of the first solve, which compiles or loads the kernels
_PER_WEIGHT = 3.0  # mask, the first answer's mask, open weights: bytes, generously
_FIXED = 700e6  # Python, Numba, the judge


def sizes(largest: int, smallest: int = 10**3, per_decade: int = 1) -> list[int]:
    """Powers of ten, with steps between them, from `smallest` to `largest`."""
    found = []
    step = 0
    while (d := round(smallest * 10 ** (step / per_decade))) <= largest:
        found.append(d)
        step += 1
    return found


def cells(
    d_values: list[int],
    k_values: list[int],
    *,
    seed: int,
    threads: int | None,
    budget: float,
    time_limit: float,
    folder: Path | None,
) -> list[Cell]:
    """Cells for every d and K; those that do not fit in memory say so.

    Parameters
    ----------
    d_values, k_values : list of int
    seed : int
    threads : int or None
    budget, time_limit : float
        Seconds of timed rounds, and for all that a cell's process does.
    folder : Path or None
        Where scores are kept as files and memory-mapped; None: in memory.
    """
    found = []
    for K in k_values:
        for d in d_values:
            options = {
                "d": d,
                "K": K,
                "seed": seed,
                "threads": threads,
                "budget": budget,
                "memory_mapped": folder is not None,
            }
            found.append(
                Cell(
                    name=f"K = {K}, d = {d:,}",
                    about=options,
                    function="bench.complexity:measure",
                    arguments=options,
                    time_limit=time_limit,
                    scratch=folder,
                    skipped=_too_large(d, K, folder),
                )
            )
    return found


def measure(
    d: int, K: int, seed: int, threads: int | None, budget: float, memory_mapped: bool
) -> dict[str, Any]:
    """Measure one cell, in a process of its own.

    A small solve loads the kernels; the first one of full size is measured for memory and not
    timed; the rounds after it are timed; the judge comes last.

    Returns
    -------
    dict
        `times` (see :func:`bench.measure.summary`), `passes`, `open`, `open_share`,
        `extra_bytes` and `extra_how`, `judge`.
    """
    small = Case(min(d, _WARM), K, seed)
    pose(small).solve(threads)  # also fails here, before much is made, if K is too many
    case = Case(d, K, seed)
    with tempfile.TemporaryDirectory() as name:
        posed = pose(case, Path(name) if memory_mapped else None)
        extra, how, solution = peak_extra(lambda: posed.solve(threads), mapped=memory_mapped)
        judged = Judged()
        judged.watch(solution)
        rounds = Rounds(budget=budget)
        times = alternate(
            {"ours": lambda: posed.solve(threads)}, rounds, lambda _, found: judged.watch(found)
        )
        return {
            "times": summary(times["ours"]),
            "passes": solution.passes,
            "open": solution.open_count,
            "open_share": solution.open_count / d,
            "extra_bytes": extra,
            "extra_how": how,
            "judge": judged.verdict(),
        }


def slopes(run: dict[str, Any]) -> dict[int, tuple[int, int, float]]:
    """Log-log slope of time against d for each K, from 10^6 weights on.

    Returns
    -------
    dict of int to (first d, last d, slope)
        Without the K that have fewer than two such d.
    """
    found = {}
    for K in sorted({cell["about"]["K"] for cell in run["cells"]}):
        points = [
            (cell["about"]["d"], cell["result"]["times"]["median"])
            for cell in run["cells"]
            if cell["about"]["K"] == K
            and cell["status"] == "done"
            and cell["about"]["d"] >= SLOPE_FROM
        ]
        slope = loglog_slope([d for d, _ in points], [t for _, t in points])
        if slope is not None:
            found[K] = (min(points)[0], max(points)[0], slope)
    return found


def _too_large(d: int, K: int, folder: Path | None) -> str:
    """Say what is missing to hold a cell, or nothing."""
    scores = bytes_of_scores(d, K)
    if folder:
        room = shutil.disk_usage(folder).free
        if scores > room:
            return f"needs {scores / 2**30:.1f} GiB of disk, {room / 2**30:.1f} GiB are free"
        scores = 0
    return shortage(_PER_WEIGHT * d + _FIXED + scores)
