"""``solve`` on problems solved by hand, and on every kind of array."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import cops_lp
from cops_lp import Status
from cops_lp.engine import driver

from .checks import assert_certified


def test_top_k_and_its_ties():
    solution = cops_lp.solve([1, 3, 3, 3, 0], keep=2)
    assert solution.mask.tolist() == [False, True, True, False, False]
    assert (solution.objective, solution.threshold, solution.gap) == (6.0, 3.0, 0.0)
    assert solution.multipliers.shape == solution.floors.shape == (0,)
    assert solution.method == "top-k"
    assert_certified(solution)


def test_two_scores_by_hand():
    # 5+4 keeps 3 of the control; each unit more costs one of the target.
    solution = cops_lp.solve([5, 4, 3, 2, 1], {"size": [1, 2, 3, 4, 5]}, keep=2, retain=0.5)
    assert solution.floors.tolist() == [4.5]
    assert solution.objective == 7.5
    assert solution.bound == 7.5
    assert solution.multipliers.tolist() == [1.0]
    assert solution.threshold == 6.0
    assert solution.fractional.values.sum() == 1.0
    assert solution.kept.tolist() == [5.0]
    assert solution.mask_objective == 7.0
    assert solution.integer_gap == 0.5
    assert_certified(solution)


def test_a_floor_that_does_not_bind_changes_nothing():
    target, control = np.random.default_rng(0).random((2, 100))
    free = cops_lp.solve(target, keep=10)
    held = cops_lp.solve(target, control, keep=10, floors=0.0)
    assert np.array_equal(free.mask, held.mask)
    assert held.multipliers.tolist() == [0.0]
    assert_certified(held)


def test_a_floor_at_the_best_keeps_the_best_and_breaks_its_ties_by_the_target():
    solution = cops_lp.solve([1.0, 5.0, 2.0, 3.0], [9.0, 1.0, 1.0, 0.0], keep=2, retain=1.0)
    assert solution.mask.tolist() == [True, True, False, False]
    assert len(solution.fractional.indices) == 0
    assert_certified(solution)


@pytest.mark.parametrize("d", [1, 2, 7])
def test_nothing_and_everything(d):
    target, control = np.random.default_rng(d).normal(size=(2, d))
    nothing = cops_lp.solve(target, control, keep=0, floors=0.0)
    assert not nothing.mask.any()
    assert nothing.objective == 0.0
    assert_certified(nothing)
    everything = cops_lp.solve(target, control, keep=d, floors=control.sum())
    assert everything.mask.all()
    assert_certified(everything)
    with pytest.raises(cops_lp.InfeasibleError):
        cops_lp.solve(target, control, keep=0, floors=1e-9)


def test_zero_dimensional_scores():
    solution = cops_lp.solve(2.0, [1.0], keep=1, floors=0.5)
    assert solution.mask.shape == ()
    assert solution.mask.all()
    assert_certified(solution)


DTYPES = [
    np.float16,
    np.float32,
    np.float64,
    np.int8,
    np.uint8,
    np.int16,
    np.int32,
    np.int64,
    np.uint64,
    np.bool_,
    ml_dtypes.bfloat16,
    np.dtype(">f4"),
    np.dtype(">i2"),
]


@pytest.mark.parametrize("size", [300, 30_000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_gives_the_answer_of_its_float64_values(dtype, size):
    rng = np.random.default_rng(3)
    target = (rng.random(size) * 100).astype(dtype)
    control = (rng.random(size) * 100).astype(dtype)
    solution = cops_lp.solve(target, control, keep=0.3, retain=0.9)
    wide = cops_lp.solve(
        target.astype(np.float64), control.astype(np.float64), keep=0.3, retain=0.9
    )
    assert np.array_equal(solution.mask, wide.mask)
    assert solution.objective == wide.objective
    assert solution.multipliers == wide.multipliers
    assert_certified(solution)


def test_mixed_dtypes():
    rng = np.random.default_rng(3)
    target, control = rng.random(30_000).astype(np.float16), rng.integers(0, 99, 30_000)
    assert_certified(cops_lp.solve(target, control, keep=0.1, retain=0.95))


@pytest.mark.parametrize("size", [60, 60_000])
def test_layouts(size, tmp_path):
    rng = np.random.default_rng(4)
    target, control = rng.random((2, size // 6, 3, 2), dtype=np.float32)
    expected = cops_lp.solve(target, control, keep=0.25, retain=0.9)
    assert expected.mask.shape == target.shape
    assert_certified(expected)

    def same(t, c):
        solution = cops_lp.solve(t, c, keep=0.25, retain=0.9)
        assert np.array_equal(solution.mask, expected.mask)
        assert solution.objective == expected.objective
        assert_certified(solution)

    same(np.asfortranarray(target), control)
    wide = np.zeros((2 * target.shape[0], 3, 4), dtype=np.float32)
    strided = wide[::2, :, ::2]
    strided[...] = control
    same(target, strided)
    same(target[::-1][::-1], control.transpose(2, 1, 0).copy().transpose(2, 1, 0))
    frozen = target.copy()
    frozen.flags.writeable = False
    same(frozen, control)
    np.save(tmp_path / "control.npy", control)
    same(target, np.load(tmp_path / "control.npy", mmap_mode="r"))


def test_torch_tensors_on_the_cpu_are_read_as_arrays():
    torch = pytest.importorskip("torch")
    tensor = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    solution = cops_lp.solve(tensor, tensor.flip(0), keep=20, retain=0.8)
    assert solution.mask.shape == (50, 3)
    assert_certified(solution)


def test_inputs_are_not_modified():
    rng = np.random.default_rng(5)
    target, control = rng.normal(size=(2, 50_000))
    before = target.tobytes(), control.tobytes()
    cops_lp.solve(target, control, keep=0.1, floors=5000.0)
    assert (target.tobytes(), control.tobytes()) == before


def test_any_number_of_threads_gives_the_same_bits():
    rng = np.random.default_rng(6)
    target, control = rng.lognormal(0, 3, size=(2, 3_000_000)).astype(np.float32)
    solutions = [
        cops_lp.solve(target, control, keep=0.1, retain=0.9, threads=threads)
        for threads in (1, 2, 5)
    ]
    for other in solutions[1:]:
        assert np.array_equal(other.mask, solutions[0].mask)
        assert other.objective == solutions[0].objective
        assert other.multipliers.tobytes() == solutions[0].multipliers.tobytes()
        assert other.gap == solutions[0].gap
    assert_certified(solutions[0])


@pytest.mark.parametrize("factor", [2.0**-300, 1e-30, 3.0, 1e30, 2.0**300])
def test_scaling_a_score_changes_no_mask(factor):
    rng = np.random.default_rng(7)
    target, control = rng.random((2, 400))
    plain = cops_lp.solve(target, control, keep=40, retain=0.9)
    scaled = cops_lp.solve(target, control * factor, keep=40, retain=0.9)
    assert np.array_equal(plain.mask, scaled.mask)
    assert scaled.multipliers * factor == pytest.approx(plain.multipliers)
    assert_certified(scaled)
    target_scaled = cops_lp.solve(target * factor, control, keep=40, retain=0.9)
    assert np.array_equal(plain.mask, target_scaled.mask)
    assert_certified(target_scaled)


def test_infeasible_raises_by_default_and_returns_on_request():
    with pytest.raises(cops_lp.InfeasibleError, match=r"'size': wanted 10, attainable 9") as caught:
        cops_lp.solve([1, 2, 3], {"size": [2, 3, 4]}, keep=3, floors=10)
    assert caught.value.wanted.tolist() == [10.0]
    assert caught.value.certificate.tolist() == [1.0]
    assert caught.value.names == ("size",)
    solution = cops_lp.solve(
        [1, 2, 3], {"size": [2, 3, 4]}, keep=3, floors=10, raise_on_infeasible=False
    )
    assert solution.status is Status.INFEASIBLE
    assert np.isnan([solution.objective, solution.bound, *solution.multipliers]).all()
    assert np.isnan(solution.relaxed()).all()
    assert_certified(solution)


def test_ten_million_weights_in_two_bytes_each_and_room_for_two_threads():
    import tracemalloc

    rng = np.random.default_rng(8)
    target = rng.random(10_000_000, dtype=np.float32)
    control = rng.random(10_000_000, dtype=np.float32)
    cops_lp.solve(target[:100_000], control[:100_000], keep=0.1, retain=0.9)
    tracemalloc.start()
    solution = cops_lp.solve(target, control, keep=0.1, retain=0.9, threads=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * target.size + 2 * 8_000_000
    assert solution.passes == 1
    assert_certified(solution)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("K", [1, 2])
def test_floors_are_met_where_weights_are_screened(K, dtype, monkeypatch):
    """Also without the compiler, where scalars follow NumPy's rules."""
    monkeypatch.setattr(driver, "_DIRECT", (1 << 10,) * 3)
    rng = np.random.default_rng(41)
    scores = rng.exponential(size=(1 + K, 2_500)).astype(dtype)
    scores[1:] += scores[0]
    solution = cops_lp.solve(scores[0], list(scores[1:]), keep=0.1, retain=0.8)
    assert solution.open_count < 2_500
    assert_certified(solution)
