"""Scores from the gradient flow gᵀg, by Hessian-vector products: GraSP and CroP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ._batches import Batches, pairs, size
from ._evaluation import Evaluation, evaluating
from ._gss import varied
from ._loss import Loss, Reduction, loss_gradient, weighted
from ._untouched import random_state
from ._weights import Where

__all__ = ["crop", "grasp"]


def grasp(
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
    """Score parameters by GraSP, θ ⊙ Hg: what each carries of the gradient flow. Signed.

    g = ∂L/∂θ and H = ∂²L/∂θ², both over the scored parameters alone: the generalized synaptic
    score of R = ½ gᵀg.

    Parameters
    ----------
    model, batches, loss, reduction, where, training, dtype, masks
        As in :func:`snip`. With `masks` m, R = ½ ‖m ⊙ g‖² at m ⊙ θ. All batches are kept in
        memory, since they are needed twice.

    Returns
    -------
    dict of str to Tensor
        Of both signs, as in :func:`gss`, in the loss's unit squared.

    Raises
    ------
    ProblemError
        As in :func:`snip`.

    Notes
    -----
    Sign: **higher = keep**. Removing weight q moves θ by −θ_q e_q and changes gᵀg by
    −2 θ_q (Hg)_q to first order. The paper's score is S = −θ ⊙ Hg, and it *removes* the weights
    with the highest S, those whose removal lowers the gradient flow least or raises it most.
    This is −S. Ranking by |θ ⊙ Hg| is :func:`crop`, another score.

    Cost: two forward passes a batch, and three backward passes, one of them through a backward
    pass. The second round draws the same dropout as the first. What it leaves as it was: see
    :func:`gss`. Attention is computed by its plain formula, whose kernels can be differentiated
    twice. Layers that cannot (recurrent ones in cuDNN) end in torch's own error.

    The paper's code divides the logits by 200 and normalizes by the absolute sum of the scores.
    The first is up to the caller's `loss`; the second changes no mask and is left out.

    References
    ----------
    .. [1] Wang, Zhang, Grosse: GraSP (2020), arXiv:2002.07376; code alecwangcq/GraSP.

    Examples
    --------
    >>> import torch
    >>> from cops_lp.torch.scores import grasp
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> _ = model.weight.data.copy_(torch.tensor([[3.0, -1.0]]))
    >>> x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0]])

    g = 2 (θx − y) x = (−2, −4), H = 2 x xᵀ, so Hg = (−20, −40):

    >>> grasp(model, (x, y), torch.nn.functional.mse_loss)
    {'weight': tensor([[-60.,  40.]])}
    """
    with evaluating(model, where, training=training, dtype=dtype, masks=masks) as evaluation:
        products = _hessian_gradient(evaluation, batches, loss, reduction)
        return evaluation.scores(
            varied(evaluation.theta(weight), product, "signed")
            for weight, product in zip(evaluation.weights, products, strict=True)
        )


def crop(
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
    """Score parameters by CroP, |θ ⊙ Hg|: how much removing each changes the gradient flow.

    The absolute value of :func:`grasp`, hence the absolute generalized synaptic score of
    R = ½ gᵀg: it keeps what would change the gradient flow most, either way.

    Parameters
    ----------
    model, batches, loss, reduction, where, training, dtype, masks
        As in :func:`grasp`. The authors' code runs in evaluation mode.

    Returns
    -------
    dict of str to Tensor
        ≥ 0, as in :func:`gss`, in the loss's unit squared.

    Raises
    ------
    ProblemError
        As in :func:`snip`.

    Notes
    -----
    Sign: higher = keep. Cost and what it leaves as it was: as :func:`grasp`.

    References
    ----------
    .. [1] Rachwan, Zügner, Charpentier, Geisler, Ayle, Günnemann: Winning the lottery ahead of
       time (EarlyCroP, 2022), arXiv:2206.10451. We had its abstract; the formula is that of
       public code which goes by CroP's name.
    .. [2] Lubana, Dick: A gradient flow framework for analyzing network pruning (2021),
       arXiv:2009.11839, on preserving the gradient norm; we had its abstract only.

    Examples
    --------
    >>> import torch
    >>> from cops_lp.torch.scores import crop
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> _ = model.weight.data.copy_(torch.tensor([[3.0, -1.0]]))
    >>> x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0]])
    >>> crop(model, (x, y), torch.nn.functional.mse_loss)
    {'weight': tensor([[60., 40.]])}
    """
    signed = grasp(
        model,
        batches,
        loss,
        reduction=reduction,
        where=where,
        training=training,
        dtype=dtype,
        masks=masks,
    )
    return {name: score.abs() for name, score in signed.items()}


def _hessian_gradient(
    evaluation: Evaluation, batches: Batches, loss: Loss, reduction: str
) -> list[Tensor]:
    """Return H (m ⊙ g) for each weight: the gradient of (m ⊙ g)ᵀ∂L/∂θ with g held fixed."""
    once = list(pairs(batches))  # a loader may shuffle or augment: the second round must not
    rewind = random_state(evaluation.model)
    with sdpa_kernel(SDPBackend.MATH):
        fixed = [
            gradient if mask is None else gradient * mask
            for gradient, mask in zip(
                loss_gradient(evaluation, once, loss, reduction), evaluation.kept, strict=True
            )
        ]
        rewind()
        run = weighted(loss, reduction)
        total = [torch.zeros_like(leaf) for leaf in evaluation.leaves]
        for batch in once:
            inputs, labels = evaluation.place(batch)

            def one(model: nn.Module, inputs: Any = inputs, labels: Any = labels) -> Tensor:
                return run(model, inputs, labels)

            for sum_, product in zip(total, _product(evaluation, one, fixed), strict=True):
                sum_ += product
    if reduction == "mean":
        count = sum(size(*batch) for batch in once)
        total = [product / count for product in total]
    return total


def _product(evaluation: Evaluation, functional: Any, direction: list[Tensor]) -> list[Tensor]:
    value = evaluation.scalar(functional, "loss")
    gradients = evaluation.derivatives(value, create_graph=True)
    flow = torch.stack(
        [
            (gradient * fixed).sum().to(evaluation.device)
            for gradient, fixed in zip(gradients, direction, strict=True)
        ]
    ).sum()
    if not flow.requires_grad:  # the loss is linear in the weights
        return [torch.zeros_like(leaf) for leaf in evaluation.leaves]
    return evaluation.derivatives(flow)
