"""The judge: checks an answer from the scores alone, with NumPy, sharing no engine code.

Every sum is exact up to 2^-90 of its largest term and combined scores are double-double, so
a residual that it reports is the answer's, not the judge's. It walks the scores in blocks:
its memory does not grow with them.
"""

from __future__ import annotations

from .judging import certify
from .verdict import TOLERANCE, Certificate, Check

__all__ = ["TOLERANCE", "Certificate", "Check", "certify"]
