"""Masks of tensors in ``.safetensors`` files."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from cops_lp.errors import ProblemError
from cops_lp.files.existing import existing_file
from cops_lp.files.safetensors import safetensors_module
from cops_lp.files.writing import check_new_file, new_file

from .applying import check_mask

__all__ = ["load_masks", "save_masks"]

_SUFFIXES = (".safetensors",)
_RESERVED = "__metadata__"  # what the format itself calls something else


def save_masks(
    path: str | os.PathLike[str], masks: Mapping[str, torch.Tensor], *, overwrite: bool = False
) -> None:
    """Write masks, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        Where to, a ``.safetensors`` file.
    masks : mapping of str to Tensor of bool
        One BOOL tensor each in the file, a byte per weight.
    overwrite : bool, default False
        Replace a file that exists.

    Raises
    ------
    ProblemError
        A mask is no dense bool tensor or a DTensor, a name is no usable str, `path` ends
        otherwise, something is already there, or its folder is missing or not writable.
    MissingDependencyError
        safetensors is missing (the extra "files").
    OSError
        Writing failed; what was at `path` before is unharmed.

    Notes
    -----
    Another byte per weight in memory while it writes.
    """
    check_new_file(path, _SUFFIXES, overwrite=overwrite)
    if not isinstance(masks, Mapping):
        raise ProblemError(f"masks: {type(masks).__name__}; wanted a mapping name -> tensor")
    for name, mask in masks.items():
        if not _usable(name):
            raise ProblemError(f"masks: a name is {name!r}; wanted another str")
        check_mask(name, mask)
        if hasattr(mask, "device_mesh"):
            raise ProblemError(
                f"masks: {name!r} is a DTensor; wanted a whole tensor, as its full_tensor() is"
            )
    library = safetensors_module("safetensors.torch")
    # Masks may share one tensor's memory or have any strides, both of which the library refuses.
    content = library.save(
        {
            name: mask.cpu().clone(memory_format=torch.contiguous_format)
            for name, mask in masks.items()
        }
    )
    with new_file(path, overwrite=overwrite) as file:
        file.write(content)


def load_masks(
    path: str | os.PathLike[str], *, device: torch.device | str = "cpu"
) -> dict[str, torch.Tensor]:
    """Read masks that :func:`save_masks` wrote.

    Parameters
    ----------
    path : str or path-like
    device : device or str, default "cpu"
        Where they are wanted.

    Returns
    -------
    dict of str to Tensor of bool

    Raises
    ------
    ProblemError
        There is no such file, it is not a whole ``.safetensors`` file, or holds other dtypes; or
        `device` is none that can be used here.
    MissingDependencyError
        safetensors is missing (the extra "files").
    """
    found = existing_file(path, _SUFFIXES)
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, TypeError, AssertionError, ImportError):  # which depends on the build
        raise ProblemError(
            f"device is {device!r}; wanted one that torch knows and can use here"
        ) from None
    library = safetensors_module("safetensors")
    loader = safetensors_module("safetensors.torch")
    try:
        masks: dict[str, torch.Tensor] = loader.load_file(found)
    except (OSError, library.SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ProblemError(f"{found}: not a whole .safetensors file ({reason})") from None
    for name, mask in masks.items():
        if mask.dtype != torch.bool:
            raise ProblemError(f"{found}:{name[:80]}: has dtype {mask.dtype}; wanted bool")
    return {name: mask.to(place) for name, mask in masks.items()}


def _usable(name: object) -> bool:
    """Whether a file can hold it, in UTF-8."""
    if not isinstance(name, str) or name == _RESERVED:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
