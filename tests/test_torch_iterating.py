"""Pruning in rounds: schedules, what stays pruned, what comes back, against a hand-made loop."""

from __future__ import annotations

import copy
import warnings
from itertools import pairwise

import numpy as np
import pytest

from cops_lp import InfeasibleError, ProblemError

from .checks import assert_certified
from .networks import digits, rectified

torch = pytest.importorskip("torch")

import cops_lp.torch as ct  # noqa: E402
from cops_lp.torch import mapping, scores, store  # noqa: E402
from cops_lp.torch.schedule import budgets  # noqa: E402


@pytest.fixture(params=["arrays", "device"])
def place(request, monkeypatch):
    if request.param == "device":
        monkeypatch.setattr(mapping, "VIEWED", frozenset())
        monkeypatch.setattr(store, "_block", lambda size, most: 500)
    return request.param


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [torch.nn.Linear(12, 30, bias=False), torch.nn.Linear(30, 20, bias=False)]
        layers.append(torch.nn.Linear(20, 4, bias=False))
        return torch.nn.Sequential(
            layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2]
        ).double()


def flow(model, masks):
    return scores.synflow(model, (12,), masks=masks)


def first_moment(model, masks):
    """Signed: what a step down the loss would add to a weight's factor."""
    images, labels = digits(64)

    def loss(m):
        return torch.nn.functional.cross_entropy(m(images.reshape(64, 64)[:, :12]), labels % 4)

    return scores.gss(model, loss, masks=masks)


def alone(*tensors):
    """A scorer that returns one fixed score after the other, a round each."""
    left = list(tensors)
    return lambda model, masks: {"w": left.pop(0)}


@pytest.mark.parametrize("schedule", ["exponential", "linear"])
@pytest.mark.parametrize(("size", "keep", "rounds"), [(77_072, 771, 100), (10, 10, 3), (3, 1, 40)])
def test_budgets_fall_to_keep(schedule, size, keep, rounds):
    left = budgets(size, keep, rounds, schedule)
    assert len(left) == rounds
    assert left[-1] == keep
    assert all(size >= a >= b for a, b in pairwise(left))
    wanted = [
        size * (keep / size) ** (r / rounds)
        if schedule == "exponential"
        else size + (keep - size) * r / rounds
        for r in range(1, rounds + 1)
    ]
    assert np.abs(np.array(left) - wanted).max() <= 0.5 + 1e-9


def test_one_round_is_masks(place):
    model, images = rectified(torch.float32), digits(100, torch.float32)
    loss = torch.nn.functional.cross_entropy
    snip = scores.snip(model, images, loss)
    synflow = scores.synflow(model, (1, 8, 8))
    once = ct.masks(snip, {"flow": synflow}, keep=0.2, retain=0.8)
    found = ct.prune_iteratively(
        model,
        lambda m, masks: scores.snip(m, images, loss, masks=masks),
        {"flow": lambda m, masks: scores.synflow(m, (1, 8, 8), masks=masks)},
        keep=0.2,
        retain=0.8,
        rounds=1,
    )
    assert all(torch.equal(found.masks[name], mask) for name, mask in once.masks.items())
    assert found.report == once.report
    assert [each.keep for each in found.rounds] == [once.solution.keep]
    assert (
        found.rounds[0].retained["flow"] == once.solution.kept[0] / once.solution.problem.best()[1]
    )


def path_scores(weights, kept):
    """SynFlow of a ReLU chain, |θ| times all paths into and out of it, in NumPy.

    A unit that nothing reaches passes nothing back: ReLU's slope at 0 is 0.
    """
    sizes = [np.abs(w) * m for w, m in zip(weights, kept, strict=True)]
    into = [np.ones(sizes[0].shape[1])]
    for size in sizes:
        into.append(size @ into[-1])
    out = [np.ones(sizes[-1].shape[0])]
    for layer in range(len(sizes) - 1, 0, -1):
        out.insert(0, sizes[layer].T @ out[0] * (into[layer] > 0.0))
    return [np.abs(w) * np.outer(o, i) for w, o, i in zip(weights, out, into[:-1], strict=True)]


@pytest.mark.parametrize("schedule", ["exponential", "linear"])
@pytest.mark.parametrize("regrow", [False, True])
def test_synflow_in_rounds_is_the_loop_by_hand(place, schedule, regrow):
    model, keep, rounds = network(), 60, 12
    weights = [p.detach().numpy() for p in model.parameters()]
    kept = [np.ones(w.shape, dtype=bool) for w in weights]
    left = budgets(sum(w.size for w in weights), keep, rounds, schedule)
    for count in left:
        flat = np.concatenate([s.ravel() for s in path_scores(weights, kept)])
        if not regrow:
            flat[~np.concatenate([m.ravel() for m in kept])] = -np.inf
        chosen = np.zeros(flat.size, dtype=bool)
        chosen[np.argsort(-flat, kind="stable")[:count]] = True
        kept = [
            part.reshape(w.shape)
            for part, w in zip(
                np.split(chosen, np.cumsum([w.size for w in weights])[:-1]), weights, strict=True
            )
        ]
    found = ct.prune_iteratively(
        model, flow, keep=keep, rounds=rounds, schedule=schedule, regrow=regrow
    )
    for mask, by_hand in zip(found.masks.values(), kept, strict=True):
        assert np.array_equal(mask.numpy(), by_hand)
    assert [each.keep for each in found.rounds] == left
    with pytest.warns(ct.LayerCollapseWarning):  # which the rounds avoid
        ct.masks(flow(model, {}), keep=keep)


def test_what_is_pruned_stays_pruned_though_it_scores_higher(place):
    # In the second round the removed entry has the largest score, in the third a zero
    # among negatives.
    rounds = [[-1.0, -2.0, -3.0, -9.0], [-2.0, -1.0, -3.0, 5.0], [-2.0, -1.0, 0.0, 0.0]]
    first, second, third = (torch.tensor(entries) for entries in rounds)
    found = ct.prune_iteratively(
        torch.nn.ReLU(), alone(first, second, third), keep=1, rounds=3, schedule="linear"
    )
    assert [each.keep for each in found.rounds] == [3, 2, 1]
    assert found.masks["w"].tolist() == [False, True, False, False]
    assert_certified(found.solution)


def test_weights_come_back_only_if_allowed():
    first, second = torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    options = {"keep": 2, "rounds": 2}
    model = torch.nn.ReLU()
    stay = ct.prune_iteratively(model, alone(first, second), **options)
    assert stay.masks["w"].tolist() == [False, True, True, False]
    assert [each.regrown for each in stay.rounds] == [0, 0]
    back = ct.prune_iteratively(model, alone(first, second), **options, regrow=True)
    assert back.masks["w"].tolist() == [False, False, True, True]
    assert [each.regrown for each in back.rounds] == [0, 1]


@pytest.mark.parametrize("regrow", [False, True])
def test_floors_hold_in_every_round_and_the_model_is_untouched(place, regrow):
    model = network(1)
    before = copy.deepcopy(model.state_dict())
    seen = []

    def target(given, masks):
        assert given is model
        seen.append({name: mask.clone() for name, mask in masks.items()})
        return first_moment(given, masks)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.LayerCollapseWarning)
        found = ct.prune_iteratively(
            model, target, {"flow": flow}, keep=0.1, rounds=4, retain=0.7, regrow=regrow
        )
    assert seen[0] == {}
    counts = [sum(int(m.sum()) for m in masks.values()) for masks in seen[1:]]
    assert counts == [each.keep for each in found.rounds[:-1]]
    assert found.report.total.kept == round(0.1 * found.report.total.size)
    assert all(each.retained["flow"] >= 0.7 - 1e-9 for each in found.rounds)
    if not regrow:
        for earlier, later in zip(seen[1:], [*seen[2:], found.masks], strict=True):
            assert not any((later[name] & ~earlier[name]).any() for name in earlier)
    assert_certified(found.solution)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_emptied_layers_are_told_once_and_since_when():
    scorer_calls = []

    def scorer(model, masks):
        scorer_calls.append(len(masks))
        return {"a": torch.tensor([9.0, 8.0, 7.0]), "b": torch.tensor([1.0])}

    with pytest.warns(ct.LayerCollapseWarning, match="'b'") as told:
        found = ct.prune_iteratively(torch.nn.ReLU(), scorer, keep=1, rounds=3, schedule="linear")
    assert len(told) == 1
    assert told[0].filename == __file__
    assert [each.emptied for each in found.rounds] == [("b",), ("b",), ("b",)]
    assert scorer_calls == [0, 2, 2]


def test_progress_goes_to_stderr_if_asked(capsys):
    ct.prune_iteratively(network(), flow, keep=0.5, rounds=2)
    assert capsys.readouterr() == ("", "")
    ct.prune_iteratively(network(), flow, keep=0.5, rounds=2, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "round 2 of 2, 520 weights" in err


def test_the_bar_says_what_it_is_for(capsys):
    ct.prune_iteratively(network(), flow, keep=0.5, rounds=2, progress="[flow]")
    assert "[flow]: round 2 of 2, 520 weights" in capsys.readouterr().err


def test_one_round_is_not_counted_in_errors():
    with pytest.raises(ProblemError) as raised:
        ct.prune_iteratively(network(), flow, keep=0, rounds=1)
    assert not hasattr(raised.value, "__notes__")


@pytest.mark.parametrize(
    ("amounts", "message"),
    [
        ({"keep": 1.5}, "keep is 1.5"),
        ({"keep": "5%"}, "keep is '5%'"),
        ({"keep": True}, "keep is True"),
        ({"retain": 2.0}, "retain of 'flow' is 2.0"),
        ({"retain": {"snip": 0.5}}, "unknown 'snip'; missing 'flow'"),
    ],
)
def test_amounts_are_checked_before_anything_is_scored(amounts, message):
    def never(model, masks):
        raise AssertionError("scored")

    options = {"keep": 0.5, "retain": 0.5} | amounts
    with pytest.raises(ProblemError, match=message):
        ct.prune_iteratively(network(), never, {"flow": never}, rounds=2, **options)


def everything(model):
    """All that pruning must leave alone: bytes, gradients, modes, and the random state."""
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    grads = {name: None if p.grad is None else p.grad.clone()
             for name, p in model.named_parameters()}  # fmt: skip
    modes = [module.training for module in model.modules()]
    return tensors, grads, modes, torch.get_rng_state()


def assert_as_before(model, before):
    for now, then in zip(everything(model), before, strict=True):
        if isinstance(now, dict):
            assert now.keys() == then.keys()
            for name, value in now.items():
                assert value is then[name] is None or torch.equal(value, then[name])
        elif isinstance(now, list):
            assert now == then
        else:
            assert torch.equal(now, then)


@pytest.mark.parametrize("regrow", [False, True])
@pytest.mark.parametrize("fails", [None, "scorer", "floors"])
def test_the_model_is_as_it_was_also_after_an_error(regrow, fails):
    model, data = rectified(torch.float32), digits(60, torch.float32)
    model[1].eval()  # the mode of one module alone
    torch.nn.functional.cross_entropy(model(data[0]), data[1]).backward()
    before = everything(model)

    def loss(out, labels):
        if fails == "scorer" and len(calls) == 2:
            raise KeyError("in the loss")
        return torch.nn.functional.cross_entropy(out, labels)

    calls = []

    def snip(given, masks):
        calls.append(masks)
        return scores.snip(given, data, loss, masks=masks)

    def against(given, masks):
        found = scores.synflow(given, (1, 8, 8), masks=masks)
        if fails == "floors" and masks:
            found = {name: -score for name, score in found.items()}
        return found

    def pruned():
        return ct.prune_iteratively(
            model, snip, {"flow": against}, keep=0.2, rounds=3, retain=0.5, regrow=regrow
        )

    if fails is None:
        assert pruned().report.total.kept == round(0.2 * pruned().report.total.size)
    else:
        with pytest.raises(KeyError if fails == "scorer" else ProblemError) as raised:
            pruned()
        assert raised.value.__notes__ == ["in round 2 of 3 of the iterated pruning"]
        assert len(calls) == 2
    assert_as_before(model, before)


class Tied(torch.nn.Module):
    """One weight in two places."""

    def __init__(self):
        super().__init__()
        self.first, self.again, self.last = (torch.nn.Linear(12, n) for n in (12, 12, 4))
        self.again.weight = self.first.weight

    def forward(self, x):
        return self.last(torch.relu(self.again(torch.relu(self.first(x)))))


def test_tied_weights_are_pruned_once_and_in_both_places():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Tied()
    found = ct.prune_iteratively(model, flow, keep=0.3, rounds=3)
    assert list(found.masks) == ["first.weight", "last.weight"]
    assert found.report.total.size == 12 * 12 + 4 * 12
    # What the masked model scores, with the mask on both places at once.
    cut = copy.deepcopy(model)
    middle = ct.prune_iteratively(model, flow, keep=found.rounds[1].keep, rounds=2,
                                  schedule="linear")  # fmt: skip
    with torch.no_grad():
        cut.first.weight.mul_(middle.masks["first.weight"])
        cut.last.weight.mul_(middle.masks["last.weight"])
    by_hand = scores.synflow(cut, (12,))
    masked = flow(model, middle.masks)
    for name, mask in middle.masks.items():
        assert torch.equal(masked[name][mask], by_hand[name][mask])
    ct.apply_masks(model, found.masks)
    model(torch.ones(1, 12))
    for layer in (model.first, model.again):
        assert torch.equal(layer.weight != 0.0, found.masks["first.weight"])


def test_infeasible_names_the_round():
    # The two controls want different halves, so three weights of four already miss one.
    score = torch.tensor([1.0, 1.0, 0.0, 0.0])
    controls = {
        "left": lambda model, masks: {"w": score},
        "right": lambda model, masks: {"w": score.flip(0)},
    }
    with pytest.raises(InfeasibleError) as raised:
        ct.prune_iteratively(
            torch.nn.ReLU(),
            lambda model, masks: {"w": torch.ones(4)},
            controls,
            keep=2,
            rounds=2,
            schedule="linear",
            retain=1.0,
            regrow=True,
        )
    assert raised.value.__notes__ == ["in round 1 of 2 of the iterated pruning"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": 3}, "target is a int; wanted a callable"),
        ({"controls": [flow]}, "controls is a list; wanted a mapping of names to callables"),
        ({"controls": {"a": 3}}, "control 'a' is a int; wanted a callable"),
        ({"rounds": 0}, "rounds is 0; wanted an integer above zero"),
        ({"rounds": 2.0}, "rounds is 2.0; wanted an integer"),
        ({"rounds": True}, "rounds is True; wanted an integer"),
        ({"schedule": "cubic"}, "schedule is 'cubic'; wanted 'exponential' or 'linear'"),
        ({"keep": 0}, "keep is 0, which leaves none of 1,040 weights"),
        ({"keep": 1.5}, "keep"),
        ({"controls": {"a": flow}}, "retain"),
        ({"target": lambda m, masks: 3}, "target: int; wanted a mapping"),
    ],
)
def test_wrong_arguments(change, message):
    options = {"target": flow, "controls": None, "keep": 0.5, "rounds": 2} | change
    with pytest.raises(ProblemError, match=message.replace("(", r"\(")):
        ct.prune_iteratively(network(), **options)


def test_a_score_must_keep_its_names():
    answers = [{"a": torch.ones(3), "b": torch.ones(2)}, {"a": torch.ones(3)}]
    with pytest.raises(ProblemError, match="target must have the tensors of the round before; it "
                       "lacks 'b'") as raised:  # fmt: skip
        ct.prune_iteratively(torch.nn.ReLU(), lambda m, masks: answers.pop(0), keep=2, rounds=2)
    assert raised.value.__notes__ == ["in round 2 of 2 of the iterated pruning"]


@pytest.mark.parametrize("name", ["wanda", "ria"])
def test_activations_of_the_masked_model(name):
    model, score = network(2), getattr(scores, name)
    inputs = digits(50)[0].reshape(50, 64)[:, :12]
    generator = torch.Generator().manual_seed(0)
    masks = {
        key: torch.rand(p.shape, generator=generator) < 0.4
        for key, p in model.named_parameters()
        if key != "4.weight"
    }
    before = copy.deepcopy(model.state_dict())
    found = score(model, inputs, masks=masks)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    whole = score(model, inputs)
    # Only inputs change: column by column by what the layers before pass on.
    cut = copy.deepcopy(model)
    ct.apply_masks(cut, masks)
    x = inputs
    power = 1.0 if name == "wanda" else 0.5
    for index, sparse in enumerate(cut):
        if index % 2 == 0:
            key = f"{index}.weight"
            y = inputs
            for layer in list(model)[:index]:
                y = layer(y)
            now, dense = (z.norm(dim=0).pow(power).detach() for z in (x, y))
            assert torch.allclose(found[key] * dense, whole[key] * now, rtol=1e-10)
        x = sparse(x)
    for key, value in score(model, inputs, masks=masks, copy=False).items():
        assert torch.equal(value, found[key])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with pytest.raises(ProblemError, match="masks names 'x'"):
        score(model, inputs, masks={"x": torch.ones(3, dtype=torch.bool)})
