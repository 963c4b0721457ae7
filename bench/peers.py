"""The peers: what else finds these masks, timed by turns with ours or in its own process."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import cops_lp

from .baselines import SELECTIONS, bisection, set_torch_threads, torch_is_missing
from .cases import Case, Posed, bytes_of_scores, pose
from .general import SOLVERS
from .judged import Judged, verdict
from .measure import Rounds, alternate, summary
from .memory import shortage
from .study import Cell

__all__ = [
    "CONTROLS",
    "OURS",
    "PeerFailedError",
    "cells",
    "measure_bisection",
    "measure_selection",
    "measure_solver",
    "rows",
]

OURS = "cops_lp"
CONTROLS = (1, 4)
"""K that the general solvers are timed with."""

LARGEST_GENERAL = 10**6

_AGREE = 1e-12
_SAFETY_LIMIT = 3600.0  # of what is sure to end: selections and bisections
_TURNS = 25  # of ours, to one of a general solver's
_WARM = 200  # weights of the problem that loads a general solver's libraries
_FIXED = 700e6


class PeerFailedError(Exception):
    """A peer ended without an answer; the message says how."""


def cells(
    d_values: list[int],
    *,
    seed: int,
    threads: int | None,
    budget: float,
    time_limit: float,
    solvers: list[str] | None = None,
) -> list[Cell]:
    """Cells of the three groups: selection (K = 0), bisection (K = 1), general solvers.

    Parameters
    ----------
    d_values : list of int
        General solvers take those up to 10^6, and each as far as it can end.
    seed : int
    threads : int or None
    budget, time_limit : float
        Seconds of timed rounds, and for all that a general solver's process does.
    solvers : list of str, optional
        Keys of :data:`bench.general.SOLVERS`; all by default.
    """
    common = {"seed": seed, "threads": threads, "budget": budget}
    found = []
    for group, K, copies in (("selection", 0, 24), ("bisection", 1, 48)):
        for d in d_values:
            needs = bytes_of_scores(d, K) + copies * d + _FIXED
            found.append(
                Cell(
                    name=f"{group}, d = {d:,}",
                    about={"group": group, "d": d, "K": K, "limit": _SAFETY_LIMIT, **common},
                    function=f"bench.peers:measure_{group}",
                    arguments={"d": d, **common},
                    time_limit=_SAFETY_LIMIT,
                    skipped=shortage(needs),
                )
            )
    for K in CONTROLS:
        for d in (d for d in d_values if d <= LARGEST_GENERAL):
            for who in SOLVERS if solvers is None else solvers:
                about = {"group": "general", "d": d, "K": K, "who": who, "limit": time_limit}
                beyond = d > SOLVERS[who].largest
                found.append(
                    Cell(
                        name=f"{who}, K = {K}, d = {d:,}",
                        about={**about, **common},
                        function="bench.peers:measure_solver",
                        arguments={"d": d, "K": K, "who": who, **common},
                        time_limit=time_limit,
                        skipped=SOLVERS[who].reason if beyond else "",
                    )
                )
    return found


def measure_selection(d: int, seed: int, threads: int | None, budget: float) -> dict[str, Any]:
    """Top k of one score: ours, NumPy and torch by turns in one process.

    Returns
    -------
    dict
        `rows`: ours first, then a peer each, with `who`, `gives`, `times`, `judge` (ours) or
        `relative_gap` and `agrees` (peers), or `missing`.
    """
    posed = pose(Case(d, 0, seed))
    k = posed.keep
    missing = torch_is_missing()
    if not missing:
        set_torch_threads(threads)
    used = {name: peer for name, peer in SELECTIONS.items() if not (peer.torch and missing)}
    judged = Judged()
    answers: dict[str, Any] = {}

    def keep_answer(name: str, value: Any) -> None:
        if name == OURS:
            judged.watch(value)
        else:
            answers[name] = value

    tasks: dict[str, Any] = {OURS: lambda: posed.solve(threads)}
    for name, peer in used.items():
        tasks[name] = lambda run=peer.run: run(posed.target, k)
    seconds = alternate(tasks, Rounds(budget=budget * len(tasks)), keep_answer)
    solution = judged.first
    assert solution is not None
    found = [_our_row(seconds[OURS], judged)]
    for name, peer in SELECTIONS.items():
        if name not in used:
            found.append({"who": name, "gives": peer.gives, "missing": "torch is not installed"})
            continue
        answer = answers[name]
        gap: float | None = None
        if peer.gives == "threshold":
            agrees = answer == solution.threshold
        else:
            mine = float(posed.target[answer].sum(dtype=np.float64))
            gap = abs(solution.bound - mine) / abs(solution.bound)
            count = int(np.count_nonzero(answer)) if peer.gives == "mask" else len(answer)
            agrees = gap <= _AGREE and count == k
        found.append(
            {
                "who": name,
                "gives": peer.gives,
                "times": summary(seconds[name]),
                "relative_gap": gap,
                "agrees": bool(agrees),
            }
        )
    return {"rows": found}


def measure_bisection(d: int, seed: int, threads: int | None, budget: float) -> dict[str, Any]:
    """One control: ours and the bisection on the multiplier by turns in one process.

    Returns
    -------
    dict
        `rows` as of :func:`measure_selection`; the bisection's has `relative_gap`,
        `residual` (of the floor, relative) and `steps`.
    """
    posed = pose(Case(d, 1, seed))
    assert posed.floors is not None
    floor = posed.floors[0]
    judged = Judged()
    last: list[Any] = []

    def keep_answer(name: str, value: Any) -> None:
        if name == OURS:
            judged.watch(value)
        else:
            last[:] = [value]

    seconds = alternate(
        {
            OURS: lambda: posed.solve(threads),
            "bisection": lambda: bisection(posed.target, posed.controls[0], posed.keep, floor),
        },
        Rounds(least=3 if d <= 10**7 else 1, budget=budget),
        keep_answer,
    )
    (answer,) = last
    row = {
        "who": "NumPy bisection",
        "gives": "mask",
        "times": summary(seconds["bisection"]),
        "relative_gap": (answer.bound - answer.objective) / abs(answer.bound),
        "residual": max(0.0, floor - answer.kept) / abs(floor),
        "steps": answer.steps,
    }
    return {"rows": [_our_row(seconds[OURS], judged), row]}


def measure_solver(
    d: int, K: int, who: str, seed: int, threads: int | None, budget: float
) -> dict[str, Any]:
    """One general solver, in a process of its own, with ours by turns where it takes K.

    A problem of 200 weights loads the solver's libraries first. It then runs once, and again
    up to five times while the budget lasts; ours runs 25 times after each, the first few of
    them with caches that the other solver has emptied.

    Returns
    -------
    dict
        `rows`: ours (or `missing`, with why) and the solver's, whose `times` are those of
        its own run, with `build` beside them and `judge`.

    Raises
    ------
    PeerFailedError
        The solver gave up.
    MissingDependencyError
        It is not installed.
    """
    general = SOLVERS[who]
    general.solve(pose(Case(_WARM, K, seed)).problem())
    case = Case(d, K, seed)
    posed = pose(case)
    problem = posed.problem()
    judged, why = _try_ours(posed, threads)
    build: list[float] = []
    solve: list[float] = []
    ours: list[float] = []
    first: cops_lp.Solution | None = None
    start = time.perf_counter()
    while len(solve) < 5 and (not solve or time.perf_counter() - start < budget):
        solution = general.solve(problem)
        if solution.status is not cops_lp.Status.OPTIMAL:
            raise PeerFailedError(f"{solution.status.name}: {solution.method}")
        build.append(solution.build_seconds)
        solve.append(solution.seconds)
        first = first or solution
        if not why:
            times = alternate(
                {OURS: lambda: posed.solve(threads)},
                Rounds(least=_TURNS, most=_TURNS, warmup=0),
                lambda _, found: judged.watch(found),
            )
            ours += times[OURS]
    assert first is not None
    theirs = {
        "who": who,
        "gives": "relaxed point",
        "times": summary(solve),
        "build": summary(build),
        # A point that is no vertex has no threshold of its own: its gap is that of its multipliers.
        "judge": verdict(first) | {"relative_gap": abs(first.relative_gap)},
    }
    mine = {"who": OURS, "missing": why} if why else _our_row(ours, judged)
    return {"rows": [mine, theirs]}


def rows(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Flatten a run to table rows, ours before its peers.

    Returns
    -------
    list of dict
        `group`, `d`, `K`, `who`, `status` ("done" or why there is no time), `median`
        (for a failure or a time limit the limit itself, then `counted` is True),
        `quartiles`, `rounds`, `build`, `relative_gap`, `residual`, `fractional`,
        `certified`, `agrees`, `gives` and `ratio`, its median over ours: of the same process,
        or of the other processes with this d and K where it did not end.
    """
    ours: dict[tuple[int, int], list[float]] = {}
    for cell in run["cells"]:
        if cell["status"] == "done" and "times" in cell["result"]["rows"][0]:
            key = (cell["about"]["d"], cell["about"]["K"])
            ours.setdefault(key, []).append(cell["result"]["rows"][0]["times"]["median"])
    found = []
    for cell in run["cells"]:
        about = cell["about"]
        place = {name: about[name] for name in ("group", "d", "K")}
        known = ours.get((about["d"], about["K"]))
        if cell["status"] != "done":
            row = {
                **place,
                "who": about.get("who", OURS),
                "status": cell["status"],
                "message": cell["message"],
            }
            if cell["status"] in ("failed", "time limit"):
                row |= {"median": about["limit"], "counted": True}
                if known:
                    row["ratio"] = about["limit"] / float(np.median(known))
            found.append(row)
            continue
        first = cell["result"]["rows"][0]
        found += [place | _flat(part, first.get("times")) for part in cell["result"]["rows"]]
    return found


def _flat(part: dict[str, Any], ours: dict[str, Any] | None) -> dict[str, Any]:
    row = {"who": part["who"], "gives": part.get("gives", "")}
    if "missing" in part:
        return row | {"status": "unavailable", "message": part["missing"]}
    judge = part.get("judge", part)
    row |= {
        "status": "done",
        "median": part["times"]["median"],
        "quartiles": part["times"]["quartiles"],
        "rounds": part["times"]["rounds"],
        "build": part["build"]["median"] if "build" in part else None,
    }
    for name in ("relative_gap", "residual", "fractional", "certified", "agrees"):
        row[name] = judge.get(name)
    if ours is not None:
        row["ratio"] = row["median"] / ours["median"]
    return row


def _our_row(seconds: list[float], judged: Judged) -> dict[str, Any]:
    return {
        "who": OURS,
        "gives": "mask and proof",
        "times": summary(seconds),
        "judge": judged.verdict(),
    }


def _try_ours(posed: Posed, threads: int | None) -> tuple[Judged, str]:
    """Warm ours up; say why it cannot solve this, or nothing."""
    judged = Judged()
    try:
        judged.watch(posed.solve(threads))
    except cops_lp.ProblemError as error:
        return judged, str(error)
    return judged, ""
