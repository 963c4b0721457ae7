"""``solve_sharded`` and ``masks_sharded``: scores of which each rank of a process group has a part.

Both lay the ranks' scores out as one problem, solve that on every rank alike, and cut each
rank's own mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from cops_lp.errors import ProblemError
from cops_lp.pieces import fits_single
from cops_lp.problem import Keep, PerControl
from cops_lp.solution import Solution

from .collectives import Collectives
from .layout import Layout
from .mapping import Tensors, as_pieces, check_alike, check_tensors
from .masking import cut_flat, labeled, named_scores, reported
from .report import Report
from .sharded_mask import ShardedMask
from .sharded_problem import ShardedProblem, agreed
from .sharded_score import ShardedScore

__all__ = [
    "ShardedPruning",
    "Shards",
    "agreed",
    "collectives",
    "own_mask",
    "solve_sharded",
    "solve_shards",
]

_ALONE = "shard"  # what a single tensor is called


class ShardedPruning(NamedTuple):
    """What a rank keeps, and what proves the whole.

    Attributes
    ----------
    masks : Tensor, or dict of str to Tensor
        Bool, as the target: of :func:`solve_sharded` this rank's, of :func:`masks_sharded`
        DTensors placed as the target's.
    solution : Solution
        Of the flat problem of all ranks, the same on every rank; it prints on any. Whatever
        reads scores or mask is for all ranks together: ``np.asarray(solution.mask)``, which
        brings the whole mask to each, ``solution.problem.solve(keep=...)``, and
        ``cops_lp.certify(solution.problem, solution)``.
    report : Report
        Of :func:`solve_sharded` what is kept of this rank's tensors, of :func:`masks_sharded`
        of whole ones.
    """

    masks: Any
    solution: Solution
    report: Report


class Shards(NamedTuple):
    """A rank's part of a target and its controls, and where it is in the whole.

    `shapes` and `labels` are the whole's pieces, for messages.
    """

    target: Tensors
    controls: dict[str, Tensors]
    layout: Layout
    shapes: Sequence[tuple[int, ...]]
    labels: Sequence[str]


def solve_sharded(
    target: torch.Tensor | Tensors,
    controls: Any = (),
    *,
    keep: Keep,
    retain: PerControl | None = None,
    floors: PerControl | None = None,
    threads: int | None = None,
    raise_on_infeasible: bool = True,
    process_group: dist.ProcessGroup | None = None,
) -> ShardedPruning:
    """Solve one problem over the scores of all ranks, each of which gives its own part.

    ``cops_lp.solve`` of the ranks' scores, one rank's after the other's, with the same bits as
    answer. Every rank of the group calls this, with the same arguments but for the scores.

    Parameters
    ----------
    target : Tensor, or mapping of str to Tensor
        This rank's part of the score to maximize: any shape, also without entries; float16,
        bfloat16, float32 or float64; higher means keep. Or several tensors, one after the other;
        other ranks' may have other names and shapes.
    controls : as target, mapping of str to such, or sequence of such
        One control, several by name, or several called "control 1", "control 2", …; each with
        the target's shape, or names and shapes, on the target's device.
    keep : int or float
        How many weights of all ranks together, or which share of them; as in :func:`cops_lp.solve`.
    retain, floors, raise_on_infeasible
        As in :func:`cops_lp.solve`; floors hold for all ranks together.
    threads : int, optional
        As in :func:`cops_lp.solve`, on each rank: ranks on one machine share its processors.
    process_group : ProcessGroup, optional
        The default group, if None.

    Returns
    -------
    ShardedPruning
        Ties go to the lower rank, and in it to the lower index.

    Raises
    ------
    ProblemError, InfeasibleError, SolverError, MissingDependencyError
        As :func:`cops_lp.solve` and :func:`masks`, the same on every rank, also where only one
        rank's scores are at fault. SolverError where the ranks get out of step: different
        versions or kinds of processors round differently.

    Notes
    -----
    Each rank reads its part as :func:`masks` would, on its device. Some 15 collectives, and 6 to
    10 for each control, none above 4 MiB; the number is the same for any d but for one more pass
    over open weights from about 10⁸ on (docs/torch.md).
    An interrupt (KeyboardInterrupt) on one rank is not sent to the others.

    Examples
    --------
    On every rank, under ``torchrun``::

        found = cops_lp.torch.solve_sharded(own_magnitude, {"use": own_use}, keep=0.1, retain=0.9)
        own_weights[~found.masks] = 0.0
    """
    ranks = collectives(process_group)
    alone = isinstance(target, torch.Tensor)
    with ranks.together():
        if isinstance(target, torch.Tensor):
            target, controls = {_ALONE: target}, _named_alone(controls)
        target = check_tensors("target", target, part=True)
        named = named_scores("control", controls, part=True)
        check_alike({"target": target} | labeled("control", named))
        agreed(ranks, keep=keep, retain=retain, floors=floors, controls=list(named))
        own = sum(tensor.numel() for tensor in target.values())
        sizes = ranks.gather("sizes", lambda: np.array([own]))
        layout = Layout(ranks.rank, np.cumsum(sizes)[:, None] - sizes, sizes)
        labels = [f"the shard of rank {rank}" for rank in range(ranks.size)]
        shards = Shards(target, named, layout, [(n,) for n in sizes[:, 0].tolist()], labels)
        solution = solve_shards(
            ranks,
            shards,
            {"keep": keep, "retain": retain, "floors": floors},
            threads=threads,
            raise_on_infeasible=raise_on_infeasible,
        )
        masks = cut_flat(target, own_mask(solution, target))
        report = reported(masks, warn=False, stacklevel=2)
    return ShardedPruning(masks[_ALONE] if alone else masks, solution, report)


def collectives(group: dist.ProcessGroup | None) -> Collectives:
    """Exchanges in a group; ProblemError where there is none."""
    if not (dist.is_available() and dist.is_initialized()):
        raise ProblemError(
            "process_group: torch.distributed is not initialized; "
            "call torch.distributed.init_process_group first"
        )
    if dist.get_rank(group) < 0:
        raise ProblemError("process_group: this process is not in the group")
    return Collectives(group)


def solve_shards(
    ranks: Collectives,
    shards: Shards,
    wanted: Mapping[str, Any],
    *,
    threads: int | None,
    raise_on_infeasible: bool,
) -> Solution:
    """Solve over checked shards; the solution's mask is a :class:`ShardedMask`."""
    order = list(shards.target)
    scores = [
        shards.target,
        *({name: own[name] for name in order} for own in shards.controls.values()),
    ]

    def widths() -> np.ndarray:
        return np.array([not fits_single(as_pieces(score).dtype) for score in scores], np.int64)

    wide = ranks.gather("dtypes", widths).max(axis=0)

    def sharded(j: int) -> ShardedScore:
        own = as_pieces(scores[j], np.dtype(np.float64) if wide[j] else None)
        return ShardedScore(own, shards.layout, ranks, shards.shapes, shards.labels)

    problem = ShardedProblem(
        sharded(0),
        {name: sharded(1 + j) for j, name in enumerate(shards.controls)},
        **wanted,
    )
    return problem.solve_together(threads=threads, raise_on_infeasible=raise_on_infeasible)


def own_mask(solution: Solution, target: Tensors) -> torch.Tensor:
    """The own part of the mask, flat, on the target's device; there, it is the same memory."""
    mask: Any = solution.mask
    assert isinstance(mask, ShardedMask)
    return mask.states.view(torch.bool).to(next(iter(target.values())).device)


def _named_alone(controls: Any) -> Any:
    """Controls that are single tensors, each as a mapping of one."""
    if controls is None:
        return ()
    if isinstance(controls, torch.Tensor):
        return [{_ALONE: controls}]
    if isinstance(controls, Mapping):
        return {name: {_ALONE: each} for name, each in controls.items()}
    if isinstance(controls, Sequence):
        return [{_ALONE: each} for each in controls]
    return controls
