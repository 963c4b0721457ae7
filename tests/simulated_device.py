"""A device with a memory of its own, simulated on the CPU: what would fail on a GPU fails on it.

Its tensors hold CPU tensors out of reach. Operations on them run on these; one that takes a CPU
tensor beside them (but for a number), or NumPy that reads one, is an error, as on a GPU.
"""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_register = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
if _register is None:
    pytest.skip("this torch has no devices in Python", allow_module_level=True)

_register(
    "simulated",
    # What torch.manual_seed asks of every kind of device.
    backend_module=SimpleNamespace(
        _is_in_bad_fork=lambda: False,
        manual_seed_all=lambda seed: None,
        is_available=lambda: False,
        get_amp_supported_dtype=lambda: [torch.bfloat16],
    ),
)
DEVICE = torch.device("simulated", 0)

_MIXED = {"aten::copy_", "aten::_to_copy"}
"""Operations that take tensors of two devices."""


class There(torch.Tensor):
    """A tensor on the device; `raw` is what it holds."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> There:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            raw.shape,
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=DEVICE,
        )
        made.raw = raw
        return made

    def __repr__(self) -> str:
        return f"There({self.raw})"

    def tolist(self) -> Any:
        """What torch refuses to subclasses."""
        return self.cpu().tolist()

    def data_ptr(self) -> int:
        """The address on the device."""
        return self.raw.data_ptr()

    @property
    def data(self) -> torch.Tensor:
        """As of any tensor."""
        return self.detach()

    @data.setter
    def data(self, other: There) -> None:
        torch.Tensor.data.__set__(self, other)
        self.raw = other.raw

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


class Simulated(TorchDispatchMode):
    """Where the device can be named.

    Attributes
    ----------
    fetched, sent : int
        Bytes that came from it to the CPU, and the other way.
    moved : int
        Bytes that its operations read and wrote, views and what has no data aside.
    operations : Counter of str
    """

    def __init__(self) -> None:
        super().__init__()
        self.fetched = self.sent = self.moved = 0
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        found = _run(function, args, kwargs)
        inputs, outputs = _tensors((args, kwargs)), _tensors(found)
        name = function._schema.name
        if any(isinstance(x, There) for x in inputs + outputs) and not function.is_view:
            self.operations[name] += 1
            if any(isinstance(x, There) for x in inputs):
                self.fetched += _bytes(x for x in outputs if not isinstance(x, There))
            self.sent += _bytes(x for x in inputs if not isinstance(x, There))
            self.moved += _bytes(x for x in inputs + outputs if isinstance(x, There))
        return found


# torch.tensor(…, device=…) looks at no mode.
_LIBRARY = torch.library.Library("aten", "IMPL")


def _empty(size, stride, dtype=None, layout=None, device=None, pin_memory=None):
    return There(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))


def _copy(to, source, non_blocking=False):
    to.raw.copy_(source)
    return to


_LIBRARY.impl("empty_strided", _empty, "PrivateUse1")
_LIBRARY.impl("copy_", _copy, "PrivateUse1")


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _bytes(tensors: Any) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    inputs = _tensors((args, kwargs))
    there = [x for x in inputs if isinstance(x, There)]
    name = function._schema.name
    if there and name not in _MIXED and any(x.ndim for x in inputs if not isinstance(x, There)):
        raise RuntimeError(f"{name}: tensors on {DEVICE} and on the CPU")
    to = bool(there)
    if kwargs.get("device") is not None:
        to = torch.device(kwargs["device"]).type == DEVICE.type
        kwargs = kwargs | {"device": "cpu"} if to else kwargs
    args, kwargs = tree_map(lambda x: x.raw if isinstance(x, There) else x, (args, kwargs))
    found = function(*args, **kwargs)
    if not to:
        # A copy: to the CPU when the device's tensor is on the CPU, torch would give its memory.
        return tree_map(lambda x: x.clone() if there and isinstance(x, torch.Tensor) else x, found)
    own = {id(x.raw): x for x in there}  # what works in place returns its argument

    def moved(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return own[id(x)] if id(x) in own else There(x)

    return tree_map(moved, found)
