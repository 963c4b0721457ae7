"""The .npz format: zip archives of .npy arrays, mapped or unpacked in bounded memory."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from cops_lp.errors import ProblemError

from .mapping import mapped, native
from .npy import NpyHeader, check_numbers, npy_header
from .words import chosen, short

__all__ = ["npz_members", "opened_npz", "read_npz", "read_plain_member"]

_CHUNK = 1 << 20
_IN_MEMORY = 1 << 26  # bytes of a compressed array that are unpacked to memory, not to the disk
_MOST_DIRECTORY = 1 << 22  # bytes: some 40,000 names
_DEFLATE_LIMIT = 1032  # deflate never shrinks anything further than this
_HONEST_RATIO = 100  # what shrinks further, and is not small, is no score
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_END = struct.Struct("<4s8xLL2x")
_END64 = struct.Struct("<4s36xQ8x")


@contextmanager
def opened_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an .npz archive and say in one way what is wrong with it.

    Raises
    ------
    ProblemError
        Here, or in the block: it is no whole archive, or its list of names is beyond reason.
    """
    try:
        _check_directory(path)
        with zipfile.ZipFile(path) as archive:
            yield archive
    except ProblemError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
        ValueError,
        OSError,
    ) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk's, not the archive's
        reason = " ".join((str(error) or "the data end early").split())[:200]
        raise ProblemError(f"{path}: not a whole .npz archive ({reason})") from None


def npz_members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """List the arrays of an archive by name; a name is only ever a key, never a path.

    Raises
    ------
    ProblemError
        A name is there twice, so that two readers could disagree.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename.endswith(".npy"):
            name = info.filename[: -len(".npy")]
            if name in members:
                raise ProblemError(f"{path}: holds two arrays {short(name)}; wanted one")
            members[name] = info
    return members


def read_npz(path: Path, name: str | None, *, as_stored: bool) -> np.ndarray:
    """Read one array of an archive; see :func:`cops_lp.files.read_score`."""
    with opened_npz(path) as archive:
        members = npz_members(path, archive)
        name = chosen(path, name, list(members), "array")
        info, label = members[name], f"{path}:{name[:80]}"
        _check_member(info, label, path.stat().st_size)
        with archive.open(info) as file:
            header = _member_header(file, info, label)
            check_numbers(header, label)
            before = file.tell()
            if info.compress_type == zipfile.ZIP_STORED:
                while file.read(_CHUNK):  # to the end, where the checksum is compared
                    pass
                start = _data_start(path, info, label) + before
                array = mapped(path, label, header.dtype, start, header.shape, header.order)
            else:
                array = _unpacked(file, header, label)
    return array if as_stored else native(array)


def read_plain_member(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, label: str
) -> tuple[NpyHeader, bytes]:
    """Read a member that is stored without compression, so no larger than the archive.

    Returns
    -------
    header : NpyHeader
        Of any dtype without objects.
    data : bytes
        The `header.nbytes` bytes of the array.

    Raises
    ------
    ProblemError
    """
    if info.compress_type != zipfile.ZIP_STORED:
        raise ProblemError(f"{label}: is compressed; wanted it stored, as Solution.save does")
    _check_member(info, label, path.stat().st_size)
    with archive.open(info) as file:
        header = _member_header(file, info, label)
        data = file.read()
    if len(data) != header.nbytes:
        raise EOFError
    return header, data


def _member_header(file: IO[bytes], info: zipfile.ZipInfo, label: str) -> NpyHeader:
    header = npy_header(file, label)
    there = info.file_size - file.tell()
    if header.nbytes != there:
        raise ProblemError(
            f"{label}: its header claims {header.nbytes:,} bytes of numbers (shape "
            f"{header.shape}, {str(header.dtype)[:80]}) but the archive holds {there:,}"
        )
    return header


def _unpacked(file: IO[bytes], header: NpyHeader, label: str) -> np.ndarray:
    """Unpack what is small to memory, the rest to an unnamed temporary file that is mapped."""
    if header.nbytes <= _IN_MEMORY:
        data = file.read()
        if len(data) != header.nbytes:
            raise EOFError
        try:
            array = np.frombuffer(data, dtype=header.dtype)
            return array.reshape(header.shape, order="F" if header.fortran_order else "C")
        except ValueError as error:  # an empty array of an impossible shape
            raise ProblemError(f"{label}: {error}") from None
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if header.nbytes > free // 2:
        raise ProblemError(
            f"{label}: unpacks to {header.nbytes:,} bytes, more than half of what is free in "
            f"{tempfile.gettempdir()}; save it as .npy, which is read in place"
        )
    with tempfile.TemporaryFile() as unpacked:
        shutil.copyfileobj(file, unpacked, _CHUNK)
        unpacked.flush()
        if unpacked.tell() != header.nbytes:
            raise EOFError
        return mapped(unpacked, label, header.dtype, 0, header.shape, header.order)


def _check_member(info: zipfile.ZipInfo, label: str, archive_size: int) -> None:
    """Refuse what cannot be honest before any of it is unpacked."""
    if info.flag_bits & 0x1:
        raise ProblemError(f"{label}: is encrypted; wanted an archive as numpy.savez writes it")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ProblemError(
            f"{label}: is compressed in a way that numpy never writes; "
            "write it with numpy.savez or numpy.savez_compressed"
        )
    stored = info.compress_type == zipfile.ZIP_STORED
    packed = min(info.compress_size, archive_size)
    if info.file_size > packed * (1 if stored else _DEFLATE_LIMIT):
        raise ProblemError(
            f"{label}: claims {info.file_size:,} bytes, more than its {info.compress_size:,} "
            "in the archive can hold; the archive is damaged"
        )
    if info.file_size > max(_IN_MEMORY, packed * _HONEST_RATIO):
        raise ProblemError(
            f"{label}: unpacks to {info.file_size:,} bytes, {info.file_size // packed:,} times "
            "what it takes in the archive; save it as .npy, which is read in place"
        )


def _data_start(path: Path, info: zipfile.ZipInfo, label: str) -> int:
    """Where in the archive a member's bytes begin."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        signature, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        start = info.header_offset + _LOCAL_HEADER.size + name + extra
        fits = start + info.file_size <= os.fstat(file.fileno()).st_size
    if signature != b"PK\x03\x04" or not fits:
        raise ProblemError(f"{label}: its place in the archive is damaged")
    return int(start)


def _check_directory(path: Path) -> None:
    """Refuse a list of names that alone would fill the memory; zipfile reads it whole."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = max(0, size - (1 << 16) - 100)
        file.seek(start)
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06", 0, len(tail) - _END.size + 4)
    claims = []
    if at >= 0:
        claims.append(_END.unpack_from(tail, at)[1])
        if at >= 20 + _END64.size and tail[at - 20 : at - 16] == b"PK\x06\x07":
            claims[:] = [_END64.unpack_from(tail, at - 20 - _END64.size)[1]]
    if any(_MOST_DIRECTORY < claim <= size for claim in claims):
        raise ProblemError(f"{path}: lists more arrays than any score file needs")
