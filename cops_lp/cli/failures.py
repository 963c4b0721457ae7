"""What goes wrong becomes one line on stderr and an exit code, never a traceback.

A bug keeps its traceback: only errors that the package, the parser of the command line or the
operating system raise on purpose are turned into a line.
"""

from __future__ import annotations

import sys
from typing import Any

import typer
import typer.core

from cops_lp.errors import CopsError, InfeasibleError, SolverError

__all__ = ["FAILED", "INFEASIBLE", "WRONG_INPUT", "OneLineErrors"]

FAILED = 1
WRONG_INPUT = 2
INFEASIBLE = 3
_INTERRUPTED = 130


class OneLineErrors(typer.core.TyperGroup):
    """A group of commands whose errors each take one line."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command and exit.

        Raises
        ------
        SystemExit
            0 done; 1 the solver, a check or the comparison of solvers failed; 2 wrong input;
            3 infeasible; 130 interrupted.
        """
        try:
            result = super().main(*args, **extra | {"standalone_mode": False})
        except Exception as error:
            found = _explain(error)
            if found is None:
                raise
            code, message = found
            print(f"error: {_one_line(message)}", file=sys.stderr)
            sys.exit(code)
        sys.exit(result if isinstance(result, int) else 0)


def _explain(error: BaseException) -> tuple[int, str] | None:
    noted = "; ".join((str(error), *getattr(error, "__notes__", ())))
    if isinstance(error, InfeasibleError):
        return INFEASIBLE, f"infeasible: {noted}"
    if isinstance(error, CopsError):
        return (FAILED if isinstance(error, SolverError) else WRONG_INPUT), noted
    if isinstance(error, typer.Abort):
        return _INTERRUPTED, "interrupted"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return WRONG_INPUT, where + (error.strerror or str(error))
    if isinstance(error, MemoryError):
        return WRONG_INPUT, f"not enough memory ({error})" if str(error) else "not enough memory"
    if hasattr(error, "format_message"):  # the parser's own, which old and new typer keep apart
        message = str(error.format_message()).rstrip(".")
        context = getattr(error, "ctx", None)
        hint = f" (see: {context.command_path} --help)" if context is not None else ""
        return WRONG_INPUT, message[:1].lower() + message[1:] + hint
    return None


def _one_line(text: str) -> str:
    """Join lines and escape what could move the cursor: names in files are not ours."""
    joined = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)
