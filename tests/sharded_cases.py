"""What each process of a group runs for test_sharded.py: every function of CASES, in turn.

python sharded_cases.py RANK SIZE FOLDER [CASE ...] writes FOLDER/RANK.json, case -> "" or what
failed.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

import cops_lp
import cops_lp.torch as ct
from cops_lp import InfeasibleError, ProblemError, SolverError, Status
from cops_lp.engine import driver, stores
from cops_lp.judge import judging
from cops_lp.torch import collectives, mapping, store
from cops_lp.torch.tensor_mask import TensorMask

try:
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
except ImportError:  # torch 2.4
    from torch.distributed._tensor import DTensor, Replicate, Shard, distribute_tensor

CASES = {}
FIELDS = ("objective", "threshold", "bound", "gap", "mask_objective", "passes", "open_count")
ARRAYS = ("multipliers", "multipliers_rest", "kept", "floors", "shortfall")


def case(function):
    CASES[function.__name__] = function
    return function


def cuts(seed, d, size):
    """Where shards begin and end: uneven, and with empty ones."""
    rng = np.random.default_rng(seed)
    inner = np.sort(rng.integers(0, d + 1, size - 1))
    if seed % 3 == 1:
        inner[:] = inner[0]  # all but two are empty
    elif seed % 3 == 2:
        inner = np.arange(1, size) * d // size
    return [0, *inner.tolist(), d]


def of_rank(scores, bounds, rank):
    return [row[bounds[rank] : bounds[rank + 1]] for row in scores]


def assert_same(found, whole, expected, fields=FIELDS):
    """The same bits as one process; `whole` is the mask of all ranks."""
    assert found.status is expected.status
    assert np.array_equal(whole, np.asarray(expected.mask).reshape(-1)), "masks differ"
    for name in (*fields, *ARRAYS):
        one, two = getattr(found, name), getattr(expected, name)
        assert np.array_equal(one, two, equal_nan=True), name
    for one, two in zip(found.changed, expected.changed, strict=True):
        assert np.array_equal(one, two), "changed"


def check(seed, scores, rank, size, fields=FIELDS, place="cpu", **how):
    """Solve tensors in shards, and on one of the ranks in one process."""
    bounds = cuts(seed, scores[0].numel(), size)
    target, *controls = (row.to(place) for row in of_rank(scores, bounds, rank))
    found = ct.solve_sharded(target, controls, threads=1, **how)
    whole = np.asarray(found.solution.mask)
    assert found.masks.dtype == torch.bool
    assert found.masks.device == torch.device(place)
    assert np.array_equal(found.masks.cpu().numpy(), whole[bounds[rank] : bounds[rank + 1]])
    assert whole.sum() == (found.solution.keep if found.solution.status is Status.OPTIMAL else 0)
    if seed % size == rank:
        expected = cops_lp.solve(
            ct.flat_score({"x": scores[0]}),
            [ct.flat_score({"x": score}) for score in scores[1:]],
            threads=1,
            **how,
        )
        assert_same(found.solution, whole, expected, fields)
    return found


def random_scores(seed, K, d, dtype, kind="exponential"):
    rng = np.random.default_rng(seed)
    make = {
        "exponential": lambda: rng.exponential(size=d),
        "integers": lambda: rng.integers(0, 4, d).astype(float),
        "zeros": lambda: np.where(rng.random(d) < 0.6, 0.0, rng.random(d)),
        "tied": lambda: np.ones(d),
        "signed": lambda: rng.normal(size=d),
        "decades": lambda: 10.0 ** rng.uniform(-12, 0, d),
    }[kind]
    return [torch.from_numpy(make()).to(dtype) for _ in range(1 + K)]


def retained(K, share=0.6):
    return {"retain": (1.0, 1.0, 0.75, 0.55)[K] * share} if K else {}


@case
def small_problems(rank, size):
    """Nothing is guessed: all weights are gathered."""
    seed = 0
    for dtype in (torch.float32, torch.bfloat16, torch.float64, torch.float16):
        for K in (0, 1, 2, 3):
            for d in (1, 5, 300):
                seed += 1
                check(seed, random_scores(seed, K, d, dtype), rank, size, keep=0.5, **retained(K))


@case
def sampled_problems(rank, size):
    for seed, (dtype, K, d) in enumerate(
        (dtype, K, d)
        for dtype in (torch.float32, torch.bfloat16, torch.float64)
        for K, d in ((0, 40_000), (1, 40_000), (3, 20_000), (0, 150_000), (1, 150_000))
    ):
        scores = random_scores(seed, K, d, dtype)
        found = check(seed, scores, rank, size, keep=0.1, **retained(K))
        assert found.solution.passes > 0


@case
def ties_zeros_and_decades(rank, size):
    seed = 50
    for kind in ("integers", "zeros", "tied", "signed", "decades"):
        for K, dtype in ((0, torch.bfloat16), (1, torch.float32), (2, torch.float32)):
            for d in (700, 30_000):
                seed += 1
                scores = random_scores(seed, K, d, dtype, kind)
                how = {} if K == 0 else {"floors": [0.3 * float(s.sum()) for s in scores[1:]]}
                check(seed, scores, rank, size, keep=0.45, raise_on_infeasible=False, **how)


@case
def a_rank_with_only_ties(rank, size):
    for K in (0, 1, 2):
        scores = random_scores(7, K, 90_000, torch.bfloat16)
        bounds = cuts(2, 90_000, size)  # even
        for score in scores:
            own = score[bounds[1] : bounds[2]]
            own[:] = own[0] if score is scores[0] else 0.5
        scores[0][bounds[1] : bounds[2]] = scores[0].float().quantile(0.75).bfloat16()
        check(2, scores, rank, size, keep=0.25, **retained(K))


@case
def budgets_at_the_ends(rank, size):
    scores = random_scores(3, 1, 30_000, torch.float32)
    for seed, keep in enumerate((0, 1, 29_999, 30_000)):
        check(seed, scores, rank, size, keep=keep, retain=0.5)


@case
def up_to_a_million(rank, size):
    """Open weights are many: they are screened in turn."""
    for seed, K in enumerate((0, 1, 3)):
        scores = random_scores(seed, K, 1_000_000, torch.float32)
        check(seed, scores, rank, size, keep=0.1, **retained(K))


@case
def floors_and_swaps(rank, size):
    """Two controls, few weights kept: roundings miss floors, and weights are swapped.

    Where those near the threshold are too few, the scores are read once more.
    """
    swapped = again = 0
    for seed in (0, 1, 2, 3, 6, 12, 21, 27):
        scores = random_scores(seed, 2, 60_000 if seed > 3 else 9_000, torch.float64)
        best = [float(s.sort(descending=True).values[:40].sum()) for s in scores[1:]]
        found = check(seed, scores, rank, size, keep=40, floors=[0.6 * best[0], 0.6 * best[1]])
        swapped += len(found.solution.changed.indices) > 3
        again += found.solution.passes > 2
    assert swapped > 0
    assert again > 0


@case
def the_best_mask(rank, size):
    scores = random_scores(5, 1, 40_000, torch.float32)
    own = of_rank(scores, cuts(5, 40_000, size), rank)
    found = ct.solve_sharded(own[0], own[1], keep=0.1, retain=0.8).solution
    found = found.problem.solve(integral=True, threads=1)
    expected = cops_lp.solve(
        *[score.numpy() for score in scores], keep=0.1, retain=0.8, integral=True, threads=1
    )
    assert found.integer_gap == expected.integer_gap == 0.0
    assert_same(found, np.asarray(found.mask), expected)


@case
def on_a_device(rank, size):
    """The store of devices, by CPU tensors."""
    viewed, block = mapping.VIEWED, store._block
    mapping.VIEWED, store._block = frozenset(), lambda size, most: 20_000
    try:
        for seed, (dtype, K) in enumerate(
            ((torch.float32, 0), (torch.bfloat16, 1), (torch.float64, 2), (torch.bfloat16, 2))
        ):
            kind = "integers" if seed == 1 else "exponential"
            scores = random_scores(seed, K, 70_000, dtype, kind)
            found = check(seed, scores, rank, size, keep=0.2, **retained(K))
            assert isinstance(found.solution.mask.own, (TensorMask, np.ndarray))
    finally:
        mapping.VIEWED, store._block = viewed, block


@case
def on_a_device_with_a_memory_of_its_own(rank, size):
    try:
        from simulated_device import DEVICE, Simulated
    except pytest.skip.Exception:  # torch 2.4
        return
    block = store._block
    store._block = lambda size, most: 20_000
    try:
        with Simulated() as device:
            for seed, K in enumerate((0, 1, 2)):
                scores = random_scores(seed, K, 70_000, torch.float32)
                check(seed, scores, rank, size, place=DEVICE, keep=0.2, **retained(K))
            levels = random_scores(3, 1, 70_000, torch.bfloat16, "integers")
            found = check(3, levels, rank, size, place=DEVICE, keep=0.2, retain=0.6).solution
            assert cops_lp.certify(found.problem, found)
        assert device.moved > 70_000 // size
    finally:
        store._block = block


@case
def mappings_of_tensors(rank, size):
    """Each rank has names of its own."""
    rng = np.random.default_rng(rank)
    own = {
        f"w{rank}.{i}": torch.from_numpy(rng.exponential(size=shape)).float()
        for i, shape in enumerate([(30, 1 + rank), (0, 4), (), (900,)])
    }
    use = {name: tensor.flip(0) if tensor.ndim else tensor for name, tensor in own.items()}
    found = ct.solve_sharded(own, {"use": dict(reversed(use.items()))}, keep=0.2, retain=0.8)
    assert list(found.masks) == list(own)
    assert all(mask.shape == own[name].shape for name, mask in found.masks.items())
    flat = torch.cat([mask.reshape(-1) for mask in found.masks.values()])
    parts = gathered(flat.to(torch.uint8), size)
    scores = [
        torch.cat(gathered(torch.cat([t.reshape(-1) for t in each]), size))
        for each in (own.values(), [use[name] for name in own])
    ]
    expected = cops_lp.solve(scores[0].numpy(), scores[1].numpy(), keep=0.2, retain=0.8)
    assert_same(found.solution, torch.cat(parts).bool().numpy(), expected)
    assert [layer.kept for layer in found.report.layers] == [
        int(mask.sum()) for mask in found.masks.values()
    ]


def gathered(tensor, size):
    found = [None] * size
    dist.all_gather_object(found, tensor)
    return found


@case
def the_answer_is_proven_by_all_ranks(rank, size):
    scores = random_scores(1, 1, 30_000, torch.float32)
    bounds = cuts(0, 30_000, size)
    target, use = of_rank(scores, bounds, rank)
    found = ct.solve_sharded(target, {"use": use}, keep=0.2, retain=0.8).solution
    if rank == 1:  # one rank alone
        assert "use" in str(found)
        assert "1e+09" not in repr(found)
        assert found._repr_html_()
    assert cops_lp.certify(found.problem, found)
    whole = np.asarray(found.mask)
    arrays = [score.numpy() for score in scores]
    assert cops_lp.certify((arrays[0], {"use": arrays[1]}), found)
    found.mask[np.flatnonzero(whole)[:1]] = False
    assert not cops_lp.certify(found.problem, found)
    again = found.problem.solve(keep=0.1, retain=0.6)
    expected = cops_lp.solve(arrays[0], arrays[1], keep=0.1, retain=0.6)
    assert_same(again, np.asarray(again.mask), expected)


def raised(kind, function, *args, **how):
    """The error's text and notes, which must be the same on all ranks."""
    with pytest.raises(kind) as caught:
        function(*args, **how)
    assert caught.type is kind
    texts = gathered(str(caught.value), dist.get_world_size())
    assert len(set(texts)) == 1, texts
    return texts[0]


@case
def infeasible_problems(rank, size):
    """Proven over all ranks: floors too high alone, and only together."""
    d, k = 40_000, 4_000
    scores = random_scores(1, 2, d, torch.float32)
    arrays = [score.numpy() for score in scores]
    best = [np.sort(array)[-k:].sum(dtype=float) for array in arrays[1:]]
    target, *controls = of_rank(scores, cuts(0, d, size), rank)
    for floors in ([1e9, 0.0], [1.001 * best[0], 0.0], [0.85 * best[0], 0.85 * best[1]]):
        how = {"keep": k, "floors": floors}
        text = raised(InfeasibleError, ct.solve_sharded, target, controls, **how)
        assert "no mask of 4000 weights" in text
        how["raise_on_infeasible"] = False
        expected = cops_lp.solve(arrays[0], arrays[1:], **how)
        assert expected.status is Status.INFEASIBLE
        found = ct.solve_sharded(target, controls, **how)
        assert found.solution.status is Status.INFEASIBLE
        assert not found.masks.any()
        assert not found.solution.mask.any()
        assert np.array_equal(found.solution.certificate, expected.certificate)
        assert cops_lp.certify(found.solution.problem, found.solution)


@case
def what_is_not_finite_on_one_rank(rank, size):
    for d in (900, 50_000):
        target = torch.rand(d, generator=torch.Generator().manual_seed(rank))
        if rank == 1:
            target[[7, 9]] = torch.tensor([torch.nan, torch.inf])
        text = raised(ProblemError, ct.solve_sharded, target, keep=0.5)
        assert "target holds 1 NaN and 1 infinity" in text
        assert "index 7 of 'the shard of rank 1'" in text
    large = torch.full((900,), 1e308 if rank == 1 else 1.0, dtype=torch.float64)
    text = raised(ProblemError, ct.solve_sharded, large, keep=0.7)
    assert "1e+308" in text


@case
def faults_of_one_rank(rank, size):
    """The others get its error, and the group goes on afterwards."""
    target = torch.rand(20_000)
    text = raised(ProblemError, ct.solve_sharded, target.int() if rank == 1 else target, keep=0.5)
    assert "int32" in text
    text = raised(ProblemError, ct.solve_sharded, target, keep=0.5 + 0.1 * (rank == 1))
    assert "keep is 0.5 on rank 0 and 0.6 on rank 1" in text
    names = {"a" if rank else "b": target}
    assert "controls is" in raised(ProblemError, ct.solve_sharded, target, names, keep=1, retain=0)
    assert "keep is -1" in raised(ProblemError, ct.solve_sharded, target, keep=-1)
    empty = torch.empty(0)
    assert "target is empty" in raised(ProblemError, ct.solve_sharded, empty, keep=0)
    ct.solve_sharded(target, keep=0.5)


@case
def a_rank_that_raises(rank, size):
    target = torch.rand(60_000)

    class UnpicklableError(Exception):
        pass

    def fail(*args, **how):
        raise kind("no room")

    places = [
        (stores.ArrayStore, "screen"),
        (stores.ArrayStore, "gather"),
        (driver, "guess_region"),
    ]
    for kind, seen in ((MemoryError, MemoryError), (UnpicklableError, SolverError)):
        for owner, name in places:
            before = getattr(owner, name)
            if rank == 1:
                setattr(owner, name, fail)
            try:
                own = (kind, seen) if rank == 1 else seen
                with pytest.raises(own, match="no room") as caught:
                    ct.solve_sharded(target, target.flip(0), keep=0.3, retain=0.7)
                if rank != 1:
                    assert "rank 1" in "".join(caught.value.__notes__)
            finally:
                setattr(owner, name, before)
    ct.solve_sharded(target, keep=0.5)


@case
def ranks_out_of_step(rank, size):
    """As on processors that round differently: here one samples others."""
    target = torch.rand(60_000)
    seed = driver._SEED
    driver._sample_index.cache_clear()
    driver._SEED = seed + rank
    try:
        with pytest.raises(SolverError, match="out of step"):
            ct.solve_sharded(target, keep=0.5)
    finally:
        driver._SEED = seed
        driver._sample_index.cache_clear()
    ct.solve_sharded(target, keep=0.5)


@case
def exchanges_do_not_grow(rank, size):
    for K in (0, 1, 3):
        counted = []
        for d in (300_000, 3_000_000):
            scores = random_scores(K, K, d, torch.float32)
            own = of_rank(scores, cuts(2, d, size), rank)
            found = ct.solve_sharded(own[0], own[1:], keep=0.1, threads=1, **retained(K))
            ranks = found.solution.mask.ranks
            counted.append((ranks.calls, ranks.bytes, ranks.largest))
        (calls, total, _), (more_calls, more_total, largest) = counted
        assert max(calls, more_calls) <= 15 + 12 * K, counted
        assert more_total < 6 * total, counted  # of the scores there are ten times more
        assert largest <= 1 << 22
        assert more_total < 0.5 * 4 * (1 + K) * 3_000_000


SHAPES = {"a": (7, 3), "one": (1, 5), "scale": (), "w": (501, 301), "bias": (33,), "none": (0, 4)}


def full_tensors(K, dtype=torch.bfloat16, shapes=SHAPES):
    generator = torch.Generator().manual_seed(K)
    return [
        {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}
        for _ in range(1 + K)
    ]


def quiet(function, *args, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.LayerCollapseWarning)
        return function(*args, **how)


def assert_placed(found, expected, like):
    for name, mask in found.masks.items():
        assert type(mask) is type(like[name]), name
        if isinstance(mask, DTensor):
            assert mask.placements == like[name].placements
            assert mask.shape == like[name].shape
            mask = mask.full_tensor()
        assert mask.dtype == torch.bool
        assert torch.equal(mask, expected.masks[name]), name
    assert found.report == expected.report
    assert_same(found.solution, np.asarray(found.solution.mask), expected.solution)


@case
def dtensors(rank, size):
    mesh = init_device_mesh("cpu", (size,))

    def placed(tensors):
        found = {}
        for name, tensor in tensors.items():
            if name == "bias":
                found[name] = tensor.clone()  # the same on every rank
            else:
                how = Replicate() if name == "scale" else Shard(0)
                found[name] = distribute_tensor(tensor, mesh, [how])
        return found

    for K, dtype in ((0, torch.float32), (1, torch.bfloat16), (2, torch.float64)):
        tensors = full_tensors(K, dtype)
        target, *controls = map(placed, tensors)
        how = {"keep": 0.2} | ({"retain": 0.5} if K else {})
        found = quiet(ct.masks_sharded, target, controls, **how)
        expected = quiet(ct.masks, tensors[0], tensors[1:], **how)
        assert_placed(found, expected, target)
    tied = {name: torch.ones_like(tensor) for name, tensor in full_tensors(0)[0].items()}
    assert_placed(
        quiet(ct.masks_sharded, placed(tied), keep=0.3),
        quiet(ct.masks, tied, keep=0.3),
        placed(tied),
    )


@case
def wrong_dtensors(rank, size):
    mesh = init_device_mesh("cpu", (size,))
    whole = torch.rand(40, 60)
    good = distribute_tensor(whole, mesh, [Shard(0)])
    text = raised(
        ProblemError,
        ct.masks_sharded,
        {"a": good, "b": distribute_tensor(whole, mesh, [Shard(1)])},
        keep=1,
    )
    assert "target: 'b' is placed" in text
    assert "wanted Shard(0) along one dimension" in text
    text = raised(ProblemError, ct.masks_sharded, {"a": whole}, keep=1)
    assert "no DTensor" in text
    text = raised(
        ProblemError, ct.masks_sharded, {"a": good, "b": torch.full((5,), float(rank))}, keep=1
    )
    assert "'b' is replicated, but ranks hold different entries" in text
    text = raised(
        ProblemError,
        ct.masks_sharded,
        {"a": good},
        [{"a": distribute_tensor(whole, mesh, [Replicate()])}],
        keep=1,
        retain=0.5,
    )
    assert "wanted both placed alike" in text
    bad = good.clone()
    if rank == size - 1:
        bad.to_local()[0, 3] = torch.nan
    text = raised(ProblemError, ct.masks_sharded, {"a": good, "b": bad}, keep=1)
    first = 40 - len(bad.to_local()) if rank == size - 1 else None
    assert "of 'b'" in text
    assert first is None or f"index ({first}, 3)" in text
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ct.masks_sharded({"a": good, "b": distribute_tensor(whole - 9.0, mesh, [Shard(0)])}, keep=9)
    # Beside it, DTensors of older versions warn for themselves.
    assert [one.category for one in caught].count(ct.LayerCollapseWarning) == 1


@case
def replicas_of_shards(rank, size):
    if size < 4:
        return
    mesh = init_device_mesh("cpu", (2, size // 2))
    tensors = full_tensors(1, shapes={"a": (7, 3), "w": (301, 101)})
    placed = [
        {name: distribute_tensor(t, mesh, [Replicate(), Shard(0)]) for name, t in each.items()}
        for each in tensors
    ]
    found = quiet(ct.masks_sharded, placed[0], placed[1], keep=0.2, retain=0.5)
    expected = quiet(ct.masks, tensors[0], tensors[1], keep=0.2, retain=0.5)
    for name, mask in found.masks.items():
        assert torch.equal(mask.full_tensor(), expected.masks[name])
        assert torch.equal(mask.to_local(), found.masks[name].to_local())
    assert found.report == expected.report
    # One rank's fault is told to its group, and by these ranks to theirs; then all is well again.
    whole = placed[0]["a"]
    integers = whole.to_local().long()
    shape = {"run_check": False, "shape": whole.shape, "stride": whole.stride()}
    wrong = DTensor.from_local(integers, mesh, whole.placements, **shape)
    for bad in range(size):
        mine = {**placed[0], "a": wrong} if rank == bad else placed[0]
        assert "int64" in raised(ProblemError, ct.masks_sharded, mine, keep=0.2)
        controls = 3 if rank == bad else placed[1]
        text = raised(ProblemError, ct.masks_sharded, placed[0], controls, keep=0.2, retain=0.5)
        assert "int" in text
        again = quiet(ct.masks_sharded, placed[0], placed[1], keep=0.2, retain=0.5)
        assert torch.equal(again.masks["a"].to_local(), found.masks["a"].to_local())
    if rank == 1:
        placed[0]["w"].to_local()[0] = 3.0
    text = raised(ProblemError, ct.masks_sharded, placed[0], keep=5)
    assert "'w' is replicated, but" in text


@case
def a_model_of_fsdp(rank, size):
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:  # torch < 2.6
        return
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(50, 31), torch.nn.ReLU(), torch.nn.Linear(31, 3))
    weights = {name: each.detach().abs() for name, each in model.named_parameters()}
    expected = ct.masks(weights, keep=0.3)
    whole = ct.scores.random(model, seed=1)
    fully_shard(model, mesh=init_device_mesh("cpu", (size,)))
    magnitude = {name: each.detach().abs() for name, each in model.named_parameters()}
    found = ct.masks_sharded(magnitude, keep=0.3)
    assert_placed(found, expected, magnitude)
    drawn = ct.scores.random(model, seed=1)
    assert all(torch.equal(each.full_tensor(), whole[name]) for name, each in drawn.items())
    matrices = {name: magnitude[name] for name in drawn}
    ct.masks_sharded(matrices, {"drawn": drawn}, keep=0.3, retain=0.5)
    # What cannot be done with such a model is said before anything is changed.
    x, y = torch.randn(4, 50), torch.tensor([0, 1, 2, 0])
    loss = torch.nn.functional.cross_entropy
    for refused in (
        lambda: ct.scores.snip(model, (x, y), loss),
        lambda: ct.scores.wanda(model, x),
        lambda: ct.scores.wanda(model, x, copy=False),
        lambda: ct.scores.synflow(model, (50,)),
        lambda: ct.scores.ntk_sap(model, x, seed=0),
        lambda: ct.apply_masks(model, found.masks),
        lambda: ct.remove_masks(model),
    ):
        with pytest.raises(ProblemError, match="model is sharded by FSDP"):
            refused()
    with pytest.raises(ProblemError, match=r"is a DTensor; wanted a whole tensor.*full_tensor"):
        ct.save_masks(f"never-{rank}.safetensors", found.masks)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(found.masks[name])
    model(torch.randn(4, 50)).sum().backward()
    kept = sum(int((p.full_tensor() != 0).sum()) for p in model.parameters())
    assert kept == found.solution.keep


@case
def replicas_on_a_part_of_the_world(rank, size):
    """DTensors that are whole on every rank of a mesh concern no rank beside it."""
    halves = [list(range(size // 2)), list(range(size // 2, size))]
    meshes = [DeviceMesh("cpu", ranks) for ranks in halves]
    own = int(rank >= size // 2)
    scores = [torch.rand(1000, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    there = DTensor.from_local(scores[own], meshes[own], [Replicate()], run_check=False)
    found = ct.masks_sharded({"a": there}, keep=0.3)
    expected = ct.masks({"a": scores[own]}, keep=0.3)
    assert torch.equal(found.masks["a"].to_local(), expected.masks["a"])
    dist.barrier()
    if own == 0:  # the others have no part in it
        ct.masks_sharded({"a": there}, keep=0.5)
    else:
        placed = DTensor.from_local(torch.empty(0), meshes[0], [Shard(0)], run_check=False)
        with pytest.raises(ProblemError, match="not in the mesh"):
            ct.masks_sharded({"a": placed}, keep=0.5)
    dist.barrier()


@case
def replicas_in_another_order(rank, size):
    mesh = init_device_mesh("cpu", (size, 1))
    entries = torch.tensor([1.0, -1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    moved = entries[[1, 0, 2, 3, 4]] if rank == size - 1 else entries
    mixed = DTensor.from_local(moved, mesh, [Replicate(), Shard(0)], run_check=False)
    raised(ProblemError, ct.masks_sharded, {"a": mixed}, keep=2)
    line = init_device_mesh("cpu", (size,))
    sharded = DTensor.from_local(torch.rand(3), line, [Shard(0)], run_check=False)
    raised(ProblemError, ct.masks_sharded, {"a": sharded, "b": moved}, keep=2)


@case
def masks_stay_where_the_scores_are(rank, size):
    """FSDP2 keeps parameters on the CPU where it is told to, of a mesh of GPUs."""
    from cops_lp.torch.placements import placed_as

    line = init_device_mesh("cpu", (size,))
    like = DTensor.from_local(torch.rand(9, 3), line, [Shard(0)], run_check=False)
    own = torch.empty((9, 3), dtype=torch.bool, device="meta")
    placed = placed_as(like, own)
    assert placed.to_local().is_meta
    assert placed.dtype == torch.bool
    assert (placed.shape, placed.placements) == (like.shape, like.placements)


@case
def solving_again(rank, size):
    scores = random_scores(5, 1, 30_000, torch.float32)
    target, use = of_rank(scores, cuts(2, 30_000, size), rank)
    found = ct.solve_sharded(target, {"use": use}, keep=0.2, retain=0.7)
    problem, arrays = found.solution.problem, [score.numpy() for score in scores]
    best = float(np.sort(arrays[1].astype(float))[-3000:].sum())
    for how in ({"floors": 0.5 * best}, {"retain": 0.9}, {"floors": 0.6 * best, "integral": True}):
        again = problem.solve(keep=0.1, **how)
        if rank == 1:  # one alone
            assert "use" in str(again)
        expected = cops_lp.solve(arrays[0], {"use": arrays[1]}, keep=0.1, **how)
        assert_same(again, np.asarray(again.mask), expected)
        assert cops_lp.certify(again.problem, again)
    no_answer = problem.solve(keep=0.1, floors=1.1 * best, raise_on_infeasible=False)
    assert no_answer.status is Status.INFEASIBLE
    assert type(no_answer.mask) is type(found.solution.mask)
    error = raised(ProblemError, problem.solve, keep=0.1 + 0.1 * rank, floors=1.0)
    assert "keep is" in error
    raised(ProblemError, problem.solve, keep=0.1, floors=1.0, time_limit=3.0)
    # Equal numbers of different kinds are the same argument.
    share, count = ((0.25, 3), (np.float64(0.25), np.int8(3)))[rank % 2]
    ct.solve_sharded(target, {"use": use}, keep=share, floors=[count])


@case
def faults_after_the_first_solve(rank, size):
    """What fails on one rank later, or between a meeting and its exchange, fails on all."""
    scores = random_scores(5, 1, 400_000, torch.float32)
    target, use = of_rank(scores, cuts(2, 400_000, size), rank)
    found = ct.solve_sharded(target, use, keep=0.2, retain=0.7).solution

    def failing(module, name, *call, on=1, **how):
        real = getattr(module, name)

        def fail(*args, **how):
            patch.setattr(module, name, real)  # as what tells the others of it needs it
            raise MemoryError("no room")

        with pytest.MonkeyPatch.context() as patch:
            if rank == on:
                patch.setattr(module, name, fail)
            assert raised(MemoryError, *call, **how) == "no room"

    problem = found.problem
    failing(driver, "guess_region", problem.solve, keep=0.1)
    failing(judging, "judge_optimal", cops_lp.certify, problem, found, on=size - 1)
    failing(collectives, "_Sum", ct.solve_sharded, target, use, keep=0.2, retain=0.6)
    large = np.zeros(5000, np.uint8)
    failing(collectives, "_Stack", problem.target.ranks.gather, "large", lambda: large)
    with torch.inference_mode(rank == 0):
        again = ct.solve_sharded(target, use, keep=0.2, retain=0.7).solution
    assert np.array_equal(np.asarray(again.mask), np.asarray(found.mask))


def main(rank, size, folder, names):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=(folder / "meeting").as_uri(),
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=60),
    )
    said = {}
    for name in names or CASES:
        function = CASES[name]
        try:
            function(rank, size)
            said[name] = ""
        except BaseException:
            said[name] = traceback.format_exc()
        (folder / f"{rank}.json").write_text(json.dumps(said))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
