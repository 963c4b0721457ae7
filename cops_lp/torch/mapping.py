"""Mappings of tensors, checked, as scores that the package reads in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch

from cops_lp.errors import MissingDependencyError, ProblemError
from cops_lp.pieces import ArrayPieces, Pieces

from .pieces import TensorPieces

__all__ = ["Tensors", "as_pieces", "check_alike", "check_tensors", "flat_score"]

Tensors = Mapping[str, torch.Tensor]

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

VIEWED = frozenset({"cpu"})
"""Kinds of devices whose tensors are viewed as NumPy arrays, for the compiled kernels."""

_NO_DOUBLE = frozenset({"mps"})


def flat_score(tensors: Tensors) -> Pieces:
    """Take the tensors of a mapping as one flat score, without copying them.

    What :func:`cops_lp.solve`, :func:`cops_lp.balance`, :class:`cops_lp.Problem` and
    :func:`cops_lp.certify` take where they take an array: its shape is (d,), the tensors'
    entries one after the other in the mapping's order, each in C order.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        float16, bfloat16, float32 or float64, of any shapes and strides, all on one device.
        They must not change while the score is in use.

    Returns
    -------
    Pieces

    Raises
    ------
    ProblemError
        Not a mapping of names to such tensors, or none of them has an entry.
    MissingDependencyError
        A bfloat16 tensor on the CPU needs ml_dtypes (the extra "torch").

    Notes
    -----
    O(number of tensors): no entry is read.

    Examples
    --------
    >>> import cops_lp, torch
    >>> size = flat_score({"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([3.0])})
    >>> cops_lp.solve(size, keep=2).mask.tolist()
    [False, True, True]
    """
    return as_pieces(check_tensors("scores", tensors))


def as_pieces(tensors: Tensors, dtype: np.dtype[Any] | None = None) -> Pieces:
    """:func:`flat_score` of tensors that are checked; read as `dtype`, where given."""
    # An imaginary part may be kept as its negative, which NumPy cannot view.
    labels, values = tuple(tensors), [each.detach().resolve_neg() for each in tensors.values()]
    if values[0].device.type in VIEWED:
        return ArrayPieces([_viewed(value) for value in values], labels, dtype)
    return TensorPieces(values, labels, dtype)


def check_tensors(label: str, tensors: Any, *, part: bool = False) -> Tensors:
    """Return a mapping of float tensors on one device that holds an entry at least.

    Or, where it is but a process's `part`, at least one tensor.

    Raises
    ------
    ProblemError
        It is something else; the message begins with `label`.
    """
    if not isinstance(tensors, Mapping):
        raise ProblemError(
            f"{label}: {type(tensors).__name__}; wanted a mapping of names to tensors"
        )
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise ProblemError(f"{label}: a name is {name!r}; wanted a str")
        what = f"{label}: {name!r}"
        if not isinstance(tensor, torch.Tensor):
            raise ProblemError(f"{what} is {type(tensor).__name__}; wanted a tensor")
        if hasattr(tensor, "device_mesh"):
            raise ProblemError(
                f"{what} is a DTensor, of which this process has a part; wanted whole tensors "
                "(full_tensor()), or masks_sharded"
            )
        if tensor.layout != torch.strided or tensor.is_nested:
            kind = "is nested" if tensor.is_nested else f"has layout {tensor.layout}"
            raise ProblemError(f"{what} {kind}; wanted a dense tensor")
        if tensor.dtype not in DTYPES:
            raise ProblemError(
                f"{what} has dtype {tensor.dtype}; wanted float16, bfloat16, float32 or float64"
            )
    if part and not tensors:
        raise ProblemError(f"{label}: there is no tensor; wanted one at least, even if empty")
    if not part and sum(tensor.numel() for tensor in tensors.values()) == 0:
        raise ProblemError(f"{label}: no tensor has an entry; wanted at least one weight")
    check_alike({label: tensors})
    device = next(iter(tensors.values())).device
    if device.type == "meta":
        raise ProblemError(f"{label}: tensors on device meta hold no values; wanted scores")
    if device.type in _NO_DOUBLE:
        raise ProblemError(
            f"{label}: device {device} knows no float64, which exact sums need; "
            "move the scores to the CPU"
        )
    return tensors


def check_alike(scores: Mapping[str, Tensors]) -> None:
    """Check that all mappings have the first one's names and shapes, and everything one device.

    Raises
    ------
    ProblemError
        The message names both sides.
    """
    first, wanted = next(iter(scores.items()))
    leader = next(iter(wanted))
    device = wanted[leader].device
    for label, tensors in scores.items():
        missing = [name for name in wanted if name not in tensors]
        unknown = [name for name in tensors if name not in wanted]
        if missing or unknown:
            faults = (("lacks", missing), ("has in addition", unknown))
            said = "; ".join(f"{what} {_some(names)}" for what, names in faults if names)
            raise ProblemError(f"{label} must have the tensors of {first}; it {said}")
        for name, tensor in tensors.items():
            if tensor.shape != wanted[name].shape:
                raise ProblemError(
                    f"{label}: {name!r} has shape {tuple(tensor.shape)}; wanted that of {first}, "
                    f"{tuple(wanted[name].shape)}"
                )
            if tensor.device != device:
                raise ProblemError(
                    f"{label}: {name!r} is on device {tensor.device} but {first}: {leader!r} on "
                    f"{device}; wanted all scores on one device"
                )


def _viewed(tensor: torch.Tensor) -> np.ndarray:
    """A CPU tensor's memory as a NumPy array."""
    if tensor.dtype != torch.bfloat16:
        array: np.ndarray = tensor.numpy()
        return array
    try:
        bfloat16: Any = import_module("ml_dtypes").bfloat16
    except ImportError as error:
        raise MissingDependencyError("ml_dtypes", "torch", "for bfloat16 scores") from error
    bits: np.ndarray = tensor.view(torch.int16).numpy()
    return bits.view(bfloat16)


def _some(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
