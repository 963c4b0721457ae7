"""The model and the data that ``cops-lp prune`` is pointed at."""

from __future__ import annotations

import importlib
import inspect
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cops_lp.errors import MissingDependencyError, ProblemError
from cops_lp.files import read_score

__all__ = ["DIGITS", "build_model", "load_batches"]

DIGITS = "digits"
"""Stands for scikit-learn's handwritten digits in place of a file."""

_TORCH_SUFFIXES = (".pt", ".pth")


def build_model(text: str, seed: int, device: str) -> nn.Module:
    """Import a module, seed torch and call the function that makes the model.

    The current folder is searched first, as ``python -m`` does. Whatever the module or the
    function raises passes through: it is the caller's code.

    Parameters
    ----------
    text : str
        ``module:function``.
    seed : int
        Of torch's random state, so that a fresh model is the same each time.
    device : str
        Where it goes.

    Raises
    ------
    ProblemError
        There is no such module or function, it wants arguments, or what it returns is no
        ``torch.nn.Module``.
    """
    name, colon, attribute = text.partition(":")
    if not (colon and name and attribute):
        raise ProblemError(f"--model {text!r}: wanted MODULE:FUNCTION, such as networks:resnet20")
    if name.startswith(".") or "/" in name or "\\" in name:
        raise ProblemError(
            f"--model {text!r}: {name!r} is a path; wanted a module's name, such as networks for "
            "networks.py in the current folder"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there; what it imports is not
        raise ProblemError(
            f"--model {text!r}: there is no module {error.name!r} in {here} or among those "
            "installed" + ("; leave out .py" if name.endswith(".py") else "")
        ) from None
    build = getattr(module, attribute, None)
    if not callable(build):
        raise ProblemError(f"--model {text!r}: {name} has no function {attribute!r}")
    _check_takes_nothing(text, build)
    torch.manual_seed(seed)
    model = build()
    if not isinstance(model, nn.Module):
        raise ProblemError(
            f"--model {text!r}: returned a {type(model).__name__}; wanted a torch.nn.Module"
        )
    try:
        return model.to(device)
    except (RuntimeError, AssertionError, ImportError) as error:  # which depends on the build
        reason = str(error).splitlines()[0]
        raise ProblemError(f"--device {device!r}: {reason}") from None


def _check_takes_nothing(text: str, build: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(build)
    except (TypeError, ValueError):  # some of those written in C have none
        return
    try:
        signature.bind()
    except TypeError as error:
        raise ProblemError(
            f"--model {text!r}: it is called without arguments, but {error}"
        ) from None


def load_batches(
    text: str, *, samples: int, batch: int, seed: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Read inputs and labels, and choose some samples at random.

    Parameters
    ----------
    text : str
        "digits" (inputs (n, 1, 8, 8) in [0, 1]), or a file: ``.npz`` with the arrays "inputs"
        and "labels", or ``.pt`` or ``.pth`` with a dict of these or a pair, in which torch
        accepts tensors and no code (``weights_only``).
    samples : int
        How many to choose; all where there are fewer.
    batch : int
        Most samples in a batch.
    seed : int
        Of the choice.

    Returns
    -------
    list of (inputs, labels)
        Floating-point inputs as float32, integers as int64; labels int64, shape (n,).

    Raises
    ------
    ProblemError
        The file is not as described.
    MissingDependencyError
        "digits" needs scikit-learn.
    """
    if text == DIGITS:
        inputs, labels = _digits()
    elif text.lower().endswith(_TORCH_SUFFIXES):
        inputs, labels = _torch_arrays(Path(text))
    else:
        path = Path(text)
        if path.suffix.lower() != ".npz":
            raise ProblemError(
                f"--data {text!r}: wanted {DIGITS!r} or a file that ends in .npz, .pt or .pth"
            )
        inputs, labels = read_score(path, "inputs"), read_score(path, "labels")
    if inputs.ndim < 2 or labels.ndim != 1 or len(inputs) != len(labels) or not len(labels):
        raise ProblemError(
            f"--data {text!r}: inputs have shape {inputs.shape} and labels {labels.shape}; "
            "wanted (n, …) and (n,) with n ≥ 1"
        )
    if labels.dtype.kind not in "iu":
        raise ProblemError(f"--data {text!r}: labels are {labels.dtype}; wanted integers")
    if inputs.dtype.kind == "c":
        raise ProblemError(f"--data {text!r}: inputs are {inputs.dtype}; wanted real numbers")
    chosen = np.random.default_rng(seed).permutation(len(labels))[:samples]
    picked = inputs[chosen], labels[chosen]
    kind = np.float32 if picked[0].dtype.kind == "f" else np.int64
    x = torch.from_numpy(picked[0].astype(kind))
    y = torch.from_numpy(picked[1].astype(np.int64))
    # Of almost one size: BatchNorm takes no batch of one, which the last could be.
    count = -(-len(y) // min(batch, len(y)))
    return list(zip(torch.tensor_split(x, count), torch.tensor_split(y, count), strict=True))


def _digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise MissingDependencyError("scikit-learn", "digits", "for --data digits") from error
    found = datasets.load_digits()
    return (found.images / 16.0).astype(np.float32)[:, None], found.target


def _torch_arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds of tensors that are refused below
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # other files make torch's reader fail in any way
        lines = str(error).splitlines() or ["the data end early"]
        reason = f"{type(error).__name__}: {lines[0][:200]}"
        raise ProblemError(f"--data {path}: not a torch file of tensors alone ({reason})") from None
    if isinstance(found, dict):
        found = tuple(found.get(name) for name in ("inputs", "labels"))
    if (
        not isinstance(found, tuple | list)
        or len(found) != 2
        or not all(isinstance(tensor, torch.Tensor) for tensor in found)
    ):
        raise ProblemError(
            f"--data {path}: wanted a dict with the tensors 'inputs' and 'labels', or a pair"
        )
    return _array(path, "inputs", found[0]), _array(path, "labels", found[1])


def _array(path: Path, name: str, tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    try:
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    except (RuntimeError, TypeError) as error:  # sparse, quantized, without values
        reason = str(error).splitlines()[0][:200]
        raise ProblemError(
            f"--data {path}: {name} are no dense tensor with values ({reason})"
        ) from None
