"""Each score against an independent computation."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

import cops_lp
from cops_lp.torch import scores

from .networks import Attention, digits, rectified, seeded, smooth

RTOL = {torch.float32: 1e-5, torch.float64: 1e-10}
DTYPES = list(RTOL)


def assert_close(got: Tensor, want: Tensor | np.ndarray, rtol: float | None = None) -> None:
    """Each entry to `rtol` of itself or of the tensor's root mean square.

    Entries of a derivative are sums that may cancel: rounding is relative to their terms.
    """
    rtol = RTOL[got.dtype] if rtol is None else rtol
    got, want = got.double(), torch.as_tensor(want).double()
    assert got.shape == want.shape
    scale = want.abs() + want.square().mean().sqrt()
    assert ((got - want).abs() <= rtol * scale).all(), float(((got - want).abs() / scale).max())
    assert want.abs().max() > 0


def assert_all_close(got: dict, want: dict, rtol: float | None = None) -> None:
    assert list(got) == list(want)
    for name in want:
        assert_close(got[name], want[name], rtol)


def gate_derivatives(model: nn.Module, evaluate, step: float = 2e-3) -> dict[str, Tensor]:
    """d evaluate(model) / d factor on each Conv and Linear weight, by a five-point stencil."""
    found = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        out = torch.zeros_like(module.weight)
        for index in np.ndindex(*module.weight.shape):
            original = module.weight.data[index].clone()

            def at(factor: float, index=index, weight=module.weight, original=original) -> float:
                weight.data[index] = original * factor
                value = evaluate(model)
                return value.item() if isinstance(value, Tensor) else value

            one = at(1 + step) - at(1 - step)
            two = at(1 + 2 * step) - at(1 - 2 * step)
            at(1.0)
            out[index] = (8 * one - two) / (12 * step)
        found[f"{name}.weight"] = out
    return found


# --- a two-layer network, derived by hand -------------------------------------------------


class Hand:
    """f(x) = V W x with L = mean over samples of ½ ‖f(x) − y‖²; all derivatives in NumPy."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.W, self.V = rng.normal(size=(3, 4)), rng.normal(size=(2, 3))
        self.x, self.y = rng.normal(size=(7, 4)), rng.normal(size=(7, 2))
        for array in (self.W, self.V, self.x, self.y):  # the same numbers in float32
            array[:] = array.astype(np.float32)

    def model(self, dtype: torch.dtype) -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False)).to(dtype)
        model[0].weight.data.copy_(torch.from_numpy(self.W))
        model[1].weight.data.copy_(torch.from_numpy(self.V))
        return model

    def batch(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.x).to(dtype), torch.from_numpy(self.y).to(dtype)

    @staticmethod
    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return 0.5 * (outputs - labels).square().sum(1).mean()

    def gradients(self, x, y):
        residual = self.V @ self.W @ x.T - y.T  # (2, n)
        n = len(x)
        return self.V.T @ residual @ x / n, residual @ (self.W @ x.T).T / n

    def hessian_gradient(self):
        x, y, n = self.x, self.y, len(self.x)
        dW, dV = self.gradients(x, y)
        residual = self.V @ self.W @ x.T - y.T
        change = dV @ self.W @ x.T + self.V @ dW @ x.T  # of the residual along the gradient
        return (
            (dV.T @ residual @ x + self.V.T @ change @ x) / n,
            (change @ (self.W @ x.T).T + residual @ (dW @ x.T).T) / n,
        )


@pytest.fixture(scope="module")
def hand() -> Hand:
    return Hand()


@pytest.mark.parametrize("dtype", DTYPES)
def test_snip_by_hand(hand, dtype):
    dW, dV = hand.gradients(hand.x, hand.y)
    got = scores.snip(hand.model(dtype), hand.batch(dtype), hand.loss)
    assert_all_close(got, {"0.weight": abs(hand.W * dW), "1.weight": abs(hand.V * dV)})
    assert all(score.dtype == dtype and not score.requires_grad for score in got.values())


@pytest.mark.parametrize("dtype", DTYPES)
def test_grasp_by_hand_and_its_sign(hand, dtype):
    HW, HV = hand.hessian_gradient()
    got = scores.grasp(hand.model(dtype), hand.batch(dtype), hand.loss)
    assert_all_close(got, {"0.weight": hand.W * HW, "1.weight": hand.V * HV})
    assert min(float(score.min()) for score in got.values()) < 0  # signed
    assert max(float(score.max()) for score in got.values()) > 0


def test_a_high_grasp_score_means_that_removal_loses_gradient_flow(hand):
    got = scores.grasp(hand.model(torch.float64), hand.batch(torch.float64), hand.loss)

    def flow(W, V):
        changed = copy.copy(hand)
        changed.W, changed.V = W, V
        dW, dV = changed.gradients(hand.x, hand.y)
        return (dW**2).sum() + (dV**2).sum()

    before = flow(hand.W, hand.V)
    for index in np.ndindex(*hand.W.shape):
        shrunk = hand.W.copy()
        shrunk[index] *= 1 - 1e-6  # a millionth of the way to its removal
        change = (flow(shrunk, hand.V) - before) / 1e-6
        assert change == pytest.approx(-2 * float(got["0.weight"][index]), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_crop_by_hand(hand, dtype):
    HW, HV = hand.hessian_gradient()
    got = scores.crop(hand.model(dtype), hand.batch(dtype), hand.loss)
    assert_all_close(got, {"0.weight": abs(hand.W * HW), "1.weight": abs(hand.V * HV)})


@pytest.mark.parametrize("dtype", DTYPES)
def test_fisher_by_hand(hand, dtype):
    squares = [np.zeros_like(hand.W), np.zeros_like(hand.V)]
    for i in range(len(hand.x)):
        for total, gradient in zip(
            squares, hand.gradients(hand.x[i : i + 1], hand.y[i : i + 1]), strict=True
        ):
            total += gradient**2
    want = [
        0.5 * theta**2 * total / len(hand.x)
        for theta, total in zip((hand.W, hand.V), squares, strict=True)
    ]
    got = scores.fisher(hand.model(dtype), hand.batch(dtype), hand.loss)
    assert_all_close(got, dict(zip(("0.weight", "1.weight"), want, strict=True)), RTOL[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_synflow_by_hand(hand, dtype):
    model, ones = hand.model(dtype), np.ones(4)
    # Path sums: what comes in from the inputs times what goes out to the outputs.
    for score, W, V in (
        (scores.synflow, abs(hand.W), abs(hand.V)),
        (scores.synflow_l2, hand.W**2, hand.V**2),
    ):
        want = {
            "0.weight": W * np.outer(V.sum(0), ones),
            "1.weight": V * np.outer(np.ones(2), W @ ones),
        }
        assert_all_close(score(model, (4,)), want, 1e-12)
        assert_all_close(score(model, torch.zeros(5, 4), dtype=torch.float32), want, 1e-5)
        enumerated = sum(W[j, i] * V[k, j] for i in range(4) for j in range(3) for k in range(2))
        for value in want.values():  # the flow is the same through each layer
            assert value.sum() == pytest.approx(enumerated)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ntk_sap_by_hand(dtype):
    model = seeded(lambda: nn.Linear(5, 3), dtype)
    got = scores.ntk_sap(model, torch.empty(6, 5), seed=4, epsilon=0.5)["weight"]
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    shift = 0.5 * torch.randn(3, 5, generator=generator, dtype=torch.float64)
    # f(x; m θ) − f(x; m (θ + Δ)) = −(m Δ) x
    want = (2 * shift * ((x @ shift.T).T @ x)).abs()
    assert_close(got, want)


# --- networks with convolutions and BatchNorm on digits, by finite differences --------------


def test_gss_against_finite_differences():
    images, labels = digits(12)
    model = smooth().eval()

    def functional(model: nn.Module) -> Tensor:
        outputs = model(images)
        return cross_entropy(outputs, labels) + outputs.square().mean() * model[0].weight.norm()

    want = gate_derivatives(copy.deepcopy(model), functional)
    got = scores.gss(model, functional)
    assert_all_close(got, want, 1e-9)
    absolute = scores.gss(model, functional, variant="absolute")
    squared = scores.gss(model, functional, variant="squared")
    for name in got:
        assert torch.equal(absolute[name], got[name].abs())
        assert torch.equal(squared[name], got[name].square())


@pytest.mark.parametrize("training", [True, False])
def test_snip_against_finite_differences(training):
    images, labels = digits(12)
    model = smooth().train(not training)
    other = copy.deepcopy(model).train(training)
    want = gate_derivatives(other, lambda model: cross_entropy(model(images), labels))
    got = scores.snip(model, (images, labels), cross_entropy, training=training)
    assert_all_close(got, {name: value.abs() for name, value in want.items()}, 1e-9)


@pytest.mark.parametrize("training", [True, False])
def test_grasp_against_finite_differences(training):
    images, labels = digits(12)
    model = smooth()
    other = copy.deepcopy(model).train(training)

    def half_flow(model: nn.Module) -> float:
        model.zero_grad()
        cross_entropy(model(images), labels).backward()
        return 0.5 * sum(float(model[i].weight.grad.square().sum()) for i in (0, 3, 6))

    want = gate_derivatives(other, half_flow)
    got = scores.grasp(model, (images, labels), cross_entropy, training=training)
    assert_all_close(got, want, 1e-8)  # what the stencil reaches


@pytest.mark.parametrize("dtype", DTYPES)
def test_grasp_against_the_hessian(dtype):
    images, labels = digits(9)
    exact = seeded(Attention, torch.float64)
    names = [name for name, _ in exact.named_parameters() if name.endswith("weight")]
    names.remove("norm.weight")
    shapes = {name: exact.get_parameter(name).shape for name in names}

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in shapes.values()])
        tensors = {n: p.view(shapes[n]) for n, p in zip(names, parts, strict=True)}
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return cross_entropy(torch.func.functional_call(exact, tensors, (images,)), labels)

    flat = torch.cat([exact.get_parameter(name).detach().flatten() for name in names])
    hessian = torch.autograd.functional.hessian(loss, flat)
    gradient = torch.autograd.functional.jacobian(loss, flat)
    want = flat * (hessian @ gradient)
    model = copy.deepcopy(exact).to(dtype)
    got = scores.grasp(model, (images, labels), cross_entropy)
    assert list(got) == names
    assert_close(torch.cat([got[name].flatten() for name in names]), want)


@pytest.mark.parametrize(("score", "transform"), [("synflow", "abs_"), ("synflow_l2", "square_")])
def test_synflow_is_what_removing_the_weight_loses(score, transform):
    model = rectified().train()
    with torch.no_grad():  # statistics as after some training
        model(digits(64)[0])
    positive = copy.deepcopy(model).eval()
    with torch.no_grad():
        for tensor in positive.state_dict().values():
            getattr(tensor, transform)()
    ones = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    got = getattr(scores, score)(model, (1, 8, 8))
    for index in (0, 3, 6):
        weight = positive[index].weight.data
        want = torch.zeros_like(weight)
        whole = float(positive(ones).detach().sum())
        for place in np.ndindex(*weight.shape):
            kept = weight[place].clone()
            weight[place] = 0.0
            want[place] = whole - float(positive(ones).detach().sum())
            weight[place] = kept
        assert_close(got[f"{index}.weight"], want)


def test_ntk_sap_against_finite_differences():
    model = smooth().train()
    weights = [0, 3, 6]
    images = torch.empty(10, 1, 8, 8)
    got = scores.ntk_sap(model, images, seed=1, draws=2)

    generator = torch.Generator().manual_seed(1)
    draws = []
    for _ in range(2):
        x = torch.randn(10, 1, 8, 8, generator=generator, dtype=torch.float64)
        shifts = {
            i: 0.01 * torch.randn(model[i].weight.shape, generator=generator, dtype=torch.float64)
            for i in weights
        }
        fixed = copy.deepcopy(model)
        fixed[1].momentum = 1.0
        fixed(x)  # BatchNorm takes the noise's statistics
        fixed.eval()
        # Factors act on θ and on θ + Δ: run both networks with the factors of `gates`.
        draws.append((x, shifts, fixed))

    gates = copy.deepcopy(model)  # its weights are the factors, all ones
    for i in weights:
        nn.init.ones_(gates[i].weight)

    def evaluate(gates: nn.Module) -> float:
        total = 0.0
        for x, shifts, fixed in draws:
            outputs = []
            for shift in (0.0, 1.0):
                one = copy.deepcopy(fixed)
                for i in weights:
                    one[i].weight.data = gates[i].weight.data * (
                        model[i].weight.data + shift * shifts[i]
                    )
                outputs.append(one(x).detach())
            total += float((outputs[0] - outputs[1]).square().sum())
        return total / 2

    want = gate_derivatives(gates, evaluate)
    assert_all_close(got, {name: value.abs() for name, value in want.items()}, 1e-8)


def test_fisher_is_a_loop_over_samples():
    images, labels = digits(11)
    model = rectified().train()
    other = copy.deepcopy(model).eval()
    want = {f"{i}.weight": torch.zeros_like(other[i].weight) for i in (0, 3, 6)}
    for image, label in zip(images, labels, strict=True):
        other.zero_grad()
        cross_entropy(other(image[None]), label[None]).backward()
        for i in (0, 3, 6):
            want[f"{i}.weight"] += (other[i].weight * other[i].weight.grad).detach() ** 2 / 22
    assert_all_close(scores.fisher(model, (images, labels), cross_entropy), want)
    batched = scores.snip(model, (images, labels), cross_entropy, training=False)
    assert not torch.allclose(want["6.weight"], 0.5 * batched["6.weight"] ** 2, rtol=0.1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_match_the_ones_the_package_carries(dtype):
    path = Path(__file__).resolve().parents[1] / "bench" / "make_sample_scores.py"
    spec = importlib.util.spec_from_file_location("make_sample_scores", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    images, labels = script.load_images()
    network = script.build_network().to(dtype)
    data = (images.to(dtype), labels)
    got = {
        "magnitude": scores.magnitude(network),
        "snip": scores.snip(network, data, cross_entropy, training=True),
        "grasp": scores.grasp(network, data, cross_entropy, training=True),
        "synflow": scores.synflow(network, images),
    }
    for name, want in cops_lp.sample_scores().items():
        flat = torch.cat([score.flatten() for score in got[name].values()])
        rtol = 2e-7 if dtype == torch.float64 else 1e-4  # shipped as float32; a deep network
        assert_close(flat, want, rtol)


# --- magnitude, random, and what flows into Linear layers -----------------------------------


def test_magnitude_and_random():
    model = smooth(torch.float32)
    got = scores.magnitude(model)
    assert list(got) == ["0.weight", "3.weight", "6.weight"]
    for name, score in got.items():
        assert torch.equal(score, model.get_parameter(name).detach().abs())
    one, two = scores.random(model, seed=1), scores.random(model, seed=1)
    other = scores.random(model, seed=2)
    for name in got:
        assert one[name].shape == got[name].shape
        assert torch.equal(one[name], two[name])
        assert not torch.equal(one[name], other[name])
    every = torch.cat([score.flatten() for score in one.values()])
    assert 0 < every.min() < 0.05 < 0.95 < every.max() <= 1
    assert every.mean() == pytest.approx(0.5, abs=0.05)


def linear_inputs(model: Attention, x: Tensor) -> dict[str, Tensor]:
    """What each Linear layer of the block takes in, written out."""
    x = x.flatten(1, 2)
    inputs = {"query": x, "key": x, "value": x}
    q, k, v = model.query(x), model.key(x), model.value(x)
    x = x + (q @ k.transpose(1, 2) / 8**0.5).softmax(-1) @ v
    inputs["up"] = model.norm(x)
    inputs["down"] = nn.functional.gelu(model.up(inputs["up"]))
    x = x + model.down(inputs["down"])
    inputs["head"] = x.mean(1)
    return {name: value.detach().reshape(-1, value.shape[-1]) for name, value in inputs.items()}


@pytest.mark.parametrize("dtype", DTYPES)
def test_wanda_and_ria(dtype):
    exact = seeded(Attention, torch.float64)
    exact.up.weight.data[:, 3] = 0.0  # a column of zeros must not divide by zero
    exact.up.weight.data[2] = 0.0
    images, _ = digits(20)
    model = copy.deepcopy(exact).to(dtype)
    inputs = images.to(dtype)
    wanda, ria, relative = (
        scores.wanda(model, inputs),
        scores.ria(model, inputs),
        scores.ria(model, [inputs[:3], inputs[3:]], power=0),
    )
    for name, x in linear_inputs(exact, images).items():
        weight = getattr(exact, name).weight.detach().abs().numpy()
        norms = np.sqrt((x.numpy() ** 2).sum(0))
        with np.errstate(invalid="ignore"):
            share = np.nan_to_num(weight / weight.sum(0)) + np.nan_to_num(
                weight / weight.sum(1)[:, None]
            )
        key = f"{name}.weight"
        assert_close(wanda[key], weight * norms)
        assert_close(ria[key], share * np.sqrt(norms))
        assert_close(relative[key], share)
    assert list(wanda) == list(ria) == [f"{name}.weight" for name in linear_inputs(exact, images)]


class Encoder(nn.Module):
    """torch's own encoder, which packs padded inputs and calls no Linear layer where it can."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x: Tensor, padded: Tensor) -> Tensor:
        return self.encoder(x, src_key_padding_mask=padded)


def test_wanda_sees_through_torchs_fused_encoder():
    model = seeded(Encoder, torch.float64).eval()
    x = digits(6)[0].flatten(1, 2)
    padded = torch.arange(8) >= torch.tensor([3, 8, 5, 8, 6, 7])[:, None]
    inputs = {"x": x, "padded": padded}
    names = [f"encoder.layers.{i}.linear{j}.weight" for i in (0, 1) for j in (1, 2)]
    got = scores.wanda(model, inputs, where=names)
    seen = {}

    def watch(name: str):
        def hook(module, args, output):
            seen[name] = args[0].detach().reshape(-1, args[0].shape[-1])

        return hook

    plain = copy.deepcopy(model)
    for name in names:
        plain.get_submodule(name[:-7]).register_forward_hook(watch(name))
    plain.encoder.enable_nested_tensor = False
    plain(**inputs)  # its weights require a gradient, so it is not fused either
    assert list(got) == list(seen) == names
    for name, value in seen.items():
        assert_close(got[name], plain.get_parameter(name).detach().abs() * value.norm(dim=0))
    with pytest.raises(cops_lp.ProblemError, match=r"self_attn.out_proj.weight' never ran"):
        scores.wanda(model, inputs)


def test_regression_with_labels_in_another_precision():
    model = seeded(lambda: nn.Linear(3, 1), torch.float32)
    x, y = torch.ones(4, 3, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64)
    got = scores.snip(model, (x, y), mse_loss)["weight"]
    slope = 2 * model(x.float()).mean().item()
    assert_close(got, (model.weight * slope).abs().detach())
