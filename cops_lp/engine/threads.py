"""Parts of one job on several threads, the calling one included.

Plain threads, started and joined within the call: nothing is left behind for a fork to break
or an interrupt to leak.
"""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from ..errors import ProblemError

__all__ = ["Beside", "map_parts", "thread_count"]

Part = TypeVar("Part")
Result = TypeVar("Result")


def map_parts(run: Callable[[Part], Result], parts: Sequence[Part], threads: int) -> list[Result]:
    """[run(part) for part in parts], the parts taken in order by up to `threads` threads.

    The first exception, an interrupt of the calling thread among them, ends all: no further
    part is begun, and it is raised when the others have come to the end of theirs.
    """
    if threads <= 1 or len(parts) <= 1:
        return [run(part) for part in parts]
    results: list[Result | None] = [None] * len(parts)
    turns = iter(range(len(parts)))
    lock = threading.Lock()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while not errors:
                with lock:
                    turn = next(turns, None)
                if turn is None:
                    return
                results[turn] = run(parts[turn])
        except BaseException as error:  # raised below, by the calling thread
            errors.append(error)

    helpers = [
        threading.Thread(target=work, name="cops_lp", daemon=True)
        for _ in range(min(threads, len(parts)) - 1)
    ]
    try:
        for helper in helpers:
            helper.start()
        work()
    except BaseException as error:
        errors.append(error)
    for helper in helpers:
        if helper.ident is not None:
            helper.join()
    if errors:
        raise errors[0]
    return results  # type: ignore[return-value]


class Beside:
    """A call on a thread of its own, until :meth:`join`; it must not raise."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._thread = threading.Thread(target=run, name="cops_lp", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()


def thread_count(threads: int | None) -> int:
    """How many threads to use: as many as the process has CPUs where not said.

    Raises
    ------
    ProblemError
        `threads` is no positive int.
    """
    if threads is None:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        count = 0 if isinstance(threads, bool) else operator.index(threads)
    except TypeError:
        count = 0
    if count < 1:
        raise ProblemError(f"threads is {threads!r}; wanted a positive int, or None for all CPUs")
    return count
