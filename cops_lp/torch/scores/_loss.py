"""Scores from the first derivatives of a loss: SNIP and the diagonal Fisher information."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cops_lp.errors import ProblemError

from ._batches import Batches, call_model, each_sample, pairs, size
from ._evaluation import Evaluation, check_callable, evaluating
from ._gss import summed, varied
from ._weights import Where

__all__ = ["Loss", "Reduction", "fisher", "loss_gradient", "snip", "weighted"]

Loss = Callable[[Any, Any], Tensor]
"""Takes (outputs, labels) and returns one number."""

Reduction = Literal["mean", "sum"]


def snip(
    model: nn.Module,
    batches: Batches,
    loss: Loss,
    *,
    reduction: Reduction = "mean",
    where: Where | None = None,
    training: bool | None = None,
    dtype: torch.dtype | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Score parameters by SNIP's connection sensitivity, |θ ⊙ ∂L/∂θ|.

    The absolute generalized synaptic score of the loss L: how fast L changes with a factor on
    the weight.

    Parameters
    ----------
    model : torch.nn.Module
        Inputs that are a mapping are its keyword arguments, a tuple or list its positional ones.
    batches : (inputs, labels) or iterable of such pairs
        As in :func:`gss`.
    loss : callable
        Takes (outputs, labels) of a batch and returns one number.
    reduction : {"mean", "sum"}
        What `loss` does over the samples of its batch. "mean": L is the mean over all samples,
        each batch counting by its size (the length of the labels); "sum": batches add up.
        Either way many batches score like the one batch that holds them all, unless the
        samples of a batch meet (BatchNorm in training mode) or `loss` averages over something
        else than samples.
    where, dtype, masks
        As in :func:`gss`.
    training : bool, optional
        Mode in which the model runs; None: each module's own of now. The paper's is training
        mode, at initialization.

    Returns
    -------
    dict of str to Tensor
        ≥ 0, as in :func:`gss`, in the loss's unit.

    Raises
    ------
    ProblemError
        An argument is not as described, the loss is not one number or depends on no scored
        parameter, or a score holds NaN or an infinity.

    Notes
    -----
    Sign: higher = keep. Cost: one forward and backward pass a batch. What it leaves as it was:
    see :func:`gss`. The paper divides by the sum of all scores, which changes no mask and is
    left out. With `masks` it is the sensitivity that FORCE [2]_ recomputes in each round,
    removed weights included; multiplied by the masks it is that of Iterative SNIP.

    References
    ----------
    .. [1] Lee, Ajanthan, Torr: SNIP (2019), arXiv:1810.02340; code namhoonlee/snip-public.
    .. [2] de Jorge et al.: Progressive skeletonization (2021), arXiv:2006.09081; of this paper
       we had the abstract only.

    Examples
    --------
    >>> import torch
    >>> from cops_lp.torch.scores import snip
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> _ = model.weight.data.copy_(torch.tensor([[3.0, -1.0]]))
    >>> x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0]])
    >>> snip(model, (x, y), torch.nn.functional.mse_loss)  # 2 (3 - 2 - 2) = -2 is the slope
    {'weight': tensor([[6., 4.]])}
    """
    with evaluating(model, where, training=training, dtype=dtype, masks=masks) as evaluation:
        gradients = loss_gradient(evaluation, batches, loss, reduction)
        return evaluation.scores(
            varied(evaluation.theta(weight), gradient, "absolute")
            for weight, gradient in zip(evaluation.weights, gradients, strict=True)
        )


def fisher(
    model: nn.Module,
    batches: Batches,
    loss: Loss,
    *,
    where: Where | None = None,
    dtype: torch.dtype | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Score parameters by the diagonal of the empirical Fisher information, ½ θ² ⊙ F.

    F = 1/n Σ_i (∂ℓ_i/∂θ)² over the n samples with their given labels, ℓ_i one sample's loss:
    half the mean of the squared generalized synaptic scores of single samples. Where ℓ is a
    negative log-likelihood at its minimum, F estimates the Hessian's diagonal and the score
    the loss that removing the weight adds.

    Parameters
    ----------
    model, batches, where, masks
        As in :func:`snip`. Each sample goes through the model as a batch of one: tensors are
        cut along their first dimension (those that are not as long as the labels are kept).
    loss : callable
        Takes (outputs, labels) of a batch of one and returns one number: ℓ_i.
    dtype : torch.dtype, optional
        As in :func:`gss`.

    Returns
    -------
    dict of str to Tensor
        ≥ 0, as in :func:`gss`, in the loss's unit squared; float64 unless `dtype` is given, so
        that squares do not underflow.

    Raises
    ------
    ProblemError
        As in :func:`snip`.

    Notes
    -----
    Sign: higher = keep. Cost: one forward and backward pass a *sample* (squares of a batch's
    mean gradient are another quantity). The model runs in evaluation mode, since BatchNorm in
    training mode mixes samples; what it leaves as it was: see :func:`gss`.

    References
    ----------
    .. [1] LeCun, Denker, Solla: Optimal brain damage (1990), for ½ θ² ⊙ diag(H).
    .. [2] Theis, Korshunova, Tejani, Huszár: Fisher pruning (2018), arXiv:1801.05787, which
       puts the empirical Fisher information in the Hessian's place; we had its abstract and
       introduction only, the formula is stated here as we compute it.

    Examples
    --------
    >>> import torch
    >>> from cops_lp.torch.scores import fisher
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> _ = model.weight.data.fill_(2.0)
    >>> x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [3.0]])
    >>> fisher(model, (x, y), torch.nn.functional.mse_loss)  # slopes 2 and 4: ½ 2² (2² + 4²) / 2
    {'weight': tensor([[20.]], dtype=torch.float64)}
    """
    check_callable("loss", loss, "outputs, labels")
    with evaluating(model, where, training=False, dtype=dtype, masks=masks) as evaluation:
        wide = torch.float64 if dtype is None else dtype
        sums = [torch.zeros_like(leaf, dtype=wide) for leaf in evaluation.leaves]
        count = 0
        for batch in pairs(batches):
            for inputs, labels in each_sample(*evaluation.place(batch)):
                count += 1

                def one(model: nn.Module, inputs: Any = inputs, labels: Any = labels) -> Tensor:
                    return loss(call_model(model, inputs), labels)

                gradients = evaluation.gradients(one, "loss")
                for total, gradient in zip(sums, gradients, strict=True):
                    total += gradient.to(wide).square()
        return evaluation.scores(
            evaluation.theta(weight).to(wide).square() * total / (2 * count)
            for weight, total in zip(evaluation.weights, sums, strict=True)
        )


def weighted(loss: Loss, reduction: str) -> Callable[[nn.Module, Any, Any], Tensor]:
    """Return (model, inputs, labels) -> a batch's loss, times its samples if it is a mean."""
    if reduction not in ("mean", "sum"):
        raise ProblemError(f"reduction is {reduction!r}; wanted 'mean' or 'sum'")
    check_callable("loss", loss, "outputs, labels")

    def run(model: nn.Module, inputs: Any, labels: Any) -> Tensor:
        value = loss(call_model(model, inputs), labels)
        # What is no tensor is told by the caller, who names it.
        if reduction == "sum" or not isinstance(value, Tensor):
            return value
        return value * size(inputs, labels)

    return run


def loss_gradient(
    evaluation: Evaluation, batches: Batches, loss: Loss, reduction: str
) -> list[Tensor]:
    """Return ∂L/∂θ for each weight, L over all batches."""
    count = 0

    def counted() -> Any:
        nonlocal count
        for inputs, labels in pairs(batches):
            count += size(inputs, labels)
            yield inputs, labels

    gradients = summed(evaluation, weighted(loss, reduction), counted(), "loss")
    return [gradient / count for gradient in gradients] if reduction == "mean" else gradients
