"""Parts of one job on several threads, the calling one included.

Plain threads, started and joined within the call: nothing is left behind for a fork to break
or an interrupt to leak. Where no more threads can be started, fewer do the same work.
"""

from __future__ import annotations

import math
import operator
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from ..errors import ProblemError

__all__ = ["Beside", "map_parts", "stop_at", "thread_count"]

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

    helpers = [_Helper(work) for _ in range(min(threads, len(parts)) - 1)]
    try:
        for helper in helpers:
            if not helper.start():
                break
        work()
    except BaseException as error:
        errors.append(error)
    for helper in helpers:
        errors.extend(helper.join())
    if errors:
        raise errors[0]
    return results  # type: ignore[return-value]


class Beside:
    """A call on a thread of its own, until :meth:`join`; it must not raise.

    Where no thread can be started the call is made at once.
    """

    def __init__(self, run: Callable[[], object]) -> None:
        self._helper = _Helper(run)
        try:
            if not self._helper.start():
                run()
        except BaseException:
            self._helper.join()
            raise

    def join(self) -> None:
        """Wait for its end, also where an interrupt comes meanwhile, which is raised then."""
        for error in self._helper.join():
            raise error


class _Helper:
    """A thread whose end can be waited for through interrupts.

    After an interrupt `threading.Thread.join` takes a running thread for ended (Python 3.11 and
    3.12 release its lock then), so its end is told by an event.
    """

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run
        self._ended = threading.Event()
        self._patience: float | None = 0.0  # seconds to wait for the end; None for any
        self._thread = threading.Thread(target=self._work, name="cops_lp", daemon=True)

    def start(self) -> bool:
        """Start it; False where the system or a limit on the process allows no more threads."""
        self._patience = 1.0  # an interrupt may come before the thread is there
        try:
            self._thread.start()
        except RuntimeError:  # "can't start new thread"
            self._patience = 0.0
            return False
        self._patience = None
        return True

    def join(self) -> list[BaseException]:
        """Wait for its end where it was started; returns the interrupts that came meanwhile."""
        errors: list[BaseException] = []
        while self._patience != 0.0 and not self._ended.is_set():
            try:
                if not self._ended.wait(self._patience):
                    return errors
            except BaseException as error:
                errors.append(error)
        if self._ended.is_set():  # what is left of it takes microseconds
            try:
                self._thread.join()
            except BaseException as error:
                errors.append(error)
        return errors

    def _work(self) -> None:
        try:
            self._run()
        finally:
            self._ended.set()


@contextmanager
def stop_at(deadline: float) -> Iterator[np.ndarray]:
    """Flag, uint8 of shape (1,), that compiled code may look at: 1 once a deadline has come.

    A thread waits for it within the ``with`` block; where none can be started, the flag tells only
    whether it had come before.
    """
    stop = np.zeros(1, dtype=np.uint8)
    left = deadline - time.perf_counter()
    if not 0.0 < left < math.inf:
        stop[0] = left <= 0.0
        yield stop
        return
    ended = threading.Event()

    def wait() -> None:
        stop[0] = not ended.wait(min(left, threading.TIMEOUT_MAX))

    helper = _Helper(wait)
    try:
        helper.start()
        yield stop
    finally:
        ended.set()
        for error in helper.join():
            raise error


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
