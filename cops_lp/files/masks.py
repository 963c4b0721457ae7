"""Masks into files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from cops_lp.errors import ProblemError

from .safetensors import safetensors_module
from .writing import check_new_file, new_file

__all__ = ["MASK_SUFFIXES", "write_mask"]

MASK_SUFFIXES = (".npy", ".safetensors")
"""The kinds of file that :func:`write_mask` writes."""


def write_mask(path: str | os.PathLike[str], mask: np.ndarray, *, overwrite: bool = False) -> None:
    """Write a mask, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        Where to: ``.npy`` (a bool array) or ``.safetensors`` (one BOOL tensor, "mask").
    mask : ndarray of bool, any shape
    overwrite : bool, default False
        Replace a file that exists.

    Raises
    ------
    ProblemError
        As :func:`check_new_file`, or `mask` is not a bool array.
    MissingDependencyError
        `.safetensors` needs safetensors (the extra "files").
    OSError
        Writing failed, for instance on a full disk; what was at `path` before is unharmed.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_mask(f"{folder}/mask.npy", np.array([True, False]))
    ...     np.load(f"{folder}/mask.npy").tolist()
    [True, False]
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        what = f"an array of {mask.dtype}" if isinstance(mask, np.ndarray) else repr(type(mask))
        raise ProblemError(f"mask is {what}; wanted an array of bool")
    check_new_file(path, MASK_SUFFIXES, overwrite=overwrite)
    mask = np.asarray(mask, order="C")
    with new_file(path, overwrite=overwrite) as file:
        if Path(path).suffix.lower() == ".npy":
            np.lib.format.write_array(file, mask, allow_pickle=False)
        else:
            file.write(safetensors_module("safetensors.numpy").save({"mask": mask}))
