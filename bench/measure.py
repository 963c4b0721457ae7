"""Times: several things in one process by turns, and their medians and quartiles."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Rounds", "alternate", "loglog_slope", "summary"]


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often to measure.

    Attributes
    ----------
    least, most : int
        Rounds; between the two the budget decides.
    budget : float
        Seconds after which no further round is begun.
    warmup : int
        Rounds before, whose times are thrown away.
    """

    least: int = 5
    most: int = 101
    budget: float = 5.0
    warmup: int = 1


def alternate(
    tasks: Mapping[str, Callable[[], Any]],
    rounds: Rounds,
    after: Callable[[str, Any], None] | None = None,
) -> dict[str, list[float]]:
    """Time several tasks by turns, so that what disturbs the machine disturbs them all.

    Parameters
    ----------
    tasks : mapping of str to callable
        Each runs once in every round; the order is reversed from round to round.
    rounds : Rounds
    after : callable, optional
        Called with name and value after each task, warm-up included and outside the timed
        part.

    Returns
    -------
    dict of str to list of float
        Seconds, a number for each round after the warm-up. Python's garbage collector is off
        while a task runs.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    order = list(tasks)
    spent = 0.0
    for number in range(rounds.warmup + rounds.most):
        if number >= rounds.warmup + rounds.least and spent > rounds.budget:
            break
        for name in order:
            enabled = gc.isenabled()
            gc.disable()
            try:
                start = time.perf_counter()
                value = tasks[name]()
                elapsed = time.perf_counter() - start
            finally:
                if enabled:
                    gc.enable()
            if number >= rounds.warmup:
                seconds[name].append(elapsed)
                spent += elapsed
            if after is not None:
                after(name, value)
            del value
        order.reverse()
    return seconds


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Median, quartiles and number of the times, and the times themselves."""
    low, middle, high = np.quantile(seconds, [0.25, 0.5, 0.75]).tolist()
    return {
        "median": middle,
        "quartiles": [low, high],
        "rounds": len(seconds),
        "seconds": [float(f"{value:.6g}") for value in seconds],
    }


def loglog_slope(d: Sequence[float], seconds: Sequence[float]) -> float | None:
    """Slope of the least-squares line through (log d, log seconds); None for fewer than 2 d."""
    if len(set(d)) < 2:
        return None
    x, y = np.log(np.asarray(d, dtype=float)), np.log(np.asarray(seconds, dtype=float))
    slope = float(np.polyfit(x, y, 1)[0])
    return slope if math.isfinite(slope) else None
