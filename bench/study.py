"""A study: cells measured one after the other, each in its own process, resumable, to one JSON.

Every finished cell is a line of ``STUDY.jsonl``; a study begun again measures what is missing.
The lines belong to one state of the package's code on one machine: with another, the study
stops and asks for ``--fresh``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from .isolate import Outcome, call_isolated
from .machine import describe

__all__ = ["FORMAT", "Cell", "StaleResultsError", "key_of", "run_study", "write_json"]

FORMAT = 1

_NUMBERS = re.compile(r"\[\n[-+.0-9eE,\s]+\]")  # a list of numbers takes one line
_UNAVAILABLE = "at most one"  # what a version without several controls says of them
_SAME = ("machine", "versions", "environment", "source")


class StaleResultsError(Exception):
    """Lines of another code or machine are in the way; the message says what differs."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement.

    Attributes
    ----------
    name : str
        For the progress bar.
    about : mapping
        What is measured, of JSON's types; it identifies the cell and goes into its record.
    function : str
        "module:function" of this package that measures it and returns a dict.
    arguments : mapping
        For the function.
    time_limit : float
        Seconds for the child's whole life.
    scratch : Path, optional
        Where its temporary files go; the system's own place by default.
    skipped : str
        Why not to measure it, or "".
    """

    name: str
    about: Mapping[str, Any]
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    time_limit: float = 3600.0
    scratch: Path | None = None
    skipped: str = ""


def run_study(
    study: str,
    cells: Sequence[Cell],
    results: Path,
    *,
    settings: Mapping[str, Any],
    name: str = "",
    fresh: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Measure what is missing and write ``NAME.json``.

    Parameters
    ----------
    study : str
        Which study it is.
    cells : sequence of Cell
    results : Path
        Folder for the files, made when missing.
    settings : mapping
        What was asked for; recorded as it is.
    name : str
        Stem of its files, where it is not the study's.
    fresh : bool
        Throw away what was measured before.
    console : Console, optional
        Where progress shows; standard error by default.

    Returns
    -------
    dict
        What ``NAME.json`` holds: machine, versions, git state, settings, dates and `cells`
        in their order, each with `about`, `status` ("done", "unavailable", "not installed",
        "skipped", "time limit" or "failed"), `message`, `seconds` of its process, and
        `result`, what the function returned.

    Raises
    ------
    StaleResultsError
        Lines of another code or machine are there and `fresh` is False.
    """
    results.mkdir(parents=True, exist_ok=True)
    name = name or study
    lines = results / f"{name}.jsonl"
    made_with = describe()
    known = _resume(lines, made_with, fresh)
    records = []
    console = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description:<40}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=len(cells))
        for cell in cells:
            progress.update(task, description=f"{name}: {cell.name}")
            record = known.get(key_of(cell.about))
            if record is None:
                record = _measure(cell)
                if record["status"] != "skipped":  # that is decided anew each time
                    _append(lines, record)
                if record["status"] not in ("done", "skipped"):
                    said = f"{cell.name}: {record['status']}: {record['message']}"
                    console.print(said, markup=False, soft_wrap=True)
            records.append(record)
            progress.advance(task)
    run = {
        "format": FORMAT,
        "study": study,
        **made_with,
        "settings": dict(settings),
        "date": _now(),
        "cells": records,
    }
    write_json(results / f"{name}.json", run)
    return run


def key_of(about: Mapping[str, Any]) -> str:
    """Return the one spelling of what identifies a cell."""
    return json.dumps(about, sort_keys=True)


def write_json(path: Path, value: Any) -> None:
    """Write whole or not at all, the same bytes for the same value."""
    partial = path.with_suffix(f"{path.suffix}.part")
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    text = _NUMBERS.sub(lambda found: " ".join(found.group().split()), text)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def _measure(cell: Cell) -> dict[str, Any]:
    record: dict[str, Any] = {"about": dict(cell.about), "date": _now()}
    if cell.skipped:
        ended = {"status": "skipped", "message": cell.skipped, "seconds": 0.0, "result": None}
        return record | ended
    outcome = call_isolated(
        cell.function, cell.arguments, time_limit=cell.time_limit, scratch=cell.scratch
    )
    return record | {
        "status": _status(outcome),
        "message": f"{outcome.error}: {outcome.message}" if outcome.error else outcome.message,
        "seconds": outcome.seconds,
        "result": outcome.value,
    }


def _status(outcome: Outcome) -> str:
    if outcome.ended == "returned":
        return "done"
    if outcome.ended == "time limit":
        return "time limit"
    if outcome.error == "ProblemError" and _UNAVAILABLE in outcome.message:
        return "unavailable"
    if outcome.error in ("MissingDependencyError", "ModuleNotFoundError"):
        return "not installed"
    return "failed"


def _resume(lines: Path, made_with: Mapping[str, Any], fresh: bool) -> dict[str, dict[str, Any]]:
    """What earlier runs measured, by key; a first line says with what."""
    wanted = {name: made_with[name] for name in _SAME}
    if fresh or not lines.exists() or not lines.read_text(encoding="utf-8").strip():
        lines.write_text(json.dumps({"made_with": wanted}) + "\n", encoding="utf-8")
        return {}
    text = lines.read_text(encoding="utf-8")
    whole, _, rest = text.rpartition("\n")
    if rest:  # the end of a line that was being written when the run was killed
        lines.write_text(whole + "\n", encoding="utf-8")
    first, *records = [json.loads(line) for line in whole.splitlines()]
    differ = [name for name in _SAME if first["made_with"][name] != wanted[name]]
    if differ:
        raise StaleResultsError(
            f"{lines.name} was measured with another {' and another '.join(differ)}; "
            "run with --fresh to start over, or give another --results"
        )
    return {key_of(record["about"]): record for record in records}


def _append(lines: Path, record: Mapping[str, Any]) -> None:
    with lines.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, allow_nan=False) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
