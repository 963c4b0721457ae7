"""Masks on models: through state_dict, deepcopy, pickling, training, tied parameters."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref

import pytest

from cops_lp import ProblemError

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import prune  # noqa: E402

from cops_lp.torch import apply_masks, load_masks, masks, remove_masks, save_masks  # noqa: E402
from cops_lp.torch.pruned import bare_name  # noqa: E402
from cops_lp.torch.scores import gss  # noqa: E402


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        x = self.bn(self.conv(x)).mean(dim=(2, 3))
        for block in self.blocks:
            x = torch.relu(block(x * self.scale))
        return x


def made(seed=0):
    torch.manual_seed(seed)
    model = Net()
    scores = {name: p.detach().abs() for name, p in model.named_parameters() if p.ndim > 1}
    return model, masks(scores, keep=0.4).masks


def batch(seed=1):
    return torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(seed))


def step(model, optimizer):
    optimizer.zero_grad()
    model(batch()).square().sum().backward()
    optimizer.step()


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1)


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.1)


def zeros(model, found):
    for name, mask in found.items():
        path, _, last = name.rpartition(".")
        weight = getattr(model.get_submodule(path), last)
        assert torch.equal(weight == 0.0, ~mask), name


def pickled(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_a_masked_model_computes_with_zeros():
    model, found = made()
    by_hand = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in by_hand.named_parameters():
            if name in found:
                parameter *= found[name]
    apply_masks(model, found)
    zeros(model, found)
    assert prune.is_pruned(model)
    assert torch.equal(model(batch()), by_hand(batch()))


@pytest.mark.parametrize("make", [sgd, adamw])
@pytest.mark.parametrize("before", [False, True])
def test_training_moves_the_kept_and_leaves_zeros(make, before):
    model, found = made()
    optimizer = make(model.parameters()) if before else None
    apply_masks(model, found)
    optimizer = optimizer or make(model.parameters())
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(3):
        step(model, optimizer)
        for name in found:
            gradient = dict(model.named_parameters())[f"{name}_orig"].grad
            assert torch.equal(gradient[~found[name]], torch.zeros(int((~found[name]).sum())))
    model(batch())
    zeros(model, found)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, start[name])}
    assert {f"{name}_orig" for name in found} <= moved


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled, lambda m: copy.deepcopy(pickled(m))])
@pytest.mark.parametrize("when", ["applied", "forward", "backward", "eval"])
def test_copies_are_whole_and_apart(copied, when):
    model, found = made()
    apply_masks(model, found)
    if when == "eval":
        with torch.no_grad():
            model.eval()(batch())
    elif when != "applied":
        out = model(batch()).sum()
        if when == "backward":
            out.backward()
    other = copied(model)
    assert {name for name, _ in other.named_parameters()} == {
        name for name, _ in model.named_parameters()
    }
    zeros(other, found)
    model.eval(), other.eval()
    assert torch.equal(model(batch()), other(batch()))
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    step(other, optimizer)
    other(batch())
    zeros(other, found)
    assert not torch.equal(other.conv.weight_orig, model.conv.weight_orig)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    again = copied(other)
    zeros(again, found)
    remove_masks(again)
    assert not prune.is_pruned(again)


def test_state_dict_carries_weights_and_masks():
    model, found = made()
    apply_masks(model, found)
    step(model, torch.optim.SGD(model.parameters(), lr=0.1))
    state = copy.deepcopy(model.state_dict())
    assert {f"{name}_mask" for name in found} <= state.keys()
    fresh, _ = made(seed=5)
    apply_masks(fresh, {name: torch.ones_like(mask) for name, mask in found.items()})
    fresh.load_state_dict(state)
    model.eval(), fresh.eval()
    assert torch.equal(model(batch()), fresh(batch()))
    zeros(fresh, found)


def test_removing_makes_zeros_permanent():
    model, found = made()
    names = [name for name, _ in model.named_parameters()]
    objects = dict(model.named_parameters())
    apply_masks(model, found)
    model.eval()
    expected = model(batch())
    remove_masks(model, ["conv.weight"])
    assert [name for name, _ in prune_names(model)] == ["blocks.0.weight", "blocks.1.weight"]
    remove_masks(model)
    assert sorted(name for name, _ in model.named_parameters()) == sorted(names)
    assert all(p is objects[name] for name, p in model.named_parameters())
    assert torch.equal(model(batch()), expected)
    zeros(model, found)
    assert not prune.is_pruned(model)
    assert model.state_dict().keys() == Net().state_dict().keys()


def prune_names(model):
    return [(n.removesuffix("_mask"), b) for n, b in model.named_buffers() if n.endswith("_mask")]


def test_new_masks_replace_old_ones():
    model, found = made()
    original = model.conv.weight.detach().clone()
    apply_masks(model, found)
    turned = {name: ~mask for name, mask in found.items()}
    apply_masks(model, turned)
    zeros(model, turned)
    model(batch()).sum().backward()
    zeros(model, turned)
    assert torch.equal(model.conv.weight_orig, original)
    assert (
        sum(isinstance(h, prune.BasePruningMethod) for h in model.conv._forward_pre_hooks.values())
        == 1
    )
    copy.deepcopy(model)


def test_a_model_pruned_by_torch_itself_gets_the_new_masks():
    model, found = made()
    prune.l1_unstructured(model.conv, "weight", amount=0.5)
    prune.random_unstructured(model.conv, "weight", amount=0.5)
    apply_masks(model, found)
    zeros(model, found)
    zeros(copy.deepcopy(model), found)


def test_tied_parameters_stay_tied():
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "c": nn.Linear(4, 4)})
    model["b"].weight = model["a"].weight
    model["d"] = model["c"]
    mask = torch.arange(16).reshape(4, 4) % 3 == 0
    apply_masks(model, {"a.weight": mask, "c.weight": ~mask, "d.weight": (~mask).clone()})
    assert model["a"].weight_orig is model["b"].weight_orig
    for name, own in (("a", mask), ("b", mask), ("c", ~mask), ("d", ~mask)):
        assert torch.equal(model[name].weight == 0.0, ~own)
    copied = copy.deepcopy(model)
    assert copied["a"].weight_orig is copied["b"].weight_orig
    remove_masks(model, ["b.weight", "d.weight"])
    assert model["a"].weight is model["b"].weight
    assert not prune.is_pruned(model)
    with pytest.raises(ProblemError, match=r"'b\.weight' is the same parameter as another one"):
        apply_masks(model, {"a.weight": mask, "b.weight": ~mask})
    assert not prune.is_pruned(model)


def test_recurrent_and_attention_layers():
    model = nn.ModuleDict({"lstm": nn.LSTM(4, 3), "attention": nn.MultiheadAttention(4, 2)})
    found = {
        "lstm.weight_ih_l0": torch.arange(48).reshape(12, 4) % 2 == 0,
        "attention.in_proj_weight": torch.arange(48).reshape(12, 4) % 3 == 0,
    }
    for own in (found, {name: ~mask for name, mask in found.items()}):
        apply_masks(model, own)
        x = torch.randn(5, 2, 4)
        out = model["lstm"](x)[0].sum() + model["attention"](x, x, x)[0].sum()
        out.backward()
        copy.deepcopy(model)
        for name, mask in own.items():
            path, last = name.split(".")
            assert torch.equal(getattr(model[path], last) == 0.0, ~mask)
            assert (
                getattr(model[path], f"{last}_orig").grad[~mask] == 0.0
            ).all() or own is not found


class Projecting(nn.Module):
    """Uses weights of modules that it does not call, as some attention layers do."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)
        self.heads = nn.ModuleList([nn.Linear(8, 8)])
        self.listed = nn.ParameterList([nn.Parameter(torch.randn(8, 8))])

    def forward(self, x):
        x = nn.functional.linear(x, self.inner.weight, self.inner.bias)
        return nn.functional.linear(x, self.heads[0].weight) @ self.listed[0]


@pytest.mark.parametrize(
    "make", [Projecting, lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)]
)
def test_weights_used_without_calling_their_module(make):
    torch.manual_seed(3)
    model, x = nn.Sequential(make(), nn.Linear(8, 4)), torch.randn(5, 3, 8)
    found = {name: torch.rand(p.shape) < 0.5 for name, p in model.named_parameters() if p.ndim > 1}
    apply_masks(model, found)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
        for name in found:
            assert model.get_parameter(f"{name}_orig").grad.any(), name
    model.eval()
    with torch.no_grad():  # by the weights of now
        got = model(x)
    assert got.isfinite().all()
    zeros(model, found)
    whole = copy.deepcopy(model)
    remove_masks(whole)
    assert torch.equal(got, whole(x))
    assert not any(module._forward_pre_hooks for module in whole.modules())
    remove_masks(model, list(found)[:1])
    assert torch.equal(got, model(x))
    assert any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_masked_model_can_be_copied_after_it_was_scored(recurrent):
    model = nn.LSTM(4, 3) if recurrent else nn.Sequential(nn.Linear(4, 3))
    name, x = ("weight_hh_l0" if recurrent else "0.weight"), torch.randn(5, 2, 4)
    apply_masks(
        model,
        {
            name: torch.arange(model.get_parameter(name).numel()).reshape_as(
                model.get_parameter(name)
            )
            % 2
            == 0
        },
    )

    def output(model):
        found = model(x)
        return found[0] if recurrent else found

    gss(model, lambda model: output(model).square().sum(), where=[name])
    assert torch.equal(output(copy.deepcopy(model)), output(model))


def test_a_masked_model_is_freed_at_once():
    """Without Python's garbage collector, which may leave memory of a device taken for long."""
    model, found = made()
    apply_masks(model, found)
    model(batch())
    layer = weakref.ref(model.conv)
    gc.disable()
    try:
        del model
        assert layer() is None
    finally:
        gc.enable()


def test_a_parameter_of_the_model_itself_and_other_dtypes():
    model = Net().to(torch.bfloat16)
    mask = torch.tensor([True, False, True, False])
    apply_masks(model, {"scale": mask})
    assert model.scale.dtype == torch.bfloat16
    assert torch.equal(model.scale != 0.0, mask)


def test_faults_are_named_and_change_nothing():
    model, found = made()
    faults = {
        "'conv.other' is no parameter of Net": {"conv.other": found["conv.weight"]},
        "'conv.weight' has shape": {"conv.weight": torch.ones(3, dtype=torch.bool)},
        "'conv.weight' is torch.float32; wanted a tensor of bool": {
            "conv.weight": found["conv.weight"].float()
        },
        "'conv.weight' is list": {"conv.weight": [True]},
    }
    for message, fault in faults.items():
        with pytest.raises(ProblemError, match=message):
            apply_masks(model, {**{n: m for n, m in found.items() if n not in fault}, **fault})
        assert not prune.is_pruned(model)
    with pytest.raises(ProblemError, match="masks: list; wanted a mapping"):
        apply_masks(model, list(found))
    apply_masks(model, found)
    for name in ("bn.weight", "nothing"):
        with pytest.raises(ProblemError, match=f"'{name}' is no pruned parameter of Net"):
            remove_masks(model, ["conv.weight", name])
    assert len(prune_names(model)) == len(found)


EYE = torch.eye(3) > 0


def two_layers():
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))


def compiled(how):
    def compile_last(model):
        layer, x = nn.Linear(3, 3), torch.ones(1, 3)
        model[1] = torch.jit.script(layer) if how == "script" else torch.jit.trace(layer, x)

    return pytest.param(
        compile_last,
        EYE,
        "wanted a module that is not compiled",
        id=how,
        marks=pytest.mark.filterwarnings("ignore:.*torch.jit"),
    )


@pytest.mark.parametrize(
    ("change", "mask", "complaint"),
    [
        (lambda m: setattr(m[1], "weight_mask", torch.ones(3, 3)), EYE, "its own 'weight_mask'"),
        (lambda m: setattr(m[1], "weight_orig", None), EYE, "its own 'weight_orig'"),
        (lambda m: m[1].register_buffer("weight_mask", EYE), EYE, "its own 'weight_mask'"),
        compiled("script"),
        compiled("trace"),
        (lambda m: m.__setitem__(1, nn.LazyLinear(3)), EYE, "has no shape yet"),
        (lambda m: None, EYE.to("meta"), "is on device meta; wanted a dense tensor with values"),
        (lambda m: None, EYE.to_sparse(), "is of layout torch.sparse_coo; wanted a dense tensor"),
        (
            lambda m: setattr(m[1].weight, "device_mesh", None),  # as a DTensor has
            EYE,
            "is no DTensor; wanted one like its parameter, which is a DTensor",
        ),
    ],
)
def test_what_cannot_be_masked_changes_nothing(change, mask, complaint):
    model = two_layers()
    change(model)
    state, names = dict(model[0].state_dict()), [name for name, _ in model.named_parameters()]
    with pytest.raises(ProblemError, match=f"'1.weight' .*{complaint}"):
        apply_masks(model, {"0.weight": EYE, "1.weight": mask})
    assert [name for name, _ in model.named_parameters()] == names
    assert model[0].state_dict().keys() == state.keys()
    assert not prune.is_pruned(model)


@pytest.mark.parametrize("of_other_name", [False, True])
def test_a_tied_parameter_that_cannot_be_masked_everywhere_is_masked_nowhere(of_other_name):
    model = two_layers()
    model[1].weight = model[0].weight
    model[int(not of_other_name)].weight_mask = None
    with pytest.raises(ProblemError, match="has its own 'weight_mask'"):
        apply_masks(model, {"1.weight": EYE})
    assert not prune.is_pruned(model)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_compiled_modules_beside_the_masked_are_left_alone():
    model = two_layers()
    model[1] = torch.jit.trace(model[1], torch.ones(1, 3))
    apply_masks(model, {"0.weight": EYE})
    zeros(model, {"0.weight": EYE})
    remove_masks(model)
    assert not prune.is_pruned(model)


@pytest.mark.parametrize("dead", [False, True])
def test_copies_after_a_shallow_copy_has_run(dead):
    """As nn.DataParallel makes them; it shares the module's hooks."""
    model = two_layers()
    apply_masks(model, {"0.weight": EYE})
    shallow = copy.copy(model[0])
    shallow(torch.ones(2, 3))
    if dead:
        del shallow
        gc.collect()
    else:
        zeros(nn.Sequential(copy.deepcopy(shallow)), {"0.weight": EYE})
    zeros(copy.deepcopy(model), {"0.weight": EYE})


def test_each_layer_keeps_its_own_mask_alone():
    model = nn.Sequential(*[nn.Linear(30, 30) for _ in range(40)])
    scores = {name: p.detach().abs() for name, p in model.named_parameters() if p.ndim > 1}
    apply_masks(model, masks(scores, keep=0.4).masks)
    count = sum(mask.numel() for mask in scores.values())
    assert len(pickle.dumps(model)) < 20 * count  # 13 bytes a weight
    for layer in model:
        (hook,) = layer._forward_pre_hooks.values()
        assert hook.mask.untyped_storage().nbytes() == 900


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning", "ignore:.*spectral_norm")
@pytest.mark.parametrize(
    ("norm", "name"),
    [
        (nn.utils.weight_norm, "0.weight_v"),
        (nn.utils.spectral_norm, "0.weight_orig"),
        (nn.utils.parametrizations.weight_norm, "0.parametrizations.weight.original1"),
        (nn.utils.parametrizations.spectral_norm, "0.parametrizations.weight.original"),
    ],
)
def test_masks_on_what_a_norm_computes_with(norm, name):
    torch.manual_seed(4)
    model, x = nn.Sequential(norm(nn.Linear(3, 3))), torch.randn(5, 3)
    apply_masks(model, {name: ~EYE})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model(x).square().sum().backward()
    optimizer.step()
    model.eval()
    got = model(x)
    assert torch.equal(got, model(x))
    assert torch.equal(model[0].weight != 0.0, ~EYE)
    remove_masks(model)
    assert torch.equal(got, model(x))


@pytest.mark.parametrize("grad", [False, True])
def test_masks_of_inference_mode_leave_a_model_that_trains(grad):
    model, found = made()
    with torch.inference_mode():
        apply_masks(model, {name: mask.clone() for name, mask in found.items()})
    step(model, sgd(model.parameters()))
    zeros(copy.deepcopy(model), found)
    with torch.inference_mode(), torch.set_grad_enabled(grad):
        remove_masks(model)
    step(model, sgd(model.parameters()))


def test_a_model_made_in_inference_mode_can_be_masked():
    with torch.inference_mode():
        model = two_layers()
    apply_masks(model, {"0.weight": EYE})
    with torch.inference_mode():
        model(torch.ones(2, 3))
    zeros(copy.deepcopy(model), {"0.weight": EYE})
    remove_masks(model)
    zeros(model, {"0.weight": EYE})


def test_masking_keeps_the_mode_of_gradients():
    model = two_layers()
    with torch.no_grad():
        apply_masks(model, {"0.weight": EYE})
        assert not model[0].weight.requires_grad
    apply_masks(model, {"0.weight": ~EYE})
    assert model[0].weight.requires_grad


def test_parameters_called_like_pruned_ones_keep_their_names():
    model = nn.Module()
    model.weight_orig = nn.Parameter(torch.ones(3, 3))
    model.register_buffer("weight_mask", EYE)
    assert bare_name(model, "weight_orig") == "weight_orig"
    with pytest.raises(ProblemError, match="'weight' is no parameter"):
        apply_masks(model, {"weight": EYE})
    apply_masks(model, {"weight_orig": EYE})
    assert bare_name(model, "weight_orig_orig") == "weight_orig"
    assert torch.equal(model.weight_orig != 0.0, EYE)
    assert bare_name(model, "other") == "other"


def test_a_name_that_no_file_can_hold(tmp_path):
    pytest.importorskip("safetensors")
    with pytest.raises(ProblemError, match=r"masks: a name is '.*ud800'; wanted another str"):
        save_masks(tmp_path / "m.safetensors", {"\ud800": EYE})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["cuda:99", "mps:99", "xla", "privateuseone"])
def test_masks_wanted_on_a_device_that_is_not_there(tmp_path, device):
    pytest.importorskip("safetensors")
    save_masks(tmp_path / "m.safetensors", {"weight": EYE})
    with pytest.raises(ProblemError, match=f"device is '{device}'; wanted one that torch knows"):
        load_masks(tmp_path / "m.safetensors", device=device)
