"""Leave a model and every random state as they were, whatever happens in between."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["device_types", "random_state", "untouched"]

_CONTAINERS = (dict, OrderedDict, list, set)


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
    buffers, plain attributes; lists, sets and dicts among them by content) and the random
    states of :func:`random_state`. Values *inside* parameters and buffers are not saved here:
    what runs meanwhile is given copies (:mod:`._evaluation`).
    """
    saved = [_attributes(module) for module in model.modules()]
    rewind = random_state(model)
    try:
        yield
    finally:
        for restore in saved:
            restore()
        rewind()


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
    contents = [
        (value, value.copy()) for value in attributes.values() if type(value) in _CONTAINERS
    ]

    def restore() -> None:
        # The same containers are refilled: handles of hooks refer to them.
        module.__dict__.clear()
        module.__dict__.update(attributes)
        for container, content in contents:
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(content)

    return restore
