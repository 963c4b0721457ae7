"""``masks_sharded``: masks of models whose parameters are DTensors, as FSDP2's are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from cops_lp.errors import ProblemError
from cops_lp.problem import Keep, PerControl
from cops_lp.solution import Status

from .collectives import Collectives
from .layout import Layout
from .mapping import Tensors, check_alike, check_tensors
from .masking import cut_flat, labeled, name_scores, warn_of_emptied
from .placements import is_sharded, local_part, placed_as, sharding_of
from .report import Layer, Report
from .sharding import ShardedPruning, Shards, agreed, collectives, own_mask, solve_shards

__all__ = ["masks_sharded"]

_AT_ONCE = 1 << 22  # entries whose bits are summed at once
_ODD = 0x9E3779B97F4A7C15 - 2**64  # 2^64 over the golden ratio
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def masks_sharded(
    target: Tensors,
    controls: Tensors | Mapping[str, Tensors] | Sequence[Tensors] = (),
    *,
    keep: Keep,
    retain: PerControl | None = None,
    floors: PerControl | None = None,
    threads: int | None = None,
    raise_on_infeasible: bool = True,
) -> ShardedPruning:
    """:func:`masks` of DTensors, none of which is ever put together.

    With the bits that :func:`masks` would answer for the full tensors. Every rank that has a part
    calls this, with the same arguments.

    Parameters
    ----------
    target : mapping of str to DTensor
        The score to maximize, by parameter name, placed as FSDP2 does: Shard(0) along one
        dimension of the mesh, the same for all, even or not, and Replicate along the others.
        float16, bfloat16, float32 or float64; higher means keep. DTensors that are only
        replicated, and plain tensors that are the same on every rank, may be among them; they
        count once.
    controls : mapping of str to DTensor, mapping of str to such mappings, or sequence of them
        As in :func:`masks`; each tensor placed as the target's of the same name.
    keep, retain, floors, threads, raise_on_infeasible
        As in :func:`cops_lp.solve`; `keep` counts, or is a share of, all weights of the full
        tensors.

    Returns
    -------
    ShardedPruning
        `masks` are DTensors of bool, placed as the target's; plain tensors where it has those.
        Ties go to the tensor that comes first in `target`, and in the full tensor to the lowest
        index in C order.

    Raises
    ------
    ProblemError
        A tensor is placed otherwise, replicas differ (which a sum of their bits shows), or what
        :func:`masks` refuses. Messages name the tensor.
    InfeasibleError, SolverError, MissingDependencyError
        As :func:`solve_sharded`, the same on every rank.

    Warns
    -----
    LayerCollapseWarning
        As :func:`masks`, of full tensors, on every rank.

    Notes
    -----
    As :func:`solve_sharded`. Along the mesh's other dimensions each group of replicas solves for
    itself. Masks of replicated tensors are sent, one bit a weight.

    Examples
    --------
    On every rank, for a model after ``fully_shard``::

        magnitude = {name: each.detach().abs() for name, each in model.named_parameters()}
        found = cops_lp.torch.masks_sharded(magnitude, {"use": use}, keep=0.1, retain=0.9)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.mul_(found.masks[name])
    """
    sharding = sharding_of(target)
    with ExitStack() as together:
        replicas = [Collectives(group) for group in sharding.replica_groups()]
        ranks = collectives(sharding.group())
        for each in (*replicas, ranks):
            together.enter_context(each.together())
        named = name_scores("control", controls)
        agreed(ranks, keep=keep, retain=retain, floors=floors, controls=list(named))
        agreed(ranks, target=list(target))
        labels = {"target": target} | labeled("control", named)
        own: dict[str, dict[str, torch.Tensor]] = {}
        for label, tensors in labels.items():
            own[label] = {name: local_part(tensor) for name, tensor in _items(label, tensors)}
            check_tensors(label, own[label], part=True)
        split = _split(labels, sharding)
        check_alike(own)
        _check_replicas(own, [name for name in target if not split[name]], [ranks])
        _check_replicas(own, list(target), replicas)
        layout = _layout(ranks, target, own["target"], split)
        for tensors in own.values():  # whole tensors are rank 0's
            for name in target:
                if not split[name] and ranks.rank > 0:
                    tensors[name] = tensors[name].reshape(-1)[:0]
        first, *rest = ({name: each[name] for name in target} for each in own.values())
        shards = Shards(
            first,
            dict(zip(named, rest, strict=True)),
            layout,
            [tuple(tensor.shape) for tensor in target.values()],
            list(target),
        )
        solution = solve_shards(
            ranks,
            shards,
            {"keep": keep, "retain": retain, "floors": floors},
            threads=threads,
            raise_on_infeasible=raise_on_infeasible,
        )
        masks = cut_flat(first, own_mask(solution, first))
        kept = np.array([int(mask.count_nonzero()) for mask in masks.values()])
        counts = ranks.gather("kept", lambda: kept).sum(axis=0)
        for name in target:
            if not split[name]:
                masks[name] = _shared(ranks, masks[name], local_part(target[name]))
            masks[name] = placed_as(target[name], masks[name])
    report = Report(
        tuple(
            Layer(name, tensor.numel(), int(count))
            for (name, tensor), count in zip(target.items(), counts, strict=True)
        )
    )
    if solution.status is Status.OPTIMAL and solution.keep > 0:
        warn_of_emptied(report, stacklevel=3)
    return ShardedPruning(masks, solution, report)


def _items(label: str, tensors: Any) -> list[tuple[str, Any]]:
    if not isinstance(tensors, Mapping):
        raise ProblemError(
            f"{label}: {type(tensors).__name__}; wanted a mapping of names to DTensors"
        )
    return list(tensors.items())


def _split(labels: Mapping[str, Tensors], sharding: Any) -> dict[str, bool]:
    """Which tensors are sharded, the same in the target and all controls."""
    first, target = next(iter(labels.items()))
    found: dict[str, bool] = {}
    for label, tensors in labels.items():
        for name, tensor in tensors.items():
            if name not in target:
                continue  # which the caller finds
            split = is_sharded(f"{label}: {name!r}", tensor, sharding)
            if split != found.setdefault(name, split):
                words = {True: "sharded", False: "whole on every rank"}
                raise ProblemError(
                    f"{label}: {name!r} is {words[split]} but {first}'s is {words[not split]}; "
                    "wanted both placed alike"
                )
            if tensor.shape != target[name].shape:
                raise ProblemError(
                    f"{label}: {name!r} has shape {tuple(tensor.shape)}; wanted that of {first}, "
                    f"{tuple(target[name].shape)}"
                )
    return found


def _check_replicas(
    own: Mapping[str, Tensors], names: Sequence[str], groups: Sequence[Collectives]
) -> None:
    """Check that ranks of a group have the same entries, by the sums of their bits."""
    if not names:
        return
    for ranks in groups:

        def work() -> np.ndarray:
            return np.array([[_bits(each[name]) for name in names] for each in own.values()])

        sums = ranks.gather("replicas", work)
        scores, tensors = np.nonzero((sums != sums[0]).any(axis=0))
        if len(scores):
            label, name = list(own)[scores[0]], names[tensors[0]]
            raise ProblemError(
                f"{label}: {name!r} is replicated, but ranks hold different entries; "
                "wanted the same on all of them"
            )


def _bits(tensor: torch.Tensor) -> int:
    """A sum over all entries, modulo 2^64, of their mixed bits times their odd place."""
    flat = tensor.detach().contiguous().view(-1).view(_INTEGERS[tensor.element_size()])
    total = 0
    for start in range(0, len(flat), _AT_ONCE):
        part = flat[start : start + _AT_ONCE].long()
        mixed = (part ^ (part >> 29)) * _ODD
        places = torch.arange(start, start + len(part), device=part.device)
        total += int(((mixed ^ (mixed >> 32)) * (2 * places + 1)).sum())
    return (total + 2**63) % 2**64 - 2**63


def _layout(ranks: Collectives, target: Tensors, own: Tensors, split: Mapping[str, bool]) -> Layout:
    """Every tensor as a piece of each rank, whole ones as rank 0's."""
    sizes = np.array([own[name].numel() for name in target])
    counts = ranks.gather("sizes", lambda: sizes)
    for j, name in enumerate(target):
        if not split[name]:
            counts[1:, j] = 0
    full = np.array([tensor.numel() for tensor in target.values()])
    wrong = np.flatnonzero(counts.sum(axis=0) != full)
    if len(wrong):
        j = int(wrong[0])
        raise ProblemError(
            f"target: {list(target)[j]!r} has {full[j]} entries, but the ranks' parts have "
            f"{counts[:, j].sum()}; wanted each entry on one rank"
        )
    firsts = np.cumsum(full) - full + np.cumsum(counts, axis=0) - counts
    return Layout(ranks.rank, firsts, counts)


def _shared(ranks: Collectives, mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Rank 0's mask of a whole tensor, on every rank."""

    def work() -> np.ndarray:
        bits = np.zeros(-(-like.numel() // 8), np.uint8)
        return np.packbits(mask.cpu().numpy().reshape(-1)) if ranks.rank == 0 else bits

    bits = ranks.fill("mask of a whole tensor", work)
    flags = np.unpackbits(bits, count=like.numel()).view(np.bool_)
    return torch.from_numpy(flags).to(like.device).view(like.shape)
