"""Run one function in a process of its own, under a time limit that holds.

``python -m bench.isolate FOLDER`` is the child: it reads what to call from the folder and
leaves the value, or the error, there.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "Outcome", "call_isolated", "python_path"]

ROOT = Path(__file__).resolve().parents[1]
_JOB, _ANSWER = "job.json", "answer.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call in a process of its own ended.

    Attributes
    ----------
    ended : {"returned", "raised", "crashed", "time limit"}
    seconds : float
        The child's whole life, its start and imports included.
    value : Any
        What the function returned, of JSON's types; None unless it returned.
    error : str
        Name of the exception's class; "" unless it raised.
    message : str
        What the exception, the signal or the limit says; "" when it returned.
    """

    ended: str
    seconds: float
    value: Any = None
    error: str = ""
    message: str = ""


def call_isolated(
    function: str,
    arguments: Mapping[str, Any],
    *,
    time_limit: float | None = None,
    environment: Mapping[str, str] | None = None,
    scratch: Path | None = None,
) -> Outcome:
    """Call ``module:function`` with keyword arguments in a fresh Python.

    Parameters
    ----------
    function : str
        "module:function", importable from the repository's root.
    arguments : mapping
        Keyword arguments; JSON's types only, and so is what the function returns.
    time_limit : float, optional
        Seconds after which the child and all that it started are killed.
    environment : mapping, optional
        Variables to set beside this process's own.
    scratch : Path, optional
        Where the child's temporary files go; they are removed however it ends.

    Returns
    -------
    Outcome
        Errors, crashes and the limit are outcomes; nothing is raised for them.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", dir=scratch) as name:
        folder = Path(name)
        own = {"PYTHONPATH": python_path(), "TMPDIR": name}
        job = json.dumps({"function": function, "arguments": dict(arguments)})
        (folder / _JOB).write_text(job, encoding="utf-8")
        start = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "bench.isolate", name],
            env={**os.environ, **own, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            _, said = child.communicate(timeout=time_limit)
        except subprocess.TimeoutExpired:
            seconds = time.perf_counter() - start
            message = f"ended at the limit of {time_limit:g} s"
            return Outcome("time limit", seconds, message=message)
        finally:
            _end(child)
        seconds = time.perf_counter() - start
        if child.returncode != 0 or not (folder / _ANSWER).exists():
            return Outcome("crashed", seconds, message=_crash(child.returncode, said))
        answer = json.loads((folder / _ANSWER).read_text(encoding="utf-8"))
    if "error" in answer:
        return Outcome("raised", seconds, error=answer["error"], message=answer["message"])
    return Outcome("returned", seconds, value=answer["value"])


def python_path() -> str:
    """What this process imports from, and the repository's root, for ``PYTHONPATH``."""
    places = [str(Path(entry).resolve()) for entry in sys.path]
    return os.pathsep.join(dict.fromkeys([*places, str(ROOT)]))


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill the child, if it lives, and the processes it started."""
    if child.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)  # its session is its own
        else:
            child.kill()
        child.communicate()


def _crash(code: int, said: bytes) -> str:
    how = f"ended with exit code {code}"
    if code < 0:
        how = f"was ended by signal {signal.Signals(-code).name}"
        if -code == getattr(signal, "SIGKILL", None):
            how += ", perhaps for want of memory"
    tail = said.decode(errors="replace").strip().splitlines()[-1:]
    return f"{how}: {tail[0][-500:]}" if tail else how


def _main(folder: Path) -> None:
    job = json.loads((folder / _JOB).read_text(encoding="utf-8"))
    module, _, name = job["function"].partition(":")
    try:
        value = getattr(importlib.import_module(module), name)(**job["arguments"])
        answer = json.dumps({"value": value}, allow_nan=False)
    except Exception as error:
        answer = json.dumps({"error": type(error).__name__, "message": str(error)})
    partial = folder / f"{_ANSWER}.part"
    partial.write_text(answer, encoding="utf-8")
    partial.replace(folder / _ANSWER)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
