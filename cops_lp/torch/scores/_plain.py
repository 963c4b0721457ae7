"""Scores that need no data and no gradient: magnitude and random."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cops_lp.errors import ProblemError

from ._evaluation import collected
from ._weights import Weight, Where, select

__all__ = ["magnitude", "random", "seeded"]


def magnitude(model: nn.Module, *, where: Where | None = None) -> dict[str, Tensor]:
    """Score parameters by their absolute value, |θ|.

    The generalized synaptic score of R = Σ |θ|.

    Parameters
    ----------
    model : torch.nn.Module
    where : callable or collection of str, optional
        As in :func:`gss`.

    Returns
    -------
    dict of str to Tensor
        ≥ 0, by parameter name, shaped like the parameter, on its device and of its dtype (an
        absolute value is exact in any), float32 for those of 8 bits. A weight that
        ``torch.nn.utils.prune`` masks scores 0 where masked.

    Raises
    ------
    ProblemError
        An argument is not as described, or a parameter holds NaN or an infinity.

    Notes
    -----
    Sign: higher = keep. Cost: no pass; one read of the parameters. The model does not run;
    BatchNorm, dropout and random states play no part.

    References
    ----------
    .. [1] Han, Pool, Tran, Dally: Learning both weights and connections for efficient neural
       networks (2015), arXiv:1506.02626.

    Examples
    --------
    >>> import torch
    >>> from cops_lp.torch.scores import magnitude
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> _ = model.weight.data.copy_(torch.tensor([[3.0, -1.0]]))
    >>> magnitude(model)
    {'weight': tensor([[3., 1.]])}
    """
    weights = select(model, where)
    return collected(weights, (_value(weight).abs() for weight in weights))


def _value(weight: Weight) -> Tensor:
    """The parameter's value; of 8 bits in float32, since torch computes with none of these."""
    eight = weight.parameter.element_size() == 1
    return weight.value(torch.float32 if eight else None)


def random(model: nn.Module, *, seed: int, where: Where | None = None) -> dict[str, Tensor]:
    """Score parameters by independent uniform numbers in (0, 1]: the baseline.

    Parameters
    ----------
    model : torch.nn.Module
    seed : int
        Of a generator of its own: the same seed and shapes give the same scores on every device.
    where : callable or collection of str, optional
        As in :func:`gss`.

    Returns
    -------
    dict of str to Tensor
        float32 multiples of 2⁻²⁴, by parameter name, shaped like the parameter, on its device
        and, where that is a DTensor, sharded like it; 0 where ``torch.nn.utils.prune`` masks.

    Raises
    ------
    ProblemError
        An argument is not as described.

    Notes
    -----
    Sign: none; higher = keep by convention. Cost: no pass; drawn on the CPU. The model does
    not run; the global random states are neither used nor changed.

    Examples
    --------
    >>> import torch
    >>> from cops_lp.torch.scores import random
    >>> score = random(torch.nn.Linear(3, 2), seed=7)["weight"]
    >>> score.shape, bool((score > 0).all() and (score <= 1).all())
    (torch.Size([2, 3]), True)
    """
    generator = seeded(seed)
    scores: dict[str, Tensor] = {}
    for weight in select(model, where):
        parameter = weight.parameter
        drawn = torch.rand(parameter.shape, generator=generator, dtype=torch.float32, device="cpu")
        drawn = (1.0 - drawn).to(parameter.device)
        if hasattr(parameter, "device_mesh"):  # a DTensor, in whose module torch.distributed is
            from cops_lp.torch.placements import distributed

            drawn = distributed(parameter, drawn)
        scores[weight.name] = drawn if weight.mask is None else drawn * weight.mask.detach().float()
    return scores


def seeded(seed: int) -> torch.Generator:
    """Return a generator on the CPU.

    Raises
    ------
    ProblemError
        `seed` is no integer that fits 64 bits without a sign.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise ProblemError(f"seed is {seed!r}; wanted an integer from 0 to 2**64 - 1")
    return torch.Generator("cpu").manual_seed(int(seed))
