"""Pruning in rounds, the scores computed anew on the masked model each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from cops_lp.errors import ProblemError
from cops_lp.problem import Keep, PerControl, Problem
from cops_lp.solution import Solution

from .mapping import Tensors, as_pieces, check_alike, check_tensors
from .masking import cut, reported, solve_tensors
from .report import Report
from .schedule import Schedule, budgets, check_rounds

__all__ = ["IteratedPruning", "Round", "Scorer", "prune_iteratively"]

Scorer = Callable[[nn.Module, dict[str, torch.Tensor]], Tensors]
"""Takes (model, masks) and scores the model's parameters with the masks on."""


class Round(NamedTuple):
    """What one round did.

    Attributes
    ----------
    keep : int
        How many weights it kept.
    retained : dict of str to float
        By control: its share of the most that so many of the round's candidates could keep;
        NaN where that is not positive.
    regrown : int
        How many of them the round before had removed; 0 unless weights may come back.
    emptied : tuple of str
        The tensors of which it kept nothing.
    """

    keep: int
    retained: dict[str, float]
    regrown: int
    emptied: tuple[str, ...]


class IteratedPruning(NamedTuple):
    """Masks after the last round, and how they came about.

    Attributes
    ----------
    masks : dict of str to Tensor
        As in :class:`Pruning`.
    solution : Solution
        The last round's. Without regrowth it is flat over that round's candidates, the weights
        that the round before it kept, in their order.
    report : Report
    rounds : tuple of Round
    """

    masks: dict[str, torch.Tensor]
    solution: Solution
    report: Report
    rounds: tuple[Round, ...]


def prune_iteratively(
    model: nn.Module,
    target: Scorer,
    controls: Mapping[str, Scorer] | None = None,
    *,
    keep: Keep,
    rounds: int,
    schedule: Schedule = "exponential",
    regrow: bool = False,
    retain: PerControl | None = None,
    integral: bool = False,
    threads: int | None = None,
    progress: bool = False,
) -> IteratedPruning:
    """Prune in rounds: score the masked model, solve for a smaller mask, and again.

    With SynFlow's score alone this is SynFlow as its paper runs it; with `snip` it is Iterative
    SNIP, and with `regrow` FORCE. With controls, each round is an exact problem of its own.

    Parameters
    ----------
    model : torch.nn.Module
        Handed to the scorers; neither run nor changed here.
    target : callable
        Takes (model, masks) and returns the score to maximize, parameter name → tensor, of the
        model with the masks on. `masks` holds a bool tensor for each name, and nothing in the
        first round; it is what the functions of :mod:`cops_lp.torch.scores` take as ``masks=``.
        Must return the same names and shapes in every round.
    controls : mapping of str to such callables, optional
        The same for each control.
    keep : int or float
        How many weights to keep after the last round: a count or a share of all, at least one.
    rounds : int
        ≥ 1; one is :func:`masks`.
    schedule : {"exponential", "linear"}
        Of d weights, round r of R keeps d (k/d)^(r/R), or d − (d − k) r/R.
    regrow : bool
        False: the candidates of a round are the weights that the round before kept, whatever
        scores the others get (signed scores need no zeros). True: all weights are candidates,
        and those that score higher now come back. (Not into a ReLU unit all of whose inputs
        are removed: no gradient passes it.)
    retain : number, or one per control
        As in :func:`masks`, in every round, as a share of the most that the round's candidates
        could keep. Floors in absolute units are not offered, since recomputed scores change
        their scale.
    integral, threads
        As in :func:`masks`.
    progress : bool
        Show a progress bar on stderr; its last state stays, where that is no terminal too.

    Returns
    -------
    IteratedPruning

    Raises
    ------
    ProblemError, InfeasibleError, SolverError, MissingDependencyError
        As :func:`masks`, with a note that names the round; or an argument is not as described,
        `keep` is none at all, or a scorer's names, shapes or device change between rounds.

    Warns
    -----
    LayerCollapseWarning
        The final masks keep nothing of some tensors. `Round.emptied` tells since when.

    Notes
    -----
    Cost: in each round one call of every scorer and one solve; without regrowth another copy of
    the candidates' scores. No random state is used here.

    References
    ----------
    .. [1] Tanaka, Kunin, Yamins, Ganguli: SynFlow (2020), arXiv:2006.05467; code
       ganguli-lab/Synaptic-Flow, whose exponential and linear schedules these are.
    .. [2] de Jorge et al.: Progressive skeletonization (2021), arXiv:2006.09081, for FORCE and
       Iterative SNIP; of this paper we had the abstract only.

    Examples
    --------
    >>> import torch
    >>> from cops_lp.torch import scores
    >>> model = torch.nn.Sequential(torch.nn.Linear(9, 40), torch.nn.ReLU(), torch.nn.Linear(40, 2))
    >>> def flow(model, masks):
    ...     return scores.synflow(model, (9,), masks=masks)
    >>> found = prune_iteratively(model, flow, keep=22, rounds=3)
    >>> [each.keep for each in found.rounds], found.report.total.kept
    ([162, 60, 22], 22)
    """
    if not callable(target):
        raise ProblemError(
            f"target is a {type(target).__name__}; wanted a callable of (model, masks)"
        )
    scorers = _checked(controls)
    count = check_rounds(rounds, schedule)
    masks: dict[str, torch.Tensor] = {}
    done: list[Round] = []
    solution: Solution | None = None
    left: list[int] = []
    with _bar(progress, count) as advance:
        for number in range(1, count + 1):
            try:
                wanted = _scored("target", target, model, masks)
                if number == 1:
                    left = _budgets(wanted, keep, count, schedule)
                advance(f"round {number} of {count}, {left[number - 1]:,} weights", 0)
                named = {
                    name: _scored(f"control {name!r}", scorer, model, masks)
                    for name, scorer in scorers.items()
                }
                check_alike({"target": wanted} | named)
                candidates = {} if regrow else masks
                first = _gathered(wanted, candidates)
                solution = solve_tensors(
                    first,
                    {name: _gathered(score, candidates) for name, score in named.items()},
                    keep=left[number - 1],
                    retain=retain,
                    integral=integral,
                    threads=threads,
                )
            except Exception as error:
                error.add_note(f"in round {number} of {count} of the iterated pruning")
                raise
            found = _scattered(cut(first, solution), candidates)
            done.append(_round(solution, found, masks if regrow else {}))
            masks = found
            advance(None, 1)
    assert solution is not None
    return IteratedPruning(masks, solution, reported(masks, warn=True, stacklevel=3), tuple(done))


def _checked(controls: Any) -> dict[str, Scorer]:
    if controls is None:
        return {}
    if not isinstance(controls, Mapping):
        raise ProblemError(
            f"controls is a {type(controls).__name__}; wanted a mapping of names to callables"
        )
    for name, scorer in controls.items():
        if not callable(scorer):
            raise ProblemError(
                f"control {name!r} is a {type(scorer).__name__}; wanted a callable of "
                "(model, masks)"
            )
    return dict(controls)


def _scored(
    label: str, scorer: Scorer, model: nn.Module, masks: dict[str, torch.Tensor]
) -> Tensors:
    score = check_tensors(label, scorer(model, dict(masks)))
    if masks:
        check_alike({"the round before": masks, label: score})
        score = {name: score[name] for name in masks}
    return score


def _budgets(target: Tensors, keep: Keep, rounds: int, schedule: Schedule) -> list[int]:
    flat = Problem(as_pieces(target), keep=keep)
    if flat.keep == 0:
        raise ProblemError(f"keep is {keep!r}, which leaves none of {flat.size:,} weights")
    return budgets(flat.size, flat.keep, rounds, schedule)


def _gathered(score: Tensors, masks: Mapping[str, torch.Tensor]) -> Tensors:
    """The scores of the candidates alone; all of them where there are no masks."""
    if not masks:
        return score
    return {name: score[name].detach()[mask] for name, mask in masks.items()}


def _scattered(
    found: dict[str, torch.Tensor], masks: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Masks of all weights from those of the candidates: the inverse of :func:`_gathered`."""
    if not masks:
        return found
    whole = {name: torch.zeros_like(mask) for name, mask in masks.items()}
    for name, mask in masks.items():
        whole[name][mask] = found[name]
    return whole


def _round(
    solution: Solution, masks: dict[str, torch.Tensor], before: Mapping[str, torch.Tensor]
) -> Round:
    problem = solution.problem
    best = problem.best()[1:] if problem.names else ()
    return Round(
        solution.keep,
        {
            name: float(kept / most) if most > 0.0 else float("nan")
            for name, kept, most in zip(problem.names, solution.kept, best, strict=True)
        },
        sum(int((masks[name] & ~mask).sum()) for name, mask in before.items()),
        reported(masks, warn=False, stacklevel=1).emptied,
    )


@contextmanager
def _bar(shown: bool, rounds: int) -> Iterator[Callable[[str | None, int], None]]:
    """Give a function that says what is done now, and how many rounds are over in addition."""
    if not shown:
        yield lambda _text, _rounds: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"round 1 of {rounds}", total=rounds)
        yield lambda text, more: bar.update(task, description=text, advance=more)
