"""Files that are to be read: there, regular, and of a kind that is read."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from cops_lp.errors import ProblemError

from .words import either

__all__ = ["existing_file"]


def existing_file(path: str | os.PathLike[str], suffixes: tuple[str, ...]) -> Path:
    """Return the path of a file that can be opened and ends in one of the suffixes.

    Raises
    ------
    ProblemError
        There is none, it is a folder or a pipe, it cannot be opened, or it ends otherwise.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and path.suffix.lower() in suffixes:
            with path.open("rb"):
                pass
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise ProblemError(f"{path}: no such file") from None
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ProblemError(f"{path}: cannot be read ({reason})") from None
    wanted = either(suffixes)
    if stat.S_ISDIR(mode):
        raise ProblemError(f"{path}: is a folder; wanted a {wanted} file")
    if not stat.S_ISREG(mode):
        raise ProblemError(f"{path}: is not a regular file; wanted a {wanted} file")
    if path.suffix.lower() not in suffixes:
        raise ProblemError(
            f"{path}: cannot read a file that ends in {path.suffix!r}; wanted {wanted}"
        )
    return path
