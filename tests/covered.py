"""Coverage of cops_lp by lines and branches, inside the kernels too.

    python -m tests.covered [--least PERCENT]

Runs the suite as it is, then the tests that reach the kernels with NUMBA_DISABLE_JIT=1, where
they are Python code that can be followed. There a test is ended, and reported as skipped, after
two seconds: what takes milliseconds compiled may take an hour. Prints what is not covered;
exit status 1 where a test fails or less than PERCENT (95) of lines and branches is covered. Some
half an hour on one core.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_SECONDS = 2
_KERNELS = "dual_simplex driver extremes integral masses rounding"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """End a test in time: for ``pytest -p tests.covered``, which the second run uses."""

    def late(*_: object) -> None:
        pytest.skip(f"more than {_SECONDS} s without the compiler")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _run(settings: Path, arguments: list[str], **environment: str) -> int:
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}"]
    command += ["-m", "pytest", "-q", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}).returncode


def main() -> int:
    """Measure; returns the exit status."""
    parser = argparse.ArgumentParser(description="Coverage of cops_lp, kernels included.")
    parser.add_argument("--least", type=float, default=95.0, metavar="PERCENT")
    least = parser.parse_args().least
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "settings"
        settings.write_text(
            "[run]\nbranch = true\nsource = cops_lp\nparallel = true\npatch = subprocess\n"
            f"data_file = {folder}/data\n"
        )
        kernels = [f"tests/test_{name}.py" for name in _KERNELS.split()]
        codes = [
            _run(settings, []),
            _run(settings, ["-p", "tests.covered", *kernels], NUMBA_DISABLE_JIT="1"),
        ]
        coverage = [sys.executable, "-m", "coverage"]
        rest = [f"--rcfile={settings}"]
        subprocess.run([*coverage, "combine", "--quiet", *rest], cwd=ROOT, check=True)
        report = [*coverage, "report", *rest, "--show-missing", "--skip-covered"]
        codes.append(subprocess.run([*report, f"--fail-under={least}"], cwd=ROOT).returncode)
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
