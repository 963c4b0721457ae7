"""``cops-lp prune``: models and data from outside, masks, tables and the picture."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import cops_lp
from cops_lp.errors import ProblemError

from .running import ROOT, python
from .test_cli import fail, folder, run, succeed

torch = pytest.importorskip("torch")

import cops_lp.torch as ct  # noqa: E402
from cops_lp.cli import densities, models, prune  # noqa: E402
from cops_lp.torch import scores  # noqa: E402

__all__ = ["folder"]

NETWORKS = """
import torch
from torch import nn
from torch.nn.utils import prune

def small():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 4 * 4, 10))

def flat():
    return nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 3))

class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.last = nn.Linear(8, 10)

    def forward(self, x):
        return self.last(self.layer(x.squeeze(1)).mean(1))

def attention():
    return Attention()

def nothing():
    return 3

def broken():
    raise KeyError("a bug of the caller's")

def wide(width):
    return nn.Linear(width, 10)

def fewer():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))

def convolution():
    return nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())

def normed():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))

class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(x.flatten(1)), x

def pair():
    return Pair()

def no_layer():
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64))

def not_a_number():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model[1].weight.data[0, 0] = float("nan")
    return model

def computed():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(64, 10))
    return nn.Sequential(nn.Flatten(), layer)

class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, x):
        return self.used(x.flatten(1))

def unused():
    return Unused()

def masked():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return prune.identity(model[1], "weight") and model

word = "no function"
"""
PRUNE = ("prune", "--model", "networks_of_a_user:small", "--data", "digits", "--samples", "100")
ONE = ("--target", "snip", "--keep", "10%")
BOTH = (*ONE, "--control", "synflow", "--retain", "0.9")


@pytest.fixture(autouse=True)
def _networks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "networks_of_a_user.py").write_text(NETWORKS)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "networks_of_a_user", raising=False)


def batches(samples: int = 100):
    return models.load_batches("digits", samples=samples, batch=128, seed=0)


def small():
    return models.build_model("networks_of_a_user:small", 0, "cpu")


def save_flat(path: Path | str, n: int = 40, **change: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    arrays = {"inputs": rng.normal(size=(n, 5)), "labels": rng.integers(3, size=n)} | change
    np.savez(path, **arrays)
    return arrays


def test_the_masks_are_those_of_the_functions() -> None:
    printed = succeed(*PRUNE, *BOTH, "--output", "m.safetensors", "--report", "r.md")
    model, data = small(), batches()
    snip = scores.snip(model, data, torch.nn.functional.cross_entropy)
    flow = scores.synflow(model, (1, 8, 8))
    found = ct.masks(snip, {"synflow": flow}, keep=0.1, retain=0.9)
    written = ct.load_masks("m.safetensors")
    assert list(written) == list(snip)
    assert all(torch.equal(written[name], mask) for name, mask in found.masks.items())
    kept = found.report.total.kept
    assert printed.startswith(f"{kept} of 1,766 weights kept (10%) by snip with floors on synflow")
    alone = {"snip": ct.masks(snip, keep=0.1)}
    with pytest.warns(ct.LayerCollapseWarning, match="7.weight"):
        alone["synflow"] = ct.masks(flow, keep=0.1)
    assert "synflow empties 1 of 3 layers: 7.weight" in printed.splitlines()
    for index, (name, size, _) in enumerate(found.report.layers):
        cells = [each.report.layers[index].density for each in (*alone.values(), found)]
        row = [name, f"{size:,}", *(f"{cell:.2%}" for cell in cells)]
        assert row in [line.split() for line in printed.splitlines()]
        assert f"| {' | '.join(row)} |" in Path("r.md").read_text(encoding="utf-8")
    shares = [
        sum(float(score[name][mask].double().sum()) for name, mask in written.items())
        / alone[label].solution.mask_objective
        for label, score in (("snip", snip), ("synflow", flow))
    ]
    wanted = ["COPS", *(f"{share:.2%}" for share in shares)]
    assert wanted in [line.split() for line in printed.splitlines()]
    assert "masks written to m.safetensors" in printed


def test_json_says_the_same() -> None:
    text = succeed(*PRUNE, *BOTH, "--rounds", "3", "--regrow", "--json")
    found = json.loads(text)
    assert [each["keep"] for each in found["rounds_done"]] == [820, 381, 177]
    assert found["rounds"] == 3
    assert found["regrow"] is True
    assert sum(layer["kept"]["COPS"] for layer in found["layers"]) == 177
    assert sum(layer["weights"] for layer in found["layers"]) == 1766
    assert set(found["shares"]) == {"snip", "synflow", "COPS"}
    assert found["solution"]["floors"]["synflow"] > 0.0
    assert found["solution"]["version"] == cops_lp.__version__


def test_rounds_are_those_of_prune_iteratively() -> None:
    succeed(*PRUNE, *BOTH, "--rounds", "4", "--schedule", "linear", "--output", "m.safetensors")
    model, data = small(), batches()
    found = ct.prune_iteratively(
        model,
        lambda m, masks: scores.snip(m, data, torch.nn.functional.cross_entropy, masks=masks),
        {"synflow": lambda m, masks: scores.synflow(m, (1, 8, 8), masks=masks)},
        keep=0.1,
        retain=0.9,
        rounds=4,
        schedule="linear",
    )
    written = ct.load_masks("m.safetensors")
    assert all(torch.equal(written[name], mask) for name, mask in found.masks.items())


@pytest.mark.parametrize(
    "name", [n for n in scores.__all__ if n not in ("gss", "wanda", "ria", "snip")]
)
def test_every_score_can_be_asked_for(name: str) -> None:
    printed = succeed(*PRUNE, "--target", name, "--keep", "0.2", "--samples", "20")
    assert f"by {name}" in printed


@pytest.mark.parametrize("name", ["wanda", "ria"])
def test_scores_of_linear_layers_leave_the_others_alone(name: str) -> None:
    args = ("--target", "magnitude", "--control", name, "--retain", "0.5", "--keep", "0.2")
    printed = succeed(*PRUNE, *args, "--output", "m.safetensors")
    assert list(ct.load_masks("m.safetensors")) == ["7.weight"]
    assert "0.weight" not in printed


@pytest.mark.parametrize("name", ["wanda", "ria"])
def test_scores_of_linear_layers_and_attention(name: str) -> None:
    """Whose out_proj is a Linear layer that never runs as a module."""
    args = ("--model", "networks_of_a_user:attention", "--target", name, "--keep", "0.2")
    succeed("prune", *args, "--data", "digits", "--samples", "20", "--output", "m.safetensors")
    want = {"layer.linear1.weight", "layer.linear2.weight", "last.weight"}
    assert set(ct.load_masks("m.safetensors")) == want


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".pth"])
def test_data_from_files(suffix: str) -> None:
    arrays = save_flat("data.npz")
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    torch.save(tensors if suffix == ".pt" else tuple(tensors.values()), "data.pt")
    path = Path("data.npz")
    if suffix != ".npz":
        path = Path("data.pt").rename(f"given{suffix}")
    read = models.load_batches(str(path), samples=30, batch=20, seed=4)
    assert [len(labels) for _, labels in read] == [15, 15]  # no small remainder
    x, y = (torch.cat(parts) for parts in zip(*read, strict=True))
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    order = np.random.default_rng(4).permutation(40)[:30]
    assert np.array_equal(x.numpy(), arrays["inputs"][order].astype(np.float32))
    assert np.array_equal(y.numpy(), arrays["labels"][order])
    options = ("--model", "networks_of_a_user:flat", "--data", str(path))
    assert "16 of 160 weights" in succeed("prune", *options, *BOTH)


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


def test_a_torch_file_runs_no_code() -> None:
    torch.save({"inputs": Trap(), "labels": torch.ones(3)}, "data.pt")
    assert "not a torch file of tensors alone" in fail(2, *PRUNE[:3], "--data", "data.pt", *ONE)
    assert not Path("sprung").exists()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"labels": np.ones(40)}, "labels are float64; wanted integers"),
        ({"labels": np.ones(39, dtype=int)}, "inputs have shape (40, 5) and labels (39,)"),
        ({"inputs": np.ones(40)}, "inputs have shape (40,)"),
        ({"inputs": np.ones((0, 5)), "labels": np.ones(0, dtype=int)}, "shape (0, 5)"),
    ],
)
def test_wrong_data(change: dict[str, np.ndarray], complaint: str) -> None:
    save_flat("data.npz", **change)
    assert complaint in fail(2, *PRUNE[:3], "--data", "data.npz", *ONE)


def test_data_that_is_no_data() -> None:
    Path("whole.pt").write_bytes(b"no torch file")
    torch.save([torch.ones(2)], "one.pt")
    np.savez("names.npz", x=np.ones((3, 2)))
    for path, complaint in (
        ("whole.pt", "not a torch file of tensors alone"),
        ("one.pt", "wanted a dict with the tensors 'inputs' and 'labels', or a pair"),
        ("names.npz", "inputs"),
        ("none.npz", "none.npz"),
        ("none.pt", "none.pt"),
        ("x.csv", "wanted 'digits' or a file that ends in .npz, .pt or .pth"),
    ):
        assert complaint in fail(2, *PRUNE[:3], "--data", path, *ONE)


@pytest.mark.parametrize("change", [torch.nn.Parameter, lambda x: x.clone().requires_grad_()])
def test_data_with_gradients(change) -> None:
    arrays = save_flat("data.npz")
    inputs = torch.from_numpy(arrays["inputs"]).float()
    torch.save((change(inputs), torch.from_numpy(arrays["labels"])), "data.pt")
    ((plain, _),), ((read, _),) = (
        models.load_batches(name, samples=40, batch=40, seed=0) for name in ("data.npz", "data.pt")
    )
    assert torch.equal(read, plain)
    assert not read.requires_grad


@pytest.mark.filterwarnings("ignore")  # of torch, when it makes them
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda x: x.to_sparse(), "inputs are no dense tensor with values (can't convert Sparse"),
        (lambda x: x.to_sparse_csr(), "inputs are no dense tensor with values"),
        (lambda x: x.to("meta"), "inputs are no dense tensor with values (can't convert meta"),
        (
            lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
            "inputs are no dense tensor with values",
        ),
        (lambda x: x.to(torch.complex64), "inputs are complex64; wanted real numbers"),
    ],
)
def test_tensors_that_are_no_inputs(change, complaint: str) -> None:
    torch.save((change(torch.ones(8, 5)), torch.arange(8)), "data.pt")
    assert complaint in fail(2, *PRUNE[:3], "--data", "data.pt", *ONE)


@pytest.mark.parametrize("text", ["hello", "x", "(", "}q", "0"])
def test_text_that_is_called_a_torch_file(text: str) -> None:
    Path("data.pt").write_text(text)
    assert "not a torch file of tensors alone" in fail(2, *PRUNE[:3], "--data", "data.pt", *ONE)


def test_numbers_beyond_64_bits() -> None:
    seed = str(2**64)
    assert f"--seed {seed}: wanted at most 2**64 - 1" in fail(2, *PRUNE, *ONE, "--seed", seed)
    every = ("--batch", str(10**20), "--samples", str(10**20), "--seed", str(2**64 - 1))
    assert "177 of 1,766 weights" in succeed(*PRUNE, *ONE, *every)


@pytest.mark.parametrize(
    ("model", "args", "complaint"),
    [
        ("convolution", ("--control", "wanda", "--retain", "0"), "no Linear layer that wanda can"),
        ("computed", ("--control", "ria", "--retain", "0"), "no Linear layer that ria can score"),
        ("no_layer", (), "--target 'snip': model has no weight to score (Linear, "),
        ("computed", (), "'parametrizations.weight.original1'); remove that"),
        ("not_a_number", (), "look for them in the parameters and the data"),
        (
            "unused",
            ("--control", "wanda", "--retain", "0"),
            "--control 'wanda': the layer of 'unused.weight' never ran",
        ),
    ],
)
def test_advice_names_no_argument_of_functions(
    model: str, args: tuple[str, ...], complaint: str
) -> None:
    message = fail(2, "prune", "--model", f"networks_of_a_user:{model}", *PRUNE[3:], *ONE, *args)
    assert complaint in message
    assert not {"where", "where=", "dtype=torch.float64"} & set(message.split())


def test_linear_layers_that_are_masked_are_linear_layers() -> None:
    args = ("--target", "wanda", "--keep", "0.2")
    assert "128 of 640" in succeed(
        "prune", "--model", "networks_of_a_user:masked", *PRUNE[3:], *args
    )


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("networks_of_a_user", "wanted MODULE:FUNCTION"),
        ("no_such_module:f", "there is no module 'no_such_module'"),
        ("networks_of_a_user.deeper:f", "there is no module 'networks_of_a_user.deeper'"),
        ("networks_of_a_user:smal", "has no function 'smal'"),
        ("networks_of_a_user:word", "has no function 'word'"),
        ("networks_of_a_user:nothing", "returned a int; wanted a torch.nn.Module"),
        ("networks_of_a_user:wide", "called without arguments, but missing a required argument"),
        ("networks_of_a_user.py:small", "leave out .py"),
        ("./networks_of_a_user.py:small", "is a path; wanted a module's name"),
        (".networks_of_a_user:small", "is a path; wanted a module's name"),
    ],
)
def test_wrong_models(model: str, complaint: str) -> None:
    assert complaint in fail(2, "prune", "--model", model, "--data", "digits", *ONE)


def test_the_callers_own_bugs_keep_their_traceback(folder: Path) -> None:
    result = run("prune", "--model", "networks_of_a_user:broken", "--data", "digits", *ONE)
    assert isinstance(result.exception, KeyError)
    (folder / "imports_what_is_not_there.py").write_text("import no_such_package_at_all")
    result = run("prune", "--model", "imports_what_is_not_there:f", "--data", "digits", *ONE)
    assert isinstance(result.exception, ModuleNotFoundError)


def test_what_does_not_fit_the_model_is_told_with_its_own_error() -> None:
    result = run("prune", "--model", "networks_of_a_user:fewer", "--data", "digits", *ONE)
    assert isinstance(result.exception, IndexError)  # five outputs, ten labels
    assert result.exception.__notes__ == [
        "snip ran the model on batches such as inputs of shape (128, 1, 8, 8) (torch.float32) "
        "and labels from 0 to 9"
    ]


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("--target", "snip", "--keep", "200%"), "keep is 2.0; wanted a count (int) or a share"),
        ((*BOTH[:-1], "2"), "retain of 'synflow' is 2.0; wanted a share in [0, 1]"),
        ((*BOTH[:-1], "flow=0.9"), "unknown 'flow'; missing 'synflow'"),
    ],
)
def test_amounts_are_checked_before_the_model_is_made(
    args: tuple[str, ...], complaint: str
) -> None:
    message = fail(2, "prune", "--model", "no_such_module:f", "--data", "none.npz", *args)
    assert complaint in message
    assert "round" not in message


def test_a_device_that_is_not_there() -> None:
    for device in ("abacus", "hpu"):
        assert f"--device {device!r}" in fail(2, *PRUNE, *ONE, "--device", device)


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("--target", "snop", "--keep", "0.1"), "did you mean 'snip'?"),
        ((*ONE, "--control", "gss", "--retain", "0.9"), "--control 'gss': wanted one of"),
        ((*ONE, "--control", "snip", "--retain", "0.9"), "'snip' is asked for twice"),
        ((*ONE, "--control", "synflow"), "--control needs a floor"),
        ((*ONE, "--retain", "0.9"), "there is no --control"),
        ((*BOTH[:-1], "flow=0.9"), "flow"),
        ((*BOTH, "--schedule", "cubic"), "schedule is 'cubic'"),
        ((*BOTH, "--rounds", "0"), "--rounds"),
        (("--target", "snip", "--keep", "0"), "leaves none of 1,766 weights"),
        ((*ONE, "--output", "m.npy"), ".safetensors"),
        ((*ONE, "--report", "r.txt"), ".md"),
        ((*ONE, "--plot", "d.jpg"), ".png, .svg or .pdf"),
        ((*ONE, "--report", "none/r.md"), "folder does not exist"),
    ],
)
def test_wrong_arguments(args: tuple[str, ...], complaint: str) -> None:
    assert complaint in fail(2, *PRUNE, *args)
    assert sorted(path.suffix for path in Path().iterdir() if path.is_file()) == [".py"]


def test_floors_of_rounds_are_told_by_their_own_scores() -> None:
    args = (*PRUNE, *BOTH, "--rounds", "3")
    least = min(
        each["retained"]["synflow"] for each in json.loads(succeed(*args, "--json"))["rounds_done"]
    )
    assert least >= 0.9
    assert f"no round kept less than {least:.2%} of synflow" in " ".join(succeed(*args).split())
    assert "Floors are held" not in succeed(*PRUNE, *BOTH)


def test_a_bar_takes_the_spinners_place(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    real = ct.prune_iteratively

    def watched(*args, **options):
        asked.append(options["progress"])
        return real(*args, **options | {"progress": False})

    monkeypatch.setattr(ct, "prune_iteratively", watched)
    spun: list[str] = []

    def spinner(label: str):
        spun.append(label)
        return nullcontext()

    monkeypatch.setattr(prune, "working", spinner)
    monkeypatch.setattr(prune, "_on_a_terminal", lambda: True)
    succeed(*PRUNE, *BOTH, "--rounds", "2")
    assert asked == ["snip alone", "synflow alone", "COPS"]
    assert spun == ["counting"]
    asked.clear()
    succeed(*PRUNE, *BOTH)
    assert asked == [False] * 3
    assert spun == ["counting", "snip alone", "synflow alone", "COPS", "counting"]


INTERRUPTED = """
import os, signal, sys
import cops_lp.torch as ct
from cops_lp.cli import densities, main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits none
real = densities.{name}
def interrupted(*args, **options):
    os.kill(os.getpid(), signal.SIGINT)
    return real(*args, **options)
densities.{name} = interrupted
sys.argv[1:] = {args!r}
main()
"""


@pytest.mark.parametrize(("name", "left"), [("densities", []), ("_markdown", ["m.safetensors"])])
def test_ctrl_c_leaves_whole_files_or_none(folder: Path, name: str, left: list[str]) -> None:
    args = [*PRUNE, *BOTH, "--output", "m.safetensors", "--report", "r.md"]
    done = python(INTERRUPTED.format(name=name, args=args), cwd=folder, PYTHONPATH=str(ROOT))
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    written = [path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".py"]
    assert written == left
    for path in written:
        assert sum(int(mask.sum()) for mask in ct.load_masks(path).values()) == 177


def test_infeasible_floors_end_in_3_and_say_where() -> None:
    args = (*BOTH[:-1], "1.0", "--control", "random", "--control", "magnitude", "--rounds", "2")
    message = fail(3, *PRUNE, *args)
    assert "not all of them together" in message
    assert message.rstrip().endswith("in round 1 of 2 of the iterated pruning")


def test_files_are_replaced_only_if_forced() -> None:
    Path("m.safetensors").write_text("mine")
    args = (*PRUNE, *ONE, "--output", "m.safetensors")
    assert "already exists" in fail(2, *args)
    assert Path("m.safetensors").read_text() == "mine"
    succeed(*args, "--force")
    assert ct.load_masks("m.safetensors")["0.weight"].shape == (6, 1, 3, 3)


@pytest.mark.parametrize(
    ("package", "args", "extra"),
    [
        ("torch", (), "torch"),
        ("matplotlib", ("--plot", "d.png"), "plot"),
        ("safetensors", ("--output", "m.safetensors"), "files"),
    ],
)
def test_without_a_package(
    monkeypatch: pytest.MonkeyPatch, package: str, args: tuple[str, ...], extra: str
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else real(name)
    )
    assert f"pip install 'cops-lp[{extra}]'" in fail(2, *PRUNE, *ONE, *args)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert "pip install 'cops-lp[digits]'" in fail(2, *PRUNE, *ONE)


def a_table() -> densities.Densities:
    a, b, c = torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([0.5]), torch.tensor([])
    size = {"first.weight": a, "last.weight": b, "empty": c}
    use = {"first.weight": -a, "last.weight": b, "empty": c}
    masks = {
        "size": {name: score > 2.5 for name, score in size.items()},
        "COPS": {
            "first.weight": torch.tensor([True, False, False, False]),
            "last.weight": torch.tensor([True]),
            "empty": torch.zeros(0, dtype=torch.bool),
        },
    }
    return densities.densities(masks, {"size": size, "use": use})


def test_densities_by_hand() -> None:
    table = a_table()
    assert table.total == (2, 5)
    assert table.emptied() == {"size": ["last.weight"], "COPS": []}
    assert table.density_table() == (
        ["layer", "weights", "size", "COPS"],
        [
            ["first.weight", "4", "50.00%", "25.00%"],
            ["last.weight", "1", "0.00%", "100.00%"],
            ["empty", "0", "–", "–"],
            ["total", "5", "40.00%", "40.00%"],
        ],
    )
    # The two best of `use` sum to 0.5 - 1, so no share of it can be told.
    assert table.share_table() == (
        ["mask", "size", "use"],
        [["size", "100.00%", "–"], ["COPS", f"{4.5 / 7:.2%}", "–"]],
    )


def test_the_picture_shows_the_densities() -> None:
    pytest.importorskip("matplotlib")
    from cops_lp.cli.density_figure import draw_densities

    figure = draw_densities(a_table(), "a title")
    upper, lower = figure.axes
    lines = {line.get_label(): line for line in upper.get_lines()}
    assert lines["COPS"].get_ydata().tolist() == [0.25, 1.0]
    alone = lines["size alone"]
    assert alone.get_ydata()[0] == 0.5
    assert alone.get_markevery() == [0]
    assert lines["_emptied by size"].get_xdata().tolist() == [1]
    assert "_emptied by COPS" not in lines
    (row,) = lines["_emptied by size"].get_ydata()
    assert alone.get_ydata().tolist() == [0.5, row]
    assert upper.get_ylim()[0] < row < min(upper.get_yticks())
    assert "none" in [text.get_text() for text in upper.texts]
    assert [bar.get_height() for bar in lower.patches] == [4, 1]
    assert [label.get_text() for label in lower.get_xticklabels()] == ["first", "last"]
    assert figure.get_suptitle() == "a title"


def test_each_mask_empties_layers_in_a_row_of_its_own() -> None:
    pytest.importorskip("matplotlib")
    from cops_lp.cli.density_figure import draw_densities

    layers = {"a": 10, "b": 100_000, "c": 10}
    kept = {
        "snip": {"a": 0, "b": 11, "c": 0},
        "synflow": {"a": 1, "b": 10, "c": 0},
        "magnitude": {"a": 0, "b": 1, "c": 10},
        "COPS": {"a": 2, "b": 2, "c": 7},
    }
    upper, _ = draw_densities(densities.Densities(layers, kept, {}), "a title").axes
    lines = {line.get_label(): line for line in upper.get_lines()}
    crosses = [lines[f"_emptied by {mask}"] for mask in ("snip", "synflow", "magnitude")]
    assert [cross.get_xdata().tolist() for cross in crosses] == [[0, 2], [2], [0]]
    rows = [set(cross.get_ydata()) for cross in crosses]
    assert len(set.union(*rows)) == 3 == sum(map(len, rows))
    low, high = upper.get_ylim()
    assert all(low < row < 1e-5 for row in set.union(*rows))  # below the least density shown
    assert high > 1.0
    assert upper.get_yticks().tolist() == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0])


def test_one_layer_kept_whole_has_its_scale() -> None:
    pytest.importorskip("matplotlib")
    from cops_lp.cli.density_figure import draw_densities

    table = densities.Densities({"a": 10}, {"snip": {"a": 10}}, {})
    upper, _ = draw_densities(table, "a title").axes
    assert upper.get_yticks().tolist() == pytest.approx([0.1, 1.0])
    assert upper.get_yticks(minor=True).size == 0


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_the_picture_is_written(suffix: str, magic: bytes) -> None:
    pytest.importorskip("matplotlib")
    path = Path(f"density{suffix}")
    assert f"figure written to {path}" in succeed(*PRUNE, *BOTH, "--plot", str(path))
    assert path.read_bytes().startswith(magic)


def test_models_are_the_same_for_the_same_seed() -> None:
    one, two, other = (
        models.build_model("networks_of_a_user:flat", seed, "cpu") for seed in (3, 3, 4)
    )
    assert torch.equal(one[0].weight, two[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)
    with pytest.raises(ProblemError, match="wanted MODULE:FUNCTION"):
        models.build_model(":f", 0, "cpu")


def test_no_batch_of_one_is_left_over() -> None:
    """BatchNorm takes none."""
    options = ("prune", "--model", "networks_of_a_user:normed", "--data", "digits", "--target")
    succeed(*options, "snip", "--keep", "10%", "--samples", "129", "--batch", "128")
    read = models.load_batches("digits", samples=129, batch=128, seed=0)
    assert [len(labels) for _, labels in read] == [65, 64]


def test_no_advice_to_give_an_argument_of_python() -> None:
    options = ("prune", "--model", "networks_of_a_user:pair", "--data", "digits", "--keep", "10%")
    for name in ("synflow", "ntk_sap"):
        message = fail(2, *options, "--target", name)
        assert message.rstrip().endswith("the model returned a tuple; wanted a tensor")
