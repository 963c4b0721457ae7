"""Scores from .npy, .npz and .safetensors files."""

from __future__ import annotations

import os

import numpy as np

from cops_lp.errors import ProblemError

from .existing import existing_file
from .npy import read_npy
from .npz import npz_members, opened_npz, read_npz
from .safetensors import read_safetensors, safetensors_names

__all__ = ["SCORE_SUFFIXES", "list_names", "read_score"]

SCORE_SUFFIXES = (".npy", ".npz", ".safetensors")
"""The kinds of file that :func:`read_score` reads."""


def read_score(
    path: str | os.PathLike[str], name: str | None = None, *, as_stored: bool = False
) -> np.ndarray:
    """Read one score, mapped into memory where the format allows it.

    Parameters
    ----------
    path : str or path-like
        A ``.npy``, ``.npz`` or ``.safetensors`` file.
    name : str, optional
        Which array of an ``.npz`` or tensor of a ``.safetensors`` file. May be left out when
        the file holds just one.
    as_stored : bool, default False
        Also map numbers in foreign byte order or out of alignment, for readers that go in
        blocks, as :func:`cops_lp.certify` does.

    Returns
    -------
    ndarray
        Real numbers of any shape in this machine's byte order. From ``.npy`` and
        ``.safetensors`` a read-only ``numpy.memmap``: nothing is read yet. From ``.npz`` too,
        after its checksum was compared, where the array is not compressed; a compressed one
        is unpacked, beyond 64 MiB to an unnamed temporary file that is mapped. Where the bytes
        lie in a foreign order or out of alignment, a copy in memory.

    Raises
    ------
    ProblemError
        The file is missing, is not what its suffix says, is cut short, holds pickled objects
        or other than real numbers, claims more than it can hold or unpacks to a hundred times
        its size, or has no array of that name. The message names the file.
    MissingDependencyError
        `.safetensors` needs safetensors (the extra "files").
    OSError
        The disk fails, or is full while something is unpacked.

    Notes
    -----
    bfloat16 tensors come as ``ml_dtypes.bfloat16``, mapped, where that package is installed,
    otherwise widened to float32, which is exact and takes 4 bytes per weight.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/scores.npz", snip=[3.0, 2.0], synflow=[0.0, 1.0])
    ...     read_score(f"{folder}/scores.npz", "synflow").tolist()
    [0.0, 1.0]
    """
    path = existing_file(path, SCORE_SUFFIXES)
    if path.suffix.lower() == ".npy":
        if name is not None:
            raise ProblemError(f"{path}: a .npy file holds one array without a name, not {name!r}")
        return read_npy(path, as_stored=as_stored)
    if path.suffix.lower() == ".npz":
        return read_npz(path, name, as_stored=as_stored)
    return read_safetensors(path, name, as_stored=as_stored)


def list_names(path: str | os.PathLike[str]) -> list[str]:
    """List what a score file holds by name.

    Parameters
    ----------
    path : str or path-like
        As in :func:`read_score`.

    Returns
    -------
    list of str
        In the file's order; empty for ``.npy``, which has no names.

    Raises
    ------
    ProblemError
        As :func:`read_score`.
    """
    path = existing_file(path, SCORE_SUFFIXES)
    if path.suffix.lower() == ".npy":
        return []
    if path.suffix.lower() == ".npz":
        with opened_npz(path) as archive:
            return list(npz_members(path, archive))
    return safetensors_names(path)
