"""``cops-lp demo``: what a mask by one score loses of the others, and what COPS gets back."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cops_lp.errors import CopsError, MissingDependencyError, ProblemError
from cops_lp.files import check_new_file, new_file
from cops_lp.problem import Problem
from cops_lp.samples import sample_scores
from cops_lp.solution import Solution, Status

from .arguments import parse_keep
from .output import duration, print_lines, print_table, working

__all__ = ["FIGURE_SUFFIXES", "run_demo"]

FIGURE_SUFFIXES = (".png", ".svg", ".pdf")
TARGET = "snip"
_LEVELS = {"synflow": (0.90, 0.95), "grasp": (0.50, 0.80)}
_CURVE_POINTS = 41
_HIGHS_SECONDS = 60.0


class _Compared(NamedTuple):
    """HiGHS on one problem: its time, and its objective less ours over ours."""

    seconds: float
    difference: float


class _Row(NamedTuple):
    name: str
    solution: Solution
    highs: _Compared | str  # a str says why there is none


def run_demo(keep: str, *, plot: Path | None, force: bool) -> None:
    """Solve on the sample scores and print, per mask, the share of each score's best.

    Parameters
    ----------
    keep : str
        A count or a share.
    plot : path or None
        Where to draw the trade-offs.
    force : bool
        Replace `plot` if it exists.

    Raises
    ------
    ProblemError
        `keep` leaves nothing to show, or `plot` cannot be written there.
    MissingDependencyError
        `plot` is asked for and matplotlib is not installed.
    """
    if plot is not None:
        check_new_file(plot, FIGURE_SUFFIXES, overwrite=force)
        if importlib.util.find_spec("matplotlib") is None:
            raise MissingDependencyError("matplotlib", "plot", "to draw the figure")
    scores = sample_scores()
    pairs = {
        control: Problem(scores[TARGET], {control: scores[control]}, keep=parse_keep(keep),
                         floors=0.0)
        for control in _LEVELS
    }  # fmt: skip
    k, d = next(iter(pairs.values())).keep, scores[TARGET].size
    if k == 0:
        raise ProblemError("--keep leaves no weights; the demo needs at least one")
    with working("compiling the kernels, once per machine"):
        for control, problem in pairs.items():
            problem.solve(retain=_LEVELS[control][0])
        Problem(scores[TARGET], keep=k).solve()
    singles = {name: Problem(score, keep=k).solve() for name, score in scores.items()}
    # Every best is positive, GraSP's too: its entries, of both signs, sum to more than 0.
    best = {name: single.problem.best()[0] for name, single in singles.items()}
    rows = [_Row(f"{name} alone", single, "") for name, single in singles.items()]
    for control, problem in pairs.items():
        for level in _LEVELS[control]:
            with working(f"HiGHS on {control} ≥ {level:.0%}"):
                solution = problem.solve(retain=level)
                name = f"{TARGET}, {control} ≥ {level:.0%}"
                rows.append(_Row(name, solution, _compare(solution)))
    _print(rows, scores, best, k, d)
    if plot is not None:
        with working("drawing"):
            _draw(plot, force, scores, singles, pairs)
        print_lines([f"figure written to {plot}"])


def _compare(ours: Solution) -> _Compared | str:
    """Solve ours with HiGHS's interior point, in a process of its own, if it is installed."""
    if importlib.util.find_spec("highspy") is None:
        return "missing"
    from cops_lp.reference import run_isolated

    try:
        theirs = run_isolated("highs", ours.problem, time_limit=_HIGHS_SECONDS, algorithm="ipm")
    except CopsError:
        return "failed"
    if theirs.status is not Status.OPTIMAL:
        return "timed out" if theirs.status is Status.TIME_LIMIT else "failed"
    seconds = theirs.build_seconds + theirs.seconds
    return _Compared(seconds, theirs.objective / ours.objective - 1.0)


def _print(
    rows: Sequence[_Row],
    scores: dict[str, np.ndarray],
    best: dict[str, float],
    k: int,
    d: int,
) -> None:
    print_lines(
        [
            f"{d:,} weights of a small residual network, each with four pruning scores. What "
            f"masks of {k:,} of them ({100 * k / d:.3g}%) keep of each score, as a share of the "
            "most that so many could keep:",
            "",
        ]
    )
    compared = [row.highs for row in rows if isinstance(row.highs, _Compared)]
    with_highs = any(row.highs not in ("", "missing") for row in rows)
    header = ["mask", *scores, "time", *(["HiGHS", "differs"] if with_highs else [])]
    cells = []
    for row in rows:
        shares = [_share(row.solution.mask, score, best[n]) for n, score in scores.items()]
        line = [row.name, *shares, duration(row.solution.seconds)]
        if with_highs:
            line += _highs_cells(row.highs)
        cells.append(line)
    print_table(header, cells, space=1)
    print_lines(
        [
            "",
            f"“{TARGET}, grasp ≥ 80%” is the mask with the most {TARGET} of all that keep 80% of "
            "the grasp they could: the LP's optimum, rounded, with a proven gap.",
        ]
    )
    if compared:
        worst = max(abs(entry.difference) for entry in compared)
        ratios = [
            row.highs.seconds / row.solution.seconds
            for row in rows
            if isinstance(row.highs, _Compared)
        ]
        word = "equals" if worst <= 1e-9 else "DIFFERS from"
        print_lines(
            [
                f"The optimum {word} that of HiGHS's interior point (largest relative difference "
                f"{worst:.1g}), which takes {min(ratios):.0f} to {max(ratios):.0f} times as long."
            ]
        )
    if any(row.highs == "missing" for row in rows):
        print_lines(["To compare with HiGHS, install highspy: pip install 'cops-lp[reference]'"])


def _share(mask: np.ndarray, score: np.ndarray, best: float) -> str:
    return f"{score[mask].sum(dtype=np.float64) / best:.1%}"


def _highs_cells(highs: _Compared | str) -> list[str]:
    if isinstance(highs, str):
        return [highs if highs != "missing" else "", ""]
    return [duration(highs.seconds), f"{highs.difference:+.0e}" if highs.difference else "0"]


def _draw(
    path: Path,
    force: bool,
    scores: dict[str, np.ndarray],
    singles: dict[str, Solution],
    pairs: dict[str, Problem],
) -> None:
    from .figure import Panel, draw_trade_offs

    target = scores[TARGET].astype(np.float64)
    best = float(target[singles[TARGET].mask].sum())
    panels = []
    for control, problem in pairs.items():
        score = scores[control].astype(np.float64)
        most = float(score[singles[control].mask].sum())

        def place(mask: np.ndarray, score: np.ndarray = score, most: float = most) -> np.ndarray:
            return np.array([score[mask].sum() / most, target[mask].sum() / best])

        panels.append(
            Panel(
                control=control,
                curve=_frontier(problem, place(singles[TARGET].mask)[0]),
                levels={
                    level: place(problem.solve(retain=level).mask) for level in _LEVELS[control]
                },
                singles={name: place(single.mask) for name, single in singles.items()},
                ranks=place(_mean_rank_mask(target, score, problem.keep)),
            )
        )
    k, d = next(iter(singles.values())).keep, target.size
    figure = draw_trade_offs(TARGET, panels, f"{k:,} of {d:,} weights kept")
    with new_file(path, overwrite=force) as file:
        figure.savefig(file, format=path.suffix.lower()[1:], dpi=200)


def _frontier(problem: Problem, start: float) -> np.ndarray:
    """Bound the target's share for floors from what its own mask keeps up to all there is.

    The bounds are the relaxation's, so they hold for every mask.
    """
    most_target, most_control = problem.best()
    points = []
    for step in np.linspace(1.0, 0.0, _CURVE_POINTS):  # denser towards the steep end
        share = 1.0 - (1.0 - min(start, 1.0)) * step**2
        bound = problem.solve(floors=float(share * most_control)).bound
        points.append((share, bound / most_target))
    return np.array(points)


def _mean_rank_mask(first: np.ndarray, second: np.ndarray, k: int) -> np.ndarray:
    """Keep the k best by the mean of two ranks: a usual way to mix scores by hand."""
    ranks = np.argsort(np.argsort(first)) + np.argsort(np.argsort(second))
    mask = np.zeros(first.size, dtype=bool)
    mask[np.argsort(-ranks, kind="stable")[:k]] = True
    return mask
