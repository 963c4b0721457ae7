"""The device's store, forced onto CPU tensors: the bits of arrays, and little leaves it."""

from __future__ import annotations

import math
import sys
from itertools import pairwise

import numpy as np
import pytest

import cops_lp
from cops_lp import Status
from cops_lp.engine import driver
from cops_lp.engine.region import Cone, Ellipsoid
from cops_lp.engine.stores import ArrayStore

from .checks import assert_certified
from .guessing import guess_early
from .instances import controlled_instance, random_instance
from .test_driver import hard_inputs, random_ellipsoid

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from cops_lp.torch import store as stores  # noqa: E402
from cops_lp.torch import tensor_screened  # noqa: E402
from cops_lp.torch.pieces import TensorPieces  # noqa: E402
from cops_lp.torch.store import TorchStore  # noqa: E402
from cops_lp.torch.sums import ExactSum  # noqa: E402
from cops_lp.torch.tensor_mask import TensorMask  # noqa: E402


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks that small instances have several of; open weights stay on the device."""
    monkeypatch.setattr(stores, "_block", lambda size, most: 10_000)
    monkeypatch.setattr(tensor_screened, "FEW", 0)


def on_device(array, pieces=3):
    """An array's entries in several tensors."""
    flat = np.array(array).reshape(-1)
    cuts = np.linspace(0, len(flat), pieces + 1).astype(int)
    parts = [torch.from_numpy(flat[a:b]) for a, b in pairwise(cuts)]
    return TensorPieces([part for part in parts if len(part)])


def both(target, controls, **how):
    """Solve from arrays and from tensors; the answers are the same bits, and are certified."""
    how["raise_on_infeasible"] = False
    arrays = cops_lp.solve(target, list(controls), **how)
    tensors = cops_lp.solve(on_device(target), [on_device(c) for c in controls], **how)
    assert tensors.status is arrays.status
    assert (tensors.passes, tensors.open_count) == (arrays.passes, arrays.open_count)
    if arrays.status is Status.OPTIMAL:
        assert isinstance(tensors.mask, TensorMask)
        assert np.array_equal(np.asarray(tensors.mask), arrays.mask.reshape(-1))
        for name in ("multipliers", "multipliers_rest", "kept", "floors", "shortfall"):
            assert np.array_equal(getattr(tensors, name), getattr(arrays, name)), name
        for name in ("threshold", "objective", "bound", "gap", "mask_objective", "integer_bound"):
            assert getattr(tensors, name) == getattr(arrays, name), name
        for one, other in zip(tensors.changed, arrays.changed, strict=True):
            assert np.array_equal(one, other)
    elif arrays.certificate is not None:
        assert np.array_equal(tensors.certificate, arrays.certificate)
    assert_certified(tensors)
    return tensors


@pytest.fixture(params=["sample", "whole"])
def tiny_samples(request, monkeypatch):
    """Guess from 40 weights on, so that small instances take the large ones' way."""
    monkeypatch.setattr(stores, "_block", lambda size, most: 512)
    guess_early(monkeypatch, request.param)


@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize("first", range(0, 200, 50))
def test_random_instances(first, few, tiny_samples, monkeypatch):
    monkeypatch.setattr(tensor_screened, "FEW", few)
    found = {"optimal": 0, "screened": 0}
    for seed in range(first, first + 50):
        one = random_instance(50_000 + seed, largest=3000)
        solution = both(one.target, [one.control], keep=one.keep, floors=one.floor)
        found["optimal"] += solution.status is Status.OPTIMAL
        found["screened"] += solution.open_count < solution.problem.size
        several = controlled_instance(50_000 + seed, largest=3000, most=4)
        both(several.target, several.controls, keep=several.keep, floors=several.floors)
    assert min(found.values()) > 20


@pytest.mark.parametrize("name", hard_inputs(10))
@pytest.mark.parametrize("keep", [0, 1, 0.1, 99_999])
def test_hard_inputs(name, keep):
    target, control = (
        x.astype(np.float32) if x.dtype == np.int8 else x for x in hard_inputs(100_000)[name]
    )
    both(target, [], keep=keep)
    problem = cops_lp.Problem(target, control, keep=keep, floors=-1e6)
    best = problem.best()[1]
    for floor in (0.5 * best, best, best + 1e-9 * abs(best) + 1e-9):
        both(target, [control], keep=keep, floors=floor)


@pytest.mark.parametrize("which", ["dropped", "kept", "constant", "first"])
def test_an_adversary_who_picks_the_sample(which, monkeypatch):
    rng = np.random.default_rng(9)
    target, control = rng.random((2, 30_000))
    order = np.argsort(cops_lp.solve(target, control, keep=0.1, retain=0.9).combined_score())
    picks = {
        "dropped": np.sort(order[:4096]),
        "kept": np.sort(order[-4096:]),
        "constant": np.zeros(4096, dtype=np.int64),
        "first": np.arange(4096),
    }
    honest = driver._sample_index
    monkeypatch.setattr(driver, "_WHOLE", 0)
    monkeypatch.setattr(
        driver, "_sample_index", lambda d, *how: picks[which] if d == 30_000 else honest(d, *how)
    )
    both(target, [control], keep=0.1, retain=0.9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("K", [0, 1, 2, 5])
def test_a_pass_finds_the_same_as_over_arrays(K, dtype):
    rng = np.random.default_rng(21)
    d = 100_001
    scores = rng.normal(size=(1 + K, d)).astype(dtype)
    scores[0, [5, 70_000]] = np.nan, np.inf
    if K:
        scores[K, [9, 65_536]] = -np.inf, np.nan
    scores[0, 100:200] = dtype(1e30)
    scores[0, 200:300] = dtype(1e-40)
    rays = np.column_stack((rng.random((4, K + 1)), rng.random(4)))
    rays[3, 0] = 0.0
    for region in (random_ellipsoid(rng, K), Cone(rays), Cone(1e-30 * rays)):
        masks = np.empty(d, bool), TensorMask(torch.empty(d, dtype=torch.bool))
        one = ArrayStore(scores).screen(region, masks[0])
        two = TorchStore([on_device(row) for row in scores]).screen(region, masks[1])
        assert np.array_equal(masks[0], np.asarray(masks[1]))
        assert one.kept == two.kept
        assert one.kept > 0 or isinstance(region, Cone)
        two = two.arrays()
        assert {5, 70_000} < set(two.index)
        assert np.array_equal(one.index, two.index)
        assert np.array_equal(one.scores, two.scores, equal_nan=True)
        assert np.array_equal(one.sums, two.sums)
        assert one.magnitudes == pytest.approx(two.magnitudes, rel=1e-5)


def assert_same_pass(scores, region, masses=None):
    """A pass over tensors finds what one over arrays does."""
    d = scores[0].size
    masks = np.empty(d, bool), TensorMask(torch.empty(d, dtype=torch.bool))
    one = ArrayStore(tuple(scores)).screen(region, masks[0], masses)
    two = TorchStore([on_device(row) for row in scores]).screen(region, masks[1], masses).arrays()
    assert (one.kept, one.open_count) == (two.kept, two.open_count)
    assert np.array_equal(masks[0].view(np.uint8), masks[1].states.numpy())
    assert np.array_equal(one.index, two.index)
    assert np.array_equal(one.masses.counts, two.masses.counts)
    assert np.array_equal(one.sums, two.sums)
    return one


@pytest.mark.parametrize(
    ("dtype", "s"), [(np.float32, 0), (np.float32, 21), (np.float32, 24), (np.float64, 170)]
)
def test_multipliers_too_small_beside_the_target(dtype, s):
    """Guard: of c + (λ / α) A the quotient may be 0 in single precision."""
    rng = np.random.default_rng(s)
    rows = [
        (rng.random(20_000) * 10.0**-s).astype(dtype),
        (rng.random(20_000) * 10.0**s).astype(dtype),
    ]
    region = Ellipsoid(np.array([10.0**s, 10.0**-s, 1.2]), np.diag([0.0, 1e-4]))
    assert assert_same_pass(rows, region).kept > 100


@pytest.mark.parametrize(("K", "j", "large"), [(2, 0, 1e35), (1, 1, 1e23), (2, 1, 1e23)])
def test_what_overflows_in_compiled_kernels_is_open(K, j, large):
    rows = list(np.random.default_rng(K).random((1 + K, 20_000)).astype(np.float32))
    rows[j][7] = large
    size = 1e5 if j == 0 else 1.0
    region = Ellipsoid(np.full(K + 2, size), (1.0 if j == 0 else 1e-3) * np.eye(K + 1))
    assert 7 in assert_same_pass(rows, region).index


@pytest.mark.parametrize(
    ("dtype", "size", "spread"), [(np.float32, 3e38, 1e-20), (np.float64, 1.7e308, 1e-200)]
)
@pytest.mark.parametrize("K", [2, 3, 4])
def test_nothing_is_decided_by_forms_that_overflow(K, dtype, size, spread):
    """Guard: `beyond < math.inf`. Of 2x − 1.1x − 1.1x … the first term makes ∞, which stays."""
    scores = np.full((1 + K, 3_000), -size, dtype=dtype)
    scores[0] *= -1
    center = np.concatenate(([2.0], np.full(K, 1.1), [0.0]))
    region = Ellipsoid(center, spread * np.eye(K + 1))
    found = TorchStore([on_device(row) for row in scores]).screen(region, None)
    assert found.kept == 0
    assert found.open_count == 3_000


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("K", range(4))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_masses_of_ties_are_counted_on_the_device(K, count, dtype, monkeypatch):
    counted = []
    real = TorchStore.hand_out

    def watched(self, mask, screened, amounts, around):
        counted.append(int(screened.masses.counts.max()))
        return real(self, mask, screened, amounts, around)

    monkeypatch.setattr(TorchStore, "hand_out", watched)
    d = 100_000
    rng = np.random.default_rng([K, count])
    scores = rng.integers(0, count, (1 + K, d)).astype(dtype)
    part = rng.random(d) < 0.2 * (count > 1)
    scores[:, part] = rng.standard_normal((1 + K, int(part.sum())))
    for keep in (0.1, 0.6):
        k = round(keep * d)
        best = -np.sort(-scores[1:].astype(float), axis=1)[:, :k].sum(axis=1)
        own = scores[1:, np.argsort(-scores[0], kind="stable")[:k]].sum(axis=1, dtype=float)
        how = {"floors": list(own + 0.5 * (best - own))} if K else {}
        both(scores[0], scores[1:], keep=k, **how)
    if count == 1:
        assert max(counted) > d // 2


def test_the_best_whole_mask_is_found_from_tensors_too():
    target, control = np.random.default_rng(11).random((2, 50_000))
    for how in ({"floors": 4000.0}, {"retain": 0.8}):
        solution = both(target, [control], keep=0.1, integral=True, **how)
        assert solution.integer_gap <= 1e-15 * solution.objective < solution.bound


def test_balance_from_tensors():
    rng = np.random.default_rng(12)
    scores = {name: rng.exponential(size=60_000) for name in "abc"}
    arrays = cops_lp.balance(scores, keep=0.1)
    tensors = cops_lp.balance({name: on_device(s) for name, s in scores.items()}, keep=0.1)
    assert np.array_equal(np.asarray(tensors.mask), arrays.mask)
    assert tensors.share == arrays.share
    assert np.array_equal(tensors.weights, arrays.weights)
    assert_certified(tensors)


def test_what_is_not_finite_is_an_error_that_says_where():
    target = np.random.default_rng(13).random(90_000)
    target[45_000] = np.nan
    pieces = on_device(target)
    pieces.labels = ("a", "b", "c")
    with pytest.raises(cops_lp.ProblemError, match="1 NaN, the first at index 15000 of 'b'"):
        cops_lp.solve(pieces, keep=0.1)


def test_scores_in_several_places_are_refused():
    target = np.zeros(9)
    with pytest.raises(cops_lp.ProblemError, match=r"on device cpu and in arrays"):
        cops_lp.solve(on_device(target), target, keep=1, floors=0.0)
    with pytest.raises(cops_lp.ProblemError, match=r"on device cpu and on meta"):
        cops_lp.solve(
            on_device(target), TensorPieces([torch.zeros(9, device="meta")]), keep=1, floors=0.0
        )


class Watch(TorchDispatchMode):
    """Sizes of the tensors that operations make, views aside, and of what they bring to arrays."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        inputs = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
        if isinstance(found, torch.Tensor) and found.untyped_storage().data_ptr() not in inputs:
            self.largest = max(self.largest, found.numel() * found.element_size())
        return found


def test_only_a_sample_and_open_weights_leave_the_device(monkeypatch):
    d, block = 1_000_000, 20_000
    monkeypatch.setattr(stores, "_block", lambda size, most: block)
    monkeypatch.setattr(driver, "_WHOLE_NEAR", 0)  # open weights are sampled in turn
    left = []
    real = torch.Tensor.cpu

    def cpu(tensor, *how):
        left.append(tensor.numel())
        return real(tensor, *how)

    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    rng = np.random.default_rng(14)
    scores = [on_device(rng.exponential(size=d).astype(np.float32), 5) for _ in range(2)]
    with Watch() as watch:
        solution = cops_lp.solve(*scores, keep=0.1, floors=1.7 * 0.1 * d)
    assert solution.status is Status.OPTIMAL
    assert solution.passes == 1
    samples = 2 * (d ** (2 / 3) + driver._SAMPLE[0])
    assert sum(left) < 1.2 * samples + 0.1 * solution.open_count < d // 10
    assert solution.open_count > samples / 2
    # The mask takes d bytes. The rest are a block's, or as few as the sample and open weights.
    assert d <= watch.largest <= d + 8 * block


@pytest.mark.parametrize("spread", [0, 18, 22, 24, 26, 30, 60, 120])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_are_exact_whatever_the_range(spread, dtype):
    rng = np.random.default_rng(22)
    values = np.ldexp(1.0 + rng.random(50_001), -rng.integers(0, spread + 1, 50_001)).astype(dtype)
    values[::9] *= -1.0
    values[::7] = 0.0
    values[3] = np.finfo(dtype).smallest_subnormal
    total = ExactSum(torch.device("cpu"))
    for start in range(0, len(values), 7_777):
        total.add(torch.from_numpy(values[start : start + 7_777]))
    parts, size = total.parts()
    assert len(parts) < 200
    assert math.fsum([*parts, *(-values.astype(float)).tolist()]) == 0.0
    assert size == pytest.approx(np.abs(values.astype(float)).sum(), rel=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_of_what_is_no_number_end(bad, dtype):
    """Scores that change between a sieve and a sum."""
    total = ExactSum(torch.device("cpu"))
    total.add(torch.tensor([1.0, bad, 2.0], dtype=dtype))
    _, size = total.parts()
    assert not math.isfinite(size)


def test_small_entries_beside_huge_ones():
    total = ExactSum(torch.device("cpu"))
    total.add(torch.tensor([1e300, -1e300, 3e-300, 1.0], dtype=torch.float64))
    parts, _ = total.parts()
    assert math.fsum([*parts, -1.0]) == 3e-300


def test_sums_near_the_end_of_the_range():
    values = np.array([1.5e308, -1.5e308, 1e308, 3e-300, 1.0])
    total = ExactSum(torch.device("cpu"))
    total.add(torch.from_numpy(values))
    parts, _ = total.parts()
    assert math.fsum(parts) == 1e308
    assert ExactSum(torch.device("cpu")).parts() == ([], 0.0)


@pytest.mark.parametrize("target", [np.full(50_000, 1e308), np.linspace(0.0, 1.7e308, 50_000)])
def test_sums_beyond_float64_are_an_error(target):
    with pytest.raises(cops_lp.ProblemError, match="sum to more than float64 holds"):
        cops_lp.solve(on_device(target), keep=0.5)


def test_masses_are_compared_in_single_precision():
    """0.1 is no bfloat16, whatever a comparison rounds it to."""
    rows = torch.rand(5_000).to(torch.bfloat16)
    rows[::5] = 0.1
    region = Ellipsoid(np.array([1.0, 0.1]), np.array([[0.01]]))
    for value in (np.float32(0.1), rows[0].float().numpy()):
        masses = np.array([[value]])
        one = ArrayStore((rows.float().numpy(),)).screen(region, None, masses)
        two = TorchStore([TensorPieces([rows])]).screen(region, None, masses)
        assert one.masses.counts.tolist() == two.masses.counts.tolist()
        assert one.open_count == two.open_count > 900


def test_a_triton_that_cannot_be_imported_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "cops_lp.torch.fused", None)
    monkeypatch.delattr("cops_lp.torch.fused", raising=False)
    stores._fused.cache_clear()
    with pytest.warns(RuntimeWarning, match="Triton is installed but fails"):
        assert stores._fused() is None
    stores._fused.cache_clear()


def test_a_mask_on_a_device_reads_as_an_array():
    mask = TensorMask(torch.zeros(6, dtype=torch.bool))
    assert not mask.any()
    mask[np.array([1, 4])] = np.array([True, True])
    mask[2:4] = np.array([False, True])
    assert np.asarray(mask).tolist() == [False, True, False, True, True, False]
    assert mask[np.array([4, 0])].tolist() == [True, False]
    assert np.array(mask, dtype=float).sum() == 3.0
    assert mask.reshape((6,)) is mask
    with pytest.raises(ValueError, match="flat"):
        mask.reshape((2, 3))
    with pytest.raises(ValueError, match="is a copy"):
        np.asarray(mask, copy=False)
