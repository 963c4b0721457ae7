"""The problem a user states, validated: which scores, how many weights, which floors."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex, TypeAlias

import numpy as np

from .errors import ProblemError, SolverError
from .pieces import Pieces, Score, faults_of, largest_of
from .tolerances import FLOOR_TOLERANCE, JOINT_TOLERANCE

if TYPE_CHECKING:
    from .solution import Solution

__all__ = ["FLOOR_TOLERANCE", "JOINT_TOLERANCE", "Problem"]

ARRAY_CHANGED = (
    "two reads of the scores contradict each other: was an array changed during the solve?"
)

Keep: TypeAlias = SupportsIndex | SupportsFloat
Controls: TypeAlias = Any  # one array, a sequence of arrays, or a mapping name -> array
PerControl: TypeAlias = SupportsFloat | Sequence[SupportsFloat] | Mapping[str, SupportsFloat]


class Problem:
    """Keep the k best of d weights by one score while others keep at least their floors.

    ``maximize cᵀm  subject to  1ᵀm = k,  A m ≥ b,  m ∈ {0, 1}^d`` and its relaxation to
    ``0 ≤ m ≤ 1``. Higher scores mean "keep"; scores may have any sign. The arrays are
    neither copied nor modified: they are read when the problem is solved, and must not change
    while the problem or its solutions are in use (what was computed from them is kept). What
    else a problem states cannot be changed; :meth:`replace` and :meth:`solve` take another
    budget or other floors.

    Parameters
    ----------
    target : array_like, any shape, d entries
        The score c to maximize. float16, bfloat16 (ml_dtypes), float32, float64, integer or
        bool; read-only, strided and memory-mapped arrays are read in place. Integers beyond
        2^53 are rounded to float64. Or scores in several places taken as one, as
        `cops_lp.torch.flat_score` makes them.
    controls : array_like, sequence of array_like, or mapping of str to array_like
        The K control scores A, each in target's shape; a mapping's keys name them, otherwise
        they are "control" or "control 1", "control 2", …
    keep : int or float
        How many weights to keep: an int in [0, d] is a count; a float in [0, 1] is a share
        of d, rounded to the nearest count (ties to even). So ``keep=1`` is one weight and
        ``keep=1.0`` all of them.
    retain : float, sequence of float, or mapping, optional
        Floors as shares in [0, 1] of the best that each control could keep in k weights
        (the sum of its k largest entries, which must be positive). One number goes for all.
    floors : float, sequence of float, or mapping, optional
        Floors b in the controls' own units; any finite number. With controls, give exactly
        one of `retain` and `floors`.

    Raises
    ------
    ProblemError
        An argument is out of range or of the wrong shape or dtype; the message names it.
        NaN and infinities in the scores are found when the problem is solved, not here.

    Notes
    -----
    Construction is O(K): no score is read. Formulation: DESIGN of this package ("ours"),
    after the abstract of COPS (arXiv:2107.12673).

    Examples
    --------
    >>> problem = Problem([3.0, 2.0, 1.0, 0.0], {"size": [0.0, 1.0, 2.0, 3.0]},
    ...                   keep=0.5, retain=0.6)
    >>> problem.keep, problem.best().tolist(), problem.floors.tolist()
    (2, [5.0, 5.0], [3.0])
    """

    def __init__(
        self,
        target: Any,
        controls: Controls = (),
        *,
        keep: Keep,
        retain: PerControl | None = None,
        floors: PerControl | None = None,
    ) -> None:
        self._target = _as_scores("target", target)
        self._names, self._controls = _named_controls(controls, self._target.shape)
        self._keep = _count(keep, self._target.size)
        self._state: dict[tuple[int, int], _Attainable] = {}
        if not self._controls:
            for name, value in (("retain", retain), ("floors", floors)):
                if value is not None and not _is_empty(value):
                    raise ProblemError(f"{name} was given but there are no controls to hold to it")
            retain = floors = None
        elif (retain is None) == (floors is None):
            got = "neither" if retain is None else "both"
            raise ProblemError(f"give exactly one of retain and floors for the controls, got {got}")
        self._retain: np.ndarray | None = None
        self._floors: np.ndarray | None = None  # as given
        self._from_retain: np.ndarray | None = None  # once they are asked for
        if retain is not None:
            self._retain = _per_control("retain", retain, self._names)
            for name, value in zip(self._names, self._retain, strict=True):
                if not 0.0 <= value <= 1.0:
                    raise ProblemError(f"retain of {name!r} is {value}; wanted a share in [0, 1]")
        elif floors is not None:
            self._floors = _per_control("floors", floors, self._names)
            for name, value in zip(self._names, self._floors, strict=True):
                if not math.isfinite(value):
                    raise ProblemError(f"floor of {name!r} is {value:g}; wanted a finite number")

    @property
    def target(self) -> Score:
        """c, as given."""
        return self._target

    @property
    def controls(self) -> tuple[Score, ...]:
        """The K controls, as given."""
        return self._controls

    @property
    def names(self) -> tuple[str, ...]:
        """The controls' names."""
        return self._names

    @property
    def keep(self) -> int:
        """k, a count."""
        return self._keep

    @property
    def retain(self) -> np.ndarray | None:
        """The floors as shares; float64, shape (K,), or None where they were given as such."""
        return self._retain

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the scores and of the mask."""
        return self.target.shape

    @property
    def size(self) -> int:
        """d, the number of weights."""
        return self.target.size

    @property
    def scores(self) -> tuple[Score, ...]:
        """The target, then the controls, as given."""
        return (self.target, *self.controls)

    @property
    def score_names(self) -> tuple[str, ...]:
        """``"target"``, then the controls' names."""
        return ("target", *self.names)

    def best(self, *, threads: int | None = None) -> np.ndarray:
        """Sum of the k largest entries of each score: the most that a mask can keep of it.

        Parameters
        ----------
        threads : int, optional
            As in :func:`cops_lp.solve`.

        Returns
        -------
        ndarray of float64, shape (1 + K,)
            The target's first, then the controls'. Computed once and kept.

        Raises
        ------
        ProblemError
            A score holds NaN or an infinity.

        Notes
        -----
        O(d) and one pass for each score.
        """
        return np.array([self.best_of(j, threads) for j in range(1 + len(self.controls))])

    def together(self) -> AbstractContextManager[None]:
        """Return a context in which what reads scores may fail; of scores in shards, on all ranks.

        Nothing here: those of :func:`cops_lp.torch.solve_sharded` are in the hands of several
        processes, which end it together.
        """
        return nullcontext()

    def knows_best(self) -> bool:
        """Whether :meth:`best` reads no score."""
        return not np.isnan(self.known_best()).any()

    def known_best(self) -> np.ndarray:
        """Return :meth:`best` without reading a score, NaN where it was not computed yet."""
        known = [self._state.get((j, self.keep)) for j in range(1 + len(self.controls))]
        return np.array([math.nan if best is None else best.best for best in known])

    def best_of(self, j: int, threads: int | None, deadline: float = math.inf) -> float:
        """Best of score j, 0 for the target; see :meth:`best` and :meth:`prepare`."""
        return self._attainable(j, threads, deadline).best

    @property
    def floors(self) -> np.ndarray:
        """b, the floors in the controls' units; float64, shape (K,).

        From `retain` they are ``retain · best``, which reads the controls once.

        Raises
        ------
        ProblemError
            `retain` was given for a control whose best is not positive, or a control holds
            NaN or an infinity.
        """
        if self._floors is not None:
            return self._floors
        if self._from_retain is None:
            self._from_retain = self._shares_of_best()
        return self._from_retain

    def _shares_of_best(self) -> np.ndarray:
        if self.retain is None:
            return _frozen(np.empty(0))
        floors = np.empty(len(self.names))
        for j, (name, share) in enumerate(zip(self.names, self.retain, strict=True)):
            best = self._attainable(1 + j).best
            if not best > 0.0 and self.keep > 0:
                raise ProblemError(
                    f"retain of {name!r} needs a positive attainable best, but the {self.keep} "
                    f"largest entries sum to {best:g}; give an absolute floor with floors= instead"
                )
            floors[j] = share * best
        return _frozen(floors)

    def solve(
        self,
        *,
        keep: Keep | None = None,
        retain: PerControl | None = None,
        floors: PerControl | None = None,
        integral: bool = False,
        threads: int | None = None,
        time_limit: float | None = None,
        raise_on_infeasible: bool = True,
    ) -> Solution:
        """Solve for this or another budget and other floors, reusing what is known.

        Parameters
        ----------
        keep, retain, floors
            As in :class:`Problem`; what is left out stays as it was.
        integral, threads, time_limit, raise_on_infeasible
            As in :func:`cops_lp.solve`.

        Returns
        -------
        Solution

        Raises
        ------
        ProblemError, InfeasibleError, SolverError
            As :func:`cops_lp.solve`.
        """
        with self.together():
            return self.replace(keep=keep, retain=retain, floors=floors)._solved(
                integral=integral,
                threads=threads,
                time_limit=time_limit,
                raise_on_infeasible=raise_on_infeasible,
            )

    def _solved(self, **how: Any) -> Solution:
        from .solver import solve_problem

        return solve_problem(self, **how)

    def replace(
        self,
        *,
        keep: Keep | None = None,
        retain: PerControl | None = None,
        floors: PerControl | None = None,
    ) -> Problem:
        """Return the same scores under another budget or other floors.

        Parameters are as in :class:`Problem`; what is left out stays as it was. The new
        problem shares what is known of the scores, so bests are not computed twice.
        """
        if keep is None and retain is None and floors is None:
            return self
        if retain is None and floors is None:
            retain = self.retain
            floors = self._floors
        other = type(self)(
            self.target,
            dict(zip(self.names, self.controls, strict=True)),
            keep=self.keep if keep is None else keep,
            retain=retain,
            floors=floors,
        )
        other._state = self._state
        return other

    def check_finite(self) -> None:
        """Read every score and raise if one holds NaN or an infinity.

        The solver calls this only after it met such a value, so that the common case costs
        nothing.

        Raises
        ------
        ProblemError
            Names the score, counts what is not finite and gives the first index.
        """
        _check_finite("target", self.target)
        for name, control in zip(self.names, self.controls, strict=True):
            _check_finite(f"control {name!r}", control)

    def check_sums(self) -> None:
        """Read every score and raise if sums of k entries can be beyond float64.

        The solver calls this only after it met such a sum.

        Raises
        ------
        ProblemError
            Names the score and its largest entry.
        """
        for name, score in zip(self.score_names, self.scores, strict=True):
            largest = largest_of(score)
            if not math.isfinite(largest * self.keep):
                raise ProblemError(
                    f"entries of {name!r} are up to {largest:g}, so that {self.keep} of them sum "
                    "to more than float64 holds; scale it down (that changes no mask)"
                )

    def prepare(self, threads: int, deadline: float = math.inf) -> None:
        """Compute what the floors need, on so many threads; at once where nothing is needed.

        OutOfTimeError of the engine where a pass would begin after the deadline, which is on
        ``time.perf_counter``'s clock.
        """
        if self.retain is not None:
            for j in range(len(self.controls)):
                self._attainable(1 + j, threads, deadline)

    def has_floors(self) -> bool:
        """Whether `floors` were given, or asked for before."""
        return self.retain is None or self._from_retain is not None

    def known_floors(self) -> np.ndarray:
        """`floors` without reading a score: NaN where `retain` needs a best not known yet."""
        if self.retain is None or all(
            (1 + j, self.keep) in self._state for j in range(len(self.controls))
        ):
            return self.floors
        return np.full(len(self.controls), np.nan)

    def known_sizes(self) -> np.ndarray:
        """Summed absolute entries of each control's best mask; ∞ where not known. Shape (K,)."""
        known = [self._state.get((1 + j, self.keep)) for j in range(len(self.controls))]
        return np.array([math.inf if best is None else best.magnitude for best in known])

    def known_attainable(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Best of each control and its k-th largest entry; None where one is not known."""
        known = [self._state.get((1 + j, self.keep)) for j in range(len(self.controls))]
        if not known or any(best is None for best in known):
            return None
        return (
            np.array([best.best for best in known if best is not None]),
            np.array([best.threshold for best in known if best is not None]),
        )

    def _attainable(
        self, j: int, threads: int | None = None, deadline: float = math.inf
    ) -> _Attainable:
        """Best of score j (0 is the target) in k weights; computed once per budget."""
        key = (j, self.keep)
        if key not in self._state:
            from .engine.driver import best_sum
            from .engine.stores import make_store
            from .engine.threads import thread_count

            store = make_store((self.scores[j],), thread_count(threads))
            try:
                found = best_sum(store, self.keep, deadline)
            except OverflowError:
                if math.isfinite(largest_of(self.scores[j]) * self.keep):
                    raise
                raise ProblemError(
                    f"the {self.keep} largest entries of {self.score_names[j]!r} sum to "
                    "inf, beyond float64; scale it down (that changes no mask)"
                ) from None
            if found is None:
                self.check_finite()
                raise SolverError(ARRAY_CHANGED)
            self._state[key] = _Attainable(*found)
        return self._state[key]

    def __repr__(self) -> str:
        controls = ", ".join(repr(name) for name in self.names) or "none"
        return f"Problem(shape={self.shape}, keep={self.keep}, controls: {controls})"


@dataclass(frozen=True, slots=True)
class _Attainable:
    best: float  # sum of the k largest entries
    magnitude: float  # sum of their absolute values, the scale of rounding errors
    threshold: float  # the k-th largest


def _as_scores(name: str, value: Any) -> Score:
    if isinstance(value, Pieces):
        array: Score = value
    else:
        array = _as_array(name, value)
    if array.size == 0:
        raise ProblemError(f"{name} is empty (shape {array.shape}); wanted at least one weight")
    return array


def _as_array(name: str, value: Any) -> np.ndarray:
    if isinstance(value, np.ma.MaskedArray):
        raise ProblemError(f"{name} is a masked array; wanted a plain one (fill it first)")
    if (
        not hasattr(value, "__array__")
        and isinstance(value, Iterable)
        and not isinstance(value, Sequence)
    ):
        raise ProblemError(f"{name} is {type(value).__name__}; wanted an array or nested lists")
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever a foreign __array__ raises
        raise ProblemError(f"{name} cannot be read as an array: {error}") from error
    if array.dtype.name != "bfloat16" and (
        array.dtype.kind not in "fiub" or array.dtype.itemsize > 8
    ):
        raise ProblemError(
            f"{name} has dtype {array.dtype}; wanted real numbers: float16, bfloat16, float32, "
            "float64, integer or bool"
        )
    return array


def _named_controls(
    controls: Controls, shape: tuple[int, ...]
) -> tuple[tuple[str, ...], tuple[Score, ...]]:
    if controls is None:
        controls = ()
    if isinstance(controls, Mapping):
        names = []
        for name in controls:
            if not isinstance(name, str):
                raise ProblemError(f"controls: a name is {name!r}; wanted a str")
            if name == "target":
                raise ProblemError("controls: the name 'target' is taken by the target itself")
            names.append(name)
        values = list(controls.values())
    else:
        if isinstance(controls, (list, tuple)):
            values = list(controls)
            if _is_one_array(values, shape):
                values = [controls]
        else:
            array = _as_scores("controls", controls)
            if array.shape == shape or array.ndim == 0 or isinstance(array, Pieces):
                values = [array]
            else:
                values = list(array)
        if len(values) == 1:
            names = ["control"]
        else:
            names = [f"control {j + 1}" for j in range(len(values))]
    arrays = tuple(
        _as_scores(f"control {name!r}", value) for name, value in zip(names, values, strict=True)
    )
    for name, array in zip(names, arrays, strict=True):
        if array.shape != shape:
            raise ProblemError(
                f"control {name!r} has shape {array.shape}; wanted the target's, {shape}"
            )
    return tuple(names), arrays


def _is_one_array(values: list[Any], shape: tuple[int, ...]) -> bool:
    """Whether nested lists of numbers are one control in the target's shape."""
    if not shape or any(hasattr(value, "__array__") and np.ndim(value) for value in values):
        return False
    try:
        return np.shape(values) == shape
    except ValueError:  # ragged
        return False


def _count(keep: Keep, size: int) -> int:
    if isinstance(keep, (bool, np.bool_)):
        raise ProblemError(f"keep is {keep!r}; wanted a count (int) or a share (float in [0, 1])")
    try:
        count = operator.index(keep)  # type: ignore[arg-type]
    except TypeError:
        if isinstance(keep, str):
            share = math.nan
        else:
            try:
                share = float(keep)
            except (TypeError, ValueError, OverflowError):
                share = math.nan
        if not 0.0 <= share <= 1.0:
            raise ProblemError(
                f"keep is {keep!r}; wanted a count (int) or a share (float in [0, 1])"
            ) from None
        return round(share * size)
    if not 0 <= count <= size:
        raise ProblemError(
            f"keep is {count}; wanted a count from 0 to {size}, the number of weights"
        )
    return count


def _per_control(name: str, value: PerControl, names: tuple[str, ...]) -> np.ndarray:
    if isinstance(value, Mapping):
        unknown = [key for key in value if key not in names]
        missing = [key for key in names if key not in value]
        if unknown or missing:
            raise ProblemError(
                f"{name} must name each control once: "
                + "; ".join(
                    f"{what} {', '.join(map(repr, keys))}"
                    for what, keys in (("unknown", unknown), ("missing", missing))
                    if keys
                )
                + f"; the controls are {', '.join(map(repr, names))}"
            )
        value = [value[key] for key in names]
    try:
        if isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value):
            array = np.array([_number(item) for item in value])
        else:
            array = np.array(_number(value))
    except (TypeError, ValueError, OverflowError):
        raise ProblemError(f"{name} is {value!r}; wanted a number for each control") from None
    if array.ndim == 0:
        array = np.full(len(names), float(array))
    if array.shape != (len(names),):
        raise ProblemError(
            f"{name} has shape {array.shape}; wanted one number, or one for each of the "
            f"{len(names)} controls"
        )
    return _frozen(array)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _number(value: Any) -> float:
    if isinstance(value, (str, bool, np.bool_)) or np.iscomplexobj(value):
        raise TypeError
    return float(value)


def _is_empty(value: Any) -> bool:
    return isinstance(value, (Sequence, Mapping, np.ndarray)) and len(value) == 0


def _check_finite(label: str, score: Score) -> None:
    nans, infinities, first = faults_of(score)
    if first >= 0:
        if isinstance(score, Pieces):
            place = score.place(first)
        else:
            index = tuple(int(i) for i in np.unravel_index(first, score.shape))
            place = f"index {index[0] if len(index) == 1 else index}"
        what = " and ".join(
            f"{count} {word}"
            for count, word in (
                (nans, "NaN"),
                (infinities, "infinity" if infinities == 1 else "infinities"),
            )
            if count
        )
        raise ProblemError(f"{label} holds {what}, the first at {place}; wanted finite numbers")
