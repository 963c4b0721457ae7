"""Thirty-odd faults, one line each, and the tests that must notice.

    python -m tests.mutants [WORD …]

copies the project for each mutant (those whose name holds a WORD), changes the line, runs the
tests named beside it and says whether they failed. Exit status 1 if a mutant survives, or if its
line is not there exactly once. Some twenty minutes on one core: kernels are compiled anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MUTANTS", "Mutant", "survives"]

ROOT = Path(__file__).resolve().parent.parent
_LIMIT = 900.0  # seconds; a mutant that makes the tests hang is caught too


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes
    ----------
    name : str
    file : str
        Below cops_lp.
    old, new : str
        Text of one line that occurs once, and what replaces it.
    tests : str
        What to give to pytest.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


SCREENING = "kernels/screening.py"
TWO_SCORE = "kernels/two_score.py"
SIMPLEX = "kernels/dual_simplex.py"
PARTNERS = "kernels/partners.py"
DRIVER = "engine/driver.py"
SEVERAL = "engine/several.py"
OPTIMAL = "judge/optimal.py"

MUTANTS = (
    # --- the pass over the scores
    Mutant("an ellipsoid flat in one direction", SCREENING,
           "decided = (beyond > 0) & (beyond * beyond > g * g + rest)",
           "decided = (beyond > 0) & (beyond * beyond > rest)", "tests/test_driver.py"),
    Mutant("an ellipsoid without its last axis", SCREENING,
           "square[i] = last * last + tiny", "square[i] = tiny", "tests/test_driver.py"),
    Mutant("a cone's upper ends forgotten", SCREENING,
           "dropped = sound & (high[i] < -room)", "dropped = sound & (low[i] < -room)",
           "tests/test_driver.py"),
    Mutant("positions within the part", SCREENING,
           "before, place = found, offset + start", "before, place = found, start",
           "tests/test_pieces.py"),
    Mutant("the last few kept weights not counted", SCREENING,
           "kept += state[i] & 1", "kept += 0", "tests/test_driver.py"),
    Mutant("a lane's rounding errors dropped", SCREENING,
           "rest += least + other + lanes[j, 2, lane]", "rest += least + lanes[j, 2, lane]",
           "tests/test_driver.py tests/test_torch_store.py"),
    Mutant("a tile of one score summed in float64 alone", SCREENING,
           "    if not total <= most:\n", "    if False:\n", "tests/test_driver.py"),
    Mutant("open weights out of order", SCREENING,
           "bits ^= swapped ^ (swapped << np.uint64(14))", "bits ^= np.uint64(0)",
           "tests/test_driver.py"),
    Mutant("a mass takes what is larger too", SCREENING,
           "same[i] = (same[i] if j > 0 else state[i] == 2) & (row[i] == value)",
           "same[i] = (same[i] if j > 0 else state[i] == 2) & (row[i] >= value)",
           "tests/test_columns.py"),
    # --- the driver
    Mutant("an optimum outside the region accepted", DRIVER,
           "elif any(region.contains(ray) for", "elif any(True for", "tests/test_driver.py"),
    Mutant("infeasible without proof", DRIVER,
           "return bool(excess > slack_together(scale))", "return bool(excess > -scale)",
           "tests/test_driver.py"),
    Mutant("what the pass kept not added", DRIVER,
           "kept_sums=doubles.add(screened.sums, found.kept_sums),",
           "kept_sums=found.kept_sums,", "tests/test_driver.py"),
    Mutant("an ellipsoid that contains everything", "engine/region.py",
           "z /= max(1.0, float(np.linalg.norm(z)))", "z /= 1.0", "tests/test_driver.py"),
    Mutant("decided by a sum that passed through infinity", SCREENING,
           "(beyond * beyond > square[i]) & (beyond < np.inf)",
           "(beyond * beyond > square[i])", "tests/test_numbers.py"),
    Mutant("the last of a selection's columns whole", "engine/columns.py",
           "x[-1] -= max(ends[count - 1] - k, 0.0)", "x[-1] -= 0.0", "tests/test_columns.py"),
    Mutant("the slope changes by one weight of a column", "kernels/dual_simplex.py",
           "weight[count] = a * upper[i]", "weight[count] = a", "tests/test_columns.py"),
    Mutant("a part that cannot be met leaves its mask unwritten", DRIVER,
           "return _joined(store, screened, inner, 0.0, mask if part else None, passes + 1)",
           "return _joined(store, screened, inner, 0.0, None, passes + 1)",
           "tests/test_columns.py"),
    Mutant("a mask that misses a floor is said to be the best", "solution.py",
           "if self.integer_bound > -math.inf and np.any(self.shortfall > 0.0):",
           "if False:", "tests/test_rounding.py"),
    Mutant("a balance may be infeasible", "judge/balance.py",
           "if solution.status is Status.INFEASIBLE:", "if False:", "tests/test_certificate.py"),
    Mutant("surely open is what is nearly decided", "torch/sieve.py",
           "near = size.add_(room).sub_(of.beside)", "near = size.sub_(room).sub_(of.beside)",
           "tests/test_torch_store.py"),
    Mutant("candidates that depend on the sample", "engine/nearest.py",
           "if everything or reached <= candidates.width or",
           "if everything or reached >= candidates.width or", "tests/test_rounding.py"),
    Mutant("a helper thread left behind", "engine/threads.py",
           "        errors.extend(helper.join())\n", "        errors.extend(())\n",
           "tests/test_threads.py"),
    # --- the exact solvers
    Mutant("decided weights still to be chosen", TWO_SCORE,
           "                    k -= 1\n", "                    k -= 0\n",
           "tests/test_instances.py"),
    Mutant("no floor is too high", TWO_SCORE,
           "            if -e_hi > slack:\n", "            if -e_hi > slack + 1e9:\n",
           "tests/test_instances.py"),
    Mutant("a floor just above the best is infeasible", "kernels/direct.py",
           "slack = tolerance * (size + _size_where(a, flags))",
           "slack = 0.0 * tolerance", "tests/test_extremes.py tests/test_solver.py"),
    Mutant("of equal weights any", "kernels/direct.py",
           "if c[i] == c[j] and a[i] == a[j]:", "if c[i] == c[j] and a[i] > a[j]:",
           "tests/test_extremes.py"),
    Mutant("values above 1 left in the basis", SIMPLEX,
           "beyond, _ = _add(hi, lo, -most, 0.0)", "beyond = -1.0", "tests/test_dual_simplex.py"),
    Mutant("a weight that flips is not moved", SIMPLEX,
           "_move(rest, scores, i, (1.0 - 2.0 * wanted) * upper[i])", "_move(rest, scores, i, 0.0)",
           "tests/test_dual_simplex.py"),
    Mutant("a multiplier that blocks at once", SIMPLEX,
           "price = max(0.0, -pi_hi[1 + j])", "price = 0.0", "tests/test_dual_simplex.py"),
    Mutant("floors that say the same lowered alike", SEVERAL,
           "_UNEVEN = 0.7", "_UNEVEN = 1.0", "tests/test_balancing.py -k against_highs"),
    # --- masks and the best mask
    Mutant("the swap that lacks most", "rounding.py",
           "np.where(lacks == lacks.min(), loss, np.inf)",
           "np.where(lacks == lacks.max(), loss, np.inf)", "tests/test_rounding.py"),
    Mutant("a search that stops before its proof", "integral/core.py",
           "if best.loss <= limit or limit == math.inf:",
           "if best.loss <= 3.0 * limit or limit == math.inf:", "tests/test_integral.py"),
    Mutant("joins that leave out some sets", "integral/joins.py",
           "Job(c, d, 0.5, cap, _DEAR,", "Job(c, d, 0.55, cap, _DEAR,",
           "tests/test_integral.py"),
    Mutant("pairs of quarters too few", "integral/pairs.py",
           "np.maximum((1.0 - share) / 3.0, 1.0 - 2.0 * share)", "(1.0 - share) / 3.0",
           "tests/test_integral.py"),
    Mutant("one cell of partners too few", PARTNERS,
           "last = _cell(min((rest[h, two] + two_more) * per[1], CELLS) + EDGE)",
           "last = first", "tests/test_integral.py"),
    Mutant("a filter that knows too few cells", "kernels/cells.py",
           "for y in range(low[1], high[1] + 1):",
           "for y in range(high[1], high[1] + 1):", "tests/test_integral.py"),
    Mutant("a filter too narrow for what is left", "integral/table.py",
           "within[-1] = max(within[-1], limit)",
           "within[-1] = within[-1]", "tests/test_integral.py"),
    Mutant("partners that miss a floor", PARTNERS,
           "met = met and excess >= -doubt[t - 1]", "met = met and excess >= -1.0",
           "tests/test_integral.py"),
    # --- the judge
    Mutant("the judge: exact sums of one part", "judge/arithmetic.py",
           "for _ in range(4):", "for _ in range(0):", "tests/test_certificate.py"),
    Mutant("the judge: weights above the threshold may be dropped", OPTIMAL,
           "near = ~np.where(x >= 1.0, above, below & (x <= 0.0))",
           "near = ~np.where(x >= 1.0, above, x <= 0.0)", "tests/test_certificate.py"),
    Mutant("the judge: floors may be missed", OPTIMAL,
           "largest(ratios(np.maximum(-excess, 0.0), floor_scale)),",
           "largest(ratios(np.maximum(-excess, 0.0) * 0.0, floor_scale)),",
           "tests/test_certificate.py"),
    Mutant("the judge: one too many in the top k", "judge/selection.py",
           "wanted = k - above", "wanted = k - above + 1", "tests/test_judge_selection.py"),
    Mutant("the judge: any y is a certificate", "judge/infeasible.py",
           "holds = excess > slack", "holds = excess > -best.magnitude",
           "tests/test_certificate.py tests/test_saved.py"),
    Mutant("the judge: the share need not be kept", "judge/balance.py",
           "ratio(max(solution.share * b - total.value(), 0.0), max(float(scale), b))",
           "ratio(max(solution.share * b - total.value(), 0.0) * 0.0, max(float(scale), b))",
           "tests/test_certificate.py"),
    Mutant("the judge: tolerances not compared", "judge/verdict.py",
           "return self.residual <= self.tolerance", "return self.residual <= 1.0",
           "tests/test_certificate.py"),
)  # fmt: skip


def survives(mutant: Mutant) -> str | None:
    """Run a mutant's tests; None if they fail, as they should, else what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        ignored = shutil.ignore_patterns(".git", "__pycache__", ".venv*", ".*_cache", "results")
        shutil.copytree(ROOT, copy, ignore=ignored)
        path = copy / "cops_lp" / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            return f"its line is there {text.count(mutant.old)} times"
        path.write_text(text.replace(mutant.old, mutant.new))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        environment = {"PYTHONPATH": str(copy), "NUMBA_CACHE_DIR": str(copy / "cache")}
        try:
            done = subprocess.run(
                [*command, *mutant.tests.split()],
                cwd=copy,
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                timeout=_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
        if done.returncode == 1:
            return None
        return "no test failed" if done.returncode == 0 else done.stdout[-500:] + done.stderr[-500:]


def main(words: list[str]) -> int:
    """Run the mutants whose names hold one of the words; all without any."""
    left = 0
    for mutant in MUTANTS:
        if words and not any(word in mutant.name for word in words):
            continue
        start = time.perf_counter()
        fault = survives(mutant)
        left += fault is not None
        word = "caught" if fault is None else f"SURVIVES ({fault})"
        print(f"{mutant.name}: {word}, {time.perf_counter() - start:.0f} s", flush=True)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
