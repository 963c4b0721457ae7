"""Lists in messages, and which of several names is meant."""

from __future__ import annotations

import difflib
from pathlib import Path

from cops_lp.errors import ProblemError

__all__ = ["WANTED", "chosen", "either", "short", "some"]

WANTED = "wanted real numbers: float16, bfloat16, float32, float64, integer or bool"

_NAMES_SHOWN = 5
_LONGEST = 80  # characters of a name in a message
_COMPARED = 1000  # names that are searched for one alike


def chosen(path: Path, name: str | None, names: list[str], noun: str) -> str:
    """Return the name asked for, or the only one there is; ProblemError where there is none."""
    if not names:
        raise ProblemError(f"{path}: holds no {noun}s")
    if name is None:
        if len(names) == 1:
            return names[0]
        raise ProblemError(
            f"{path}: holds {len(names):,} {noun}s; say which, as FILE:NAME: {some(names)}"
        )
    if name not in names:
        compared = [other for other in names[:_COMPARED] if len(other) <= _LONGEST]
        close = difflib.get_close_matches(name, compared, n=_NAMES_SHOWN, cutoff=0.6)
        hint = f"close to it: {some(close)}" if close else f"it holds {some(names)}"
        raise ProblemError(f"{path}: has no {noun} {short(name)}; {hint}")
    return name


def some(names: list[str]) -> str:
    """Quote the first names and count the others."""
    shown = ", ".join(map(short, names[:_NAMES_SHOWN]))
    more = len(names) - _NAMES_SHOWN
    return shown if more <= 0 else f"{shown} and {more:,} more"


def short(name: str) -> str:
    """Quote a name, cut where no message could hold it."""
    return repr(name if len(name) <= _LONGEST else name[:_LONGEST] + "…")


def either(words: tuple[str, ...]) -> str:
    """Join with commas and "or"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
