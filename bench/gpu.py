"""Scores on a GPU: ours against one read of them, `torch.topk` and `torch.kthvalue`.

Also runs on CPU tensors, to see that it works: they go through the device's store then too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import cops_lp

from .measure import Rounds, alternate, summary
from .study import Cell

__all__ = ["cells", "measure", "rows"]

SHARE = 0.1
_BLOCK = 1 << 24  # weights made at once
_READ, _OURS, _TOPK = "one read", "K = 1", "torch.topk"
TO_REACH = {_READ: 10.0, _TOPK: 1.0}
"""The most that ours may take at 10^9, over these."""


def cells(
    sizes: Sequence[int],
    *,
    device: str,
    dtypes: Sequence[str],
    seed: int,
    threads: int | None,
    budget: float,
    time_limit: float,
) -> list[Cell]:
    """One cell for each size and dtype; parameters as in :func:`measure`."""
    found = []
    for d in sizes:
        for dtype in dtypes:
            arguments = {"d": d, "device": device, "dtype": dtype, "seed": seed}
            arguments |= {"threads": threads, "budget": budget}
            about = {**arguments, "limit": time_limit}
            found.append(
                Cell(f"d = {d:,}, {dtype}", about, "bench.gpu:measure", arguments, time_limit)
            )
    return found


def measure(
    d: int, device: str, dtype: str, seed: int, threads: int | None, budget: float
) -> dict[str, Any]:
    """Time ours with one control and with none, one read, topk and kthvalue by turns.

    Parameters
    ----------
    d : int
    device : str
        As torch takes it.
    dtype : {"float32", "float16", "bfloat16", "float64"}
    seed : int
    threads : int or None
        For what ours does on the CPU.
    budget : float
        Seconds of timed rounds for each task.

    Returns
    -------
    dict
        `times` by task; `same_bits`: whether masks and multipliers are those of the CPU's
        kernels on the same scores; `peak_bytes` of device memory beyond the scores (None on
        the CPU); `passes`, `open_share`; `device`; `missing`: why a peer was not timed.
    """
    import torch

    from cops_lp.torch.pieces import TensorPieces

    place = torch.device(device)
    on_gpu = place.type == "cuda"
    target, control = _scores(d, place, getattr(torch, dtype), seed)
    k = round(SHARE * d)
    pieces = [TensorPieces([score]) for score in (target, control)]
    floor = 0.9 * _best(control, k)

    def synchronized(task: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            found = task()
            if on_gpu:
                torch.cuda.synchronize(place)
            return found

        return run

    def solve(controls: Sequence[Any]) -> cops_lp.Solution:
        floors = floor if controls else None
        return cops_lp.solve(pieces[0], list(controls), keep=k, floors=floors, threads=threads)

    tasks: dict[str, Callable[[], Any]] = {
        _OURS: lambda: solve(pieces[1:]),
        "K = 0": lambda: solve(()),
        _READ: lambda: (target.sum(), control.sum()),
        _TOPK: lambda: torch.topk(target, k, sorted=False),
        "torch.kthvalue": lambda: torch.kthvalue(target, d - k + 1),
    }
    missing: dict[str, str] = {}
    for name in (_TOPK, "torch.kthvalue"):
        try:
            synchronized(tasks[name])()
        except RuntimeError as error:  # too large for it, or out of memory
            missing[name] = " ".join(str(error).split())[:200]
            del tasks[name]
    found = synchronized(tasks[_OURS])()
    peak = None
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(place)
        before = torch.cuda.memory_allocated(place)
        synchronized(tasks[_OURS])()
        peak = torch.cuda.max_memory_allocated(place) - before
    seconds = alternate(
        {name: synchronized(task) for name, task in tasks.items()},
        Rounds(budget=budget * len(tasks)),
    )
    return {
        "times": {name: summary(times) for name, times in seconds.items()},
        "same_bits": _same_as_arrays(found, target, control, threads),
        "peak_bytes": peak,
        "passes": found.passes,
        "open_share": found.open_count / d,
        "device": torch.cuda.get_device_name(place) if on_gpu else device,
        "missing": missing,
    }


def rows(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each cell and task: d, dtype, task, median, over ours, status and notes."""
    found: list[dict[str, Any]] = []
    for cell in run["cells"]:
        about, result = cell["about"], cell["result"]
        start = {"d": about["d"], "dtype": about["dtype"]}
        if cell["status"] != "done":
            found.append(start | {"task": "", "note": f"{cell['status']}: {cell['message']}"})
            continue
        ours = result["times"][_OURS]["median"]
        for task, times in result["times"].items():
            row = start | {"task": task, "median": times["median"], "note": ""}
            row["ratio"] = ours / times["median"]
            if task == _OURS:
                row["note"] = "bits of the CPU's" if result["same_bits"] else "OTHER BITS"
            elif task in TO_REACH and about["d"] >= 10**9:
                reached = row["ratio"] <= TO_REACH[task]
                row["note"] = "reached" if reached else f"MISSED (≤ {TO_REACH[task]:g})"
            found.append(row)
        found += [start | {"task": task, "note": why} for task, why in result["missing"].items()]
    return found


def _scores(d: int, place: Any, dtype: Any, seed: int) -> tuple[Any, Any]:
    """Two correlated positive scores, made block by block on the device."""
    import torch

    generator = torch.Generator(place).manual_seed(seed)
    target = torch.empty(d, dtype=dtype, device=place)
    control = torch.empty_like(target)
    for start in range(0, d, _BLOCK):
        n = min(_BLOCK, d - start)
        first, second = (torch.empty(n, device=place) for _ in range(2))
        first.exponential_(generator=generator)
        second.exponential_(generator=generator)
        target[start : start + n] = first
        control[start : start + n] = 0.3 * first + second
    return target, control


def _best(score: Any, k: int) -> float:
    """About the sum of the k largest, from a sample."""
    import torch

    some = score[:: max(1, len(score) // 1_000_000)].double()
    count = max(1, round(k * len(some) / len(score)))
    return float(torch.topk(some, count).values.sum()) * (k / count)


def _same_as_arrays(
    found: cops_lp.Solution, target: Any, control: Any, threads: int | None
) -> bool:
    from cops_lp.torch import flat_score

    scores = [flat_score({"all": score.cpu()}) for score in (target, control)]
    expected = cops_lp.solve(
        *scores, keep=found.keep, floors=found.floors.tolist(), threads=threads
    )
    return bool(
        np.array_equal(np.asarray(found.mask), expected.mask)
        and np.array_equal(found.multipliers, expected.multipliers)
        and found.objective == expected.objective
    )
