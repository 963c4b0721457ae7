"""What the engine is to reach, as code: each goal a case, a measured value and a bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import cops_lp

from .baselines import set_torch_threads, torch_is_missing
from .cases import Case, Posed, bytes_of_scores, pose, prefix
from .general import SOLVERS
from .judged import Judged, verdict
from .measure import Rounds, alternate, loglog_slope, summary
from .memory import shortage
from .study import Cell

__all__ = ["HARD", "cells", "evaluate"]

HARD: dict[str, dict[str, Any]] = {
    "all scores equal": {"kind": "equal"},
    "int8 scores": {"kind": "int8"},
    "half the scores zero": {"kind": "half zero"},
    "40 decades": {"kind": "decades"},
    "mixed sign": {"kind": "mixed sign"},
    "control identical to the target": {"kind": "identical"},
    "control proportional to the target": {"kind": "proportional"},
    "floor at the attainable best": {"floors": "best"},
    "floor infeasible by 1e-9": {"floors": "infeasible"},
    "k = 0": {"keep": 0},
    "k = 1": {"keep": 1},
    "k = d − 1": {"keep": -1},
    "k = d": {"keep": 1.0},
}
"""Hard inputs and how they differ from the random case; a negative `keep` counts from d."""

THREADS = (1, 2, 5)
_VERTEX = 1e-9
_PER_WEIGHT, _FIXED = 40.0, 900e6

Row = dict[str, Any]
Record = Mapping[str, Any]
Result = Mapping[str, Any]


def cells(
    *, seed: int, threads: int | None, budget: float, time_limit: float, quick: bool
) -> list[Cell]:
    """Every measurement that the goals need.

    Parameters
    ----------
    seed : int
    threads : int or None
    budget, time_limit : float
        Seconds of timed rounds, and for all that a cell's process does.
    quick : bool
        All sizes and the number of seeds a hundredth, d at least 1,000: to see that it runs.
    """

    def size(d: int) -> int:
        return max(d // 100, 1000) if quick else d

    common: dict[str, Any] = {"seed": seed, "threads": threads, "budget": budget}
    found: list[Cell] = []

    def add(name: str, function: str, needs: float = 0.0, **arguments: Any) -> None:
        about = {"name": name, "limit": time_limit, **arguments}
        found.append(
            Cell(name, about, function, arguments, time_limit, skipped=shortage(needs + _FIXED))
        )

    large, middle = size(10**8), size(10**7)
    for name, K, floors in (
        ("absolute", 1, "absolute"),
        ("retain", 1, "retain"),
        ("top-k", 0, "absolute"),
    ):
        needs = bytes_of_scores(large, K) + 20.0 * large
        add(name, "bench.goals:measure_reading", needs, d=large, K=K, floors=floors, **common)
    add("controls", "bench.goals:measure_controls", 80.0 * middle, d=middle, K=[1, 4, 8], **common)
    d = size(10**6)
    for K in (1, 4):
        for who, general in SOLVERS.items():
            if general.vertex and d <= general.largest:
                arguments: dict[str, Any] = {"d": d, "K": K, "who": who}
                name = f"reference, K = {K}, {who}"
                add(name, "bench.peers:measure_solver", _PER_WEIGHT * d * K, **arguments, **common)
    sizes = sorted({size(10**n) for n in (6, 7, 8, 9)})
    needs = bytes_of_scores(sizes[-1], 1) + 3.5 * sizes[-1]
    add("growth", "bench.goals:measure_growth", needs, sizes=sizes, **common)
    for label, d in (("memory, 10^7", middle), ("memory, 10^8", large)):
        arguments = {"d": d, "K": 1, "memory_mapped": False}
        needs = bytes_of_scores(d, 1) + 4.0 * d
        add(label, "bench.complexity:measure", needs, **arguments, **common)
    for label, d in (("small, 10^3", 10**3), ("small, 10^4", 10**4)):
        add(label, "bench.complexity:measure", d=d, K=1, memory_mapped=False, **common)
    for name in HARD:
        needs = _PER_WEIGHT * middle
        add(f"hard, {name}", "bench.goals:measure_hard", needs, d=middle, which=name, **common)
    seeds = 2 if quick else 200
    for K in (1, 2, 3, 4):
        arguments = {"d": size(10**6), "K": K, "seeds": seeds, "threads": threads}
        add(f"seeds, K = {K}", "bench.goals:measure_seeds", **arguments)
    arguments = {"share": 0.1 if quick else 1.0}
    add("tensors", "bench.tensors:measure_masks", 80.0 * size(10**7), **arguments, **common)
    rounds = 3 if quick else 20
    add("import", "bench.startup:measure_import", rounds=rounds)
    add("first solve", "bench.startup:measure_first_solve", d=size(10**6), rounds=min(rounds, 7))
    add("compile", "bench.startup:measure_compile", d=30_000)
    arguments = {"d": large, "counts": list(THREADS), "seed": seed, "budget": budget}
    needs = bytes_of_scores(large, 1) + 4.0 * large
    add("threads", "bench.goals:measure_threads", needs, **arguments)
    return found


# --- measurements, each in a process of its own ----------------------------------------------


def measure_reading(
    d: int, K: int, floors: str, seed: int, threads: int | None, budget: float
) -> dict[str, Any]:
    """Time ours, `np.partition` of the target, `np.sum` of all scores and, for K = 0, torch."""
    posed = pose(Case(d, K, seed, floors=floors))
    scores = (posed.target, *posed.controls)
    tasks: dict[str, Callable[[], Any]] = {
        "ours": lambda: posed.solve(threads),
        "np.partition": lambda: np.partition(posed.target, d - posed.keep),
        "np.sum": lambda: [np.sum(score) for score in scores],
    }
    if K == 0 and not torch_is_missing():
        import torch

        set_torch_threads(threads)
        tensor = torch.from_numpy(posed.target)
        tasks["torch.topk"] = lambda: torch.topk(tensor, posed.keep, sorted=False)
    return _timed(tasks, {"ours": Judged()}, Rounds(budget=budget * len(tasks)))


def measure_controls(
    d: int, K: Sequence[int], seed: int, threads: int | None, budget: float
) -> dict[str, Any]:
    """Time ours for several K by turns; K that this version does not take are `missing`."""
    tasks: dict[str, Callable[[], Any]] = {}
    missing: dict[str, str] = {}
    for count in K:
        try:
            pose(Case(1000, count, seed)).solve(threads)
        except cops_lp.ProblemError as error:
            missing[str(count)] = str(error)
            continue
        posed = pose(Case(d, count, seed))
        tasks[str(count)] = lambda posed=posed: posed.solve(threads)  # type: ignore[misc]
    rounds = Rounds(budget=budget * len(tasks))
    return _timed(tasks, {name: Judged() for name in tasks}, rounds) | {"missing": missing}


def measure_growth(
    sizes: Sequence[int], seed: int, threads: int | None, budget: float
) -> dict[str, Any]:
    """Time ours for several d by turns, on prefixes of one set of scores."""
    case = Case(max(sizes), 1, seed)
    whole = pose(case)
    parts: dict[str, Posed] = {str(d): prefix(whole, case, d) for d in sizes}
    tasks: dict[str, Callable[[], Any]] = {
        name: lambda part=part: part.solve(threads)  # type: ignore[misc]
        for name, part in parts.items()
    }
    rounds = Rounds(most=25, budget=budget * len(tasks))
    return _timed(tasks, {name: Judged() for name in tasks}, rounds)


def measure_hard(
    d: int, which: str, seed: int, threads: int | None, budget: float
) -> dict[str, Any]:
    """Time ours on a hard input and on random input by turns."""
    change = dict(HARD[which])
    if change.get("keep", 0) < 0:
        change["keep"] += d
    hard, random = pose(Case(d, 1, seed, **change)), pose(Case(d, 1, seed))
    tasks = {"hard": lambda: hard.solve(threads), "random": lambda: random.solve(threads)}
    judges = {name: Judged() for name in tasks}
    return _timed(tasks, judges, Rounds(most=25, budget=2.0 * budget))


def measure_seeds(d: int, K: int, seeds: int, threads: int | None) -> dict[str, Any]:
    """Solve and judge random instances; count how many needed a second round."""
    certified = again = 0
    largest_gap, largest_residual = 0.0, 0.0
    for seed in range(seeds):
        solution = pose(Case(d, K, seed)).solve(threads)
        found = verdict(solution)
        certified += found["certified"]
        again += solution.passes > 1
        largest_gap = max(largest_gap, found["relative_gap"] or 0.0)
        largest_residual = max(largest_residual, found["residual"] or 0.0)
    return {
        "seeds": seeds,
        "certified": certified,
        "second_rounds": again,
        "relative_gap": largest_gap,
        "residual": largest_residual,
    }


def measure_threads(d: int, counts: Sequence[int], seed: int, budget: float) -> dict[str, Any]:
    """Time ours with several numbers of threads by turns; one judge sees all their answers."""
    posed = pose(Case(d, 1, seed))
    tasks: dict[str, Callable[[], Any]] = {
        str(count): lambda count=count: posed.solve(count)  # type: ignore[misc]
        for count in counts
    }
    judged = Judged()
    return _timed(tasks, dict.fromkeys(tasks, judged), Rounds(budget=budget * len(tasks)))


def _timed(
    tasks: Mapping[str, Callable[[], Any]], judges: Mapping[str, Judged], rounds: Rounds
) -> dict[str, Any]:
    def watch(name: str, value: Any) -> None:
        if name in judges:
            judges[name].watch(value)

    seconds = alternate(tasks, rounds, watch)
    distinct = {id(judged): judged for judged in judges.values()}
    verdicts = {key: judged.verdict() for key, judged in distinct.items()}
    return {
        "times": {name: summary(times) for name, times in seconds.items()},
        "judges": {name: verdicts[id(judged)] for name, judged in judges.items()},
    }


# --- goals -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Measure:
    """How a record's result becomes the number that is held to a bound.

    `value` computes it, `timed` names the times it comes from, `judges` the verdicts on our
    answers, `note` says more; each from the function's result.
    """

    value: Callable[[Result], float]
    timed: Callable[[Result], Mapping[str, Any]] = lambda _: {}
    judges: Callable[[Result], Sequence[Mapping[str, Any]]] | None = None
    note: Callable[[Result], str] = lambda _: ""


def evaluate(run: Mapping[str, Any]) -> list[Row]:
    """Rows of the table of goals, from a run's records alone.

    Returns
    -------
    list of dict
        `case`; `measured`, `bound` and `unit`; `sense` ("≤" or "≥"); `reached`, True, False or
        None where it was not measured; `times`, pairs of a name and its
        :func:`bench.measure.summary`; `relative_gap`, `residual` and `certified` of the
        answers timed; `note`.
    """
    known = {record["about"]["name"]: record for record in run["cells"]}
    found: list[Row] = []

    def add(name: str, case: str, sense: str, bound: float, unit: str, measure: _Measure) -> None:
        if name in known:
            row = _new_row(case, sense, bound, unit)
            found.append(row | _measured(known[name], row, measure))

    d = _size(known, "absolute")
    what = f"K = 1, d = {d}, absolute floor: over"
    add("absolute", f"{what} np.partition", "≤", 0.4, "×", _over("ours", "np.partition"))
    add("absolute", f"{what} np.sum of both", "≤", 3.0, "×", _over("ours", "np.sum"))
    what = f"K = 1, d = {d}, retain: over np.partition"
    add("retain", what, "≤", 0.6, "×", _over("ours", "np.partition"))
    what = f"K = 0, d = {d}: over"
    add("top-k", f"{what} np.partition", "≤", 0.3, "×", _over("ours", "np.partition"))
    add("top-k", f"{what} torch.topk", "≤", 0.05, "×", _over("ours", "torch.topk"))
    d = _size(known, "controls")
    for K, bound in ((4, 4.0), (8, 10.0)):
        add("controls", f"K = {K}, d = {d}: over K = 1", "≤", bound, "×", _over(str(K), "1"))
    for K in (1, 4):
        found += _reference_row(known, K)
    if "growth" in known:
        sizes = known["growth"]["about"]["sizes"]
        what = f"K = 1, d = {sizes[-1]:,}: over d = {sizes[-2]:,}"
        add("growth", what, "≤", 12.0, "×", _over(str(sizes[-1]), str(sizes[-2])))
        what = f"K = 1, growth from d = {sizes[0]:,} to {sizes[-1]:,}"
        add("growth", what, "≤", 1.02, "slope", _Measure(_slope, _all_times, _all_judges))
    for name in ("memory, 10^7", "memory, 10^8"):
        if name in known:
            size = known[name]["about"]["d"]
            bound = 1.3 * size + 100e6
            extra = _Measure(lambda found: float(found["extra_bytes"]), judges=_one_judge)
            add(name, f"K = 1, d = {size:,}: extra memory", "≤", bound, "B", extra)
    for name, bound in (("small, 10^3", 0.5e-3), ("small, 10^4", 1.5e-3)):
        add(name, f"K = 1, d = {_size(known, name)}, warm", "≤", bound, "s", _SOLVE)
    for name in HARD:
        what = f"{name}, d = {_size(known, f'hard, {name}')}: over random input"
        add(f"hard, {name}", what, "≤", 3.0, "×", _over("hard", "random"))
    for K in (1, 2, 3, 4):
        name = f"seeds, K = {K}"
        if name in known:
            count = known[name]["about"]["seeds"]
            what = f"K = {K}, d = {_size(known, name)}: exact of {count} seeds"
            add(name, what, "≥", float(count), "", _SEEDS)
    what = "masks of ResNet-50's 161 tensors, K = 1"
    add("tensors", what, "≤", 0.3, "s", _MASKS)
    add("tensors", f"{what}: over one flat array", "≤", 1.3, "×", _over("masks", "flat"))
    add("import", "import cops_lp: over import numpy", "≤", 1.3, "×", _over("cops_lp", "numpy"))
    what = f"first solve of a process, kernels cached, d = {_size(known, 'first solve')}"
    add("first solve", what, "≤", 1.0, "s", _FIRST)
    what = "all kernels compiled from nothing"
    add("compile", what, "≤", 20.0, "s", _Measure(lambda found: float(found["seconds"])))
    what = "first solve of a process after cops-lp warmup"
    add("compile", what, "≤", 1.0, "s", _WARMED)
    what = f"threads {', '.join(map(str, THREADS))}: answers are the same bits"
    add("threads", what, "≥", 1.0, "", _SAME_BITS)
    what = f"two threads, d = {_size(known, 'threads')}: one thread over two"
    add("threads", what, "≥", 1.6, "×", _over("1", "2"))
    return found


def _new_row(case: str, sense: str, bound: float, unit: str) -> Row:
    row: Row = {"case": case, "bound": bound, "unit": unit, "sense": sense}
    row |= {"measured": None, "reached": None, "times": [], "note": ""}
    return row | {"relative_gap": None, "residual": None, "certified": None}


def _measured(record: Record, row: Row, measure: _Measure) -> Row:
    if record["status"] != "done":
        return {"note": f"{record['status']}: {record['message']}"}
    result = record["result"]
    try:
        value = measure.value(result)
    except (KeyError, TypeError) as error:
        missing = result.get("missing", {}).get(str(error).strip("'"), "")
        return {"note": missing or "not available in this version or installation"}
    good = value <= row["bound"] if row["sense"] == "≤" else value >= row["bound"]
    found: Row = {
        "measured": value,
        "times": list(measure.timed(result).items()),
        "note": measure.note(result),
    }
    judges = measure.judges(result) if measure.judges else []
    if judges:
        found |= _quality(judges)
        good = good and found["certified"]
    return found | {"reached": bool(good)}


def _quality(judges: Sequence[Mapping[str, Any]]) -> Row:
    return {
        "certified": all(judge["certified"] for judge in judges),
        "relative_gap": max(judge["relative_gap"] or 0.0 for judge in judges),
        "residual": max(judge["residual"] or 0.0 for judge in judges),
    }


def _reference_row(known: Mapping[str, Record], K: int) -> list[Row]:
    """The fastest general solver whose vertex is good to 1e-9, over ours."""
    start = f"reference, K = {K}, "
    records = [record for name, record in known.items() if name.startswith(start)]
    if not records:
        return []
    what = f"K = {K}, d = {records[0]['about']['d']:,}: fastest general solver with a vertex"
    row = _new_row(f"{what}, over ours", "≥", 2000.0, "×")
    why: list[str] = []
    fastest = math.inf
    for record in records:
        who = record["about"]["who"]
        if record["status"] != "done":
            why.append(f"{who}: {record['status']}")
            continue
        mine, theirs = record["result"]["rows"]
        if "missing" in mine:
            why.append(mine["missing"])
            continue
        judge = theirs["judge"]
        exact = max(judge["relative_gap"], judge["residual"]) <= _VERTEX
        ratio = theirs["times"]["median"] / mine["times"]["median"]
        if exact and judge["fractional"] <= K + 1 and ratio < fastest:
            fastest = ratio
            row |= _quality([mine["judge"]])
            row["measured"] = ratio
            row["reached"] = bool(ratio >= row["bound"] and row["certified"])
            row["times"] = [(who, theirs["times"]), ("ours", mine["times"])]
    return [row | {"note": "; ".join(dict.fromkeys(why))}]


def _over(one: str, other: str) -> _Measure:
    """The ratio of two medians, with the verdicts on all answers of ours."""
    return _Measure(
        lambda result: float(result["times"][one]["median"] / result["times"][other]["median"]),
        lambda result: {name: result["times"][name] for name in (one, other)},
        _all_judges,
    )


def _slope(result: Result) -> float:
    points = [(int(d), times["median"]) for d, times in result["times"].items()]
    slope = loglog_slope([d for d, _ in points], [t for _, t in points])
    if slope is None:
        raise KeyError("slope")
    return slope


def _all_times(result: Result) -> Mapping[str, Any]:
    found: Mapping[str, Any] = result["times"]
    return found


def _all_judges(result: Result) -> Sequence[Mapping[str, Any]]:
    return list(result.get("judges", {}).values())


def _one_judge(result: Result) -> Sequence[Mapping[str, Any]]:
    return [result["judge"]]


_SOLVE = _Measure(
    lambda result: float(result["times"]["median"]),
    lambda result: {"ours": result["times"]},
    _one_judge,
)
_FIRST = _Measure(lambda result: float(result["times"]["solve"]["median"]), _all_times, _one_judge)
_WARMED = _Measure(
    lambda result: float(result["warmup"]["first_solve"]),
    judges=lambda result: [result["warmup"]["judge"]],
    note=lambda result: f"the command took {result['warmup']['seconds']:.3g} s",
)
_MASKS = _Measure(
    lambda result: float(result["times"]["masks"]["median"]),
    lambda result: {"masks": result["times"]["masks"]},
    _all_judges,
    note=lambda result: f"d = {result['d']:,}",
)
_SEEDS = _Measure(
    lambda result: float(result["certified"]),
    judges=lambda result: [{**result, "certified": result["certified"] == result["seeds"]}],
    note=lambda result: f"second rounds: {result['second_rounds']}",
)
_SAME_BITS = _Measure(lambda result: float(_all_judges(result)[0]["same_bits"]), judges=_all_judges)


def _size(known: Mapping[str, Record], name: str) -> str:
    return f"{known[name]['about']['d']:,}" if name in known else "?"
