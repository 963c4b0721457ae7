"""Scores: batches, which parameters count, masks, precision, and errors."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrizations, prune
from torch.utils.data import DataLoader, TensorDataset

from cops_lp import MissingDependencyError, ProblemError
from cops_lp.torch import scores

from .networks import Attention, digits, rectified, seeded, smooth

IMAGES, LABELS = digits(17)
LOSSES = (scores.snip, scores.grasp, scores.crop, scores.fisher)


def same(one: dict[str, Tensor], two: dict[str, Tensor], rtol: float = 1e-10) -> None:
    assert list(one) == list(two)
    for name in one:
        scale = two[name].double().square().mean().sqrt().item()
        torch.testing.assert_close(
            one[name].double(), two[name].double(), rtol=rtol, atol=rtol * scale
        )


# --- batches --------------------------------------------------------------------------------


@pytest.mark.parametrize("score", LOSSES)
def test_many_batches_are_the_one_that_holds_them(score):
    model = rectified().eval()
    whole = score(model, (IMAGES, LABELS), cross_entropy)
    cuts = [(IMAGES[:5], LABELS[:5]), (IMAGES[5:7], LABELS[5:7]), (IMAGES[7:], LABELS[7:])]
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=6)
    two = [(IMAGES[:5], LABELS[:5]), [IMAGES[5:], LABELS[5:]]]
    for batches in (cuts, (cut for cut in cuts), tuple(two), two, loader, [IMAGES, LABELS]):
        same(score(model, batches, cross_entropy), whole)


def test_a_sum_adds_up():
    model = rectified().eval()

    def total(outputs: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(outputs, labels, reduction="sum")

    cuts = [(IMAGES[:5], LABELS[:5]), (IMAGES[5:], LABELS[5:])]
    mean = scores.snip(model, (IMAGES, LABELS), cross_entropy)
    added = scores.snip(model, cuts, total, reduction="sum")
    same(added, {name: 17 * score for name, score in mean.items()})
    mean = scores.grasp(model, (IMAGES, LABELS), cross_entropy)
    added = scores.grasp(model, cuts, total, reduction="sum")
    same(added, {name: 17**2 * score for name, score in mean.items()})


def test_activations_of_many_batches_are_those_of_one():
    model = seeded(Attention, torch.float64)
    for score in (scores.wanda, scores.ria):
        whole = score(model, IMAGES)
        same(score(model, [IMAGES[:3], IMAGES[3:]]), whole)
        same(score(model, (part for part in IMAGES.split(4))), whole)
        same(score(model, {"x": IMAGES}), whole)
        same(score(model, [(IMAGES,)]), whole)
        same(score(model, IMAGES, copy=False), whole)


class Pair(nn.Module):
    """Two inputs by name, and an output that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(64, 6), nn.Linear(6, 10)

    def forward(self, images: Tensor, scale: Tensor) -> dict[str, Tensor]:
        return {"logits": self.two(self.one(images.flatten(1)).relu() * scale)}


def test_inputs_by_name_and_outputs_that_are_no_tensor():
    model = seeded(Pair, torch.float64)
    scale = torch.linspace(0.5, 1.5, 17, dtype=torch.float64)[:, None]

    def loss(outputs: dict[str, Tensor], labels: Tensor) -> Tensor:
        return cross_entropy(outputs["logits"], labels)

    by_name = {"images": IMAGES, "scale": scale}
    for score in LOSSES:
        same(
            score(model, (by_name, LABELS), loss),
            score(model, [((IMAGES, scale), LABELS)], loss),
        )
    for score in (scores.synflow, scores.synflow_l2):
        got = score(model, by_name, output=lambda outputs: outputs["logits"])
        plain = seeded(Pair, torch.float64)
        chain = nn.Sequential(nn.Flatten(), plain.one, nn.ReLU(), plain.two)
        want = score(chain, (1, 8, 8))
        assert torch.equal(got["one.weight"], want["1.weight"])
    scores.ntk_sap(model, by_name, seed=0, output=lambda outputs: outputs["logits"])
    with pytest.raises(ProblemError, match=r"the model returned a dict; wanted a tensor.*output="):
        scores.synflow(model, by_name)


# --- which parameters -----------------------------------------------------------------------


def test_conv_and_linear_weights_by_default():
    model = nn.ModuleDict(
        {
            "conv": nn.Conv1d(2, 2, 1),
            "back": nn.ConvTranspose3d(2, 2, 1),
            "norm": nn.BatchNorm1d(2),
            "table": nn.Embedding(3, 2),
            "linear": nn.Linear(2, 2).requires_grad_(False),
        }
    )
    assert list(scores.magnitude(model)) == ["conv.weight", "back.weight", "linear.weight"]


def test_where():
    model = smooth()
    pair = (IMAGES, LABELS)
    names = ["3.weight", "6.bias"]
    got = scores.snip(model, pair, cross_entropy, where=set(names))
    assert list(got) == names  # in the model's order
    everything = scores.snip(model, pair, cross_entropy, where=lambda *_: True)
    assert list(everything) == [name for name, _ in model.named_parameters()]
    same(got, {name: everything[name] for name in names})

    def biases(name: str, parameter: nn.Parameter, module: nn.Module) -> bool:
        return isinstance(module, nn.Linear) and parameter.dim() == 1 and name.endswith("bias")

    assert list(scores.magnitude(model, where=biases)) == ["6.bias"]


def test_grasp_differentiates_by_the_scored_parameters_alone():
    model = smooth().eval()
    pair = (IMAGES, LABELS)
    alone = scores.grasp(model, pair, cross_entropy, where=["6.weight"])
    beside = scores.grasp(model, pair, cross_entropy)
    assert not torch.allclose(alone["6.weight"], beside["6.weight"], rtol=1e-3)


class Shared(nn.Module):
    """One module under two names, one parameter in two layers, one in an embedding too."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.one = nn.Linear(4, 4)
        self.again = self.one
        self.two = nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.two(self.again(self.one(self.table(tokens)).tanh()).tanh()).tanh())


def test_shared_parameters_count_once():
    model = seeded(Shared, torch.float64)
    tokens, labels = torch.arange(7), torch.arange(7).flip(0)
    got = scores.snip(model, (tokens, labels), cross_entropy)
    assert list(got) == ["table.weight", "one.weight"]
    cross_entropy(model(tokens), labels).backward()
    same(got, {n: (model.get_parameter(n) * model.get_parameter(n).grad).abs() for n in got})
    by_alias = scores.snip(
        model, (tokens, labels), cross_entropy, where=["two.weight", "again.weight", "head.weight"]
    )
    same(by_alias, got)
    # Wanda: what flows into every layer that shares the weight, and no look-ups of rows.
    wanda = scores.wanda(model, tokens)
    assert list(wanda) == list(got)
    with torch.no_grad():
        rows = model.table(tokens)
        first = model.one(rows).tanh()
        second = model.one(first).tanh()
        inputs = torch.cat([rows, first, second])
        last = model.two(second).tanh()
    same(
        wanda,
        {
            "table.weight": model.table.weight.detach().abs() * last.norm(dim=0),
            "one.weight": model.one.weight.detach().abs() * inputs.norm(dim=0),
        },
    )


def test_a_parameter_that_plays_no_part_scores_zero():
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "idle": nn.Linear(2, 1)})
    for variant in ("signed", "absolute", "squared"):
        got = scores.gss(model, lambda m: m["used"](torch.ones(1, 2)).sum(), variant=variant)
        assert (got["idle.weight"] == 0).all()
        assert (got["used.weight"] != 0).any()


@pytest.mark.parametrize("score", [scores.snip, scores.grasp, scores.fisher])
def test_sparse_gradients_of_an_embedding(score):
    def model(sparse):
        return seeded(
            lambda: nn.Sequential(nn.Embedding(5, 3, sparse=sparse), nn.Linear(3, 2)),
            torch.float64,
        )

    batches = [(torch.arange(4), torch.arange(4) % 2), (torch.tensor([1, 1]), torch.ones(2).long())]
    want, got = (
        score(model(sparse), batches, cross_entropy, where=["0.weight"]) for sparse in (False, True)
    )
    assert got["0.weight"].layout == torch.strided
    same(got, want)


def test_an_unused_layer_and_grasp():
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "idle": nn.Linear(2, 1)})
    model.forward = lambda x: model["used"](x)
    pair = (torch.ones(3, 2), torch.zeros(3, 1))
    got = scores.grasp(model, pair, nn.functional.mse_loss)
    assert (got["idle.weight"] == 0).all()
    assert (got["used.weight"] != 0).any()
    flat = scores.grasp(model, pair, lambda outputs, labels: outputs.mean())  # no curvature
    assert all((score == 0).all() for score in flat.values())


# --- masks ----------------------------------------------------------------------------------


def masked_copy(model: nn.Module, masks: dict[str, Tensor]) -> nn.Module:
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, mask in masks.items():
            other.get_parameter(name).mul_(mask)
    return other


def half(model: nn.Module) -> dict[str, Tensor]:
    drawn = scores.random(model, seed=9)
    return {name: score > 0.5 for name, score in drawn.items() if name != "0.weight"}


def test_masks_evaluate_the_masked_model_and_score_all_weights():
    model = rectified().eval()
    masks = half(model)
    other = masked_copy(model, masks)
    pair = (IMAGES, LABELS)
    got = scores.snip(model, pair, cross_entropy, masks=masks)
    cross_entropy(other(IMAGES), LABELS).backward()
    want = {
        name: (model.get_parameter(name) * other.get_parameter(name).grad).abs().detach()
        for name in got
    }
    same(got, want)  # FORCE: removed weights are scored as if they could come back
    assert (got["6.weight"][~masks["6.weight"]] > 0).any()
    iterative = scores.snip(other, pair, cross_entropy)
    same({n: s * masks.get(n, True) for n, s in got.items()}, iterative)


@pytest.mark.parametrize(
    "score",
    [
        lambda model, **more: scores.crop(model, (IMAGES, LABELS), cross_entropy, **more),
        lambda model, **more: scores.fisher(model, (IMAGES, LABELS), cross_entropy, **more),
        lambda model, **more: scores.synflow(model, (1, 8, 8), **more),
        lambda model, **more: scores.synflow_l2(model, (1, 8, 8), **more),
        lambda model, **more: scores.gss(model, lambda m: m(IMAGES).square().mean(), **more),
    ],
)
def test_the_kept_weights_score_as_in_the_masked_model(score):
    model = rectified().eval()
    masks = half(model)
    got, dense = score(model, masks=masks), score(model)
    if "crop" in score.__code__.co_names:  # the flow of the kept weights alone: torch's pruning
        other = copy.deepcopy(model)
        for name, mask in masks.items():
            prune.custom_from_mask(other.get_submodule(name[:-7]), "weight", mask)
    else:
        other = masked_copy(model, masks)
    want = score(other)
    same({name: value * masks.get(name, True) for name, value in got.items()}, want)
    assert any(not torch.allclose(got[name], dense[name]) for name in got)


def test_ntk_sap_with_masks_is_that_of_the_pruned_model():
    model = rectified()
    masks = half(model)
    got = scores.ntk_sap(model, IMAGES, seed=0, masks=masks)
    other = copy.deepcopy(model)
    for name, mask in masks.items():
        prune.custom_from_mask(other.get_submodule(name[:-7]), "weight", mask)
    want = scores.ntk_sap(other, IMAGES, seed=0)
    same({name: value * masks.get(name, True) for name, value in got.items()}, want)


def test_a_pruned_model_keeps_its_names_and_scores_zero_where_masked():
    model = smooth().eval()
    masks = half(model)
    pruned = copy.deepcopy(model)
    for name, mask in masks.items():
        prune.custom_from_mask(pruned.get_submodule(name[:-7]), "weight", mask)
    other = masked_copy(model, masks)
    pair = (IMAGES, LABELS)
    same(scores.magnitude(pruned), scores.magnitude(other))
    same(scores.snip(pruned, pair, cross_entropy), scores.snip(other, pair, cross_entropy))
    same(scores.synflow(pruned, IMAGES), scores.synflow(other, IMAGES))
    drawn = scores.random(pruned, seed=0)
    assert all(((drawn[name] == 0) == ~mask).all() for name, mask in masks.items())


def test_a_pruned_weight_used_without_calling_its_module():
    """As out_proj's by torch.nn.MultiheadAttention: only torch's pruning hook, on out_proj."""
    torch.manual_seed(0)
    model = nn.MultiheadAttention(8, 2)
    mask, x = torch.rand(8, 8) < 0.5, torch.randn(5, 3, 8)

    def size(model):
        return model(x, x, x)[0].square().sum()

    want = scores.gss(model, size, masks={"out_proj.weight": mask})["out_proj.weight"] * mask
    prune.custom_from_mask(model.out_proj, "weight", mask)
    assert want.abs().min() == 0.0 < want.abs().max()
    torch.testing.assert_close(scores.gss(model, size)["out_proj.weight"], want)


# --- precision ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_models_are_computed_in_float32(kind):
    model = rectified(torch.float32).to(kind)
    same_values = copy.deepcopy(model).float()
    images = IMAGES.to(kind)
    calls = (
        lambda m, x: scores.snip(m, (x, LABELS), cross_entropy),
        lambda m, x: scores.grasp(m, (x, LABELS), cross_entropy),
        lambda m, x: scores.fisher(m, (x, LABELS), cross_entropy),
        lambda m, x: scores.synflow(m, x),
        lambda m, x: scores.ntk_sap(m, x, seed=0),
        lambda m, x: scores.gss(m, lambda m: m(x.float()).square().sum()),
    )
    for call in calls:
        got, want = call(model, images), call(same_values, images.float())
        assert all(torch.equal(got[name], want[name]) for name in want)
        assert all(score.dtype in (torch.float32, torch.float64) for score in got.values())
    assert scores.magnitude(model)["0.weight"].dtype == kind  # exact in any


def test_wanda_runs_in_the_models_own_precision():
    model = seeded(Attention, torch.float32).bfloat16()
    seen = []
    model.up.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    own = scores.wanda(model, IMAGES)
    wide = scores.wanda(model, IMAGES, dtype=torch.float64)
    assert seen == [torch.bfloat16, torch.float64]
    assert own["up.weight"].dtype == torch.float32
    same(own, wide, 0.05)


def test_autocast_outside_has_no_effect():
    model = rectified(torch.float32).eval()
    pair = (IMAGES.float(), LABELS)
    calls = (
        lambda: scores.snip(model, pair, cross_entropy),
        lambda: scores.grasp(model, pair, cross_entropy),
        lambda: scores.synflow(model, IMAGES),
        lambda: scores.wanda(model, pair[0]),
    )
    plain = [call() for call in calls]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(pair[0]).dtype == torch.bfloat16
        inside = [call() for call in calls]
        assert model(pair[0]).dtype == torch.bfloat16
    for one, two in zip(plain, inside, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_no_grad_and_inference_mode_outside_have_no_effect():
    model = rectified(torch.float32)
    pair = (IMAGES.float(), LABELS)
    plain = scores.grasp(model, pair, cross_entropy)
    with torch.no_grad():
        same(scores.grasp(model, pair, cross_entropy), plain, 0.0)
    with torch.inference_mode():
        fresh = (pair[0] * 1.0, pair[1] + 0)
        assert fresh[0].is_inference()
        same(scores.grasp(model, fresh, cross_entropy), plain, 0.0)


def test_squares_do_not_underflow():
    model = seeded(lambda: nn.Linear(3, 1, bias=False), torch.float32)

    def tiny(model: nn.Module) -> Tensor:
        return 1e-30 * model(torch.ones(1, 3)).sum()

    got = scores.gss(model, tiny, variant="squared")["weight"]
    assert got.dtype == torch.float64
    want = (1e-30 * model.weight.detach().double()).square()
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0.0)
    asked = scores.gss(model, tiny, variant="squared", dtype=torch.float32)["weight"]
    assert asked.dtype == torch.float32
    assert (asked == 0).all()
    pair = (torch.ones(1, 3), torch.zeros(1, 1))
    fisher = scores.fisher(model, pair, lambda outputs, labels: 1e-30 * outputs.sum())["weight"]
    torch.testing.assert_close(fisher, want / 2, rtol=1e-6, atol=0.0)


def test_synflow_of_a_deep_network_needs_and_takes_float64():
    def deep() -> nn.Module:
        return nn.Sequential(*(nn.Linear(64, 64) for _ in range(60)))

    model = seeded(deep, torch.float32)
    with torch.no_grad():
        for layer in model:
            layer.weight.mul_(4)
    got = scores.synflow(model, (64,))
    assert all(score.dtype == torch.float64 and (score > 0).all() for score in got.values())
    assert max(score.max() for score in got.values()) > 3.5e38
    with pytest.raises(ProblemError, match=r"NaN or an infinity.*dtype=torch\.float64"):
        scores.synflow(model, (64,), dtype=torch.float32)


# --- errors ---------------------------------------------------------------------------------


def plain() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


PAIR = (IMAGES.float(), LABELS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: scores.magnitude(m.state_dict()), "model is a OrderedDict; wanted a torch.nn"),
        (lambda m: scores.magnitude(torch.jit.script(m)), "ScriptModule"),
        (lambda m: scores.magnitude(nn.ReLU()), "model has no weight to score .*where="),
        (lambda m: scores.magnitude(m, where="1.weight"), "where is the text '1.weight'"),
        (
            lambda m: scores.magnitude(m, where=["1.wieght"]),
            "where names '1.wieght', none of the 2 parameters of the model .*'1.weight'",
        ),
        (lambda m: scores.magnitude(m, where=3), "where is a int; wanted a predicate"),
        (lambda m: scores.magnitude(m, where=[]), "where selects none of the model's 2"),
        (lambda m: scores.magnitude(nn.LazyLinear(3)), "'weight' has no shape yet"),
        (lambda m: scores.magnitude(nn.Linear(2, 2, device="meta")), "on the meta device"),
        (lambda m: scores.magnitude(nn.Linear(2, 2, dtype=torch.complex64)), "torch.complex64"),
        (lambda m: scores.random(m, seed=-1), "seed is -1"),
        (lambda m: scores.random(m, seed=True), "seed is True"),
        (lambda m: scores.gss(m, lambda m: m(PAIR[0])), r"functional returned a tensor of shape"),
        (lambda m: scores.gss(m, lambda m: 3.0), "functional returned a float; wanted a tensor"),
        (
            lambda m: scores.gss(m, lambda m: torch.ones(())),
            "functional does not depend on any scored parameter",
        ),
        (
            lambda m: scores.gss(m, lambda m: m[1].bias.sum(), where=["1.weight"]),
            "functional does not depend on any scored parameter",
        ),
        (lambda m: scores.gss(m, lambda m: 1, variant="abs"), "variant is 'abs'; wanted 'signed'"),
        (
            lambda m: scores.snip(m, PAIR, cross_entropy, dtype=torch.float16),
            "dtype is torch.float16; wanted torch.float32, torch.float64 or None",
        ),
        (lambda m: scores.snip(m, PAIR, cross_entropy, training="yes"), "training is 'yes'"),
        (lambda m: scores.snip(m, PAIR, cross_entropy, training=1), "training is 1; wanted True"),
        (
            lambda m: scores.snip(m, tuple(each.numpy() for each in PAIR), cross_entropy),
            r"a batch holds a NumPy array of shape \(17,\); wanted tensors",
        ),
        (
            lambda m: scores.snip(m, PAIR, cross_entropy, reduction="none"),
            "reduction is 'none'; wanted 'mean' or 'sum'",
        ),
        (
            lambda m: scores.snip(m, PAIR, lambda o, y: cross_entropy(o, y, reduction="none")),
            r"loss returned a tensor of shape \(17,\)",
        ),
        (lambda m: scores.grasp(m, PAIR, lambda o, y: 1.0), "loss returned a float"),
        (lambda m: scores.snip(m, PAIR, None), r"loss is a NoneType; wanted a function of \(outp"),
        (lambda m: scores.fisher(m, PAIR, 3), "loss is a int; wanted a function"),
        (lambda m: scores.gss(m, PAIR), r"functional is a tuple; wanted a function of \(model\)"),
        (lambda m: scores.snip(m, PAIR[0], cross_entropy), "batches is a Tensor; wanted"),
        (lambda m: scores.snip(m, 5, cross_entropy), "batches is a int; wanted"),
        (lambda m: scores.grasp(m, [], cross_entropy), "batches is empty"),
        (
            lambda m: scores.snip(m, [PAIR, PAIR[0], PAIR], cross_entropy),
            r"batches\[1\] is a Tensor; wanted a pair",
        ),
        (
            lambda m: scores.snip(m, [(1, 2, 3)], cross_entropy),
            r"batches\[0\] is a tuple of 3; wanted a pair",
        ),
        (
            lambda m: scores.snip(m, (PAIR[0][:0], LABELS[:0]), cross_entropy),
            "a batch has no sample",
        ),
        (
            lambda m: scores.snip(m, PAIR, cross_entropy, masks={"1.wait": LABELS}),
            "masks names '1.wait'",
        ),
        (
            lambda m: scores.snip(m, PAIR, cross_entropy, masks={"1.weight": torch.ones(10, 64)}),
            r"masks\['1.weight'\] is torch.float32 of shape \(10, 64\); wanted a torch.bool",
        ),
        (
            lambda m: scores.snip(m, PAIR, cross_entropy, masks={"1.weight": np.ones(3)}),
            r"masks\['1.weight'\] is a ndarray",
        ),
        (lambda m: scores.snip(m, PAIR, cross_entropy, masks=[1]), "masks is a list"),
        (lambda m: scores.synflow(m, LABELS), "inputs holds no floating-point tensor"),
        (lambda m: scores.ntk_sap(m, LABELS, seed=0), "inputs holds no floating-point tensor"),
        (lambda m: scores.ntk_sap(m, PAIR[0], seed=0, draws=0), "draws is 0"),
        (lambda m: scores.ntk_sap(m, PAIR[0], seed=0, epsilon=0.0), "epsilon is 0.0"),
        (lambda m: scores.wanda(m, 3), "inputs is a int; wanted"),
        (lambda m: scores.wanda(m, []), "inputs is empty"),
        (lambda m: scores.ria(m, PAIR[0], power=-1), "power is -1"),
        (
            lambda m: scores.wanda(m, PAIR[0], where=["1.bias"]),
            "where selects '1.bias' of a Linear; wanted weights of Linear",
        ),
        (
            lambda m: scores.wanda(m, PAIR[0], copy=False, dtype=torch.float64),
            "copy is False, but dtype=torch.float64",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
def test_errors_name_the_argument(call, message):
    with pytest.raises(ProblemError, match=message):
        call(plain())


def test_numbers_of_numpy_are_numbers():
    model = plain()
    same(scores.random(model, seed=np.int64(3)), scores.random(model, seed=3))
    same(scores.synflow(model, (np.int64(1), np.int32(8), 8)), scores.synflow(model, (1, 8, 8)))
    one = scores.ntk_sap(model, PAIR[0], seed=0, draws=np.int8(2), epsilon=np.float32(0.5))
    same(one, scores.ntk_sap(model, PAIR[0], seed=0, draws=2, epsilon=0.5))
    same(scores.ria(model, PAIR[0], power=np.float32(0.5)), scores.ria(model, PAIR[0], power=0.5))
    one = scores.snip(model, PAIR, cross_entropy, training=np.True_)
    same(one, scores.snip(model, PAIR, cross_entropy, training=True))


def test_a_layer_whose_weight_is_computed_is_not_passed_over():
    model = plain()
    parametrizations.weight_norm(model[1])
    with pytest.raises(ProblemError, match=r"the layer '1' computes its weight .*original0"):
        scores.magnitude(model)
    name = "1.parametrizations.weight.original1"
    got = scores.snip(model, PAIR, cross_entropy, where=[name])
    cross_entropy(model(PAIR[0]), LABELS).backward()
    direction = model.get_parameter(name)
    same(got, {name: (direction * direction.grad).abs()}, 1e-5)


def test_infinities_are_named():
    model = plain()
    model[1].weight.data[3, 5] = float("nan")
    for call in (
        lambda: scores.magnitude(model),
        lambda: scores.snip(model, PAIR, cross_entropy),
        lambda: scores.wanda(model, PAIR[0]),
    ):
        with pytest.raises(ProblemError, match=r"score of '1\.weight' holds NaN"):
            call()


def test_without_torch_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import cops_lp\n"
        "try:\n    cops_lp.torch\n"
        "except cops_lp.MissingDependencyError as error:\n    print(error)\n"
        "print(cops_lp.solve([2.0, 1.0], keep=1).mask.tolist())"
    )
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "pip install 'cops-lp[torch]'" in out[0]
    assert out[1] == "[True, False]"
    assert issubclass(MissingDependencyError, ImportError)


def test_public_names():
    for name in scores.__all__:
        lines = getattr(scores, name).__doc__
        for section in ("Parameters", "Returns", "Raises", "Notes", "Examples"):
            assert f"{section}\n" in lines
        assert "Sign: " in lines
        assert "Cost: " in lines or "Cost and " in lines
    with pytest.raises(AttributeError, match="no attribute 'scroes'"):
        __import__("cops_lp.torch").torch.scroes  # noqa: B018
