"""New files, whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cops_lp.errors import ProblemError

from .words import either

__all__ = ["check_new_file", "new_file"]


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
            f"{path}: cannot write a file that ends in {path.suffix!r}; wanted {either(suffixes)}"
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
