"""Run a model on copies of its tensors and differentiate by the copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from cops_lp.errors import ProblemError
from cops_lp.torch.pruned import recompute

from ._batches import placed
from ._untouched import device_types, in_mode, untouched
from ._weights import LAYERS, Weight, Where, check_runs, checked_masks, select

__all__ = [
    "Evaluation",
    "check_callable",
    "collected",
    "computing_dtype",
    "evaluating",
    "guarded",
    "is_number",
    "non_persistent",
    "run_on",
]

Functional = Callable[[nn.Module], Any]


@contextmanager
def guarded(model: nn.Module, training: bool | None) -> Iterator[None]:
    """Set the mode; no autocast, no inference mode; all as before on leaving."""
    if not (training is None or isinstance(training, bool | np.bool_)):
        raise ProblemError(f"training is {training!r}; wanted True, False or None")
    with ExitStack() as stack:
        stack.enter_context(untouched(model))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(_parametrizations_computed())
        for kind in device_types(model):
            if torch.amp.is_autocast_available(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if training is not None:
            stack.enter_context(in_mode(model, bool(training)))
        yield


@contextmanager
def evaluating(
    model: nn.Module,
    where: Where | None,
    *,
    training: bool | None,
    dtype: torch.dtype | None,
    masks: Mapping[str, Tensor] | None = None,
    transform: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Evaluation]:
    """Give an :class:`Evaluation` of the model, which is as before on leaving."""
    weights = select(model, where, LAYERS)
    check_runs(model)
    kept = checked_masks(masks, weights)
    dtype = computing_dtype(model, dtype)
    with guarded(model, training):
        yield Evaluation(model, weights, kept, dtype, transform)


@contextmanager
def _parametrizations_computed() -> Iterator[None]:
    """Look through ``torch.nn.utils.parametrize.cached()``, which would give weights of before."""
    before = parametrize._cache_enabled, parametrize._cache
    parametrize._cache_enabled, parametrize._cache = 0, {}
    try:
        yield
    finally:
        parametrize._cache_enabled, parametrize._cache = before


def check_callable(name: str, function: object, takes: str) -> None:
    """Raise ProblemError unless an argument can be called."""
    if not callable(function):
        raise ProblemError(f"{name} is a {type(function).__name__}; wanted a function of ({takes})")


def is_number(value: object) -> bool:
    """Whether something is a real number, also one of NumPy's."""
    return isinstance(value, int | float | np.integer | np.floating)


def computing_dtype(model: nn.Module, dtype: torch.dtype | None) -> torch.dtype:
    """Return `dtype`, or the model's widest one, at least float32.

    Raises
    ------
    ProblemError
        `dtype` is neither float32 nor float64.
    """
    if dtype not in (None, torch.float32, torch.float64):
        raise ProblemError(f"dtype is {dtype!r}; wanted torch.float32, torch.float64 or None")
    if dtype is not None:
        return dtype
    own = {tensor.dtype for tensor in model.parameters() if tensor.is_floating_point()}
    return reduce(_wider, own, torch.float32)


class Evaluation:
    """A model at one point: copies of its tensors in one dtype, those scored as leaves.

    Attributes
    ----------
    weights : list of Weight
        What is scored.
    kept : list of Tensor or None
        The mask of each that `masks=` gave.
    leaves : list of Tensor
        m ⊙ θ (or m ⊙ t(θ) for a transform t) for each weight, with ``requires_grad``.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: list[Weight],
        kept: list[Tensor | None],
        dtype: torch.dtype,
        transform: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.model = model
        self.weights = weights
        self.dtype = dtype
        self.device = weights[0].parameter.device
        self.kept = [
            None if mask is None else mask.to(weight.parameter.device)
            for weight, mask in zip(weights, kept, strict=True)
        ]
        self._transform = transform
        self._passing = non_persistent(model)
        scored = {weight.key for weight in weights}
        self._others = {
            key: self._copy(parameter)
            for key, parameter in model.named_parameters()
            if key not in scored
        }
        self.leaves = self.masked(self._copy(weight.parameter) for weight in weights)

    def theta(self, weight: Weight) -> Tensor:
        """Return θ (transformed), not masked by `masks=`, in the computing dtype."""
        value = weight.parameter.detach().to(self.dtype)
        return value if self._transform is None else self._transform(value)

    def masked(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """Return m ⊙ tensor for each weight, as leaves."""
        return [
            (tensor if mask is None else tensor * mask).requires_grad_()
            for tensor, mask in zip(tensors, self.kept, strict=True)
        ]

    def buffers(self) -> dict[str, Tensor]:
        """Return fresh copies of the buffers."""
        return {
            key: self._copy(buffer, key not in self._passing)
            for key, buffer in self.model.named_buffers()
        }

    def place(self, tree: Any) -> Any:
        """Return inputs or labels on the model's device, in the computing dtype."""
        return placed(tree, self.device, self.dtype)

    def call(
        self,
        functional: Functional,
        leaves: list[Tensor] | None = None,
        buffers: dict[str, Tensor] | None = None,
    ) -> Any:
        """Return functional(model) with the copies in the model's place.

        Each call sees the buffers as the model has them, unless it is given others.
        """
        tensors = {
            **self._others,
            **(self.buffers() if buffers is None else buffers),
            **{
                weight.key: leaf
                for weight, leaf in zip(self.weights, leaves or self.leaves, strict=True)
            },
        }
        return run_on(self.model, functional, tensors)

    def scalar(self, functional: Functional, what: str) -> Tensor:
        """Return functional(model), checked to be one real number that has a gradient."""
        value = self.call(functional)
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = (
                f"a tensor of shape {tuple(value.shape)}"
                if isinstance(value, Tensor)
                else f"a {type(value).__name__}"
            )
            raise ProblemError(f"{what} returned {got}; wanted a tensor that holds one number")
        if not value.is_floating_point() or not value.requires_grad:
            raise ProblemError(
                f"{what} does not depend on any scored parameter (it returned {value.dtype} "
                "without a gradient); compute it from the model with differentiable operations"
            )
        return value

    def gradients(self, functional: Functional, what: str) -> list[Tensor]:
        """Return ∂ functional(model) / ∂ leaf for each weight, zeros where it has no part."""
        return self.derivatives(self.scalar(functional, what), what=what)

    def derivatives(
        self,
        value: Tensor,
        leaves: list[Tensor] | None = None,
        buffers: dict[str, Tensor] | None = None,
        *,
        weight: Tensor | None = None,
        create_graph: bool = False,
        what: str | None = None,
    ) -> list[Tensor]:
        """Return the derivatives of what :meth:`call` gave, dense, zeros where it has no part.

        With the same copies in the model's place: checkpointed parts run once more for them.

        Parameters
        ----------
        value : Tensor
            One number, or with `weight`, of its shape, the numbers whose weighted sum is meant.
        leaves, buffers : optional
            What :meth:`call` was given.
        weight : Tensor, optional
        create_graph : bool
            Whether the derivatives are to be differentiated.
        what : str, optional
            What gave the value; ProblemError names it where it depends on no leaf.
        """
        leaves = leaves or self.leaves
        found = self.call(
            lambda _: torch.autograd.grad(
                value, leaves, weight, create_graph=create_graph, allow_unused=True
            ),
            leaves,
            buffers,
        )
        if what is not None and all(gradient is None for gradient in found):
            raise ProblemError(f"{what} does not depend on any scored parameter")
        return [
            torch.zeros_like(leaf) if gradient is None else gradient.to_dense()
            for gradient, leaf in zip(found, leaves, strict=True)
        ]

    def scores(self, values: Iterable[Tensor]) -> dict[str, Tensor]:
        """Return `values`, one for each weight, by name."""
        return collected(self.weights, values)

    def _copy(self, tensor: Tensor, transformed: bool = True) -> Tensor:
        if not tensor.is_floating_point():
            return tensor.detach().clone()
        value = tensor.detach().to(self.dtype, copy=True)
        return self._transform(value) if transformed and self._transform is not None else value


def non_persistent(model: nn.Module) -> set[str]:
    """Return the names of the buffers that are not in the model's ``state_dict``."""
    return {
        f"{path}.{name}" if path else name
        for path, module in model.named_modules(remove_duplicate=False)
        for name in module._non_persistent_buffers_set
    }


def run_on(model: nn.Module, functional: Functional, tensors: dict[str, Tensor]) -> Any:
    """Return functional(model) with `tensors` in place of the parameters and buffers named."""
    probe = _Probe(model, functional)
    return functional_call(probe, {f"model.{key}": t for key, t in tensors.items()}, ())


def collected(weights: list[Weight], values: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return `values` by the weights' names, detached.

    Raises
    ------
    ProblemError
        A score holds NaN or an infinity.
    """
    scores: dict[str, Tensor] = {}
    for weight, value in zip(weights, values, strict=True):
        if not torch.isfinite(value).all():
            raise ProblemError(
                f"the score of {weight.name!r} holds NaN or an infinity ({value.dtype}); look "
                "for them in the parameters and the data, or ask for dtype=torch.float64"
            )
        scores[weight.name] = value.detach()
    return scores


class _Probe(nn.Module):
    """What makes functional_call run any function of a model, not its forward alone."""

    def __init__(self, model: nn.Module, functional: Functional) -> None:
        super().__init__()
        self.model = model
        self._functional = functional

    def forward(self) -> Any:
        for module in self.model.modules():  # some weights are used without calling their module
            recompute(module)
        return self._functional(self.model)


def _wider(one: torch.dtype, other: torch.dtype) -> torch.dtype:
    # Float8 kinds promote with nothing; float32 holds them all.
    return torch.float64 if torch.float64 in (one, other) else torch.float32
