"""Leave a model and every random state as they were, whatever happens in between."""

from __future__ import annotations

import random
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["device_types", "in_mode", "random_state", "untouched"]

_CONTAINERS = (dict, OrderedDict, defaultdict, list, deque, set)


def device_types(model: nn.Module) -> set[str]:
    """Return the kinds of device that computing with the model may use, "cpu" among them."""
    types = {tensor.device.type for tensor in chain(model.parameters(), model.buffers())}
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        types.add("cuda")
    return (types | {"cpu"}) - {"meta"}


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restore on leaving, also after an exception, what running a model changes in it.

    That is every module's attributes (mode, hooks, which tensors are its parameters and
    buffers, plain attributes; lists, sets and dicts among them, and in these, by content), which
    parameters require a gradient, and the random states of :func:`random_state`. Values *inside*
    parameters and buffers are not saved here: what runs meanwhile is given copies
    (:mod:`._evaluation`).
    """
    saved = [_attributes(module) for module in model.modules()]
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    rewind = random_state(model)
    try:
        yield
    finally:
        for restore in saved:
            restore()
        for parameter, required in trained:
            if parameter.requires_grad != required:
                parameter.requires_grad_(required)
        rewind()


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Set a model's mode.

    A module's own ``train`` may change values: that of LoRA layers adds their product to the
    weight. Where one has its own, parameters and buffers have their values back on leaving.
    """
    own = [module for module in model.modules() if type(module).train is not nn.Module.train]
    tensors = chain(model.parameters(), model.buffers()) if own else ()
    saved = [(tensor, tensor.data, tensor.detach().clone()) for tensor in tensors]
    try:
        model.train(training)
        yield
    finally:
        with torch.no_grad():
            for tensor, data, values in saved:
                tensor.data = data
                if not torch.equal(data, values):
                    data.copy_(values)


def random_state(model: nn.Module) -> Callable[[], None]:
    """Return what brings back the random states of now: torch's on each device the model is
    on, Python's and NumPy's global ones.
    """  # noqa: D205
    generators: list[tuple[Callable[[Any], Any], Any]] = [
        (torch.set_rng_state, torch.get_rng_state()),
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state()),  # noqa: NPY002
    ]
    for kind in sorted(device_types(model) - {"cpu"}):
        device: Any = getattr(torch, kind, None)
        if hasattr(device, "get_rng_state_all"):
            generators.append((device.set_rng_state_all, device.get_rng_state_all()))
        elif hasattr(device, "get_rng_state"):
            generators.append((device.set_rng_state, device.get_rng_state()))

    def rewind() -> None:
        for restore, state in generators:
            restore(state)

    return rewind


def _attributes(module: nn.Module) -> Callable[[], None]:
    attributes = dict(module.__dict__)
    contents = _contents(attributes.values())

    def restore() -> None:
        # The same containers are refilled: handles of hooks refer to them.
        module.__dict__.clear()
        module.__dict__.update(attributes)
        for container, content in contents:
            container.clear()
            (container.extend if hasattr(container, "extend") else container.update)(content)

    return restore


def _contents(values: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Containers among some values, and among what these hold, each with a copy."""
    found: dict[int, tuple[Any, Any]] = {}
    left = list(values)
    while left:
        value = left.pop()
        if type(value) in _CONTAINERS and id(value) not in found:
            found[id(value)] = value, value.copy()
            left.extend(value.values() if isinstance(value, dict) else value)
        elif type(value) is tuple:
            left.extend(value)
    return list(found.values())
