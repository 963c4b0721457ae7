"""Batches as the caller gives them: one or many, on any device, in any nesting."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cops_lp.errors import ProblemError

__all__ = [
    "Batches",
    "calibration",
    "call_model",
    "each_sample",
    "map_tensors",
    "pairs",
    "placed",
    "size",
]

Batches = tuple[Any, Any] | Iterable[tuple[Any, Any]]
"""One pair (inputs, labels), or an iterable of such pairs."""


def pairs(batches: Batches) -> Iterator[tuple[Any, Any]]:
    """Yield each (inputs, labels).

    A tuple or list of two is one pair unless both its elements are such pairs themselves.

    Raises
    ------
    ProblemError
        Something in `batches` is no pair, or there is nothing in it.
    """
    if _is_pair(batches) and not all(map(_is_pair, batches)):
        batches = [batches]  # type: ignore[list-item]
    if isinstance(batches, Tensor | Mapping) or not isinstance(batches, Iterable):
        raise ProblemError(
            f"batches is a {type(batches).__name__}; wanted (inputs, labels) or an iterable of "
            "such pairs"
        )
    index = -1
    for index, batch in enumerate(batches):
        if not _is_pair(batch):
            raise ProblemError(
                f"batches[{index}] is a {type(batch).__name__}"
                f"{f' of {len(batch)}' if isinstance(batch, tuple | list) else ''}; "
                "wanted a pair (inputs, labels)"
            )
        yield batch[0], batch[1]
    if index < 0:
        raise ProblemError("batches is empty; wanted at least one pair (inputs, labels)")


def calibration(inputs: Any) -> Iterator[Any]:
    """Yield each batch of inputs: a tensor or mapping is one, anything else holds many.

    Raises
    ------
    ProblemError
        `inputs` is not iterable, or there is nothing in it.
    """
    if isinstance(inputs, Tensor | Mapping):
        inputs = [inputs]
    if not isinstance(inputs, Iterable):
        raise ProblemError(
            f"inputs is a {type(inputs).__name__}; wanted a tensor, a mapping of the model's "
            "keyword arguments, or an iterable of these"
        )
    count = 0
    for batch in inputs:
        count += 1
        yield batch
    if not count:
        raise ProblemError("inputs is empty; wanted at least one batch")


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Run the model: a mapping holds keyword arguments, a tuple or list positional ones."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple | list):
        return model(*inputs)
    return model(inputs)


def map_tensors(change: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """Return `tree` with each tensor in its tuples, lists and mappings changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, np.ndarray):
        raise ProblemError(
            f"a batch holds a NumPy array of shape {tree.shape}; wanted tensors "
            "(torch.from_numpy makes one of it)"
        )
    if isinstance(tree, Mapping):
        changed = {key: map_tensors(change, value) for key, value in tree.items()}
        if type(tree) is dict or not isinstance(tree, MutableMapping):
            return changed
        own = copy.copy(tree)  # models may read the entries of their own kind as attributes
        for key, value in changed.items():
            own[key] = value
        return own
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tensors(change, value) for value in tree))
    if isinstance(tree, tuple | list):
        return type(tree)(map_tensors(change, value) for value in tree)
    return tree


def size(inputs: Any, labels: Any) -> int:
    """Return the number of samples: the length of the first tensor of labels, else inputs.

    Raises
    ------
    ProblemError
        There is no sample, or no tensor to count by.
    """
    lengths: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        if tensor.dim():
            lengths.append(len(tensor))
        return tensor

    map_tensors(note, (labels, inputs))
    if not lengths or not lengths[0]:
        raise ProblemError("a batch has no sample: neither labels nor inputs hold any row")
    return lengths[0]


def each_sample(inputs: Any, labels: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each sample as a batch of one; tensors without that many rows are kept whole."""
    count = size(inputs, labels)
    for index in range(count):

        def row(tensor: Tensor, index: int = index) -> Tensor:
            whole = not tensor.dim() or len(tensor) != count
            return tensor if whole else tensor[index : index + 1]

        yield map_tensors(row, inputs), map_tensors(row, labels)


def placed(tree: Any, device: torch.device, dtype: torch.dtype | None) -> Any:
    """Return `tree` with its tensors on `device`, floating-point ones cast to `dtype`."""

    def change(tensor: Tensor) -> Tensor:
        kind = dtype if tensor.is_floating_point() else None
        # A copy: models may change their inputs in place, and autograd cannot save tensors made
        # in inference mode.
        moved = tensor.detach().to(device=device, dtype=kind or tensor.dtype, copy=True)
        # A functional may differentiate by its inputs.
        return moved.requires_grad_() if tensor.requires_grad else moved

    return map_tensors(change, tree)


def _is_pair(thing: Any) -> bool:
    return isinstance(thing, tuple | list) and len(thing) == 2
