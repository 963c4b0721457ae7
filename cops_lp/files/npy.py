"""The .npy format: headers that are parsed with distrust, numbers that are mapped."""

from __future__ import annotations

import io
import math
import os
import warnings
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from cops_lp.errors import ProblemError

from .mapping import check_shape, mapped, native
from .words import WANTED

__all__ = ["NpyHeader", "check_numbers", "npy_header", "read_npy"]

_LONGEST_HEADER = 10_000  # as NumPy's own limit, but asked before the header is read


class NpyHeader(NamedTuple):
    """What a .npy header claims; `nbytes` is what its shape and dtype take."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    nbytes: int

    @property
    def order(self) -> str:
        """The numbers' order as NumPy calls it."""
        return "F" if self.fortran_order else "C"


def npy_header(file: IO[bytes], label: str) -> NpyHeader:
    """Read the header of a .npy stream and leave the stream where the numbers begin.

    Parameters
    ----------
    file : binary stream
    label : str
        What to call it in messages.

    Raises
    ------
    ProblemError
        It is no header, or claims what no array can be, or Python objects.
    """
    try:
        version = np.lib.format.read_magic(file)
    except ValueError:
        raise ProblemError(
            f"{label}: does not begin like a .npy array; write it with numpy.save"
        ) from None
    width, read = {
        (1, 0): (2, np.lib.format.read_array_header_1_0),
        (2, 0): (4, np.lib.format.read_array_header_2_0),
    }.get(version, (0, None))
    if read is None:
        raise ProblemError(f"{label}: has .npy version {version}; wanted (1, 0) or (2, 0)")
    prefix = file.read(width)
    length = int.from_bytes(prefix, "little")
    if length > _LONGEST_HEADER:
        raise ProblemError(f"{label}: its .npy header claims {length:,} bytes; it is damaged")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a header written by Python 2 reads just as well
            shape, fortran_order, dtype = read(io.BytesIO(prefix + file.read(length)))
    except Exception:  # whatever parsing a foreign header raises
        raise ProblemError(f"{label}: its .npy header is damaged or cut short") from None
    if dtype.hasobject:
        raise ProblemError(
            f"{label}: holds pickled Python objects, which are never loaded; {WANTED}"
        )
    check_shape(shape, label)
    return NpyHeader(shape, bool(fortran_order), dtype, math.prod(shape) * dtype.itemsize)


def check_numbers(header: NpyHeader, label: str) -> None:
    """Refuse all but real numbers.

    Raises
    ------
    ProblemError
    """
    if header.dtype == np.dtype("V2"):
        raise ProblemError(
            f"{label}: holds 2-byte values without a type, as numpy.save writes bfloat16; "
            "save it as .safetensors, or as float32"
        )
    if header.dtype.kind not in "fiub" or header.dtype.itemsize > 8:
        raise ProblemError(f"{label}: has dtype {str(header.dtype)[:80]}; {WANTED}")


def read_npy(path: Path, *, as_stored: bool) -> np.ndarray:
    """Map the array of a .npy file; see :func:`cops_lp.files.read_score`."""
    with path.open("rb") as file:
        header = npy_header(file, str(path))
        offset = file.tell()
        there = os.fstat(file.fileno()).st_size - offset
    check_numbers(header, str(path))
    if header.nbytes > there:
        raise ProblemError(
            f"{path}: its header claims {header.nbytes:,} bytes of numbers (shape "
            f"{header.shape}, {header.dtype}) but {there:,} are there; the file is cut short"
        )
    array = mapped(path, str(path), header.dtype, offset, header.shape, header.order)
    return array if as_stored else native(array)
