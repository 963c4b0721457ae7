"""The .safetensors format: judged by its library, mapped by us."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cops_lp.errors import MissingDependencyError, ProblemError

from .mapping import check_shape, mapped, native
from .words import WANTED, chosen

__all__ = ["read_safetensors", "safetensors_module", "safetensors_names"]

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",  # its bits; see _as_bfloat16
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
_LONGEST_HEADER = 1 << 23  # bytes: some 80,000 tensors


class _Header(NamedTuple):
    entries: dict[str, Any]
    data_start: int


def safetensors_module(module: str) -> Any:
    """Import a module of the library, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        purpose = "for .safetensors files"
        raise MissingDependencyError("safetensors", "files", purpose) from error


def safetensors_names(path: Path) -> list[str]:
    """List the tensors of a file."""
    return list(_header(path).entries)


def read_safetensors(path: Path, name: str | None, *, as_stored: bool) -> np.ndarray:
    """Map one tensor; see :func:`cops_lp.files.read_score`.

    The library copies tensors and has no bfloat16 for NumPy; a memory map does neither.
    """
    header = _header(path)
    name = chosen(path, name, list(header.entries), "tensor")
    label, entry = f"{path}:{name[:80]}", header.entries[name]
    kind, shape = entry["dtype"], tuple(entry["shape"])
    if kind not in _DTYPES:
        raise ProblemError(f"{label}: has dtype {kind}; {WANTED}")
    check_shape(shape, label)
    offset = header.data_start + entry["data_offsets"][0]
    array = mapped(path, label, np.dtype(_DTYPES[kind]), offset, shape)
    if not as_stored:
        array = native(array)
    return _as_bfloat16(array) if kind == "BF16" else array


def _header(path: Path) -> _Header:
    """Let the library judge the file; then find what it does not tell, where the data lie."""
    library = safetensors_module("safetensors")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if _LONGEST_HEADER < length <= os.fstat(file.fileno()).st_size:
            raise ProblemError(
                f"{path}: its header takes {length:,} bytes, more than any score file needs"
            )
    try:
        with library.safe_open(path, framework="np"):
            pass
    except (OSError, library.SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ProblemError(f"{path}: not a whole .safetensors file ({reason})") from None
    with path.open("rb") as file:
        file.seek(8)
        entries = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    return _Header(entries, 8 + length)


def _as_bfloat16(bits: np.ndarray) -> np.ndarray:
    try:
        bfloat16: Any = importlib.import_module("ml_dtypes").bfloat16
    except ImportError:  # float32 begins with the same 16 bits
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return bits.view(bfloat16)
