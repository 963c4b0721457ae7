"""Scores leave the model and every random state as they were, byte for byte."""

from __future__ import annotations

import random
from collections import defaultdict, deque

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset

from cops_lp.torch import scores

from .networks import Busy, digits, seeded

IMAGES, LABELS = digits(12, torch.float32)
PAIR = (IMAGES, LABELS)
NAMES = ["conv.weight", "first.weight", "again.weight", "last.weight"]

CALLS = {
    "gss": lambda model: scores.gss(
        model, lambda m: m(IMAGES.to(m.last.weight.device)).square().sum()
    ),
    "gss in batches": lambda model: scores.gss(
        model, lambda m, x, y: cross_entropy(m(x), y), batches=PAIR, variant="squared"
    ),
    "magnitude": scores.magnitude,
    "random": lambda model: scores.random(model, seed=3),
    "snip": lambda model: scores.snip(model, PAIR, cross_entropy),
    "snip, training": lambda model: scores.snip(model, PAIR, cross_entropy, training=True),
    "snip, evaluation": lambda model: scores.snip(model, PAIR, cross_entropy, training=False),
    "snip, a loader": lambda model: scores.snip(
        model, DataLoader(TensorDataset(*PAIR), batch_size=5, shuffle=True), cross_entropy
    ),
    "snip, float64": lambda model: scores.snip(model, PAIR, cross_entropy, dtype=torch.float64),
    "grasp": lambda model: scores.grasp(model, [PAIR, PAIR], cross_entropy, training=True),
    "crop": lambda model: scores.crop(model, PAIR, cross_entropy),
    "fisher": lambda model: scores.fisher(model, PAIR, cross_entropy),
    "synflow": lambda model: scores.synflow(model, (1, 8, 8)),
    "synflow_l2": lambda model: scores.synflow_l2(model, IMAGES),
    "ntk_sap": lambda model: scores.ntk_sap(model, IMAGES, seed=0, draws=2),
    "wanda": lambda model: scores.wanda(model, IMAGES),
    "ria": lambda model: scores.ria(model, [IMAGES, IMAGES], dtype=torch.float64),
}
RUNS = [name for name in CALLS if name not in ("magnitude", "random")]
SEVERAL = ("snip, a loader", "grasp", "crop", "fisher", "ntk_sap", "ria")  # run it repeatedly


def busy() -> nn.Module:
    """A network with gradients in some places, modes that differ, hooks and frozen weights."""
    model = seeded(Busy, torch.float32)
    cross_entropy(model(IMAGES), LABELS).backward()  # gradients, statistics, counters
    model.remembered = None
    model.first.weight.grad = None
    model.last.bias.requires_grad_(False)
    model.conv.weight.requires_grad_(False)
    model.norm.eval()
    model.again.register_forward_hook(lambda module, args, output: output + 0.0)
    model.last.register_full_backward_hook(lambda module, given, taken: None)
    return model


def bits(tensor: torch.Tensor | None) -> tuple | None:
    if tensor is None:
        return None
    return tensor.detach().contiguous().numpy().tobytes(), tensor.shape, tensor.dtype, id(tensor)


def fingerprint(model: nn.Module) -> dict:
    found: dict = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        found[name] = (
            bits(tensor),
            tensor.data_ptr(),
            tensor._version,
            tensor.requires_grad,
            bits(tensor.grad),
        )
    for name, module in model.named_modules():
        found[name, "attributes"] = [
            (key, id(value), repr(value)) for key, value in module.__dict__.items()
        ]
    found["torch"] = torch.get_rng_state().numpy().tobytes()
    found["python"] = random.getstate()
    found["numpy"] = [
        part.tobytes() if isinstance(part, np.ndarray) else part
        for part in np.random.get_state()  # noqa: NPY002
    ]
    found["modes"] = (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.backends.mha.get_fastpath_enabled(),
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.math_sdp_enabled(),
    )
    return found


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_left_changed(name):
    model = busy()
    before = fingerprint(model)
    first = CALLS[name](model)
    assert fingerprint(model) == before
    assert all(not t.requires_grad and t.grad_fn is None for t in first.values())
    if "loader" not in name:  # so the same call gives the same scores
        second = CALLS[name](model)
        assert all(torch.equal(first[key], second[key]) for key in first)
    linear = [name for name in NAMES if name != "conv.weight"]
    assert list(first) == (linear if name in ("wanda", "ria") else NAMES)
    # The network does what it should tell apart: running it by hand changes all of it.
    model.train()(IMAGES)
    changed = {key for key, value in fingerprint(model).items() if value != before[key]}
    assert {"norm.running_mean", "norm.num_batches_tracked", "seen", "hidden"} <= changed
    assert {"table.weight", ("", "attributes"), "torch", "python", "numpy"} <= changed


class StopError(Exception):
    pass


@pytest.mark.parametrize(
    ("name", "call"), [*((name, 1) for name in RUNS), *((name, 2) for name in SEVERAL)]
)
def test_nothing_is_left_changed_by_an_error(name, call):
    model = busy()
    calls = 0

    def stop(module, args, output):
        nonlocal calls
        calls += 1
        if calls == call:
            raise StopError

    model.last.register_forward_hook(stop)
    before = fingerprint(model)
    with pytest.raises(StopError):
        CALLS[name](model)
    assert calls == call
    assert fingerprint(model) == before


def test_an_error_of_the_loss_in_a_later_batch():
    model = busy()
    before = fingerprint(model)
    seen = []

    def loss(outputs, labels):
        seen.append(len(labels))
        if len(seen) == 2:
            raise StopError
        return cross_entropy(outputs, labels)

    for score in (scores.snip, scores.grasp, scores.crop, scores.fisher):
        seen.clear()
        with pytest.raises(StopError):
            score(model, [PAIR, PAIR], loss)
        assert fingerprint(model) == before


def test_a_functional_that_meddles_meddles_with_copies():
    model = busy()
    before = fingerprint(model)

    def functional(model: nn.Module) -> torch.Tensor:
        model.eval()
        model.requires_grad_(False)
        model.kept.clear()
        model.extra = nn.Linear(2, 2)
        model.last.register_forward_hook(lambda *_: None)
        with torch.no_grad():
            model.norm.weight.zero_()
        torch.manual_seed(0)
        return (model.last.weight**2).sum()

    with pytest.raises(Exception, match="scored parameter"):
        scores.gss(model, functional)  # it has switched off the gradients of the copies
    assert fingerprint(model) == before


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow", "ntk_sap", "wanda"])
def test_a_model_that_torch_has_pruned_is_left_as_it_was(name):
    model = busy()
    for layer in (model.conv, model.first):
        prune.l1_unstructured(layer, "weight", amount=0.5)
    before = fingerprint(model)
    found = CALLS[name](model)
    assert fingerprint(model) == before
    assert set(found) == set(NAMES) - ({"conv.weight"} if name == "wanda" else set())
    mask = model.first.weight_mask == 0
    assert (found["first.weight"][mask] == 0).all()
    assert (found["first.weight"][~mask] != 0).any()


def test_recurrent_layers_are_left_as_they_were():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTM(8, 5, batch_first=True)
            self.head = nn.Linear(5, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.cell(x.flatten(1, 2))[0][:, -1])

    model = seeded(Recurrent, torch.float32)
    outputs = model(IMAGES)
    before = fingerprint(model)
    where = ("cell.weight_hh_l0", "head.weight")
    found = scores.snip(model, PAIR, cross_entropy, where=where)
    assert fingerprint(model) == before
    assert torch.equal(model(IMAGES), outputs)
    cross_entropy(model(IMAGES), LABELS).backward()
    for name in where:
        parameter = model.get_parameter(name)
        torch.testing.assert_close(found[name], (parameter * parameter.grad).abs().detach())


def test_dropout_draws_from_the_random_state_of_now():
    model = busy().train()
    torch.manual_seed(1)
    one = scores.snip(model, PAIR, cross_entropy)
    torch.manual_seed(2)
    two = scores.snip(model, PAIR, cross_entropy)
    assert not torch.equal(one["last.weight"], two["last.weight"])
    torch.manual_seed(1)
    assert torch.equal(one["last.weight"], scores.snip(model, PAIR, cross_entropy)["last.weight"])


def test_both_rounds_of_grasp_see_the_same_dropout():
    model = seeded(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Dropout(0.5), nn.Linear(20, 10)),
        torch.float64,
    )
    images, labels = digits(8)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    got = scores.grasp(model, (images, labels), cross_entropy)
    torch.set_rng_state(state)
    keep = nn.functional.dropout(torch.ones(8, 20, dtype=torch.float64), 0.5)

    def flow(first: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.linear(images.flatten(1), first, model[1].bias) * keep
        loss = cross_entropy(nn.functional.linear(hidden, last, model[3].bias), labels)
        found = torch.autograd.grad(loss, (first, last), create_graph=True)
        return 0.5 * sum(gradient.square().sum() for gradient in found)

    theta = [model[i].weight.detach().clone().requires_grad_() for i in (1, 3)]
    for name, one, gradient in zip(
        got, theta, torch.autograd.grad(flow(*theta), theta), strict=True
    ):
        torch.testing.assert_close(got[name], (one * gradient).detach(), rtol=1e-10, atol=1e-14)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_random_states_of_gpus_are_left_as_they_were():
    model = busy().cuda()
    for call in CALLS.values():
        before = torch.cuda.get_rng_state_all()
        found = call(model)
        after = torch.cuda.get_rng_state_all()
        assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
        assert all(score.is_cuda for score in found.values())


class Merging(nn.Linear):
    """Adds its low-rank part to the weight in evaluation mode, as LoRA layers do."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.down = nn.Parameter(0.3 * torch.randn(2, inputs))
        self.up = nn.Parameter(0.3 * torch.randn(outputs, 2))
        self.merged = False

    def train(self, mode: bool = True):
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1.0 if mode else 1.0) * (self.up @ self.down)
            self.merged = not mode
        return self

    def forward(self, x):
        x, y = x.flatten(1), super().forward(x.flatten(1))
        return y if self.merged else y + x @ self.down.T @ self.up.T


class Freezing(nn.Sequential):
    """Freezes its first layer whatever the mode, and gives its bias other memory."""

    def train(self, mode: bool = True):
        super().train(mode)
        self[1].weight.requires_grad_(False)
        self[1].bias.data = torch.zeros(16)
        return self


MODES = {
    "wanda": lambda model: scores.wanda(model, IMAGES),
    "wanda, no copy": lambda model: scores.wanda(model, IMAGES, copy=False),
    "synflow": lambda model: scores.synflow(model, (1, 8, 8)),
    "snip, evaluation": CALLS["snip, evaluation"],
    "snip, training": CALLS["snip, training"],
}


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("name", MODES)
def test_modes_that_change_weights_are_undone(name, merged):
    def network():
        return nn.Sequential(nn.Flatten(), Merging(64, 16), nn.ReLU(), nn.Linear(16, 10))

    model = seeded(network, torch.float32).train(not merged)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    MODES[name](model)
    assert model[1].merged == merged
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", MODES)
def test_modes_that_freeze_are_undone(name):
    model = seeded(
        lambda: Freezing(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)),
        torch.float32,
    )
    bias, memory = model[1].bias.clone(), model[1].bias.data_ptr()
    MODES[name](model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(model[1].bias, bias)
    assert model[1].bias.data_ptr() == memory


def test_containers_inside_containers_are_refilled():
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)
            self.kept = {"seen": [], "last": (deque(maxlen=2), defaultdict(list))}
            self.kept["itself"] = self.kept

        def forward(self, x):
            self.kept["seen"].append(len(x))
            self.kept["last"][0].append(len(x))
            self.kept["last"][1]["sizes"].append(len(x))
            return self.layer(x.flatten(1))

    model = Keeping()
    seen, (last, sizes) = model.kept["seen"], model.kept["last"]
    scores.snip(model, PAIR, cross_entropy)
    assert model.kept["seen"] is seen
    assert (seen, list(last), dict(sizes)) == ([], [], {})
    assert last.maxlen == 2
    assert model.kept["itself"] is model.kept
