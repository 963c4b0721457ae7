"""From a model to masks on a device with a memory of its own: see simulated_device.py."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest

import cops_lp
from cops_lp import Status
from cops_lp.engine import driver

from . import test_torch_store
from .checks import assert_certified
from .guessing import guess_early
from .instances import controlled_instance, random_instance
from .test_driver import hard_inputs
from .test_torch_store import both

torch = pytest.importorskip("torch")

import cops_lp.torch as ct  # noqa: E402
from cops_lp.torch import store as stores  # noqa: E402
from cops_lp.torch import tensor_screened  # noqa: E402
from cops_lp.torch.pieces import TensorPieces  # noqa: E402
from cops_lp.torch.tensor_mask import TensorMask  # noqa: E402

from .networks import digits, rectified  # noqa: E402
from .simulated_device import DEVICE, Simulated, There  # noqa: E402


@pytest.fixture
def device():
    with Simulated() as simulated:
        yield simulated


@pytest.fixture
def pieces_there(device, monkeypatch):
    """The tests of the store take tensors on the device."""
    here = test_torch_store.on_device

    def there(array, pieces=3):
        return TensorPieces([tensor.to(DEVICE) for tensor in here(array, pieces)._tensors])

    monkeypatch.setattr(test_torch_store, "on_device", there)
    monkeypatch.setattr(stores, "_block", lambda size, most: 10_000)
    return device


@pytest.fixture(params=[0, 1000])
def few(request, monkeypatch):
    """Open weights stay on the device until they are as few."""
    monkeypatch.setattr(tensor_screened, "FEW", request.param)


def test_the_simulation_keeps_memories_apart(device):
    there, here = torch.arange(4.0, device=DEVICE), torch.arange(4.0)
    for mixed in (
        lambda: there + here,
        lambda: torch.cat([there, here]),
        lambda: here[there > 1.0],
        lambda: there[torch.tensor([0])],
        there.numpy,
        lambda: np.asarray(there),
    ):
        with pytest.raises((RuntimeError, TypeError)):
            mixed()
    assert (there * 2.0)[1:].device == DEVICE
    back = there.cpu()
    back[0] = 7.0
    assert there.tolist() == [0.0, 1.0, 2.0, 3.0]
    there[1:].mul_(2.0)
    assert there.tolist() == [0.0, 2.0, 4.0, 6.0]
    assert device.operations["aten::mul_"] == 1


@pytest.mark.parametrize("way", ["sample", "whole"])
def test_random_instances(pieces_there, few, way, monkeypatch):
    monkeypatch.setattr(stores, "_block", lambda size, most: 512)
    guess_early(monkeypatch, way)
    optimal = 0
    for seed in range(20):
        one = random_instance(90_000 + seed, largest=3000)
        solution = both(one.target, [one.control], keep=one.keep, floors=one.floor)
        optimal += solution.status is Status.OPTIMAL
        several = controlled_instance(90_000 + seed, largest=3000, most=4)
        both(several.target, several.controls, keep=several.keep, floors=several.floors)
    assert 5 < optimal < 20
    assert pieces_there.operations["aten::nonzero"] > 100


@pytest.mark.parametrize("name", hard_inputs(10))
def test_hard_inputs(pieces_there, few, name):
    target, control = (
        x.astype(np.float32) if x.dtype == np.int8 else x for x in hard_inputs(50_000)[name]
    )
    best = cops_lp.Problem(target, control, keep=0.1, floors=-1e6).best()[1]
    for floor in (0.5 * best, best, best + 1e-9 * abs(best) + 1e-9):
        both(target, [control], keep=0.1, floors=floor)


def test_masses_and_the_best_whole_mask(pieces_there, few):
    rng = np.random.default_rng(4)
    levels = rng.integers(0, 4, (3, 60_000)).astype(np.float32)
    both(levels[0], levels[1:], keep=0.3, retain=0.7)
    target, control = rng.random((2, 60_000))
    assert both(target, [control], keep=0.1, retain=0.8, integral=True).integer_gap >= 0.0


DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_masks_of_mappings(device, few, dtype, tmp_path):
    rng = np.random.default_rng(5)
    shapes = {"conv": (64, 32, 3, 3), "none": (0, 3), "scale": (), "fc": (300, 200)}
    here = [
        {
            n: torch.from_numpy(np.asarray(rng.exponential(size=s))).to(dtype)
            for n, s in shapes.items()
        }
        for _ in range(3)
    ]
    here[1]["fc"] = here[1]["fc"].T.contiguous().T
    target, *controls = (
        {name: tensor.to(DEVICE) for name, tensor in each.items()} for each in here
    )
    controls = dict(zip("ab", controls, strict=True))
    expected = ct.masks(here[0], dict(zip("ab", here[1:], strict=True)), keep=0.1, retain=0.7)
    found = ct.masks(target, controls, keep=0.1, retain=0.7)
    assert isinstance(found.solution.mask, TensorMask)
    assert np.array_equal(found.solution.multipliers, expected.solution.multipliers)
    assert found.report == expected.report
    for name, mask in found.masks.items():
        assert mask.device == DEVICE
        assert torch.equal(mask.cpu(), expected.masks[name])
    verdict = cops_lp.certify(found.solution.problem, found.solution)
    assert verdict.ok, str(verdict)
    share = ct.balance({"t": target, **controls}, keep=0.1)
    here_too = ct.balance({"t": here[0], "a": here[1], "b": here[2]}, keep=0.1)
    assert share.solution.share == here_too.solution.share
    assert_certified(share.solution)
    ct.save_masks(tmp_path / "m.safetensors", found.masks)
    for name, mask in ct.load_masks(tmp_path / "m.safetensors", device=DEVICE).items():
        assert mask.device == DEVICE
        assert torch.equal(mask.cpu(), expected.masks[name])
    found.solution.save(tmp_path / "s.npz")
    loaded = cops_lp.Solution.load(tmp_path / "s.npz")
    arrays = (
        ct.flat_score(here[0]),
        {n: ct.flat_score(c) for n, c in zip("ab", here[1:], strict=True)},
    )
    assert cops_lp.certify(arrays, loaded)


def test_errors_tell_of_the_device(device):
    target = {"a": torch.ones(5, device=DEVICE)}
    with pytest.raises(cops_lp.ProblemError, match="cpu"):
        ct.masks(target, {"b": {"a": torch.ones(5)}}, keep=1, retain=0.5)
    target["a"][3] = float("nan")
    with pytest.raises(cops_lp.ProblemError, match="1 NaN, the first at index 3 of 'a'"):
        ct.masks(target, keep=1)
    uses = {"a": torch.arange(5.0, device=DEVICE)}
    with pytest.raises(cops_lp.InfeasibleError):
        ct.masks({"a": torch.ones(5, device=DEVICE)}, {"b": uses}, keep=1, floors=9.0)


def test_little_leaves_the_device_and_goes_to_it(device, monkeypatch):
    d = 1_000_000
    monkeypatch.setattr(driver, "_WHOLE_NEAR", 0)  # open weights are sampled in turn
    monkeypatch.setattr(tensor_screened, "FEW", 0)
    scores = [torch.empty(d).exponential_().to(DEVICE) for _ in range(2)]
    device.fetched = device.sent = 0
    pieces = [TensorPieces([score]) for score in scores]
    solution = cops_lp.solve(*pieces, keep=0.1, floors=1.7 * 0.1 * d)
    assert solution.status is Status.OPTIMAL
    samples = 2 * (d ** (2 / 3) + driver._SAMPLE[0])
    assert device.fetched < 8 * 1.5 * samples < 8 * d // 10
    assert device.sent < 8 * 1.5 * samples
    assert solution.mask.tensor.device == DEVICE


SCORES = {
    "magnitude": lambda m, x, y: ct.scores.magnitude(m),
    "random": lambda m, x, y: ct.scores.random(m, seed=3),
    "snip": lambda m, x, y: ct.scores.snip(m, (x, y), torch.nn.functional.cross_entropy),
    "grasp": lambda m, x, y: ct.scores.grasp(m, (x, y), torch.nn.functional.cross_entropy),
    "crop": lambda m, x, y: ct.scores.crop(m, (x, y), torch.nn.functional.cross_entropy),
    "fisher": lambda m, x, y: ct.scores.fisher(m, (x, y), torch.nn.functional.cross_entropy),
    "synflow": lambda m, x, y: ct.scores.synflow(m, x[:1]),
    "synflow_l2": lambda m, x, y: ct.scores.synflow_l2(m, x[:1]),
    "ntk_sap": lambda m, x, y: ct.scores.ntk_sap(m, x, seed=3),
    "wanda": lambda m, x, y: ct.scores.wanda(m, x),
    "ria": lambda m, x, y: ct.scores.ria(m, x),
}


@pytest.mark.parametrize("name", SCORES)
def test_scores_on_the_device_are_those_of_the_cpu(device, name):
    model, (x, y) = rectified(), digits(8)
    expected = SCORES[name](copy.deepcopy(model), x, y)
    model.to(DEVICE)
    before = {key: value.cpu() for key, value in model.state_dict().items()}
    found = SCORES[name](model, x.to(DEVICE), y.to(DEVICE))
    assert list(found) == list(expected)
    for key, score in found.items():
        assert score.device == DEVICE
        assert torch.equal(score.cpu(), expected[key])
    for key, value in model.state_dict().items():
        assert torch.equal(value.cpu(), before[key])


def test_a_model_on_the_device_is_pruned_and_trained(device):
    model, (x, y) = rectified(torch.float32).to(DEVICE), digits(32, torch.float32)
    x, y = x.to(DEVICE), y.to(DEVICE)
    loss = torch.nn.functional.cross_entropy
    found = ct.masks(
        ct.scores.magnitude(model), {"snip": ct.scores.snip(model, (x, y), loss)},
        keep=0.3, retain=0.9,
    )  # fmt: skip
    ct.apply_masks(model, found.masks)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    ct.remove_masks(model)
    weights = dict(model.named_parameters())
    assert sum(int((weights[name] != 0).sum()) for name in found.masks) == found.solution.keep
    assert all(isinstance(weights[name].data, There) for name in found.masks)


def test_rounds_on_the_device(device):
    model, x = rectified(), digits(1)[0]
    one = quiet(lambda: ct.prune_iteratively(model, flow(x), keep=0.2, rounds=3))
    there = x.to(DEVICE)
    two = quiet(lambda: ct.prune_iteratively(model.to(DEVICE), flow(there), keep=0.2, rounds=3))
    for name, mask in two.masks.items():
        assert mask.device == DEVICE
        assert torch.equal(mask.cpu(), one.masks[name])


def flow(x):
    return lambda model, masks: ct.scores.synflow(model, x, masks=masks)


def quiet(function):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.LayerCollapseWarning)
        return function()
