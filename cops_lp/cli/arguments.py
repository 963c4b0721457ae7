"""What people type for scores, budgets and floors, read."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cops_lp.errors import ProblemError
from cops_lp.files import SCORE_SUFFIXES

__all__ = ["ScoreArgument", "parse_control", "parse_keep", "parse_per_control", "parse_score"]


class ScoreArgument(NamedTuple):
    """Where a score is, and what to call it.

    `label` is the control's name, empty for a target; `name` picks an array in the file.
    """

    label: str
    path: Path
    name: str | None


def parse_score(text: str) -> ScoreArgument:
    r"""Read ``FILE[:NAME]``.

    A colon separates only where what stands before it is a file or ends like one, so that
    ``C:\scores.npy`` stays whole and ``w.safetensors:dense/kernel:0`` names ``dense/kernel:0``.

    Examples
    --------
    >>> parse_score("w.safetensors:fc.weight").name
    'fc.weight'
    """
    return ScoreArgument("", *_split_name(text))


def parse_control(text: str) -> ScoreArgument:
    """Read ``[NAME=]FILE[:NAME]``; the control's name is by default the array's or the file's.

    ``lr=0.1/snip.npy`` is a path and no name where the folder ``lr=0.1`` exists.

    Examples
    --------
    >>> parse_control("size=w.npz:magnitude").label, parse_control("w.npz:magnitude").label
    ('size', 'magnitude')
    """
    label, equals, rest = text.partition("=")
    path, _ = _split_name(text)
    is_path = path.exists() or Path(path.parts[0] if path.parts else "").is_dir()
    if not equals or is_path or any(mark in label for mark in "/\\"):
        path, name = _split_name(text)
        return ScoreArgument(name or path.stem, path, name)
    if not label:
        raise ProblemError(f"--control {text!r}: a name is wanted before '='")
    return ScoreArgument(label, *_split_name(rest))


def parse_keep(text: str) -> int | float:
    """Read a budget: digits are a count; a point, an exponent or ``%`` makes it a share.

    Examples
    --------
    >>> parse_keep("5000"), parse_keep("0.1"), parse_keep("10%")
    (5000, 0.1, 0.1)
    """
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return _share(text)
    except ValueError:
        raise ProblemError(
            f"--keep {text!r}: wanted a count like 5000 or a share like 10% or 0.1"
        ) from None


def parse_per_control(option: str, values: list[str]) -> float | dict[str, float] | None:
    """Read a repeatable ``[NAME=]NUMBER``: one number for all, or one for each name.

    Parameters
    ----------
    option : str
        The option's name without dashes, for messages; "retain" may be in percent.
    values : list of str

    Returns
    -------
    float, dict of str to float, or None
        None when nothing was given.

    Examples
    --------
    >>> parse_per_control("retain", ["snip=0.9", "size=80%"])
    {'snip': 0.9, 'size': 0.8}
    """
    named: dict[str, float] = {}
    plain: list[float] = []
    for text in values:
        name, equals, number = text.rpartition("=")
        try:
            value = _share(number) if option == "retain" else float(number)
        except ValueError:
            example = "0.9, 90% or NAME=0.9" if option == "retain" else "12.5 or NAME=12.5"
            raise ProblemError(f"--{option} {text!r}: wanted a number, as {example}") from None
        if not equals:
            plain.append(value)
        elif name in named:
            raise ProblemError(f"--{option} is given twice for {name!r}")
        else:
            named[name] = value
    if plain and (named or len(plain) > 1):
        raise ProblemError(f"--{option}: give one number for all controls, or NAME=NUMBER for each")
    return plain[0] if plain else named or None


def _share(text: str) -> float:
    text = text.strip()
    return float(text[:-1]) / 100.0 if text.endswith("%") else float(text)


def _split_name(text: str) -> tuple[Path, str | None]:
    if Path(text).exists():
        return Path(text), None
    parts = [
        (text[:i], text[i + 1 :])
        for i in reversed(range(len(text)))
        if text[i] == ":" and not (i == 1 and text[2:3] in ("\\", "/"))
    ]
    for path, name in parts:
        if Path(path).is_file():
            return Path(path), name
    for path, name in parts:
        if path.lower().endswith(SCORE_SUFFIXES):
            return Path(path), name
    return Path(text), None
