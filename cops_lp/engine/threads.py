"""Parts of one job on several threads, the calling one included.

Plain threads, started and joined within the call: nothing is left behind for a fork to break
or an interrupt to leak. Where no more threads can be started, fewer do the same work.
"""

from __future__ import annotations

import operator
import os
import threading
from collections import deque
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
    turns = deque(range(len(parts)))  # no lock, which an interrupt could leave locked
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while not errors:
                try:
                    turn = turns.popleft()
                except IndexError:
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
            if not _started(helper):
                break
        work()
    except BaseException as error:
        errors.append(error)
    errors.extend(_join(helpers))
    if errors:
        raise errors[0]
    return results  # type: ignore[return-value]


class Beside:
    """A call on a thread of its own, until :meth:`join`; it must not raise.

    Where no thread can be started the call is made at once.
    """

    def __init__(self, run: Callable[[], object]) -> None:
        self._thread = threading.Thread(target=run, name="cops_lp", daemon=True)
        if not _started(self._thread):
            run()

    def join(self) -> None:
        """Wait for its end, also where an interrupt comes meanwhile, which is raised then."""
        for error in _join([self._thread]):
            raise error


def _started(thread: threading.Thread) -> bool:
    """Start a thread; False where the system or a limit on the process allows no more."""
    try:
        thread.start()
    except RuntimeError:  # "can't start new thread"
        return False
    return True


def _join(threads: Sequence[threading.Thread]) -> list[BaseException]:
    """Wait for all that were started; returns the interrupts that came meanwhile."""
    errors: list[BaseException] = []
    for thread in threads:
        while thread.ident is not None and thread.is_alive():
            try:
                thread.join()
            except BaseException as error:
                errors.append(error)
    return errors


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
