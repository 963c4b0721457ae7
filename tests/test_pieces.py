"""Scores in pieces are walked in place, and answers are those of one flat array."""

from __future__ import annotations

import tracemalloc

import ml_dtypes
import numpy as np
import pytest

import cops_lp
from cops_lp.engine.region import Ellipsoid
from cops_lp.engine.stores import ArrayStore
from cops_lp.kernels.screening import BLOCK
from cops_lp.pieces import ArrayPieces, flat_range

from .checks import assert_certified

LAYOUTS = {
    "contiguous": lambda a: a.copy(),
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a.copy(),
    "reversed": lambda a: a[::-1].copy()[::-1] if a.ndim else a.copy(),
    "broadcast": lambda a: (
        np.broadcast_to(a.reshape(-1)[:1].reshape((1,) * a.ndim), a.shape) if a.size else a
    ),
    "unaligned": lambda a: (
        np.frombuffer(b"?" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape)
    ),
}


def cut(flat, shapes, layout="contiguous"):
    """Pieces of these shapes from the front of a flat array, and what they hold, flat."""
    arrays, start = [], 0
    for shape in shapes:
        n = int(np.prod(shape))
        arrays.append(LAYOUTS[layout](flat[start : start + n].reshape(shape)))
        start += n
    return arrays, np.concatenate([array.reshape(-1) for array in arrays])


SHAPES = [(3, 5, 2), (), (0, 4), (7,), (1, 6), (4, 1, 3), (2, 2, 2, 2)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_range_and_entry_reads_as_the_flat_array(layout):
    arrays, flat = cut(np.random.default_rng(0).normal(size=200), SHAPES, layout)
    pieces = ArrayPieces(arrays, [f"p{i}" for i in range(len(arrays))])
    assert pieces.shape == flat.shape
    for start in range(len(flat) + 1):
        for stop in range(start, len(flat) + 1):
            assert np.array_equal(pieces[start:stop], flat[start:stop])
    assert np.array_equal(pieces[:], flat)
    assert np.array_equal(np.asarray(pieces), flat)
    rng = np.random.default_rng(1)
    for index in (rng.permutation(len(flat)), np.arange(0, len(flat), 3), np.empty(0, np.int64)):
        assert np.array_equal(pieces[index], flat[index])
    for i, value in enumerate(flat):
        j = pieces.piece(i)
        assert arrays[j].reshape(-1)[i - pieces.starts[j]] == value
    assert pieces.place(0) == "index (0, 0, 0) of 'p0'"
    assert pieces.place(31) == "index 0 of 'p3'"


def test_a_range_of_a_strided_array_copies_no_more_than_itself():
    whole = np.zeros((50, 40, 30)).transpose(2, 0, 1)
    copied = []

    class Watched(np.ndarray):
        def reshape(self, *shape):
            copied.append(self.size)
            return np.asarray(self).reshape(*shape)

    watched = whole.view(Watched)
    for start, stop in ((0, 10), (35, 95), (1999, 2001), (123, 5021)):
        copied.clear()
        found = flat_range(watched, start, stop, lambda a: a.flags.c_contiguous, np.concatenate)
        assert len(found) == stop - start
        assert sum(copied) <= stop - start


@pytest.mark.parametrize("K", [0, 1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_many_small_pieces_screen_to_the_same_bits(K, dtype):
    rng = np.random.default_rng([K, 5])
    shapes = [(BLOCK + 17,), (3, 0), *[(5, 9)] * 40, (), (2, BLOCK), *[(64,)] * 90, (100, 700)]
    d = sum(int(np.prod(shape)) for shape in shapes)
    flats = [rng.normal(size=d).astype(dtype) for _ in range(1 + K)]
    region = Ellipsoid(
        np.concatenate(([2.0], rng.random(K), [0.4])),
        np.triu(rng.normal(size=(K + 1, K + 1))) * 0.05,
    )
    pieces = [ArrayPieces(cut(flat, shapes)[0]) for flat in flats]
    masks = np.empty((2, d), bool)
    one = ArrayStore(flats, threads=2).screen(region, masks[0])
    two = ArrayStore(pieces, threads=1).screen(region, masks[1])
    assert np.array_equal(masks[0], masks[1])
    assert one.kept == two.kept
    for name in ("sums", "index", "scores"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert one.magnitudes == pytest.approx(two.magnitudes, rel=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_solve_over_pieces_is_that_of_the_flat_array(layout):
    rng = np.random.default_rng(3)
    shapes = [(200, 300), (64,), (), (0,), (128, 64, 3, 3), (40_000,)]
    d = sum(int(np.prod(shape)) for shape in shapes)
    target, flat = cut(rng.exponential(size=d).astype(np.float32), shapes, layout)
    other, other_flat = cut(rng.exponential(size=d).astype(np.float32), shapes)
    expected = cops_lp.solve(flat, other_flat, keep=0.1, retain=0.5)
    found = cops_lp.solve(ArrayPieces(target), ArrayPieces(other), keep=0.1, retain=0.5)
    assert found.mask.shape == (d,)
    assert np.array_equal(found.mask, expected.mask)
    assert np.array_equal(found.multipliers, expected.multipliers)
    assert (found.objective, found.threshold) == (expected.objective, expected.threshold)
    assert_certified(found)


def test_pieces_of_several_dtypes():
    rng = np.random.default_rng(4)
    dtypes = (np.float16, np.float32, ml_dtypes.bfloat16, np.int8)
    arrays = [(rng.normal(size=30_000) * 20).astype(dtype) for dtype in dtypes]
    control = rng.random(120_000)
    flat = np.concatenate([array.astype(np.float64) for array in arrays])
    pieces = ArrayPieces(arrays)
    assert pieces.dtype == np.float32
    found = cops_lp.solve(pieces, control, keep=0.2, retain=0.6)
    expected = cops_lp.solve(flat, control, keep=0.2, retain=0.6)
    assert np.array_equal(found.mask, expected.mask)
    assert_certified(found)


def test_controls_in_every_form():
    target, control = np.arange(6.0), np.arange(6.0)[::-1].copy()
    pieces = ArrayPieces([control[:2], control[2:]])
    for controls in (pieces, [pieces], {"control": pieces}):
        solution = cops_lp.solve(target, controls, keep=2, floors=5.0)
        assert solution.problem.names == ("control",)
        assert solution.kept[0] == 5.0
        assert_certified(solution)
    with pytest.raises(cops_lp.ProblemError, match=r"control 'control' has shape \(5,\)"):
        cops_lp.solve(target, ArrayPieces([control[:5]]), keep=2, floors=5.0)
    with pytest.raises(cops_lp.ProblemError, match="target is empty"):
        cops_lp.solve(ArrayPieces([control[:0]]), keep=0)


def test_what_is_not_finite_is_named_by_its_piece():
    arrays = [np.zeros((2, 2)), np.zeros(50_000)]
    arrays[0][1, 0] = np.nan
    pieces = ArrayPieces(arrays, ["first", "second"])
    with pytest.raises(cops_lp.ProblemError, match=r"first at index \(1, 0\) of 'first'"):
        cops_lp.solve(pieces, keep=1)
    arrays[0][1, 0], arrays[1][7] = 0.0, np.inf
    with pytest.raises(cops_lp.ProblemError, match=r"1 infinity, the first at index 7 of 'second'"):
        cops_lp.solve(np.zeros(50_004), pieces, keep=1, floors=0.0)


def test_balance_save_and_what_is_built_from_scores(tmp_path):
    rng = np.random.default_rng(6)
    flats = {"a": rng.random(30_000), "b": rng.random(30_000)}
    scores = {
        name: ArrayPieces(cut(flat, [(100, 200), (10_000,)])[0]) for name, flat in flats.items()
    }
    found, expected = cops_lp.balance(scores, keep=0.1), cops_lp.balance(flats, keep=0.1)
    assert np.array_equal(found.mask, expected.mask)
    assert found.share == expected.share
    assert_certified(found)
    assert np.array_equal(found.combined_score(), expected.combined_score())
    found.save(tmp_path / "solution.npz")
    loaded = cops_lp.Solution.load(tmp_path / "solution.npz")
    target, control = (scores[name] for name in np.roll(("a", "b"), -found.target_index))
    assert cops_lp.certify((target, {found.problem.names[0]: control}), loaded)
    again = found.problem.replace(keep=50, floors=0.0)
    assert again.solve().mask.sum() == 50


def test_a_general_solver_takes_pieces():
    rng = np.random.default_rng(7)
    flats = rng.random((2, 60))
    pieces = [ArrayPieces(cut(flat, [(5, 6), (30,)])[0]) for flat in flats]
    problem = cops_lp.Problem(pieces[0], pieces[1], keep=20, retain=0.8)
    theirs = cops_lp.reference.solve_scipy(problem)
    assert theirs.objective == pytest.approx(problem.solve().objective, rel=1e-9)


def test_nothing_is_concatenated():
    rng = np.random.default_rng(8)
    shapes = [(1000, 1000), (64,)] * 3
    d = sum(int(np.prod(shape)) for shape in shapes)
    pieces = [ArrayPieces(cut(rng.random(d), shapes)[0]) for _ in range(2)]
    cops_lp.solve(*pieces, keep=0.1, retain=0.6, threads=1)
    tracemalloc.start()
    try:
        cops_lp.solve(*pieces, keep=0.1, retain=0.6, threads=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert d < peak < 8 * d  # the mask, open weights and rooms; one score has 8 d bytes
