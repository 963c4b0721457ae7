"""The saliency of NTK-SAP: influence on the trace of the neural tangent kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cops_lp.errors import ProblemError

from ._batches import call_model, map_tensors
from ._evaluation import Evaluation, evaluating, is_number
from ._flow import Output, check_rows, output_of
from ._plain import seeded
from ._weights import Where

__all__ = ["ntk_sap"]


def ntk_sap(
    model: nn.Module,
    inputs: Any,
    *,
    seed: int,
    draws: int = 1,
    epsilon: float = 0.01,
    output: Output | None = None,
    where: Where | None = None,
    dtype: torch.dtype | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Score parameters by NTK-SAP's saliency, |∂R/∂m| at the masks m (ones if none are given).

    R(m) = E Σ_x ‖f(x; m ⊙ θ) − f(x; m ⊙ (θ + Δ))‖² with Gaussian noise x for inputs and
    Δ ~ N(0, ε²) on each scored parameter: R / ε² estimates the trace of the neural tangent
    kernel, the sum of squares of the outputs' derivatives by the parameters.

    Parameters
    ----------
    model : torch.nn.Module
    inputs : Tensor, or mapping or tuple of tensors
        What the model takes; floating-point tensors are replaced by N(0, 1) noise of their
        shape, others are kept.
    seed : int
        Of a generator of its own for inputs and perturbations.
    draws : int
        ≥ 1: over how many draws of (x, Δ) R is averaged.
    epsilon : float
        ε > 0; 0.01 as in the paper's code.
    output : callable, optional
        Takes what the model returns and gives the tensor f, where that is no tensor.
    where, dtype, masks
        As in :func:`gss`. In float32 the difference of outputs is good to about 1e-7 / ε.

    Returns
    -------
    dict of str to Tensor
        ≥ 0, as in :func:`gss`, in the outputs' unit squared.

    Raises
    ------
    ProblemError
        An argument is not as described, the output is no tensor or depends on no scored
        parameter, or a score holds NaN or an infinity.

    Notes
    -----
    Sign: higher = keep. Cost: three forward and two backward passes a draw. The model runs in
    evaluation mode, but for BatchNorm's statistics: as in the paper's code these are taken from
    the noise at θ, in a pass of its own, and then fixed, for θ + Δ too. What it leaves as it
    was: see :func:`gss`; dropout does nothing.

    The derivative by m acts on Δ as well, so this is the generalized synaptic score of R for
    both networks together: θ ⊙ ∂R/∂θ + (θ + Δ) ⊙ ∂R/∂(θ + Δ). The paper also draws the weights
    anew each time ("weight-agnostic") and prunes in many rounds: average the scores over
    initializations for the first, hand on `masks` for the second.

    References
    ----------
    .. [1] Wang, Li, Sun: NTK-SAP (2023), arXiv:2304.02840; code YiteWang/NTK-SAP, after which
       this is defined.

    Examples
    --------
    >>> import torch
    >>> from cops_lp.torch.scores import ntk_sap
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> scores = ntk_sap(model, torch.empty(16, 4), seed=0)
    >>> {name: tuple(score.shape) for name, score in scores.items()}
    {'0.weight': (3, 4), '2.weight': (2, 3)}
    """
    if isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < 1:
        raise ProblemError(f"draws is {draws!r}; wanted an integer above zero")
    if not is_number(epsilon) or not 0.0 < epsilon < float("inf"):
        raise ProblemError(f"epsilon is {epsilon!r}; wanted a finite number above zero")
    draws, epsilon = int(draws), float(epsilon)
    generator = seeded(seed)
    with evaluating(model, where, training=False, dtype=dtype, masks=masks) as evaluation:
        total: list[Tensor] | None = None
        for _ in range(draws):
            noise = evaluation.place(_noise(inputs, generator))
            shifted = [
                evaluation.theta(weight)
                + epsilon * _normal(weight.parameter, generator).to(evaluation.dtype)
                for weight in evaluation.weights
            ]
            products = _products(evaluation, noise, shifted, output)
            if total is None:
                total = products
            else:
                for mine, product in zip(total, products, strict=True):
                    mine += product
        assert total is not None
        return evaluation.scores(product.abs() / draws for product in total)


def _products(
    evaluation: Evaluation, noise: Any, shifted: list[Tensor], output: Output | None
) -> list[Tensor]:
    def run(model: nn.Module) -> Tensor:
        return output_of(call_model(model, noise), output)

    buffers = evaluation.buffers()
    with torch.no_grad(), _taking_statistics(evaluation.model) as any_:
        if any_:
            evaluation.call(run, buffers=buffers)
    leaves = evaluation.masked(tensor.clone() for tensor in shifted)
    here = evaluation.call(run, buffers=dict(buffers))
    there = evaluation.call(run, leaves, dict(buffers))
    if not here.requires_grad:
        raise ProblemError("the model does not depend on any scored parameter")
    change = 2.0 * (here - there).detach()  # the derivative of Σ (here − there)² by `here`
    first = evaluation.derivatives(here, buffers=dict(buffers), weight=change)
    second = evaluation.derivatives(there, leaves, dict(buffers), weight=-change)
    return [
        evaluation.theta(weight) * one + moved * other
        for weight, one, moved, other in zip(
            evaluation.weights, first, shifted, second, strict=True
        )
    ]


@contextmanager
def _taking_statistics(model: nn.Module) -> Iterator[bool]:
    """BatchNorm's running statistics become those of the next batch; say if there are any."""
    layers = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]
    before = [(layer, layer.training, layer.momentum) for layer in layers]
    for layer in layers:
        layer.training, layer.momentum = True, 1.0
    try:
        yield bool(layers)
    finally:
        for layer, training, momentum in before:
            layer.training, layer.momentum = training, momentum


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    # Drawn in float64 on the CPU: the same numbers for every dtype and device.
    drawn = torch.randn(like.shape, generator=generator, dtype=torch.float64, device="cpu")
    return drawn.to(like.device)


def _noise(inputs: Any, generator: torch.Generator) -> Any:
    floating = 0

    def draw(tensor: Tensor) -> Tensor:
        nonlocal floating
        if not tensor.is_floating_point():
            return tensor
        floating += 1
        check_rows(tensor)
        return _normal(tensor, generator)

    noise = map_tensors(draw, inputs)
    if not floating:
        raise ProblemError("inputs holds no floating-point tensor to fill with noise; wanted one")
    return noise
