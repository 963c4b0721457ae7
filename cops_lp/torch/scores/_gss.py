"""Generalized synaptic scores: θ ⊙ ∂R/∂θ for any scalar R of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cops_lp.errors import ProblemError

from ._batches import Batches, pairs
from ._evaluation import Evaluation, check_callable, evaluating
from ._weights import Where

__all__ = ["Variant", "check_variant", "gss", "summed", "varied"]

Variant = Literal["signed", "absolute", "squared"]


def gss(
    model: nn.Module,
    functional: Callable[..., Tensor],
    *,
    batches: Batches | None = None,
    variant: Variant = "signed",
    where: Where | None = None,
    training: bool | None = None,
    dtype: torch.dtype | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Score parameters by a generalized synaptic score: θ ⊙ ∂R/∂θ, its absolute value or square.

    θ_q ∂R/∂θ_q is the derivative of R by a factor on weight q, taken at 1: to first order what
    R loses when the weight is removed.

    Parameters
    ----------
    model : torch.nn.Module
    functional : callable
        R: takes `model`, with its own forward, submodules and parameters, and returns a tensor
        of one number. With `batches` it takes (model, inputs, labels) and R is the sum over the
        batches.
    batches : (inputs, labels) or iterable of such pairs, optional
        Moved to the device of the first scored parameter; floating-point tensors are cast to
        `dtype`. A tuple or list of two is one pair, unless both its elements are pairs.
    variant : {"signed", "absolute", "squared"}
    where : callable or collection of str, optional
        Which parameters: a predicate of (name, parameter, module) or names. Default: ``weight``
        of every Linear, Conv1d to Conv3d and ConvTranspose1d to 3d. A parameter shared by
        several modules counts once, under the first of its names; whether it requires a
        gradient plays no part.
    training : bool, optional
        Mode in which the model runs; None: each module's own of now.
    dtype : torch.dtype, optional
        float32 or float64, in which everything is computed. Default: the widest of the model's
        parameters, at least float32: models in half precision are computed on float32 copies.
    masks : mapping of str to bool tensor, optional
        m: R is evaluated at m ⊙ θ (names without a mask: all of θ), and the score is
        θ ⊙ ∂R/∂(m ⊙ θ): also removed weights have one, what a factor on them would do. Multiply
        by m where they are to stay removed.

    Returns
    -------
    dict of str to Tensor
        By parameter name, in the model's order: shaped like the parameter, on its device,
        detached, in the computing dtype; "squared" in float64 unless `dtype` is given, so that
        squares do not underflow. Parameters that R does not use score 0. A weight pruned by
        ``torch.nn.utils.prune`` is named as before ("fc.weight") and scores 0 where masked.

    Raises
    ------
    ProblemError
        An argument is not as described; R is not one number or depends on no scored parameter;
        a score holds NaN or an infinity.

    Notes
    -----
    Sign: that of the derivative; higher = keep where losing R is bad. Cost: one forward and
    backward pass a batch. Memory: a copy of the model's parameters and one gradient.

    The model computes on copies and is left as it was, also after an error: parameters,
    buffers (BatchNorm's statistics), ``.grad``, modes, hooks and attributes, and the random
    states of torch (CPU and the model's devices), Python and NumPy. Not so what a forward pass
    writes into objects that it keeps as attributes, tensors that are no buffers among them
    (lists, sets and dicts excepted). Hooks on the model run.
    In training mode BatchNorm uses each batch's statistics and dropout draws from torch's
    random state of now. Autocast is off inside. Cast what `functional` brings along itself
    to `dtype`.

    References
    ----------
    .. [1] Wimmer, Mehnert, Condurache: COPS (2021), arXiv:2107.12673. It names generalized
       synaptic scores; we had its abstract only, the definition here is ours.
    .. [2] Tanaka, Kunin, Yamins, Ganguli (2020), arXiv:2006.05467: "synaptic saliency",
       θ ⊙ ∂R/∂θ for a scalar R of a network's output.

    Examples
    --------
    >>> import torch
    >>> from cops_lp.torch.scores import gss
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> _ = model.weight.data.copy_(torch.tensor([[3.0, -1.0]]))
    >>> x = torch.tensor([[1.0, 2.0]])
    >>> gss(model, lambda model: model(x).sum())
    {'weight': tensor([[ 3., -2.]])}
    """
    check_variant(variant)
    check_callable(
        "functional", functional, "model" if batches is None else "model, inputs, labels"
    )
    with evaluating(model, where, training=training, dtype=dtype, masks=masks) as evaluation:
        if batches is None:
            gradients = evaluation.gradients(functional, "functional")
        else:
            gradients = summed(evaluation, functional, batches, "functional")
        return evaluation.scores(
            varied(evaluation.theta(weight), gradient, variant, exact=dtype is not None)
            for weight, gradient in zip(evaluation.weights, gradients, strict=True)
        )


def check_variant(variant: str) -> None:
    """Raise ProblemError unless `variant` is one."""
    if variant not in ("signed", "absolute", "squared"):
        raise ProblemError(f"variant is {variant!r}; wanted 'signed', 'absolute' or 'squared'")


def varied(theta: Tensor, gradient: Tensor, variant: str, *, exact: bool = False) -> Tensor:
    """Return θ ⊙ gradient, its absolute value, or its square in float64 (`exact`: own dtype)."""
    if variant == "squared":
        gradient = gradient if exact else gradient.double()
        return (theta * gradient).square()
    product = theta * gradient
    return product.abs() if variant == "absolute" else product


def summed(
    evaluation: Evaluation,
    functional: Callable[[nn.Module, Any, Any], Tensor],
    batches: Batches,
    what: str,
) -> list[Tensor]:
    """Return the gradient of Σ functional(model, inputs, labels), one batch's graph at a time."""
    total: list[Tensor] | None = None
    for batch in pairs(batches):
        inputs, labels = evaluation.place(batch)

        def one(model: nn.Module, inputs: Any = inputs, labels: Any = labels) -> Tensor:
            return functional(model, inputs, labels)

        gradients = evaluation.gradients(one, what)
        if total is None:
            total = gradients
        else:  # not in place: autograd may give two weights one tensor, or one entry for many
            for index, gradient in enumerate(gradients):
                total[index] = total[index] + gradient
    assert total is not None  # pairs() yields at least one
    return total
