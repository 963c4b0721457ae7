"""Scores from .npy, .npz and .safetensors files, and masks into files, whole or not at all.

Nothing here unpickles, and no size that a file claims is believed before it is checked. What
can be mapped into memory is: reading a score of 10^8 weights costs nothing until it is used.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import json
import math
import os
import secrets
import stat
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np

from .errors import MissingDependencyError, ProblemError

__all__ = [
    "MASK_SUFFIXES",
    "SCORE_SUFFIXES",
    "check_new_file",
    "list_names",
    "new_file",
    "read_score",
    "write_mask",
]

SCORE_SUFFIXES = (".npy", ".npz", ".safetensors")
"""The kinds of file that :func:`read_score` reads."""

MASK_SUFFIXES = (".npy", ".safetensors")
"""The kinds of file that :func:`write_mask` writes."""

_SAFETENSORS_DTYPES = {
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
_WANTED = "wanted real numbers: float16, bfloat16, float32, float64, integer or bool"
_DEFLATE_LIMIT = 1032  # deflate never shrinks anything further than this
_MOST_AXES = 32  # of a NumPy 1 array
_NAMES_SHOWN = 5
_CHUNK = 1 << 20


def read_score(path: str | os.PathLike[str], name: str | None = None) -> np.ndarray:
    """Read one score, mapped into memory where the format allows it.

    Parameters
    ----------
    path : str or path-like
        A ``.npy``, ``.npz`` or ``.safetensors`` file.
    name : str, optional
        Which array of an ``.npz`` or tensor of a ``.safetensors`` file. May be left out when
        the file holds just one.

    Returns
    -------
    ndarray
        Real numbers of any shape in this machine's byte order. From ``.npy`` and
        ``.safetensors`` a read-only ``numpy.memmap``: nothing is read yet. From ``.npz``, and
        where the bytes lie in a foreign order or out of alignment, a copy in memory.

    Raises
    ------
    ProblemError
        The file is missing, is not what its suffix says, is cut short, holds pickled objects
        or other than real numbers, or has no array of that name. The message names the file.

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
    path = _existing_file(path)
    if path.suffix.lower() == ".npy":
        if name is not None:
            raise ProblemError(f"{path}: a .npy file holds one array without a name, not {name!r}")
        return _read_npy(path)
    if path.suffix.lower() == ".npz":
        return _read_npz(path, name)
    return _read_safetensors(path, name)


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
    path = _existing_file(path)
    if path.suffix.lower() == ".npy":
        return []
    if path.suffix.lower() == ".npz":
        with _opened_npz(path) as archive:
            return list(_npz_members(archive))
    return list(_safetensors_header(path).entries)


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
            file.write(_safetensors("safetensors.numpy").save({"mask": mask}))


def check_new_file(
    path: str | os.PathLike[str], suffixes: tuple[str, ...], *, overwrite: bool = False
) -> None:
    """Raise unless a file can be written there; meant to be asked before the work begins.

    Parameters
    ----------
    path : str or path-like
    suffixes : tuple of str
        The endings allowed, in lower case.
    overwrite : bool, default False
        Allow `path` to exist, as a file.

    Raises
    ------
    ProblemError
        The suffix is not one of these, the folder is missing or not writable, or something
        is already there.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise ProblemError(
            f"{path}: cannot write a file that ends in {path.suffix!r}; wanted {_either(suffixes)}"
        )
    folder = path.resolve().parent
    if path.is_dir():
        raise ProblemError(f"{path}: is a folder; wanted a file's name")
    if not folder.is_dir():
        raise ProblemError(f"{path}: its folder does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ProblemError(f"{path}: its folder is not writable")
    _refuse_existing(path, overwrite)


@contextmanager
def new_file(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a binary file that appears at `path` when the block ends well, and only then.

    Parameters
    ----------
    path : str or path-like
        Where to. A symbolic link stays one: the file that it names is written.
    overwrite : bool, default False
        Replace a file that exists.

    Yields
    ------
    binary file
        A temporary one in the same folder; removed when the block raises.

    Raises
    ------
    ProblemError
        Something is already at `path` and `overwrite` is False.
    OSError
        Whatever the system says about the folder or the disk.
    """
    path = Path(path)
    target = path.resolve()
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _refuse_existing(path, overwrite)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise ProblemError(
            f"{path}: already exists; --force (overwrite=True in Python) replaces it"
        )


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _existing_file(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and path.suffix.lower() in SCORE_SUFFIXES:
            with path.open("rb"):
                pass
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise ProblemError(f"{path}: no such file") from None
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ProblemError(f"{path}: cannot be read ({reason})") from None
    wanted = _either(SCORE_SUFFIXES)
    if stat.S_ISDIR(mode):
        raise ProblemError(f"{path}: is a folder; wanted a {wanted} file")
    if not stat.S_ISREG(mode):
        raise ProblemError(f"{path}: is not a regular file; wanted a {wanted} file")
    if path.suffix.lower() not in SCORE_SUFFIXES:
        raise ProblemError(
            f"{path}: cannot read a file that ends in {path.suffix!r}; wanted {wanted}"
        )
    return path


class _NpyHeader(NamedTuple):
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    nbytes: int


def _npy_header(file: IO[bytes], label: str) -> _NpyHeader:
    """Read the header of a .npy stream and leave the stream where the numbers begin."""
    try:
        version = np.lib.format.read_magic(file)
    except ValueError:
        raise ProblemError(
            f"{label}: does not begin like a .npy array; write it with numpy.save"
        ) from None
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ProblemError(f"{label}: has .npy version {version}; wanted (1, 0) or (2, 0)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a header written by Python 2 reads just as well
            shape, fortran_order, dtype = read(file)
    except Exception:  # whatever parsing a foreign header raises
        raise ProblemError(f"{label}: its .npy header is damaged or cut short") from None
    if dtype.hasobject:
        raise ProblemError(
            f"{label}: holds pickled Python objects, which are never loaded; {_WANTED}"
        )
    if dtype == np.dtype("V2"):
        raise ProblemError(
            f"{label}: holds 2-byte values without a type, as numpy.save writes bfloat16; "
            "save it as .safetensors, or as float32"
        )
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise ProblemError(f"{label}: has dtype {dtype}; {_WANTED}")
    _check_shape(shape, label)
    return _NpyHeader(shape, fortran_order, dtype, math.prod(shape) * dtype.itemsize)


def _check_shape(shape: tuple[int, ...], label: str) -> None:
    """Refuse what no array can have, before it is multiplied or printed."""
    fits = all(0 <= length < 1 << 63 for length in shape)
    if len(shape) > _MOST_AXES or not fits or math.prod(n for n in shape if n) >= 1 << 200:
        raise ProblemError(f"{label}: claims a shape that no array can have; its header is damaged")


def _read_npy(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        header = _npy_header(file, str(path))
        offset = file.tell()
        there = os.fstat(file.fileno()).st_size - offset
    if header.nbytes > there:
        raise ProblemError(
            f"{path}: its header claims {header.nbytes:,} bytes of numbers (shape "
            f"{header.shape}, {header.dtype}) but {there:,} are there; the file is cut short"
        )
    order = "F" if header.fortran_order else "C"
    return _native(_mapped(path, header.dtype, offset, header.shape, order))


@contextmanager
def _opened_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an .npz archive and say in one way what is wrong with it."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OverflowError) as error:
        reason = str(error) or "the data end early"
        raise ProblemError(f"{path}: not a whole .npz archive ({reason})") from None


def _npz_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    return {
        info.filename[: -len(".npy")]: info
        for info in archive.infolist()
        if info.filename.endswith(".npy")
    }


def _read_npz(path: Path, name: str | None) -> np.ndarray:
    with _opened_npz(path) as archive:
        members = _npz_members(archive)
        name = _chosen(path, name, list(members), "array")
        info, label = members[name], f"{path}:{name}"
        _check_member(info, label, path.stat().st_size)
        with archive.open(info) as file:
            header = _npy_header(file, label)
            there = info.file_size - file.tell()
            if header.nbytes != there:
                raise ProblemError(
                    f"{label}: its header claims {header.nbytes:,} bytes of numbers (shape "
                    f"{header.shape}, {header.dtype}) but the archive holds {there:,}"
                )
            flat = np.empty(math.prod(header.shape), dtype=header.dtype)
            view = flat.view(np.uint8).data
            start = 0
            while chunk := file.read(_CHUNK):  # to the end, where the checksum is compared
                view[start : start + len(chunk)] = chunk
                start += len(chunk)
            if start != header.nbytes:
                raise EOFError
    try:
        return _native(flat.reshape(header.shape, order="F" if header.fortran_order else "C"))
    except ValueError as error:  # an empty array of an impossible shape
        raise ProblemError(f"{label}: {error}") from None


def _check_member(info: zipfile.ZipInfo, label: str, archive_size: int) -> None:
    """Refuse what cannot be honest, or would not fit, before any of it is unpacked."""
    if info.flag_bits & 0x1:
        raise ProblemError(f"{label}: is encrypted; wanted an archive as numpy.savez writes it")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ProblemError(
            f"{label}: is compressed in a way that numpy never writes; "
            "write it with numpy.savez or numpy.savez_compressed"
        )
    ratio = 1 if info.compress_type == zipfile.ZIP_STORED else _DEFLATE_LIMIT
    most = min(info.compress_size, archive_size) * ratio
    if info.file_size > most:
        raise ProblemError(
            f"{label}: claims {info.file_size:,} bytes, more than its {info.compress_size:,} "
            "in the archive can hold; the archive is damaged"
        )
    memory = _physical_memory()
    if memory is not None and info.file_size > memory:
        raise ProblemError(
            f"{label}: unpacks to {info.file_size:,} bytes, more than this machine's memory; "
            "save it as .npy, which is read in place"
        )


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not this system's way
        return None


class _SafetensorsHeader(NamedTuple):
    entries: dict[str, Any]
    data_start: int


def _safetensors(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        purpose = "for .safetensors files"
        raise MissingDependencyError("safetensors", "files", purpose) from error


def _safetensors_header(path: Path) -> _SafetensorsHeader:
    """Let the library judge the file; then find what it does not tell, where the data lie."""
    library = _safetensors("safetensors")
    try:
        with library.safe_open(path, framework="np"):
            pass
    except (OSError, library.SafetensorError) as error:
        raise ProblemError(f"{path}: not a whole .safetensors file ({error})") from None
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    return _SafetensorsHeader(entries, 8 + length)


def _read_safetensors(path: Path, name: str | None) -> np.ndarray:
    # The library copies tensors and has no bfloat16 for NumPy; a memory map does neither.
    header = _safetensors_header(path)
    name = _chosen(path, name, list(header.entries), "tensor")
    label, entry = f"{path}:{name}", header.entries[name]
    kind, shape = entry["dtype"], tuple(entry["shape"])
    if kind not in _SAFETENSORS_DTYPES:
        raise ProblemError(f"{label}: has dtype {kind}; {_WANTED}")
    _check_shape(shape, label)
    offset = header.data_start + entry["data_offsets"][0]
    array = _native(_mapped(path, np.dtype(_SAFETENSORS_DTYPES[kind]), offset, shape, "C"))
    return _as_bfloat16(array) if kind == "BF16" else array


def _as_bfloat16(bits: np.ndarray) -> np.ndarray:
    try:
        bfloat16: Any = importlib.import_module("ml_dtypes").bfloat16
    except ImportError:  # float32 begins with the same 16 bits
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return bits.view(bfloat16)


def _mapped(
    path: Path, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...], order: Any
) -> np.ndarray:
    try:
        if math.prod(shape) == 0:  # there is nothing to map
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, mode="r", offset=offset, shape=shape, order=order)
    except (OSError, ValueError) as error:
        raise ProblemError(f"{path}: cannot be mapped into memory ({error})") from None


def _native(array: np.ndarray) -> np.ndarray:
    """Copy only what compiled code could not read: foreign byte order or odd addresses."""
    if array.dtype.isnative and array.flags.aligned:
        return array
    return np.array(array, dtype=array.dtype.newbyteorder("="))


def _chosen(path: Path, name: str | None, names: list[str], noun: str) -> str:
    """Return the name asked for, or the only one there is."""
    if not names:
        raise ProblemError(f"{path}: holds no {noun}s")
    if name is None:
        if len(names) == 1:
            return names[0]
        raise ProblemError(
            f"{path}: holds {len(names):,} {noun}s; say which, as FILE:NAME: {_some(names)}"
        )
    if name not in names:
        close = difflib.get_close_matches(name, names, n=_NAMES_SHOWN, cutoff=0.6)
        hint = f"close to it: {_some(close)}" if close else f"it holds {_some(names)}"
        raise ProblemError(f"{path}: has no {noun} {name!r}; {hint}")
    return name


def _some(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:_NAMES_SHOWN]))
    more = len(names) - _NAMES_SHOWN
    return shown if more <= 0 else f"{shown} and {more:,} more"


def _either(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
