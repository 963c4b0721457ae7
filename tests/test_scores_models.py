"""Scores of models that share gradients, recompute parts, or write to what they are given."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from cops_lp import ProblemError
from cops_lp.torch import scores

from .networks import digits, seeded

PAIR = (
    torch.randn(16, 4, generator=torch.Generator().manual_seed(1)),
    torch.randint(0, 3, (16,), generator=torch.Generator().manual_seed(2)),
)
PARTS = [tuple(each[:5] for each in PAIR), tuple(each[5:] for each in PAIR)]
BY_LOSS = {
    "snip": lambda model, data, **how: scores.snip(model, data, nnf.cross_entropy, **how),
    "grasp": lambda model, data, **how: scores.grasp(model, data, nnf.cross_entropy, **how),
    "grasp, summed": lambda model, data, **how: scores.grasp(
        model, data, lambda x, y: nnf.cross_entropy(x, y, reduction="sum"), reduction="sum", **how
    ),
    "fisher": lambda model, data, **how: scores.fisher(model, data, nnf.cross_entropy, **how),
    "gss": lambda model, data, **how: scores.gss(
        model,
        lambda m, x, y: nnf.cross_entropy(m(x), y, reduction="sum"),
        batches=data,
        **how,
    ),
}
BY_INPUTS = {
    "ntk_sap": lambda model, **how: scores.ntk_sap(model, torch.empty(8, 4), seed=5, **how),
    "synflow": lambda model, **how: scores.synflow(model, (4,), **how),
    "synflow, float32": lambda model, **how: scores.synflow(
        model, (4,), dtype=torch.float32, **how
    ),
}


def assert_same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert list(one) == list(two)
    assert all(score.abs().max() > 0 for score in two.values())
    for name, score in two.items():
        torch.testing.assert_close(
            one[name], score, rtol=1e-4, atol=1e-5 * float(score.abs().max())
        )


class Sum(nn.Module):
    """Weights that are added before they are used: autograd gives both one gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.one.bias + self.two.bias
        return nnf.linear(x, self.one.weight + self.two.weight, bias)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", BY_LOSS)
def test_weights_that_share_a_gradient(name, masked):
    torch.manual_seed(0)
    model = Sum()
    where = ["one.weight", "two.weight", "one.bias", "two.bias"]
    masks = {"one.weight": torch.rand(3, 4) > 0.3} if masked else None
    how = {"where": where, "masks": masks}
    score = BY_LOSS[name]
    assert_same(score(model, PARTS, **how), score(model, PAIR, **how))


def test_gradients_of_which_one_number_stands_for_all():
    model = nn.Linear(4, 3)
    found = scores.gss(model, lambda m, x, _: m.weight.sum() * x.sum(), batches=PARTS)
    expected = model.weight.detach() * PAIR[0].sum()
    torch.testing.assert_close(found["weight"], expected, rtol=1e-5, atol=1e-6)


class Checkpointed(nn.Module):
    """A model that may run its body again in the backward pass."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        self.again = again
        self.body = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU()
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.again:
            x = checkpoint(self.body, x, use_reentrant=False)
        else:
            x = self.body(x)
        return self.head(x)


# What the checkpoints of torch 2.4 call.
@pytest.mark.filterwarnings("ignore:.*torch.cpu.amp.autocast:FutureWarning")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", [*BY_LOSS, *BY_INPUTS])
def test_checkpointed_models(name, masked):
    torch.manual_seed(3)
    model, plain = Checkpointed(True), Checkpointed(False)
    plain.load_state_dict(model.state_dict())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    masks = None
    if masked:
        masks = {key: torch.rand_like(v) > 0.3 for key, v in scores.magnitude(model).items()}
    if name in BY_INPUTS:
        found = [BY_INPUTS[name](each, masks=masks) for each in (model, plain)]
    else:
        found = [BY_LOSS[name](each, PAIR, masks=masks) for each in (model, plain)]
    assert_same(*found)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class Overwriting(nn.Module):
    """A model that may change its inputs in place."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.mul_(0.5).sub_(1.0) if self.in_place else x * 0.5 - 1.0)


@pytest.mark.parametrize("name", [*BY_LOSS, "wanda"])
def test_models_that_overwrite_their_inputs(name):
    score = BY_LOSS.get(name, lambda model, data: scores.wanda(model, data[0]))
    model, plain = Overwriting(True), Overwriting(False)
    plain.load_state_dict(model.state_dict())
    own = tuple(each.clone() for each in PAIR)
    assert_same(score(model, own), score(plain, PAIR))
    assert all(torch.equal(one, other) for one, other in zip(own, PAIR, strict=True))


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * x


def test_parametrizations_are_computed_anew_where_they_are_cached():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    parametrize.register_parametrization(model[0], "weight", Doubled())
    where = ["0.parametrizations.weight.original", "2.weight"]
    expected = scores.snip(model, PAIR, nnf.cross_entropy, where=where)
    outputs = model(PAIR[0])
    with parametrize.cached():
        assert torch.equal(model(PAIR[0]), outputs)
        assert_same(scores.snip(model, PAIR, nnf.cross_entropy, where=where), expected)
        scores.synflow(model, (4,), where=where)
        assert torch.equal(model(PAIR[0]), outputs)


@pytest.mark.parametrize("score", [scores.random, scores.ntk_sap, scores.synflow])
def test_a_default_device_plays_no_part(score):
    model = nn.Linear(4, 3)
    how = {
        scores.random: lambda: score(model, seed=1),
        scores.ntk_sap: lambda: score(model, PAIR[0], seed=1),
        scores.synflow: lambda: score(model, (4,)),
    }[score]
    expected = how()
    torch.set_default_device("meta")
    try:
        found = how()
    finally:
        torch.set_default_device(None)
    assert torch.equal(found["weight"], expected["weight"])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m, x: scores.wanda(m, x), "never ran on any row"),
        (lambda m, x: scores.synflow(m, x), "at least one sample"),
        (lambda m, x: scores.ntk_sap(m, x, seed=1), "at least one sample"),
        (lambda m, x: scores.snip(m, (x, x), nnf.mse_loss), "no sample"),
    ],
)
def test_inputs_without_rows_are_refused(call, says):
    with pytest.raises(ProblemError, match=says):
        call(nn.Linear(4, 3), torch.empty(0, 4))


@pytest.mark.parametrize("name", ["snip", "wanda"])
def test_models_with_parameters_that_have_no_shape_yet_are_refused(name):
    model = nn.Sequential(nn.Linear(4, 3), nn.LazyLinear(3))
    call = {
        "snip": lambda: scores.snip(model, PAIR, nnf.cross_entropy, where=["0.weight"]),
        "wanda": lambda: scores.wanda(model, PAIR[0], where=["0.weight"]),
    }[name]
    with pytest.raises(ProblemError, match=r"'1\.weight' has no shape yet"):
        call()


def test_the_magnitude_of_8_bits_is_float32():
    model = nn.Linear(4, 3)
    model.weight = nn.Parameter(model.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    found = scores.magnitude(model)["weight"]
    assert found.dtype == torch.float32
    assert torch.equal(found, model.weight.detach().float().abs())


def test_a_parameter_that_is_called_as_if_it_were_pruned():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight_orig = nn.Parameter(torch.rand(3, 4))
            self.register_buffer("weight_mask", torch.ones(3, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight_orig.T

    assert set(scores.magnitude(Own(), where=lambda *_: True)) == {"weight_orig"}


class Looking(nn.Module):
    """Attention in which a row sees those before it, by a mask that is added or a bool one."""

    def __init__(self, mask, persistent=False):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.register_buffer("mask", mask, persistent=persistent)

    def forward(self, x):
        x = x.flatten(1, 2)
        attention = self.query(x) @ self.key(x).mT
        if self.mask.dtype == torch.bool:
            attention = attention.masked_fill(self.mask, -torch.inf)
        else:
            attention = attention + self.mask
        return attention.softmax(-1) @ self.value(x)


@pytest.mark.parametrize("score", [scores.synflow, scores.synflow_l2])
def test_synflow_leaves_buffers_alone_that_are_not_saved(score):
    later = torch.ones(8, 8, dtype=torch.bool).triu(1)
    added = torch.zeros(8, 8).masked_fill(later, -torch.inf)
    torch.manual_seed(0)
    one = Looking(later)
    two, three = Looking(added), Looking(added, persistent=True)
    two.load_state_dict(one.state_dict())
    expected, found = score(one, (1, 8, 8)), score(two, (1, 8, 8))
    for name, each in expected.items():
        assert torch.equal(found[name], each)
    with pytest.raises(ProblemError, match=r"buffer 'mask' holds an infinity.*persistent=False"):
        score(three, (1, 8, 8))


def test_batches_of_the_users_own_kinds():
    class Batch(dict):
        __getattr__ = dict.__getitem__

    class Reading(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, batch):
            assert batch.kind == "digits"
            return self.layer(batch.x.flatten(1))

    model = Reading()
    x, y = digits(6, torch.float32)
    batch = Batch(x=x, kind="digits")

    def loss(model, batch, labels):
        return nnf.cross_entropy(model(batch), labels)

    expected = scores.snip(model.layer, (x.flatten(1), y), nnf.cross_entropy)["weight"]
    found = scores.gss(model, loss, batches=(batch, y), variant="absolute")["layer.weight"]
    torch.testing.assert_close(found, expected)
    assert batch.x is x


def test_a_functional_may_differentiate_by_its_inputs():
    model = seeded(
        lambda: nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1)), torch.float64
    )
    t = torch.linspace(0.0, 1.0, 7, dtype=torch.float64)[:, None].requires_grad_()

    def residual(model, t, _):
        u = model(t)
        (slope,) = torch.autograd.grad(u.sum(), t, create_graph=True)
        return (slope + u).square().sum()

    expected = scores.gss(model, lambda model: residual(model, t, None))
    found = scores.gss(model, residual, batches=(t, t.detach()))
    for name, each in expected.items():
        assert torch.allclose(found[name], each, rtol=1e-12, atol=0.0)
    assert t.grad is None


def test_activations_whose_squares_leave_float32():
    layer = nn.Linear(3, 2)
    for size in (1e-25, 1e25):
        found = scores.wanda(layer, torch.full((4, 3), size))["weight"]
        expected = layer.weight.detach().abs() * (2.0 * size)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0.0)
