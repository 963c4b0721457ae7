"""Scores from flow through the network without data: SynFlow and SynFlow-L2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cops_lp.errors import ProblemError

from ._batches import call_model, map_tensors
from ._evaluation import evaluating, non_persistent
from ._weights import Where

__all__ = ["Output", "check_rows", "output_of", "synflow", "synflow_l2"]

Output = Callable[[Any], Tensor]
"""Takes what the model returns, gives the tensor that counts."""


def synflow(
    model: nn.Module,
    inputs: Any,
    *,
    output: Output | None = None,
    where: Where | None = None,
    dtype: torch.dtype | None = torch.float64,
    masks: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Score parameters by SynFlow, |θ| ⊙ ∂R/∂|θ|, in one round.

    R is the sum of the outputs for one sample of ones when every parameter and buffer that
    the model's ``state_dict`` holds is replaced by its absolute value: a generalized synaptic
    score, and for ReLU networks the summed strength of all paths through the weight.

    Parameters
    ----------
    model : torch.nn.Module
    inputs : Tensor, or mapping or tuple of tensors, or tuple of int
        What the model takes, of which only shapes count: floating-point tensors are cut to one
        sample and filled with ones, others are cut and kept as they are. Or the shape of one
        sample, such as (3, 32, 32), for models of one tensor.
    output : callable, optional
        Takes what the model returns and gives the tensor to sum, where that is no tensor.
    where, masks
        As in :func:`gss`.
    dtype : torch.dtype, optional
        float64 by default: R is a product over layers and leaves float32's range in deep
        networks, at either end.

    Returns
    -------
    dict of str to Tensor
        ≥ 0 unless the model itself subtracts, as in :func:`gss`.

    Raises
    ------
    ProblemError
        An argument is not as described, a buffer of ``state_dict`` holds an infinity, the output
        is no tensor, R depends on no scored parameter, or a score holds NaN or an infinity.

    Notes
    -----
    Sign: higher = keep. Cost: one forward and one backward pass of one sample. The model runs
    in evaluation mode, as in the paper's code: BatchNorm divides by its running deviation, at
    initialization √(1 + eps), and dropout does nothing. A mask that is *added* (−10⁹ where
    attention may not look) must be a buffer with ``persistent=False``, or its absolute value
    turns it around; a bool one is left as it is. What it leaves as it was: see
    :func:`gss`. The paper repeats this a hundred times with exponentially shrinking keep; give
    the `masks` of one round to the next.

    References
    ----------
    .. [1] Tanaka, Kunin, Yamins, Ganguli: SynFlow (2020), arXiv:2006.05467; code
       ganguli-lab/Synaptic-Flow.

    Examples
    --------
    >>> import torch
    >>> from cops_lp.torch.scores import synflow
    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 2, bias=False), torch.nn.ReLU(),
    ...                             torch.nn.Linear(2, 1, bias=False))
    >>> _ = model[0].weight.data.copy_(torch.tensor([[3.0], [-1.0]]))
    >>> _ = model[2].weight.data.copy_(torch.tensor([[-2.0, 5.0]]))
    >>> {name: score.tolist() for name, score in synflow(model, (1,)).items()}
    {'0.weight': [[6.0], [5.0]], '2.weight': [[6.0, 5.0]]}
    """
    return _flow(model, inputs, output, where, dtype, masks, torch.abs)


def synflow_l2(
    model: nn.Module,
    inputs: Any,
    *,
    output: Output | None = None,
    where: Where | None = None,
    dtype: torch.dtype | None = torch.float64,
    masks: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Score parameters by SynFlow-L2, θ² ⊙ ∂R/∂θ², in one round.

    R is the sum of the outputs for one sample of ones when every parameter and buffer that
    the model's ``state_dict`` holds is replaced by its square: for ReLU networks the summed
    squares of all paths, the data-independent factor of the neural tangent kernel's trace.

    Parameters
    ----------
    model, inputs, output, where, dtype, masks
        As in :func:`synflow`.

    Returns
    -------
    dict of str to Tensor
        ≥ 0 unless the model itself subtracts, as in :func:`gss`. Half of θ ⊙ ∂R/∂θ.

    Raises
    ------
    ProblemError
        As in :func:`synflow`.

    Notes
    -----
    Sign: higher = keep. Cost and what it leaves as it was: as :func:`synflow`. Buffers are
    squared too, so that BatchNorm's γ/σ becomes γ²/σ² (its eps aside).

    References
    ----------
    .. [1] Gebhart, Saxena, Schrater: A unified paths perspective for pruning at initialization
       (2021), arXiv:2101.10552. We had its abstract and public implementations, which square
       the parameters, some the buffers as well; the treatment of buffers is our choice.

    Examples
    --------
    >>> import torch
    >>> from cops_lp.torch.scores import synflow_l2
    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 2, bias=False), torch.nn.ReLU(),
    ...                             torch.nn.Linear(2, 1, bias=False))
    >>> _ = model[0].weight.data.copy_(torch.tensor([[3.0], [-1.0]]))
    >>> _ = model[2].weight.data.copy_(torch.tensor([[-2.0, 5.0]]))
    >>> {name: score.tolist() for name, score in synflow_l2(model, (1,)).items()}
    {'0.weight': [[36.0], [25.0]], '2.weight': [[36.0, 25.0]]}
    """
    return _flow(model, inputs, output, where, dtype, masks, torch.square)


def output_of(returned: Any, output: Output | None) -> Tensor:
    """Return the tensor among what the model returned.

    Raises
    ------
    ProblemError
        There is none.
    """
    tensor = returned if output is None else output(returned)
    if not isinstance(tensor, Tensor):
        raise ProblemError(
            f"{'the model' if output is None else 'output'} returned a "
            f"{type(tensor).__name__}; wanted a tensor: choose one with output="
        )
    return tensor


def _flow(
    model: nn.Module,
    inputs: Any,
    output: Output | None,
    where: Where | None,
    dtype: torch.dtype | None,
    masks: Mapping[str, Tensor] | None,
    transform: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    with evaluating(
        model, where, training=False, dtype=dtype, masks=masks, transform=transform
    ) as evaluation:
        _check_buffers(model)
        ones = evaluation.place(_ones(inputs))
        gradients = evaluation.gradients(
            lambda model: output_of(call_model(model, ones), output).sum(), "the model"
        )
        return evaluation.scores(
            evaluation.theta(weight) * gradient
            for weight, gradient in zip(evaluation.weights, gradients, strict=True)
        )


def check_rows(tensor: Tensor) -> None:
    """Raise ProblemError where inputs hold no sample."""
    if tensor.dim() and not len(tensor):
        raise ProblemError(
            f"inputs holds a tensor of shape {tuple(tensor.shape)}; wanted at least one sample"
        )


def _is_length(x: Any) -> bool:
    return isinstance(x, int | np.integer) and not isinstance(x, bool)


def _check_buffers(model: nn.Module) -> None:
    """Raise ProblemError where an absolute value or a square would turn −∞ into ∞."""
    passing = non_persistent(model)
    for name, buffer in model.named_buffers():
        if name not in passing and buffer.is_floating_point() and bool(buffer.isinf().any()):
            raise ProblemError(
                f"buffer {name!r} holds an infinity, as masks to be added do; SynFlow takes "
                "absolute values of all that state_dict holds: register it with persistent=False"
            )


def _ones(inputs: Any) -> Any:
    if isinstance(inputs, tuple | list) and all(map(_is_length, inputs)):
        return torch.ones(1, *inputs, device="cpu")
    floating = 0

    def one(tensor: Tensor) -> Tensor:
        nonlocal floating
        if not tensor.dim():
            return tensor
        check_rows(tensor)
        row = tensor[:1]
        if not tensor.is_floating_point():
            return row
        floating += 1
        return torch.ones_like(row)

    ones = map_tensors(one, inputs)
    if not floating:
        raise ProblemError(
            "inputs holds no floating-point tensor to fill with ones; wanted one, or the shape "
            "of a sample (a model of token numbers takes its embeddings instead)"
        )
    return ones
