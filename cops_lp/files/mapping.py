"""Arrays mapped into memory where they lie in a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, Any

import numpy as np

from cops_lp.errors import ProblemError

__all__ = ["check_shape", "mapped", "native"]

_MOST_AXES = 32  # of a NumPy 1 array


def check_shape(shape: tuple[int, ...], label: str) -> None:
    """Refuse what no array can have, before it is multiplied or printed.

    Raises
    ------
    ProblemError
    """
    fits = all(0 <= length < 1 << 63 for length in shape)
    if len(shape) > _MOST_AXES or not fits or math.prod(n for n in shape if n) >= 1 << 200:
        raise ProblemError(f"{label}: claims a shape that no array can have; its header is damaged")


def mapped(
    file: Path | IO[bytes],
    label: str,
    dtype: np.dtype[Any],
    offset: int,
    shape: tuple[int, ...],
    order: Any = "C",
) -> np.ndarray:
    """Map an array that a file holds from `offset` on, read-only; an empty one is made instead.

    Raises
    ------
    ProblemError
        The system refuses.
    """
    try:
        if math.prod(shape) == 0:  # there is nothing to map
            return np.empty(shape, dtype)
        return np.memmap(file, dtype, mode="r", offset=offset, shape=shape, order=order)
    except (OSError, ValueError) as error:
        raise ProblemError(f"{label}: cannot be mapped into memory ({error})") from None


def native(array: np.ndarray) -> np.ndarray:
    """Copy only what compiled code could not read: foreign byte order or odd addresses."""
    if array.dtype.isnative and array.flags.aligned:
        return array
    return np.array(array, dtype=array.dtype.newbyteorder("="))
