"""Memory: what a call takes beyond what was there before it, and what the machine has left."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["available_bytes", "peak_extra", "shortage"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_POLL_SECONDS = 1e-3


def peak_extra(call: Callable[[], Any], *, mapped: bool = False) -> tuple[int, str, Any]:
    """Bytes by which a call's peak exceeds the memory resident before it.

    Parameters
    ----------
    call : callable
    mapped : bool
        The call reads memory-mapped files: their pages, which the system can drop at any
        time, are left out.

    Returns
    -------
    extra : int
    how : str
        How it was measured, in words.
    value : Any
        What the call returned.

    Notes
    -----
    Linux keeps the peak itself (VmHWM, set back through /proc/self/clear_refs), so nothing is
    missed between two looks. For mapped files a thread looks at the anonymous memory every
    millisecond. Elsewhere ru_maxrss serves, which never goes down: a lower bound.
    """
    gc.collect()
    _trim()
    if mapped and _STATUS.exists():
        return _polled(call)
    try:
        _CLEAR.write_text("5")
        before = _status("VmRSS")
        value = call()
        extra, how = _status("VmHWM") - before, "VmHWM less VmRSS before"
    except (OSError, KeyError):
        before = _largest()
        value = call()
        extra, how = _largest() - before, "growth of ru_maxrss (a lower bound)"
    return max(extra, 0), how, value


def available_bytes() -> int | None:
    """Memory that can be had without swapping, under the control group's limit; None: unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines)
    left = int(fields["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = int((group / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return left
    return left if limit == "max" else min(left, int(limit) - used)


def shortage(needs: float) -> str:
    """Say how much memory is missing for `needs` bytes, or nothing."""
    free = available_bytes()
    if free is None or needs <= free:
        return ""
    return f"needs {needs / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free"


def _polled(call: Callable[[], Any]) -> tuple[int, str, Any]:
    done = threading.Event()
    before = peak = _status("RssAnon")

    def watch() -> None:
        nonlocal peak
        while not done.wait(_POLL_SECONDS):
            peak = max(peak, _status("RssAnon"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        value = call()
    finally:
        done.set()
        thread.join()
    return max(peak - before, 0), "RssAnon, looked at every millisecond", value


def _status(field: str) -> int:
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields[field].split()[0]) * 1024


def _largest() -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _trim() -> None:
    """Hand what malloc keeps for later back to the system, or a call could use it unseen."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):  # no glibc
        return
