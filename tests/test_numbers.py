"""The ends of floating point: denormals, −0, and sums, prices and products beyond the range.

NumPy's warnings are errors here: no overflow may pass unseen on the way to an answer.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import cops_lp
from cops_lp import ProblemError, SolverError, certify
from cops_lp.engine import nearest
from cops_lp.engine.region import Cone, Ellipsoid
from cops_lp.engine.stores import ArrayStore

from .checks import assert_certified

SIZES = (60, 3_000, 200_000)
"""Solved at once; guessed for from all weights; from a sample."""


def base(d, K):
    return np.random.default_rng(d + K).random((1 + K, d))


def solve(scores, keep=0.1, **how):
    if len(scores) > 1 and not how:
        how = {"retain": (0.9, 0.7)[len(scores) - 2]}
    return cops_lp.solve(scores[0], list(scores[1:]), keep=keep, **how)


DENORMAL = {
    "float64 all": lambda x: x * 1e-310,
    "float64 some": lambda x: np.where(x < 0.5, x * 1e-310, x),
    "float32 all": lambda x: (x * 1e-39).astype(np.float32),
    "float32 some": lambda x: np.where(x < 0.5, x * 1e-40, x).astype(np.float32),
    "float32 most": lambda x: np.where(x < 0.95, x * 1e-40, x).astype(np.float32),
    "float32 steps": lambda x: (np.round(x * 9) * 1.4e-45).astype(np.float32),
    "float16 all": lambda x: (x * 6e-5).astype(np.float16),
}


@pytest.mark.parametrize("K", [0, 1, 2])
@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("name", DENORMAL)
def test_denormals_are_numbers_like_others(name, d, K):
    """Guard: scores are scaled by powers of two, and screening's margins hold for them."""
    scores = DENORMAL[name](base(d, K))
    found = solve(scores)
    assert_certified(found)
    if name == "float32 all":  # scaled by a power of two: exactly the same problem
        exact = scores.astype(np.float64) * 2.0**140
        twin = solve(exact)
        assert np.array_equal(found.mask, twin.mask)
        assert found.objective == twin.objective * 2.0**-140
        assert np.array_equal(found.multipliers, twin.multipliers)


def test_a_cone_decides_nothing_by_the_rounding_of_denormals():
    """Guard: `_Prepared.tiny`. Three products of 0.51 steps are rounded to a step each, so that
    the form comes out as +1 step; it is −0.47."""
    scores = np.full((4, 3_000), 1.4e-45, dtype=np.float32)
    scores[0] *= -2
    cone = Cone(np.array([[1.0, 0.51, 0.51, 0.51, 0.0]]))
    found = ArrayStore(list(scores)).screen(cone, None)
    assert found.kept == 0
    assert found.open_count == 3_000


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 3e38), (np.float64, 1.7e308)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_cone_decides_nothing_by_forms_that_overflow(sign, dtype, size):
    """Guard: `_Prepared.huge`. Of x + x − 3x the first two terms make ∞, which stays."""
    scores = np.full((3, 3_000), sign * size, dtype=dtype)
    scores[2] *= -1
    found = ArrayStore(list(scores)).screen(Cone(np.array([[1.0, 1.0, 3.0, 0.0]])), None)
    assert found.kept == 0
    assert found.open_count == 3_000


@pytest.mark.parametrize(
    ("dtype", "size", "spread"), [(np.float32, 3e38, 1e-20), (np.float64, 1.7e308, 1e-200)]
)
@pytest.mark.parametrize("K", [2, 3, 4])
def test_an_ellipsoid_decides_nothing_by_forms_that_overflow(K, dtype, size, spread):
    """Guard: `beyond < np.inf`. Of 2x − 1.1x − 1.1x … the first term makes ∞, which stays."""
    scores = np.full((1 + K, 3_000), -size, dtype=dtype)
    scores[0] *= -1
    center = np.concatenate(([2.0], np.full(K, 1.1), [0.0]))
    found = ArrayStore(list(scores)).screen(Ellipsoid(center, spread * np.eye(K + 1)), None)
    assert found.kept == 0
    assert found.open_count == 3_000


def test_a_second_read_of_denormals():
    """Guard: `_read` clips its unit to 2^1000; 1 over a width of 5e-324 is beyond float64."""
    scores = np.random.default_rng(0).integers(0, 1_000, (2, 30_000)) * 5e-324
    lam = np.array([1.0])
    for width in (5e-324, 1e-322):
        found = nearest._read(ArrayStore(list(scores)), lam, 2e-321, width)
        inside = np.flatnonzero(np.abs(scores.sum(axis=0) - 2e-321) <= width)
        assert len(inside) > 0
        assert np.isin(inside, np.arange(30_000) if found.index is None else found.index).all()


@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("K", [1, 2])
def test_scores_with_too_few_digits_are_refused(d, K):
    """Guard: `_check_statable`. Floors and prices of such scores are rounded by 1e-4; the
    judge would not confirm the answer."""
    steps = np.round(base(d, K) * 1000) * 5e-324
    with pytest.raises(ProblemError, match=r"entries of 'target' sum to .* few digits .* scale it"):
        solve(steps)
    with pytest.raises(ProblemError, match=r"few digits .* scale it up \(that changes no mask\)"):
        solve(base(d, K) * 1e-312)
    assert_certified(solve(steps * 2.0**1000))
    assert_certified(solve(steps[:1]))  # a selection needs no digits


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("K", "d"), [*itertools.product((0, 1), SIZES), (2, 60), (2, 20_000)])
def test_the_two_zeros_are_one(K, d, dtype):
    """Guard: equal weights are told by ==, and hashed after adding 0 (`ties._mixed`); by their
    bits −0 and 0 would differ, and ties go to other weights."""
    rng = np.random.default_rng(d)
    x = np.round(base(d, K) * 4.0) / 4.0 - 0.5  # masses, 0 one of them
    scores = np.where(x == 0.0, np.where(rng.random(x.shape) < 0.5, 0.0, -0.0), x).astype(dtype)
    assert np.signbit(scores[scores == 0.0]).any()
    for keep in (0.1, 0.5, 0.6):
        how = {"floors": 0.02 * d * keep} if K else {}
        found, twin = solve(scores, keep, **how), solve(scores + dtype(0), keep, **how)
        assert_certified(found)
        assert np.array_equal(found.mask, twin.mask)
        assert np.array_equal(found.multipliers, twin.multipliers)
        assert found.objective == twin.objective
        # No −0 among what is stated.
        numbers = [found.threshold, found.objective, *found.multipliers, *found.kept]
        assert not np.signbit([value for value in numbers if value == 0.0]).any()


def test_ties_of_the_two_zeros_go_to_the_lowest_index():
    """Guard: `ties._mixed` adds 0 before it hashes."""
    for seed in range(400):
        rng = np.random.default_rng(seed)
        d = int(rng.integers(4, 30))
        plain = rng.integers(-1, 3, (2, d)).astype(float)
        scores = np.where(plain == 0.0, rng.choice([0.0, -0.0], plain.shape), plain)
        keep = int(rng.integers(1, d))
        best = np.sort(plain[1])[-keep:].sum()
        how = {"floors": best - rng.random() * (abs(best) + 1.0)}
        found, twin = solve(scores, keep, **how), solve(plain, keep, **how)
        assert np.array_equal(found.mask, twin.mask), seed
        assert np.array_equal(found.relaxed(), twin.relaxed()), seed


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("K", [0, 1, 2])
def test_sums_beyond_the_scores_own_range(K, d, dtype):
    """Guard: sums, and whatever is solved exactly, are float64: in the scores' own dtype they
    would be infinite."""
    largest = float(np.finfo(dtype).max)
    for x in (base(d, K), base(d, K) - 0.5):
        scores = (x * largest).astype(dtype)
        how = {"floors": 0.2 * largest * round(0.1 * d)} if K else {}
        found = solve(scores, **how)
        assert_certified(found)
        assert found.objective > 2.0 * largest
        # As for the same numbers in float64.
        twin = solve(scores.astype(np.float64), **how)
        assert np.array_equal(found.mask, twin.mask)
        assert found.objective == pytest.approx(twin.objective, rel=1e-14)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("K", [0, 1, 2])
@pytest.mark.parametrize("scale", [1e303, 1.3e303, 5e303, 1e306, 1e307, 1.7e308])
def test_near_the_largest_number_answers_are_certified_or_refused(scale, K, d, signed):
    """Guard: OverflowError wherever a sum leaves float64 (`screen`, `solve_all`,
    `doubles.add`, math.fsum), which `solve` turns into an error that names the score."""
    x = (base(d, K) - 0.5 if signed else 0.5 + 0.5 * base(d, K)) * scale
    for keep in (1, 10, 0.5, d):
        size = round(keep * d) if isinstance(keep, float) else keep
        for how in ({"retain": 0.6}, {"floors": -scale}) if K and keep != d else ({},):
            if K and not how:
                how = {"floors": -1.7e308}
            error = None
            try:
                found = solve(x, keep, **how)
            except ProblemError as raised:
                error = str(raised)
            if error is None:
                assert np.isfinite(found.objective)
                assert_certified(found)
            else:
                assert size * float(np.abs(x).max()) > 1e308
                assert "scale it down (that changes no mask)" in error
                assert "'target'" in error or "'control" in error


@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("K", [1, 2])
def test_combined_scores_beyond_float64(d, K):
    """Guard: what is solved exactly is scaled by powers of two, and what
    overflows in screening stays open: c + λA of one weight is infinite here, though no sum is."""
    x = base(d, K)
    x[:, 7] = 120.0
    best = np.argsort(-(x[0] + 2.0 * x[1:].sum(axis=0)))[:10]  # with λ = 2
    x *= 1e306
    found = solve(x, 10, floors=list(x[1:, best].sum(axis=1)))
    with np.errstate(over="ignore"):
        combined = x[0] + found.multipliers @ x[1:]
    assert np.isinf(combined[7])
    assert np.isfinite(found.threshold)
    assert found.multipliers.any()
    assert_certified(found)


@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("K", [1, 2])
@pytest.mark.parametrize("units", [(1e300, 1e-300), (1e-300, 1e300), (1.0, 5e-322), (5e-322, 1.0)])
def test_prices_beyond_float64_are_refused_at_any_size(units, K, d):
    """Guard: regions that float64 cannot state (`finite`) are not screened by; the direct
    solve then fails its own check."""
    x = base(d, K)
    x[0] *= units[0]
    x[1:] *= units[1]
    with pytest.raises((SolverError, ProblemError), match=r"similar magnitudes|few digits"):
        solve(x)


@pytest.mark.parametrize("d", SIZES)
def test_prices_that_are_large_but_fit(d):
    x = base(d, 1)
    for target, control in ((1e300, 1e-5), (1e-5, 1e300), (1e150, 1e-150)):
        found = solve(np.stack((x[0] * target, x[1] * control)))
        assert_certified(found)
        twin = solve(x)
        assert np.array_equal(found.mask, twin.mask)
        unit = target / control
        assert found.multipliers / unit == pytest.approx(twin.multipliers, rel=1e-9)


def test_what_flushes_denormals_to_zero_cannot_make_an_answer_false():
    """torch can set a thread's processor to read denormals as 0; answers then are those of
    scores with zeros, and nothing else changes. The judge runs without."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    normal = rng.random((2, 30_000), dtype=np.float32)
    mixed = np.where(normal < 0.3, normal * np.float32(1e-42), normal)
    expected = [solve(x) for x in (normal, mixed)]
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormals")
    try:
        found = [solve(x) for x in (normal, mixed)]
    finally:
        torch.set_flush_denormal(False)
    for ours, theirs in zip(expected, found, strict=True):
        assert np.array_equal(ours.mask, theirs.mask)
        assert certify(ours.problem, theirs)
