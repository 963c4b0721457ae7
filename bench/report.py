"""``docs/benchmarks.md``, written from the studies' JSON alone: same files, same text."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .complexity import SLOPE_FROM, slopes
from .goals import evaluate
from .peers import OURS
from .peers import rows as peer_rows
from .study import FORMAT

__all__ = ["NoResultsError", "duration", "read_runs", "write_report"]

_ORDER = ("goals", "complexity", "peers")
_TITLES = {
    "goals": "What the engine is to reach",
    "complexity": "Growth with the number of weights",
    "peers": "Beside other ways",
}

_HEAD = """\
# Benchmarks

Written by `python -m bench report` from the JSON files in `bench/results`; change those, not
this page. [bench/README.md](../bench/README.md) says how to run them.

**How it is measured.** Things that are compared run by turns in one process; a table gives
medians, quartiles in brackets where there is room, and ratios of medians. A first round is
thrown away: it loads the kernels and touches the memory. Scores are float32, exponentially
distributed, each control correlated with the target; a tenth of the weights is kept; floors are
absolute, halfway between what the target's own mask keeps and what a mask of all scores
together keeps, unless the row says otherwise. Our times are of the whole call `cops_lp.solve`,
validation, mask and sums included. **Every answer that was timed is judged** by
`cops_lp.certify` in the same run, outside the timed part: the first of a row by the judge, the
others by being equal to it to the last bit. *Gap* is |bound − objective|: for our answers over
the summed absolute target kept, for others over the objective. *Residual* is the largest
violation of 0 ≤ x ≤ 1, 1ᵀx = k and A x ≥ b, each relative as the judge states.
"""

_LIMITS = """\
## What this does not show

- One machine, as described with each table. Other processors, memory and numbers of threads give
  other ratios, and a virtual machine's neighbors disturb it: read the quartiles.
- Scores are synthetic. Real ones repeat values and span more decades; the hard inputs above and
  the tests cover those, one property at a time.
- Judging needs more time than solving and is not in any time given.
- General solvers solve a wider class of problems than ours. They get the problem scaled, and the
  time is their own run: building the model is given beside it and is in no ratio. They run with
  default settings but tolerances, and PDLP and SCS stop at tolerances far above our gap.
- A solver that failed or was ended counts as the time limit, so its ratio is a lower bound.
- The bisection and the selections in NumPy and torch do less: no bound, no proof, no relaxed
  vertex; `np.partition` and `torch.kthvalue` give a threshold only.
- Memory is what the process's peak exceeds the memory resident before the call, scores not
  counted. Memory-mapped scores are page cache, which is not counted either.
- Times of a few microseconds to milliseconds are mostly Python's.
"""


class NoResultsError(Exception):
    """There is nothing to report."""


def read_runs(results: Path) -> list[tuple[str, dict[str, Any]]]:
    """Read the studies in a folder, (file's stem, run), in the report's order.

    Raises
    ------
    NoResultsError
        The folder holds no study's JSON of this format.
    """
    found = []
    for path in sorted(results.glob("*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(run, dict) and run.get("format") == FORMAT and run.get("study") in _ORDER:
            found.append((path.stem, run))
    if not found:
        raise NoResultsError(
            f"no study in {results.name}: run python -m bench complexity, peers or goals with "
            "--results first"
        )
    return sorted(found, key=lambda item: (_ORDER.index(item[1]["study"]), item[0]))


def write_report(results: Path, output: Path) -> None:
    """Write the page, and the pictures beside the JSON.

    Parameters
    ----------
    results : Path
        Folder of the studies' JSON.
    output : Path
        The page, docs/benchmarks.md.

    Raises
    ------
    NoResultsError
    """
    from .plots import plot_complexity, plot_peers

    runs = read_runs(results)
    studies = [run["study"] for _, run in runs]
    parts = [_HEAD]
    for stem, run in runs:
        study = run["study"]
        title = _TITLES[study]
        parts.append(f"## {title}" + (f" ({stem})" if studies.count(study) > 1 else ""))
        parts.append(_made_with(run))
        if study == "goals":
            parts.append(_goals(run))
            continue
        draw = plot_complexity if study == "complexity" else plot_peers
        for picture in draw(run, results, stem):
            place = Path(os.path.relpath(picture, output.parent)).as_posix()
            parts.append(f"![{picture.stem.replace('-', ', ')}]({place})")
        parts.append(_complexity(run) if study == "complexity" else _peers(run))
    parts.append(_LIMITS)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.9995 * scale:
            return f"{seconds / scale:.3g} {unit}" if seconds < 1000 else f"{seconds:,.0f} s"
    return f"{seconds / 1e-9:.3g} ns"


# --- a study each ----------------------------------------------------------------------------


def _made_with(run: Mapping[str, Any]) -> str:
    machine, git, settings = run["machine"], run["git"], run["settings"]
    memory = machine["memory_gib"]
    versions = ", ".join(f"{name} {value}" for name, value in run["versions"].items() if value)
    commit = f"commit `{git['commit'][:12]}`" if git["commit"] else "commit unknown"
    if git["dirty"]:
        commit += " with uncommitted changes"
    threads = settings.get("threads") or machine["cores"]
    lines = [
        f"{machine['cpu']}, {_plural(machine['cores'], 'core')}"
        + (f", {memory:g} GiB of memory" if memory else "")
        + f", {machine['system']}; {_plural(threads, 'thread')}.",
        f"{versions}; {commit}; {run['date'][:10]}; seed {settings.get('seed', 0)}.",
    ]
    if run["environment"]:
        lines.append(", ".join(f"{name}={value}" for name, value in run["environment"].items()))
    if settings.get("quick"):
        lines.append("**A quick run, all sizes a hundredth: it shows nothing but that it runs.**")
    return "\n".join(lines)


def _goals(run: Mapping[str, Any]) -> str:
    rows = evaluate(run)
    reached = [row for row in rows if row["reached"]]
    missed = [row for row in rows if row["reached"] is False]
    unmeasured = len(rows) - len(reached) - len(missed)
    said = f"{len(reached)} of {len(rows)} reached, {len(missed)} missed"
    said += f", {unmeasured} not measured." if unmeasured else "."
    table = _table(
        ("case", "measured", "to reach", "", "times", "gap", "residual", "certified", "note"),
        (
            (
                row["case"],
                _measured(row["measured"], row["unit"]),
                f"{row['sense']} {_measured(row['bound'], row['unit'])}",
                {True: "reached", False: "**missed**", None: "not measured"}[row["reached"]],
                "; ".join(f"{name}: {_with_quartiles(times)}" for name, times in row["times"]),
                _gap(row["relative_gap"]),
                _gap(row["residual"]),
                _yes(row["certified"]),
                row["note"],
            )
            for row in rows
        ),
    )
    return f"{said}\n\n{table}"


def _complexity(run: Mapping[str, Any]) -> str:
    parts = []
    for K in sorted({cell["about"]["K"] for cell in run["cells"]}):
        cells = [cell for cell in run["cells"] if cell["about"]["K"] == K]
        parts.append(f"### K = {K}")
        reasons = {cell["message"] for cell in cells if cell["status"] != "done"}
        if all(cell["status"] != "done" for cell in cells) and len(reasons) == 1:
            parts.append(f"{cells[0]['status']}: {cells[0]['message']}")
            continue
        parts.append(
            _table(
                (
                    "d",
                    "time",
                    "per weight",
                    "passes",
                    "open",
                    "extra memory",
                    "gap",
                    "residual",
                    "certified",
                ),
                (_complexity_row(cell) for cell in cells),
            )
        )
    found = slopes(dict(run))
    if found:
        parts.append("### Log-log slope")
        parts.append(
            f"Least squares through the medians from d = {SLOPE_FROM:,} on. 1 is linear growth."
        )
        parts.append(
            _table(
                ("K", "from", "to", "slope"),
                ((K, f"{a:,}", f"{b:,}", f"{slope:.3f}") for K, (a, b, slope) in found.items()),
            )
        )
    return "\n\n".join(parts)


def _complexity_row(cell: Mapping[str, Any]) -> tuple[str, ...]:
    d = cell["about"]["d"]
    name = f"{d:,}" + (" (memory-mapped)" if cell["about"]["memory_mapped"] else "")
    if cell["status"] != "done":
        return name, f"{cell['status']}: {cell['message']}"
    result = cell["result"]
    times, judge = result["times"], result["judge"]
    return (
        name,
        _with_quartiles(times),
        f"{times['median'] / d * 1e9:.3g} ns",
        str(result["passes"]),
        f"{result['open']:,} ({result['open_share']:.2%})",
        f"{_bytes(result['extra_bytes'])} ({result['extra_bytes'] / d:.3g} B/weight)",
        _gap(judge["relative_gap"]),
        _gap(judge["residual"]),
        _yes(judge["certified"]),
    )


def _peers(run: Mapping[str, Any]) -> str:
    rows = peer_rows(dict(run))
    parts = []
    head: tuple[str, ...]
    selection = [row for row in rows if row["group"] == "selection"]
    if selection:
        parts.append("### K = 0: the k largest of one score")
        parts.append("*Agrees*: the same threshold, or a mask of k weights with the same sum.")
        head = ("d", "", "gives", "time", "over ours", "gap", "residual", "agrees")
        parts.append(_table(head, (_selection_row(row) for row in selection)))
    bisected = [row for row in rows if row["group"] == "bisection"]
    if bisected:
        parts.append("### K = 1: bisection on the multiplier")
        parts.append(
            "The code a careful user would write: the top k of c + λ a by `np.partition`, the "
            "interval of λ halved to 1e-9. Its mask is whole, so its gap is not zero."
        )
        head = ("d", "", "time", "over ours", "gap", "residual", "certified")
        parts.append(_table(head, (_bisection_row(row) for row in bisected)))
    for K in sorted({row["K"] for row in rows if row["group"] == "general"}):
        general = [row for row in rows if row["group"] == "general" and row["K"] == K]
        parts.append(f"### K = {K}: general solvers")
        parts.append(
            "Each in a process of its own, ours by turns with it there; ours is the median of "
            "those. *Vertex*: at most K + 1 fractional entries."
        )
        head = (
            "d",
            "",
            "time",
            "build",
            "over ours",
            "gap",
            "residual",
            "certified",
            "vertex",
            "fractional",
        )
        body: list[tuple[str, ...]] = []
        for d in sorted({row["d"] for row in general}):
            here = [row for row in general if row["d"] == d]
            body += _our_rows([row for row in here if row["who"] == OURS])
            body += [_general_row(row) for row in here if row["who"] != OURS]
        parts.append(_table(head, body))
    return "\n\n".join(parts)


def _selection_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    start = (f"{row['d']:,}", row["who"], row.get("gives", ""), _time(row))
    if "median" not in row:
        return start
    agrees = row.get("agrees") if row["who"] != OURS else row.get("certified")
    quality = (_gap(row.get("relative_gap")), _gap(row.get("residual")), _yes(agrees))
    return (*start, _ratio(row), *quality)


def _bisection_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    start = (f"{row['d']:,}", row["who"], _time(row))
    if "median" not in row:
        return start
    quality = (_gap(row.get("relative_gap")), _gap(row.get("residual")))
    return (*start, _ratio(row), *quality, _yes(row.get("certified")))


def _our_rows(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """One line for the many processes in which ours was timed beside a solver."""
    done = [row for row in rows if row["status"] == "done"]
    if not done:
        return [(f"{rows[0]['d']:,}", OURS, _time(rows[0]))] if rows else []
    return [
        (
            f"{done[0]['d']:,}",
            OURS,
            duration(float(np.median([row["median"] for row in done]))),
            "",
            "1",
            _gap(max(row["relative_gap"] or 0.0 for row in done)),
            _gap(max(row["residual"] or 0.0 for row in done)),
            _yes(all(row["certified"] for row in done)),
            _yes(all(row["fractional"] <= row["K"] + 1 for row in done)),
            str(max(row["fractional"] for row in done)),
        )
    ]


def _general_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    start = (f"{row['d']:,}", row["who"], _time(row))
    if row["status"] != "done":
        return (*start, "", _ratio(row)) if "ratio" in row else start
    return (
        *start,
        duration(row["build"]),
        _ratio(row),
        _gap(row["relative_gap"]),
        _gap(row["residual"]),
        _yes(row["certified"]),
        _yes(row["fractional"] <= row["K"] + 1),
        f"{row['fractional']:,}",
    )


# --- cells of tables -------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = [str(cell).replace("|", "\\|").replace("\n", " ") for cell in row]
        cells += [""] * (len(head) - len(cells))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _time(row: Mapping[str, Any]) -> str:
    if row["status"] == "done":
        return _with_quartiles(row)
    if row.get("counted"):
        return f"≥ {duration(row['median'])} ({row['status']}: {row['message']})"
    return f"{row['status']}: {row['message']}"


def _with_quartiles(times: Mapping[str, Any]) -> str:
    low, high = times["quartiles"]
    said = duration(times["median"])
    return f"{said} [{duration(low)}, {duration(high)}]" if times["rounds"] > 1 else said


def _ratio(row: Mapping[str, Any]) -> str:
    if "ratio" not in row:
        return ""
    said = _number(row["ratio"])
    return f"≥ {said}" if row.get("counted") else said


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _measured(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit == "s":
        return duration(value)
    if unit == "B":
        return _bytes(value)
    if unit == "slope":
        return f"{value:.3f}"
    return f"{_number(value)}{' ×' if unit == '×' else ''}"


def _bytes(value: float) -> str:
    return f"{value / 1e6:,.3g} MB" if value < 1e9 else f"{value / 1e9:,.3g} GB"


def _gap(value: float | None) -> str:
    if value is None:
        return ""
    return "0" if value == 0.0 else f"{value:.1e}"


def _yes(value: bool | None) -> str:
    return {True: "yes", False: "no", None: ""}[value]


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
