"""Scores, masks and saved solutions in files: read by people who trust no file, written whole.

Nothing here unpickles, and no size that a file claims is believed before it is checked. What
can be mapped into memory is: reading a score of 10^8 weights costs nothing until it is used.
"""

from __future__ import annotations

from .masks import MASK_SUFFIXES, write_mask
from .scores import SCORE_SUFFIXES, list_names, read_score
from .solutions import SOLUTION_SUFFIXES, read_solution, write_solution
from .writing import check_new_file, new_file

__all__ = [
    "MASK_SUFFIXES",
    "SCORE_SUFFIXES",
    "SOLUTION_SUFFIXES",
    "check_new_file",
    "list_names",
    "new_file",
    "read_score",
    "read_solution",
    "write_mask",
    "write_solution",
]
