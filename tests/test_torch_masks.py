"""Masks from mappings of tensors: dtypes, layouts, names, devices, ties, reports, files."""

from __future__ import annotations

import copy
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pytest

import cops_lp
from cops_lp import MissingDependencyError, ProblemError, Status

from .checks import assert_certified

torch = pytest.importorskip("torch")

import cops_lp.torch as ct  # noqa: E402
from cops_lp.torch import mapping, store  # noqa: E402

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SHAPES = {
    "conv": (16, 8, 3, 3),
    "bn": (16,),
    "none": (0, 5),
    "scale": (),
    "fc": (300, 200),
    "bias": (300,),
}


@pytest.fixture(params=["arrays", "device"])
def place(request, monkeypatch):
    """CPU tensors by the compiled kernels, and as if they were on another device."""
    if request.param == "device":
        monkeypatch.setattr(mapping, "VIEWED", frozenset())
        monkeypatch.setattr(store, "_block", lambda size, most: 20_000)
    return request.param


def tensors(seed, dtype=torch.float32, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return {
        name: torch.from_numpy(np.asarray(rng.exponential(size=shape))).to(dtype)
        for name, shape in shapes.items()
    }


def flat(scores):
    return torch.cat([score.detach().reshape(-1) for score in scores.values()]).double().numpy()


def quiet(function, *args, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.LayerCollapseWarning)
        return function(*args, **how)


def assert_masks(found, target):
    assert type(found.masks) is dict
    assert list(found.masks) == list(target)
    for name, mask in found.masks.items():
        assert mask.dtype == torch.bool
        assert mask.shape == target[name].shape
        assert mask.device == target[name].device
        assert not mask.requires_grad
    together = torch.cat([mask.reshape(-1) for mask in found.masks.values()])
    assert int(together.sum()) == found.solution.keep
    assert np.array_equal(np.asarray(found.solution.mask), together.numpy())
    assert_certified(found.solution)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("K", [0, 1, 2])
def test_masks_are_those_of_the_flat_scores(dtype, K, place):
    target = tensors(0, dtype)
    controls = {f"c{j}": tensors(1 + j, dtype) for j in range(K)}
    how = {"keep": 0.2, **({"retain": 0.6} if K else {})}
    found = quiet(ct.masks, target, controls, **how)
    assert_masks(found, target)
    expected = cops_lp.solve(flat(target), {n: flat(c) for n, c in controls.items()}, **how)
    assert np.array_equal(np.asarray(found.solution.mask), expected.mask)
    assert np.array_equal(found.solution.multipliers, expected.multipliers)
    assert found.solution.problem.names == tuple(controls)


LAYOUTS = {
    "transposed": lambda t: t.t().contiguous().t() if t.ndim == 2 else t,
    "channels last": lambda t: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t,
    "strided": lambda t: torch.stack((t, t), dim=-1)[..., 0],
    "slice": lambda t: torch.cat((t, t))[: len(t)] if t.ndim else t,
    "expanded": lambda t: t.reshape(-1)[:1].expand(t.shape) if t.ndim == 1 else t,
    "needs grad": lambda t: t.clone().requires_grad_(),
    "parameter": lambda t: torch.nn.Parameter(t.clone()),
    "computed": lambda t: t.clone().requires_grad_() * 1.0,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_layout(layout, dtype, place):
    target = {name: LAYOUTS[layout](t) for name, t in tensors(3, dtype).items()}
    control = tensors(4, dtype)
    before = {name: t.detach().clone() for name, t in target.items()}
    found = quiet(ct.masks, target, control, keep=0.3, retain=0.7)
    assert_masks(found, target)
    expected = cops_lp.solve(flat(target), flat(control), keep=0.3, retain=0.7)
    assert np.array_equal(np.asarray(found.solution.mask), expected.mask)
    for name, t in target.items():
        assert torch.equal(t, before[name])
        assert not t.is_leaf or t.grad is None


def test_negatives_that_torch_only_marks_as_such(place):
    marked = torch.complex(torch.zeros(5), torch.arange(5.0)).conj().imag
    assert marked.is_neg()
    assert ct.masks({"a": marked}, keep=2).masks["a"].tolist() == [True, True, *[False] * 3]


def test_tensors_of_several_dtypes(place):
    target = {name: t.to(DTYPES[i % 4]) for i, (name, t) in enumerate(tensors(5).items())}
    control = {name: t.to(DTYPES[(i + 1) % 4]) for i, (name, t) in enumerate(tensors(6).items())}
    found = quiet(ct.masks, target, control, keep=0.3, retain=0.7)
    assert_masks(found, target)
    expected = cops_lp.solve(flat(target), flat(control), keep=0.3, retain=0.7)
    assert np.array_equal(np.asarray(found.solution.mask), expected.mask)


def test_controls_in_every_form_and_any_order(place):
    target, control = tensors(7), tensors(8)
    turned = dict(reversed(control.items()))
    how = {"keep": 0.25, "retain": 0.8}
    expected = quiet(ct.masks, target, {"a": control}, **how)
    for controls, names in (
        (control, ("control",)),
        (turned, ("control",)),
        ([turned], ("control",)),
        ({"mine": turned}, ("mine",)),
        ((control, tensors(9)), ("control 1", "control 2")),
    ):
        found = quiet(ct.masks, target, controls, **how)
        assert found.solution.problem.names == names
        assert_masks(found, target)
        if len(names) == 1:
            assert all(torch.equal(found.masks[n], expected.masks[n]) for n in target)
    for nothing in ((), {}, None, []):
        assert_masks(quiet(ct.masks, target, nothing, keep=0.25), target)


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_masses_of_bfloat16_ties_keep_exactly_k(levels, place):
    rng = np.random.default_rng(levels)

    def coarse():
        return {
            name: torch.from_numpy(rng.integers(1, levels + 1, shape) / 4.0).to(torch.bfloat16)
            for name, shape in {"a": (300, 400), "b": (7,), "c": (50, 500)}.items()
        }

    target, control = coarse(), coarse()
    for keep in (1, 0.1, 0.5, 145_006):
        found = quiet(ct.masks, target, control, keep=keep, retain=0.9)
        assert_masks(found, target)
        if levels == 1:  # all are equal: the first ones
            k = found.solution.keep
            assert np.asarray(found.solution.mask)[:k].all()


def test_balance(place):
    scores = {name: tensors(j) for j, name in enumerate(("x", "y", "z"))}
    found = quiet(ct.balance, scores, keep=0.2)
    assert_masks(found, scores["x"])
    expected = cops_lp.balance({name: flat(s) for name, s in scores.items()}, keep=0.2)
    assert isinstance(found.solution, cops_lp.Balance)
    assert np.array_equal(np.asarray(found.solution.mask), expected.mask)
    assert found.solution.share == expected.share
    listed = quiet(ct.balance, list(scores.values()), keep=0.2)
    assert listed.solution.score_names == ("score 1", "score 2", "score 3")


def test_no_answer_keeps_nothing_and_does_not_warn(place):
    target, control = tensors(10), tensors(11)
    how = {"keep": 0.1, "floors": 1e9}
    with pytest.raises(cops_lp.InfeasibleError):
        ct.masks(target, control, **how)
    found = ct.masks(target, control, **how, raise_on_infeasible=False)
    assert found.solution.status is Status.INFEASIBLE
    assert found.report.total.kept == 0
    assert not any(mask.any() for mask in found.masks.values())
    assert cops_lp.certify(found.solution.problem, found.solution)
    ct.masks(target, keep=0)


def test_an_emptied_layer_is_reported_and_warned_of(place):
    target = {"low": torch.full((4, 5), 0.1), "none": torch.empty(0), "high": torch.ones(30)}
    with pytest.warns(ct.LayerCollapseWarning, match=r"nothing of 1 of 3 tensors: 'low'$") as seen:
        found = ct.masks(target, keep=10)
    assert seen[0].filename == __file__
    assert found.report.emptied == ("low",)
    assert [tuple(layer) for layer in found.report.layers] == [
        ("low", 20, 0),
        ("none", 0, 0),
        ("high", 30, 10),
    ]
    assert found.report.layers[2].density == pytest.approx(1 / 3)
    assert found.report.total == ("total", 50, 10)
    lines = str(found.report).splitlines()
    assert lines[0].split() == ["layer", "weights", "kept", "density"]
    assert [line.split() for line in lines[2:5]] == [
        ["low", "20", "0", "0.00%"],
        ["none", "0", "0", "–"],
        ["high", "30", "10", "33.33%"],
    ]
    assert lines[-1].split() == ["total", "50", "10", "20.00%"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ct.masks(target, keep=50).report.emptied == ()


A, B = torch.ones(3), torch.ones(2, 2)
GOOD = {"a": A, "b": B}
FAULTS = {
    "no mapping": (A, (), r"target: Tensor; wanted a mapping of names to tensors"),
    "empty": ({}, (), r"target: no tensor has an entry"),
    "no weights": ({"a": torch.empty(0)}, (), r"target: no tensor has an entry"),
    "name": ({1: A}, (), r"target: a name is 1; wanted a str"),
    "array": ({"a": np.ones(3)}, (), r"target: 'a' is ndarray; wanted a tensor"),
    "integers": ({"a": A.int()}, (), r"target: 'a' has dtype torch.int32; wanted float16"),
    "complex": ({"a": A + 0j}, (), r"target: 'a' has dtype torch.complex64"),
    "sparse": ({"a": B.to_sparse()}, (), r"target: 'a' has layout torch.sparse_coo"),
    "meta": ({"a": A.to("meta")}, (), r"target: tensors on device meta hold no values"),
    "mixed": (
        {"a": A, "b": B.to("meta")},
        (),
        r"target: 'b' is on device meta but target: 'a' on cpu; wanted all scores on one device",
    ),
    "missing": (GOOD, {"a": A}, r"control 'control' must have the tensors of target; it lacks 'b'"),
    "unknown": (
        GOOD,
        {"x": {**GOOD, "z": A}},
        r"control 'x' must have the tensors of target; it has in addition 'z'",
    ),
    "shape": (
        GOOD,
        {"x": {"a": A, "b": A}},
        r"control 'x': 'b' has shape \(3,\); wanted that of target, \(2, 2\)",
    ),
    "devices": (
        {"a": A},
        {"x": {"a": A.to("meta")}},
        r"control 'x': tensors on device meta hold no values",
    ),
    "kind of controls": (GOOD, 3, r"controls: int; wanted mappings of names to tensors"),
    "half a mapping": (GOOD, {"a": A, "b": GOOD}, r"control 'control': 'b' is dict"),
    "name of a control": (GOOD, {2: GOOD}, r"controls: a name is 2; wanted a str"),
    "target's name": (GOOD, {"target": GOOD}, r"the name 'target' is taken"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_named(fault):
    target, controls, message = FAULTS[fault]
    with pytest.raises(ProblemError, match=message):
        ct.masks(target, controls, keep=1, **({"floors": 0.0} if controls else {}))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused():
    with pytest.raises(ProblemError, match="target: 'a' is nested; wanted a dense tensor"):
        ct.masks({"a": torch.nested.nested_tensor([A, A])}, keep=1)


def test_scores_on_two_devices_are_named_both(monkeypatch):
    """With one device in the machine the other one is meta, which is refused by itself later."""
    here, there = {"a": A}, {"a": A.to("meta")}
    with pytest.raises(ProblemError, match=r"y: 'a' is on device meta but x: 'a' on cpu"):
        mapping.check_alike({"x": here, "y": there})


def test_balance_needs_mappings():
    with pytest.raises(ProblemError, match="score 'a': Tensor; wanted a mapping"):
        ct.balance(GOOD, keep=1)
    with pytest.raises(ProblemError, match="scores: none were given"):
        ct.balance([], keep=1)


def test_what_is_not_finite_is_named_by_its_tensor(place):
    target = tensors(12)
    target["fc"][3, 4] = torch.inf
    with pytest.raises(ProblemError, match=r"1 infinity, the first at index \(3, 4\) of 'fc'"):
        ct.masks(target, keep=0.1)


def test_a_saved_solution_is_checked_against_tensors(tmp_path, place):
    target, control = tensors(13), tensors(14)
    found = quiet(ct.masks, target, {"c": control}, keep=0.1, retain=0.5)
    found.solution.save(tmp_path / "solution.npz")
    loaded = cops_lp.Solution.load(tmp_path / "solution.npz")
    scores = ct.flat_score(target), {"c": ct.flat_score(control)}
    assert cops_lp.certify(scores, loaded)
    target["fc"][0, 0] += 100.0
    assert not cops_lp.certify(scores, loaded)
    assert "target" in str(found.solution)
    assert found.solution.relaxed().sum() == pytest.approx(found.solution.keep)


def test_masks_copy_and_save_like_any_tensors(tmp_path, place):
    target = tensors(15)
    masks = quiet(ct.masks, target, keep=0.2).masks
    copied = copy.deepcopy(masks)
    path = tmp_path / "masks.safetensors"
    ct.save_masks(path, masks)
    assert path.stat().st_size < sum(mask.numel() for mask in masks.values()) + 2_000
    loaded = ct.load_masks(path)
    torch.save(masks, tmp_path / "masks.pt")
    for found in (copied, loaded, torch.load(tmp_path / "masks.pt", weights_only=True)):
        assert found.keys() == masks.keys()
        assert all(torch.equal(found[name], mask) for name, mask in masks.items())
    with pytest.raises(ProblemError, match="already exists"):
        ct.save_masks(path, masks)
    ct.save_masks(path, {"x": torch.tensor(True)}, overwrite=True)
    assert ct.load_masks(path, device=torch.device("cpu"))["x"].item() is True


def test_masks_of_any_strides_are_saved(tmp_path):
    kept = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5) % 3 == 0
    masks = {
        "channels last": kept.to(memory_format=torch.channels_last),
        "transposed": kept[0, 0].t(),
        "expanded": kept[0, 0, 0].expand(3, 5),
    }
    ct.save_masks(tmp_path / "masks.safetensors", masks)
    loaded = ct.load_masks(tmp_path / "masks.safetensors")
    assert all(torch.equal(loaded[name], mask) for name, mask in masks.items())


def test_masks_that_no_file_can_hold(tmp_path):
    path, mask = tmp_path / "m.safetensors", torch.tensor([True])
    for masks, message in (
        ([mask], r"masks: list; wanted a mapping"),
        ({3: mask}, r"a name is 3; wanted another str"),
        ({"__metadata__": mask}, r"a name is '__metadata__'; wanted another str"),
        ({"a": mask.to("meta")}, r"'a' is on device meta; wanted a dense tensor with values"),
        ({"a": mask.to_sparse()}, r"'a' is of layout torch\.sparse_coo"),
    ):
        with pytest.raises(ProblemError, match=message):
            ct.save_masks(path, masks)
        assert not path.exists()
    ct.save_masks(path, {"a": mask})
    with pytest.raises(ProblemError, match=r"device is 'nowhere'; wanted one that torch knows"):
        ct.load_masks(path, device="nowhere")


def test_files_that_are_no_masks(tmp_path):
    with pytest.raises(ProblemError, match=r"'a' is torch\.float32; wanted a tensor of bool"):
        ct.save_masks(tmp_path / "m.safetensors", {"a": A})
    with pytest.raises(ProblemError, match=r"ends in '\.pt'"):
        ct.save_masks(tmp_path / "m.pt", {})
    with pytest.raises(ProblemError, match="no such file"):
        ct.load_masks(tmp_path / "m.safetensors")
    (tmp_path / "m.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ProblemError, match=r"not a whole \.safetensors file"):
        ct.load_masks(tmp_path / "m.safetensors")
    library = pytest.importorskip("safetensors.torch")
    library.save_file({"a": A}, tmp_path / "floats.safetensors")
    with pytest.raises(ProblemError, match=r"a: has dtype torch\.float32; wanted bool"):
        ct.load_masks(tmp_path / "floats.safetensors")


def test_tensors_are_viewed_not_copied():
    for dtype in DTYPES:
        tensor = torch.ones(4, 5, dtype=dtype)
        score = ct.flat_score({"a": tensor})
        assert score.lying(7, score.dtype) == (tensor.data_ptr(), 0, 20)
        assert score.dtype.itemsize == tensor.element_size()
    shapes = {f"{i}": (500, 1000) for i in range(6)}
    target, control = tensors(16, torch.float64, shapes), tensors(17, torch.float64, shapes)
    ct.masks(target, control, keep=0.1, retain=0.6, threads=1)
    tracemalloc.start()
    try:
        found = ct.masks(target, control, keep=0.1, retain=0.6, threads=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    d = found.solution.problem.size
    assert d < peak < 8 * d  # one score has 8 d bytes
    flat_mask = found.solution.mask
    found.masks["0"][0, 0] = ~found.masks["0"][0, 0]
    assert found.masks["0"].data_ptr() == flat_mask.ctypes.data


def test_bfloat16_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(MissingDependencyError, match=r"ml_dtypes .* 'cops-lp\[torch\]'"):
        ct.masks({"a": A.bfloat16()}, keep=1)
    monkeypatch.setattr(mapping, "VIEWED", frozenset())
    assert quiet(ct.masks, {"a": A.bfloat16()}, keep=1).report.total.kept == 1


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_core_never_imports_torch_and_the_error_names_the_extra():
    assert "[]" in run(
        "import cops_lp, cops_lp.engine.driver, cops_lp.judge, cops_lp.pieces, sys\n"
        "print([m for m in sys.modules if m.startswith('torch')])"
    )
    said = run(
        "import sys; sys.modules['torch'] = None\n"
        "import cops_lp\n"
        "for name in ('torch', 'torch.masking', 'torch.store'):\n"
        "    try: __import__(f'cops_lp.{name}')\n"
        "    except cops_lp.MissingDependencyError as error: print(error)\n"
    )
    assert said.count("pip install 'cops-lp[torch]'") == 3


def test_public_names():
    assert set(ct.__all__) <= set(dir(ct))
    for name in ct.__all__:
        assert getattr(ct, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ct.nothing  # noqa: B018
    assert cops_lp.torch is ct
