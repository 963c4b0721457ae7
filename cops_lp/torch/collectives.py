"""What the ranks of a process group say to one another: arrays, and errors with them.

All ranks run the same code on the same numbers, and meet at each exchange: there a rank that has
failed says so, and ranks that are about to do different things find out. So nobody waits for a
rank that does not come. What is said at a meeting has always the same size; what is small is
exchanged right there, what is large after it.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NoReturn, TypeAlias, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from cops_lp.errors import SolverError

__all__ = ["Collectives"]

_MOST = 1 << 22  # bytes in one collective, all ranks' parts together
_HEAD, _SMALL = 32, (1 << 11) - 32  # bytes that a rank says at a meeting: how it is, and what
_FINE, _FAILED, _LEFT = 0, 1, 2

_NOTHING = np.empty(0, np.uint8)

Found = TypeVar("Found")


class _EndedError(Exception):
    """A rank has left, or the ranks disagree: nobody may go on. Its cause says why.

    `owner` are the exchanges in which that showed, `rank` is the one whose error it is; −1 where
    it is everybody's.
    """

    def __init__(self, owner: Collectives, rank: int = -1) -> None:
        super().__init__(rank)
        self.owner, self.rank = owner, rank


class Collectives:
    """Exchanges among the ranks of a process group, counted.

    Parameters
    ----------
    group : ProcessGroup or None
        None is the default group.

    Attributes
    ----------
    rank, size : int
        This process's in the group, and of the group.
    group : ProcessGroup or None
    device : torch.device
        Where the group exchanges tensors.
    calls, bytes, largest : int
        Collectives so far, the bytes that they brought to each rank, and the most in one.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.calls = self.bytes = self.largest = 0
        self.device = torch.device("cpu")
        if "nccl" in str(dist.get_backend(group)):
            self.device = torch.device("cuda", torch.cuda.current_device())
        self._ended = False
        self._depth = 0  # of together(), nested
        self._record = _Stack(self, np.zeros(_HEAD + _SMALL, np.uint8))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Begin and end together: where the body raises on some rank, all ranks raise that.

        Of several errors that of the lowest rank. Not so for KeyboardInterrupt and the like.
        Those of several groups may be nested: what ends one is told to the others.
        """
        self._ended = False
        self._depth += 1
        try:
            yield
        except _EndedError as error:
            if error.owner is self:
                raise _cause(error) from None
            if not self._ended:
                with suppress(_EndedError):
                    self._meet("end", (), _cause(error), _LEFT, _NOTHING)
            raise
        except Exception as error:
            if self._ended:  # the exchange itself failed: there is nobody to tell
                raise
            try:
                self._meet("end", (), error, _LEFT, _NOTHING)
            except _EndedError as ended:
                if ended.rank != self.rank:
                    raise _cause(ended) from None
            raise
        else:
            try:
                self._meet("end", (), None, _FINE, _NOTHING)
            except _EndedError as error:
                raise _cause(error) from None
        finally:
            self._depth -= 1

    def each(self, what: str, work: Callable[[], Found], *arguments: Any) -> Found:
        """Do a rank's own work; where it raises on some rank, the same is raised on all.

        `what` and `arguments` (arrays, numbers) must be the same on all ranks.
        """
        found: list[Found] = []

        def nothing() -> np.ndarray:
            found.append(work())
            return _NOTHING

        self.gather(what, nothing, *arguments)
        return found[0]

    def gather(self, what: str, work: Callable[[], np.ndarray], *arguments: Any) -> np.ndarray:
        """All ranks' arrays, of one shape and dtype, stacked by rank; else as :meth:`each`."""
        own, rows, room = self._met(what, work, arguments, _Stack)
        if room is not None:
            rows = room.run()
        return rows.view(own.dtype).reshape(self.size, *own.shape)

    def fill(self, what: str, work: Callable[[], np.ndarray], *arguments: Any) -> np.ndarray:
        """Put together an array of which each entry is given by one rank; 0 by the others.

        float32, float64, int64 or uint8; its bits are kept. Else as :meth:`each`.
        """
        own, rows, room = self._met(what, work, arguments, _Sum)
        raw: np.ndarray = np.bitwise_or.reduce(rows, axis=0) if room is None else room.run()
        return raw.view(own.dtype).reshape(own.shape)

    def run(self, collective: Callable[[], None], size: int) -> None:
        """Run a collective that brings so many bytes to each rank."""
        self.calls += 1
        self.bytes += size
        self.largest = max(self.largest, size)
        try:
            collective()
        except BaseException:  # an interrupt too: the others are out of step now
            self._ended = True
            raise

    def _met(
        self,
        what: str,
        work: Callable[[], np.ndarray],
        arguments: tuple[Any, ...],
        kind: type[_Room],
    ) -> tuple[np.ndarray, np.ndarray, _Room | None]:
        """A rank's own array, and the bytes of all, a row each; or if they are too many, room.

        All memory for their exchange is had before ranks say that they are fine.
        """
        own, room, failure, state = _NOTHING, None, None, _FINE
        try:
            own = np.ascontiguousarray(work())
            if own.nbytes > _SMALL:
                room = kind(self, _bytes(own))
        except Exception as error:
            failure, state = error, _FAILED
        rows = self._meet(what, arguments, failure, state, _bytes(own))
        return own, rows[:, : min(own.nbytes, _SMALL)].copy(), room

    def _meet(
        self,
        what: str,
        arguments: tuple[Any, ...],
        failure: Exception | None,
        state: int,
        said: np.ndarray,
    ) -> np.ndarray:
        """Learn whether all ranks are fine, about to do the same, and what they say if it is small.

        Raises
        ------
        _EndedError
            Some rank left, or the ranks are out of step.
        Exception
            What `failure` is on the lowest rank that has one.
        """
        text = b"" if failure is None else _packed(failure, self.rank)
        record = self._record.own
        record[:] = 0
        head = [state, len(text), _digest(what, arguments), len(said)]
        record[:_HEAD] = np.array(head, np.int64).view(np.uint8)
        if len(said) <= _SMALL:
            record[_HEAD : _HEAD + len(said)] = said
        records = self._record.run()
        states, lengths, digests, sizes = np.ascontiguousarray(records[:, :_HEAD]).view(np.int64).T
        if states.any():
            room = np.zeros(int(lengths.max()), np.uint8)
            room[: len(text)] = np.frombuffer(text, np.uint8)
            texts = _Stack(self, room).run()
            left = (states == _LEFT).any()
            first = int(np.flatnonzero(states)[0])
            error = _unpacked(texts[first, : lengths[first]].tobytes(), first)
            if not left and (digests == digests[0]).all():
                raise error
            self._end(first, error)
        if (digests != digests[0]).any() or (sizes != sizes[0]).any():
            error = SolverError(
                f"the ranks are out of step: rank {self.rank} came to {what!r}, and others to "
                "something else or with other numbers; wanted the same arguments, versions and "
                "kind of processor on every rank"
            )
            self._end(-1, error)
        return records[:, _HEAD:]

    def _end(self, rank: int, error: Exception) -> NoReturn:
        self._ended = True
        if not self._depth:
            raise error
        raise _EndedError(self, rank) from error


class _Stack:
    """Room in which all ranks' bytes, as many of each, come together, a row each."""

    def __init__(self, ranks: Collectives, own: np.ndarray) -> None:
        self.own = own.copy()
        self._ranks = ranks
        self._flat = torch.from_numpy(self.own)
        step = min(max(_MOST // ranks.size, 1), len(own))
        with torch.inference_mode(False):  # they may be written to outside it, later
            self._there = torch.empty(step, dtype=torch.uint8, device=ranks.device)
            self._all = torch.empty((ranks.size, step), dtype=torch.uint8, device=ranks.device)
        self._rows = np.empty((ranks.size, len(own)), np.uint8)

    def run(self) -> np.ndarray:
        """Exchange them; the array is the same at each call."""
        step = len(self._there)
        for start in range(0, len(self._flat), step or 1):
            part = self._flat[start : start + step]
            rows = torch.from_numpy(self._rows[:, start : start + step])
            self._ranks.run(partial(self._gather, part, rows), self._ranks.size * len(part))
        return self._rows

    def _gather(self, part: torch.Tensor, rows: torch.Tensor) -> None:
        there, found = self._there[: len(part)], [row[: len(part)] for row in self._all]
        there.copy_(part)
        dist.all_gather(found, there, group=self._ranks.group)
        rows.copy_(self._all[:, : len(part)])  # where a GPU's faults show


class _Sum:
    """Room in which all ranks' bytes are put together, each of which one rank has, 0 the others."""

    def __init__(self, ranks: Collectives, own: np.ndarray) -> None:
        self._ranks = ranks
        self._size = len(own)
        self._padded = np.zeros(-(-len(own) // 8) * 8, np.uint8)  # whole words
        self._padded[: len(own)] = own
        step = min(_MOST // 8, len(self._padded) // 8)
        self._there = torch.empty(step, dtype=torch.int64, device=ranks.device)

    def run(self) -> np.ndarray:
        """Exchange them."""
        words, step = torch.from_numpy(self._padded.view(np.int64)), len(self._there)
        for start in range(0, len(words), step):
            part = words[start : start + step]
            self._ranks.run(partial(self._reduce, part), 8 * len(part))
        return self._padded[: self._size]

    def _reduce(self, part: torch.Tensor) -> None:
        there = self._there[: len(part)]
        there.copy_(part)
        dist.all_reduce(there, group=self._ranks.group)
        part.copy_(there)


_Room: TypeAlias = _Stack | _Sum


def _bytes(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1).view(np.uint8)


def _cause(error: _EndedError) -> Exception:
    cause = error.__cause__
    assert isinstance(cause, Exception)
    cause.__traceback__ = None
    return cause


def _digest(what: str, arguments: tuple[Any, ...]) -> int:
    """64 bits that differ where what is to be done does."""
    found = hashlib.blake2b(what.encode(), digest_size=8)
    for argument in arguments:
        if argument is None:
            found.update(b"None")
            continue
        array = np.ascontiguousarray(argument)
        found.update(repr((array.shape, array.dtype.str)).encode())
        found.update(array.tobytes())
    return int.from_bytes(found.digest(), "little", signed=True)


def _packed(error: Exception, rank: int) -> bytes:
    """An error as the other ranks' own; those that cannot be sent as a SolverError."""
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)
    except Exception:
        packed = pickle.dumps(
            SolverError(f"rank {rank} failed with {type(error).__name__}: {error}")
        )
    return packed


def _unpacked(packed: bytes, rank: int) -> Exception:
    error: Exception = pickle.loads(packed)
    error.add_note(f"(raised on rank {rank} of the process group)")
    return error
