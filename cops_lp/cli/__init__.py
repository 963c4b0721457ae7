"""The command line, ``cops-lp``: solve, certify, validate, demo, prune, warmup."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run ``cops-lp`` with this process's arguments and exit with its code."""
    from .app import app

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # print "?" rather than fail for a λ in ASCII
            stream.reconfigure(errors="replace")
    app(prog_name="cops-lp")
