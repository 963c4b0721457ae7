"""``masks`` and ``balance``: the package's own, on mappings of tensors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

import cops_lp
from cops_lp.errors import ProblemError
from cops_lp.pieces import Pieces
from cops_lp.problem import Keep, PerControl
from cops_lp.solution import Solution, Status

from .mapping import Tensors, as_pieces, check_alike, check_tensors
from .report import Layer, LayerCollapseWarning, Report
from .tensor_mask import TensorMask

__all__ = [
    "Pruning",
    "balance",
    "cut",
    "cut_flat",
    "labeled",
    "masks",
    "name_scores",
    "named_scores",
    "reported",
    "solve_tensors",
    "warn_of_emptied",
]


class Pruning(NamedTuple):
    """Masks, what proves them, and what they leave of each layer.

    Attributes
    ----------
    masks : dict of str to Tensor
        Bool, with the scores' names, shapes and device, True where a weight is kept, exactly
        `solution.keep` of them. Views of one flat tensor: ``clone()`` one that outlives the others.
    solution : Solution
        Of the flat problem, the tensors' entries one after the other; `solution.mask` is the
        masks' own memory. From scores on a GPU it lies there and is read by ``numpy.asarray``.
        From `balance` a :class:`cops_lp.Balance`.
    report : Report
    """

    masks: dict[str, torch.Tensor]
    solution: Solution
    report: Report


def masks(
    target: Tensors,
    controls: Tensors | Mapping[str, Tensors] | Sequence[Tensors] = (),
    *,
    keep: Keep,
    retain: PerControl | None = None,
    floors: PerControl | None = None,
    integral: bool = False,
    threads: int | None = None,
    time_limit: float | None = None,
    raise_on_infeasible: bool = True,
) -> Pruning:
    """Keep the k weights of a network with the most of the target, while controls keep theirs.

    :func:`cops_lp.solve` over all tensors at once, which are read where they lie.

    Parameters
    ----------
    target : mapping of str to Tensor
        The score to maximize, by parameter name. float16, bfloat16, float32 or float64, any
        shapes, strides and signs, all on one device; higher means keep. Detached, never changed.
    controls : mapping of str to Tensor, mapping of str to such mappings, or sequence of them
        One control, several by name, or several called "control 1", "control 2", …; each with
        the target's names, in any order, shapes and device.
    keep, retain, floors, integral, threads, time_limit, raise_on_infeasible
        As in :func:`cops_lp.solve`; `keep` counts, or is a share of, all weights together.

    Returns
    -------
    Pruning
        Ties go to the tensor that comes first in `target`, and in it to the lowest index in C
        order. Without an answer (status INFEASIBLE or TIME_LIMIT) the masks keep nothing.

    Raises
    ------
    ProblemError
        A score is no such mapping, names or shapes differ, devices are mixed or not supported
        (meta; mps, which has no float64), or what :func:`cops_lp.solve` refuses. Messages name
        the tensors.
    InfeasibleError, SolverError
        As :func:`cops_lp.solve`.
    MissingDependencyError
        bfloat16 on the CPU needs ml_dtypes (the extra "torch").

    Warns
    -----
    LayerCollapseWarning
        The masks keep nothing of some tensors, though they keep something. `Report.emptied`
        has the names.

    Notes
    -----
    As :func:`cops_lp.solve`: on the CPU the same kernels on the tensors' memory; one byte per
    weight for the masks and about one more at 25 million weights, relatively less beyond. On a
    GPU the scores are screened there in blocks, and only a sample and the weights near the
    threshold leave it; 1 byte per weight for the masks, about as much for a block. Masks and
    multipliers are the same bits either way (docs/torch.md).

    Examples
    --------
    >>> import torch
    >>> magnitude = {"a": torch.tensor([5.0, 4.0, 3.0]), "b": torch.tensor([2.0, 1.0])}
    >>> size = {"a": torch.tensor([1.0, 2.0, 3.0]), "b": torch.tensor([4.0, 5.0])}
    >>> found = masks(magnitude, {"size": size}, keep=2, retain=0.75)
    >>> {name: mask.tolist() for name, mask in found.masks.items()}
    {'a': [False, False, True], 'b': [True, False]}
    >>> print(found.report)
    layer  weights  kept  density
    -----------------------------
    a            3     1   33.33%
    b            2     1   50.00%
    -----------------------------
    total        5     2   40.00%
    """
    solution = solve_tensors(
        target,
        controls,
        keep=keep,
        retain=retain,
        floors=floors,
        integral=integral,
        threads=threads,
        time_limit=time_limit,
        raise_on_infeasible=raise_on_infeasible,
    )
    return _pruning(target, solution)


def balance(
    scores: Mapping[str, Tensors] | Sequence[Tensors],
    *,
    keep: Keep,
    threads: int | None = None,
    time_limit: float | None = None,
) -> Pruning:
    """Keep k weights of a network so that the worst-kept score is kept best.

    :func:`cops_lp.balance` over all tensors at once.

    Parameters
    ----------
    scores : mapping of str to mappings of str to Tensor, or sequence of such mappings
        One score or more, as `target` of :func:`masks`, all with the first one's names, shapes
        and device.
    keep, threads, time_limit
        As in :func:`cops_lp.balance`.

    Returns
    -------
    Pruning
        Its `solution` is a :class:`cops_lp.Balance`.

    Raises
    ------
    ProblemError, SolverError, MissingDependencyError
        As :func:`masks` and :func:`cops_lp.balance`.

    Warns
    -----
    LayerCollapseWarning
        As :func:`masks`.

    Notes
    -----
    As :func:`cops_lp.balance`, each of its solves as one of :func:`masks`.

    Examples
    --------
    >>> import torch
    >>> size = {"a": torch.tensor([4.0, 3.0]), "b": torch.tensor([2.0, 1.0, 0.0])}
    >>> use = {"a": torch.tensor([0.0, 1.0]), "b": torch.tensor([1.0, 3.0, 3.0])}
    >>> found = balance({"size": size, "use": use}, keep=2)
    >>> {name: mask.tolist() for name, mask in found.masks.items()}
    {'a': [False, True], 'b': [False, True, False]}
    """
    named = named_scores("score", scores)
    if not named:
        raise ProblemError("scores: none were given; wanted a mapping or a sequence of mappings")
    check_alike(labeled("score", named))
    first = next(iter(named.values()))
    found = cops_lp.balance(
        _scores(named, first), keep=keep, threads=threads, time_limit=time_limit
    )
    return _pruning(first, found)


def solve_tensors(
    target: Tensors,
    controls: Tensors | Mapping[str, Tensors] | Sequence[Tensors] = (),
    **options: Any,
) -> Solution:
    """Solve for the flat mask of :func:`masks`, with its other arguments for `options`."""
    target = check_tensors("target", target)
    named = named_scores("control", controls)
    check_alike({"target": target} | labeled("control", named))
    return cops_lp.solve(as_pieces(target), _scores(named, target), **options)


def named_scores(noun: str, scores: Any, *, part: bool = False) -> dict[str, Tensors]:
    """Mappings of tensors by name, each checked; a sequence's are numbered, one needs no name.

    `part` is as in :func:`check_tensors`.
    """
    named = name_scores(noun, scores)
    for name, tensors in named.items():
        check_tensors(f"{noun} {name!r}", tensors, part=part)
    return named


def name_scores(noun: str, scores: Any) -> dict[str, Any]:
    """Scores by name, as :func:`named_scores`, not checked."""
    if scores is None:
        return {}
    if noun == "control" and isinstance(scores, Mapping):
        bare = any(isinstance(value, torch.Tensor) for value in scores.values())
        scores = [scores] if bare else scores
    if isinstance(scores, (list, tuple)):
        alone = len(scores) == 1 and noun == "control"
        scores = {noun if alone else f"{noun} {j + 1}": each for j, each in enumerate(scores)}
    elif not isinstance(scores, Mapping):
        raise ProblemError(
            f"{noun}s: {type(scores).__name__}; wanted mappings of names to tensors, "
            "in a mapping or a sequence"
        )
    for name in scores:
        if not isinstance(name, str):
            raise ProblemError(f"{noun}s: a name is {name!r}; wanted a str")
    return dict(scores)


def labeled(noun: str, named: dict[str, Tensors]) -> dict[str, Tensors]:
    """Call scores in messages what they are and by their name."""
    return {f"{noun} {name!r}": tensors for name, tensors in named.items()}


def _scores(named: dict[str, Tensors], first: Tensors) -> dict[str, Pieces]:
    """Each as one score, its tensors in the first one's order."""
    return {
        name: as_pieces({key: tensors[key] for key in first}) for name, tensors in named.items()
    }


def _pruning(target: Tensors, solution: Solution) -> Pruning:
    """Cut the flat mask, count, and warn of what is emptied."""
    found = cut(target, solution)
    answered = solution.status is Status.OPTIMAL and solution.keep > 0
    return Pruning(found, solution, reported(found, warn=answered, stacklevel=4))


def cut(target: Tensors, solution: Solution) -> dict[str, torch.Tensor]:
    """Cut the flat mask of a solution into views, as `target` is."""
    device = next(iter(target.values())).device
    mask: Any = solution.mask
    flat = mask.tensor if isinstance(mask, TensorMask) else torch.from_numpy(mask).to(device)
    return cut_flat(target, flat)


def cut_flat(target: Tensors, flat: torch.Tensor) -> dict[str, torch.Tensor]:
    """Views of a flat tensor with the shapes of a mapping's, one after the other."""
    found, start = {}, 0
    for name, tensor in target.items():
        stop = start + tensor.numel()
        found[name] = flat[start:stop].view(tensor.shape)
        start = stop
    return found


def reported(found: Mapping[str, torch.Tensor], *, warn: bool, stacklevel: int) -> Report:
    """Count what masks keep of each tensor; warn of those emptied, if asked to."""
    if all(each.device.type == "cpu" for each in found.values()):
        # many small layers: NumPy's calls are shorter
        counts = [int(np.count_nonzero(each.numpy())) for each in found.values()]
    else:
        counts = torch.stack([each.count_nonzero() for each in found.values()]).tolist()
    report = Report(
        tuple(
            Layer(name, each.numel(), kept)
            for (name, each), kept in zip(found.items(), counts, strict=True)
        )
    )
    if warn:
        warn_of_emptied(report, stacklevel + 1)
    return report


def warn_of_emptied(report: Report, stacklevel: int) -> None:
    """Warn where a report has tensors of which nothing is kept."""
    if report.emptied:
        warnings.warn(
            f"the masks keep nothing of {len(report.emptied)} of {len(report.layers)} tensors: "
            f"{', '.join(map(repr, report.emptied))}",
            LayerCollapseWarning,
            stacklevel=stacklevel,
        )
