"""Coverage of cops_lp by lines and branches, inside the kernels too.

    python -m tests.covered [--least PERCENT]

Runs the suite as it is, child processes included, then with NUMBA_DISABLE_JIT=1 those tests that
take small inputs through every kernel: there kernels are Python code that can be followed; then the
tests of the kernel for GPUs, which needs Triton: without it that module is left out. Prints
what is not covered; exit status 1 where a test fails or less than PERCENT (95) of lines and
branches is covered. Some twenty minutes on one core.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_TRITON = importlib.util.find_spec("triton") is not None
_FUSED = "cops_lp/torch/fused.py"
_FOLLOWED = ["tests/test_small.py", "tests/test_driver.py", "-k", "small or 1501 or in_order"]


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
            f"data_file = {folder}/data\n" + ("" if _TRITON else f"omit = {_FUSED}\n")
        )
        codes = [
            _run(settings, []),
            _run(settings, _FOLLOWED, NUMBA_DISABLE_JIT="1"),
        ]
        if _TRITON:
            codes.append(_run(settings, ["tests/test_fused.py"], TRITON_INTERPRET="1"))
        else:
            print(f"left out: {_FUSED}, which needs triton")
        coverage = [sys.executable, "-m", "coverage"]
        rest = [f"--rcfile={settings}"]
        subprocess.run([*coverage, "combine", "--quiet", *rest], cwd=ROOT, check=True)
        report = [*coverage, "report", *rest, "--show-missing", "--skip-covered"]
        codes.append(subprocess.run([*report, f"--fail-under={least}"], cwd=ROOT).returncode)
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
