"""What a run was made on and with; no names of hosts, users or folders."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from .isolate import ROOT

__all__ = ["cores", "describe", "source_digest"]

_PACKAGES = (
    "numpy",
    "numba",
    "scipy",
    "torch",
    "highspy",
    "cvxpy",
    "clarabel",
    "scs",
    "ortools",
)
_CODE = ("cops_lp", "bench", "pyproject.toml", ":!bench/results")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def describe() -> dict[str, Any]:
    """Machine, versions and state of the code.

    Returns
    -------
    dict
        `cpu`, `cores` (those this process may use), `memory_gib`, `system`; `versions`;
        `environment` (variables that set numbers of threads); `git` (commit, and whether
        tracked files differ from it), `source` (a digest of the package's code).
    """
    return {
        "machine": {
            "cpu": _cpu(),
            "cores": cores(),
            "memory_gib": _memory_gib(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": _versions(),
        "environment": {name: os.environ[name] for name in _THREADS if name in os.environ},
        "git": _git(),
        "source": source_digest(),
    }


def cores() -> int:
    """CPUs that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def source_digest() -> str:
    """Digest of the package's own source files: results of other code must not mix with it."""
    import cops_lp

    digest = hashlib.sha256()
    folder = Path(cops_lp.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    return round(total / 2**30, 1)


def _versions() -> dict[str, str | None]:
    import cops_lp

    versions: dict[str, str | None] = {
        "python": platform.python_version(),
        "cops_lp": cops_lp.__version__,
    }
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _git() -> dict[str, Any]:
    commit = _run_git("rev-parse", "HEAD")
    changed = _run_git("status", "--porcelain", "--untracked-files=no", "--", *_CODE)
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def _run_git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
