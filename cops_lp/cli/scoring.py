"""The scores that ``cops-lp prune`` knows by name, as callables of (model, masks)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from cops_lp.errors import CopsError, ProblemError
from cops_lp.torch import scores

__all__ = ["LINEAR_ONLY", "SCORES", "scorer_of"]

Batches = Sequence[tuple[torch.Tensor, torch.Tensor]]
Scorer = Callable[[nn.Module, dict[str, torch.Tensor]], dict[str, torch.Tensor]]

_OF_LOSS = ("snip", "grasp", "crop", "fisher")
_OF_SHAPE = ("synflow", "synflow_l2")
_OF_INPUTS = ("wanda", "ria")
_LOSS = nn.functional.cross_entropy

SCORES = ("magnitude", "random", *_OF_LOSS, *_OF_SHAPE, "ntk_sap", *_OF_INPUTS)
"""All that can be asked for, by the names of :mod:`cops_lp.torch.scores`."""

LINEAR_ONLY = frozenset(_OF_INPUTS)

_ADVICE = re.compile(r"(?:;|:|, or) [^;:,]*\b(?:where|dtype|output)=.*", re.DOTALL)
"""What messages end in where an argument in Python helps, for which there is no option."""


def scorer_of(option: str, name: str, batches: Batches, seed: int, where: Any) -> Scorer:
    """Return the score called `name` as a callable of (model, masks).

    What it says of the dense model is remembered, since every mask begins with it.

    Parameters
    ----------
    option : str
        Which asks for it, for messages.
    name : str
        One of :data:`SCORES`.
    batches : sequence of (inputs, labels)
        The loss is cross-entropy.
    seed : int
        Of random and of NTK-SAP's noise.
    where : callable or None
        As in :func:`cops_lp.torch.scores.gss`.

    Raises
    ------
    ProblemError
        There is no such score.
    """
    if name not in SCORES:
        near = get_close_matches(name, SCORES, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ProblemError(f"--{option} {name!r}: wanted one of {', '.join(SCORES)}{meant}")
    dense: list[dict[str, torch.Tensor]] = []

    def score(model: nn.Module, masks: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if not masks and dense:
            return dense[0]
        try:
            found = _compute(name, model, batches, seed, where, masks or None)
        except ProblemError as error:
            raise ProblemError(f"--{option} {name!r}: {_ADVICE.sub('', str(error))}") from None
        except CopsError:
            raise
        except Exception as error:  # the model's own, whose traceback should tell what it was fed
            error.add_note(f"{name} ran the model on batches such as {_described(batches[0])}")
            raise
        if not masks:
            dense.append(found)
        return found

    return score


def _described(batch: tuple[torch.Tensor, torch.Tensor]) -> str:
    inputs, labels = batch
    return (
        f"inputs of shape {tuple(inputs.shape)} ({inputs.dtype}) and labels from "
        f"{int(labels.min())} to {int(labels.max())}"
    )


def _compute(
    name: str,
    model: nn.Module,
    batches: Batches,
    seed: int,
    where: Any,
    masks: dict[str, torch.Tensor] | None,
) -> dict[str, torch.Tensor]:
    score: Callable[..., dict[str, torch.Tensor]] = getattr(scores, name)
    first = batches[0][0]
    if name in _OF_LOSS:
        return score(model, batches, _LOSS, where=where, masks=masks)
    if name in _OF_SHAPE:
        return score(model, first, where=where, masks=masks)
    if name in _OF_INPUTS:
        return score(model, [inputs for inputs, _ in batches], where=where, masks=masks)
    if name == "ntk_sap":
        return score(model, first, seed=seed, where=where, masks=masks)
    if name == "random":
        return score(model, seed=seed, where=where)  # whatever else is pruned
    return score(model, where=where)
