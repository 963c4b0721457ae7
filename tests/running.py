"""Python processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import cops_lp

ROOT = Path(cops_lp.__file__).parents[1]


@cache
def compile_kernels():
    """For processes whose stderr must be empty: they would say that they compile."""
    cops_lp.solve([1.0, 3, 2], [1.0, 2, 3], keep=2, retain=0.9)


def python(code, *, cwd=ROOT, timeout=300, **variables):
    """Run code in a new interpreter where warnings are errors; `variables` join os.environ."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | variables,
        timeout=timeout,
        check=False,
    )


def printed(code, **settings):
    """What the code prints; its own error where it fails."""
    done = python(code, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout
