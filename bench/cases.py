"""The problems that are timed: scores made block by block from a seed, and floors for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cops_lp

__all__ = ["KINDS", "Case", "Posed", "bytes_of_scores", "pose", "prefix"]

SHARE = 0.1
"""Share of the weights that is kept, unless a case says otherwise."""

_BLOCK = 1 << 20  # weights made at once: the only temporary arrays
_SAMPLE = 200_000  # weights that floors are estimated from when there are more than _WHOLE
_WHOLE = 1_000_000

Block = np.ndarray
Make = Callable[[np.random.Generator, int, Block | None], Block]
"""(generator, size, the target's block or None for the target itself) to a block."""


@dataclass(frozen=True, slots=True)
class Case:
    """What to pose.

    Attributes
    ----------
    d, controls : int
        Weights, and K.
    seed : int
    kind : str
        How the scores are distributed: a key of :data:`KINDS`.
    keep : float or int
        As `cops_lp.solve` takes it.
    floors : {"absolute", "retain", "best", "infeasible"}
        Absolute floors halfway between what the target's own mask keeps and what a mask of
        all scores together keeps; the same as shares of the attainable best, to be computed
        in the solve; the attainable best itself; the best and 1e-9 of it more.
    """

    d: int
    controls: int
    seed: int = 0
    kind: str = "random"
    keep: float | int = SHARE
    floors: str = "absolute"


@dataclass(frozen=True, slots=True)
class Posed:
    """Scores with a budget and floors; `retain` and `floors` as `cops_lp.solve` takes them."""

    target: np.ndarray
    controls: tuple[np.ndarray, ...]
    keep: int
    retain: list[float] | None
    floors: list[float] | None

    def solve(self, threads: int | None = None) -> cops_lp.Solution:
        """Solve from scratch: nothing is known from an earlier solve."""
        return cops_lp.solve(
            self.target,
            self.controls,
            keep=self.keep,
            retain=self.retain,
            floors=self.floors,
            threads=threads,
            raise_on_infeasible=False,
        )

    def problem(self) -> cops_lp.Problem:
        """The same for reference solvers."""
        return cops_lp.Problem(
            self.target, self.controls, keep=self.keep, retain=self.retain, floors=self.floors
        )


def pose(case: Case, folder: Path | None = None) -> Posed:
    """Make the scores and floors of a case.

    Parameters
    ----------
    case : Case
    folder : Path, optional
        Where to keep the scores as .npy files, which are then memory-mapped.

    Returns
    -------
    Posed
        float32 scores (int8 for the quantized kind): 4(K + 1) bytes per weight and no
        larger temporary array than a block of 10^6.
    """
    make = KINDS[case.kind]
    dtype = np.dtype(np.int8 if case.kind == "int8" else np.float32)
    scores = [_empty(case.d, dtype, folder, j) for j in range(1 + case.controls)]
    for block, start in enumerate(range(0, case.d, _BLOCK)):
        stop = min(start + _BLOCK, case.d)
        target = None
        for j, score in enumerate(scores):
            # One generator for each block of each score: the same numbers for any K and d.
            rng = np.random.Generator(np.random.SFC64([case.seed, j, block]))
            values = make(rng, stop - start, target)
            score[start:stop] = values
            target = values if j == 0 else target
    if folder is not None:
        for score in scores:
            score.flush()  # type: ignore[attr-defined]
        scores = [np.load(folder / f"{j}.npy", mmap_mode="r") for j in range(len(scores))]
    keep = round(case.keep * case.d) if isinstance(case.keep, float) else case.keep
    return _with_floors(scores[0], tuple(scores[1:]), keep, case)


def prefix(posed: Posed, case: Case, d: int) -> Posed:
    """The first d weights of a posed case, as views, with a budget and floors of their own."""
    keep = round(case.keep * d) if isinstance(case.keep, float) else case.keep
    return _with_floors(posed.target[:d], tuple(a[:d] for a in posed.controls), keep, case)


def bytes_of_scores(d: int, controls: int) -> int:
    """Memory that the scores of a case take."""
    return 4 * d * (1 + controls)


# --- floors ----------------------------------------------------------------------------------


def _with_floors(
    target: np.ndarray, controls: tuple[np.ndarray, ...], keep: int, case: Case
) -> Posed:
    if not controls:
        return Posed(target, controls, keep, None, None)
    scores: Sequence[np.ndarray] = (target, *controls)
    d = target.size
    k = keep
    # Floors at the attainable best must be it to the last bit; others may be estimated.
    estimated = case.floors in ("absolute", "retain") and case.kind == "random"
    if d > _WHOLE and estimated and 1e-3 <= keep / d <= 1.0 - 1e-3:
        step = d // _SAMPLE
        scores = [score[::step] for score in scores]
        k = round(keep / d * scores[0].size)
    rows = np.stack([score.astype(np.float64) for score in scores])
    scale = keep / k if k else 0.0  # what the sampled mask keeps, for `keep` weights
    middle, best = _reachable(rows, k)
    floors, best = middle * scale, best * scale
    if case.floors == "retain":
        shares = np.floor(1e4 * floors / best) / 1e4
        return Posed(target, controls, keep, shares.tolist(), None)
    if case.floors == "best":
        floors = best
    elif case.floors == "infeasible":
        floors = best + 1e-9 * np.abs(best)
    return Posed(target, controls, keep, None, floors.tolist())


def _reachable(rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Floors that can be met together, and the best of each control alone.

    The floors are halfway between the controls kept by the target's top k and those kept by
    the top k of all scores over their means, so half of each mask meets them.
    """
    mean = np.abs(rows).mean(axis=1)
    mean[mean == 0.0] = 1.0
    own = rows[1:, _top(rows[0], k)].sum(axis=1)
    joint = rows[1:, _top((rows / mean[:, None]).sum(axis=0), k)].sum(axis=1)
    best = np.array([row[_top(row, k)].sum() for row in rows[1:]])
    return 0.5 * (own + joint), best


def _top(row: np.ndarray, k: int) -> np.ndarray:
    if k >= len(row):
        return np.arange(len(row))
    return np.sort(np.argpartition(row, len(row) - k - 1)[len(row) - k :])


# --- scores ----------------------------------------------------------------------------------


def _empty(d: int, dtype: np.dtype[Any], folder: Path | None, j: int) -> np.ndarray:
    if folder is None:
        return np.empty(d, dtype=dtype)
    return np.lib.format.open_memmap(folder / f"{j}.npy", mode="w+", dtype=dtype, shape=(d,))


def _exponential(rng: np.random.Generator, n: int, target: Block | None) -> Block:
    values = rng.standard_exponential(n, dtype=np.float32)
    if target is not None:
        values += np.float32(0.3) * target
    return values


def _equal(_rng: np.random.Generator, n: int, _target: Block | None) -> Block:
    return np.ones(n, dtype=np.float32)


def _int8(rng: np.random.Generator, n: int, _target: Block | None) -> Block:
    return rng.integers(-127, 128, n, dtype=np.int8)


def _half_zero(rng: np.random.Generator, n: int, target: Block | None) -> Block:
    zero = rng.random(n, dtype=np.float32) < 0.5
    return np.where(zero, np.float32(0.0), _exponential(rng, n, target))


def _decades(rng: np.random.Generator, n: int, _target: Block | None) -> Block:
    """40 decades, as SynFlow's scores of a deep network."""
    return np.power(10.0, rng.uniform(-30.0, 10.0, n)).astype(np.float32)


def _signed(rng: np.random.Generator, n: int, target: Block | None) -> Block:
    values = rng.standard_normal(n, dtype=np.float32)
    if target is not None:
        values += np.float32(0.3) * target
    return values


def _identical(rng: np.random.Generator, n: int, target: Block | None) -> Block:
    return _exponential(rng, n, None) if target is None else target


def _proportional(rng: np.random.Generator, n: int, target: Block | None) -> Block:
    return _exponential(rng, n, None) if target is None else np.float32(3.0) * target


KINDS: dict[str, Make] = {
    "random": _exponential,
    "equal": _equal,
    "int8": _int8,
    "half zero": _half_zero,
    "decades": _decades,
    "mixed sign": _signed,
    "identical": _identical,
    "proportional": _proportional,
}
