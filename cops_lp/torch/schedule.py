"""How many weights each round of an iterated pruning keeps."""

from __future__ import annotations

import operator
from typing import Any, Literal, get_args

from cops_lp.errors import ProblemError

__all__ = ["Schedule", "budgets", "check_rounds"]

Schedule = Literal["exponential", "linear"]


def check_rounds(rounds: Any, schedule: Any) -> int:
    """Return the number of rounds, once it and the schedule are known to be such.

    Raises
    ------
    ProblemError
        `rounds` is no integer above zero, or `schedule` is no name of one.
    """
    if schedule not in get_args(Schedule):
        raise ProblemError(f"schedule is {schedule!r}; wanted 'exponential' or 'linear'")
    try:
        count = operator.index(rounds)
    except TypeError:
        count = 0
    if isinstance(rounds, bool) or count < 1:
        raise ProblemError(f"rounds is {rounds!r}; wanted an integer above zero")
    return count


def budgets(size: int, keep: int, rounds: int, schedule: Schedule) -> list[int]:
    """Return how many weights each round keeps, the last exactly `keep`.

    With d weights of which k are to be kept after R rounds, round r = 1, …, R keeps
    d (k/d)^(r/R) of them (exponential: each round removes the same share of what is left) or
    d − (d − k) r/R (linear: each removes as many), rounded to the nearest count.

    Parameters
    ----------
    size, keep : int
        1 ≤ `keep` ≤ `size`.
    rounds : int
        ≥ 1.
    schedule : {"exponential", "linear"}

    Returns
    -------
    list of int
        Never rising, each in [`keep`, `size`].

    Examples
    --------
    >>> budgets(1000, 1, 3, "exponential"), budgets(1000, 1, 3, "linear")
    ([100, 10, 1], [667, 334, 1])
    """
    if schedule == "linear":
        left = [size - round((size - keep) * number / rounds) for number in range(1, rounds)]
    else:
        left = [round(size * (keep / size) ** (number / rounds)) for number in range(1, rounds)]
    return [min(size, max(keep, count)) for count in left] + [keep]
