"""The sample scores: as the script makes them, and true to their formulas."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

import cops_lp

NAMES = ["magnitude", "snip", "grasp", "synflow"]
SCRIPT = Path(__file__).resolve().parents[1] / "bench" / "make_sample_scores.py"


def _load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sample_scores", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = _load_script()


@pytest.fixture(scope="module")
def computed() -> dict[str, np.ndarray]:
    return script.compute_scores()


@pytest.fixture
def network() -> torch.nn.Module:
    return script.build_network()


@pytest.fixture(scope="module")
def few() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = script.load_images()
    return images[:64], labels[:64]


def _scale(network: torch.nn.Module, factors: np.ndarray | dict[int, float]) -> torch.nn.Module:
    """Multiply scored weights (flat index -> factor) in place."""
    if isinstance(factors, dict):
        dense = np.ones(sum(w.numel() for w in script.scored_weights(network)))
        dense[list(factors)] = list(factors.values())
        factors = dense
    start = 0
    with torch.no_grad():
        for weight in script.scored_weights(network):
            part = torch.from_numpy(factors[start : start + weight.numel()])
            weight.mul_(part.reshape(weight.shape))
            start += weight.numel()
    return network


def _gradient_flow(network: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    gradient = torch.autograd.grad(script.loss(network, *batch), script.scored_weights(network))
    return sum(float((g * g).sum()) for g in gradient)


# What the package returns.


def test_names_dtype_and_shape():
    scores = cops_lp.sample_scores()
    assert list(scores) == NAMES
    for score in scores.values():
        assert score.dtype == np.float32
        assert score.shape == (77_072,)
        assert np.isfinite(score).all()


def test_signs():
    scores = cops_lp.sample_scores()
    for name in ("magnitude", "snip", "synflow"):
        assert (scores[name] > 0.0).all()
    assert 0.4 < (scores["grasp"] < 0.0).mean() < 0.6


def test_arrays_belong_to_the_caller():
    first = cops_lp.sample_scores()
    expected = first["grasp"].copy()
    first["grasp"][:] = 0.0
    del first["snip"]
    second = cops_lp.sample_scores()
    assert list(second) == NAMES
    np.testing.assert_array_equal(second["grasp"], expected)


def test_needs_neither_torch_nor_scikit_learn():
    code = (
        "import sys, cops_lp; cops_lp.sample_scores();"
        "print([m for m in ('torch', 'sklearn', 'scipy', 'numba') if m in sys.modules])"
    )
    package_parent = str(Path(cops_lp.__file__).resolve().parents[1])
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": package_parent},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def test_sources_states_the_hash_and_size_of_the_file():
    data = files("cops_lp").joinpath("data")
    shipped = data.joinpath("sample_scores.npz").read_bytes()
    sources = data.joinpath("SOURCES.md").read_text(encoding="utf-8")
    assert hashlib.sha256(shipped).hexdigest() in sources
    assert f"{len(shipped):,} bytes" in sources


# The script reproduces it.


def test_script_computes_the_shipped_scores(computed):
    assert script.differences(cops_lp.sample_scores(), computed) == []


def test_two_runs_give_the_same_bytes(computed, tmp_path):
    first = script.write_npz(tmp_path / "first.npz", computed)
    second = script.write_npz(tmp_path / "second.npz", script.compute_scores())
    assert first == second
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()


def test_compute_leaves_the_callers_torch_state_alone(computed, monkeypatch):
    monkeypatch.setattr(script, "IMAGES", 8)
    torch.manual_seed(5)
    before = torch.random.get_rng_state(), torch.get_num_threads()
    script.compute_scores()
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]
    assert not torch.are_deterministic_algorithms_enabled()


def test_written_file_reads_back(computed, tmp_path):
    script.write_npz(tmp_path / "scores.npz", computed)
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as archive:
        assert archive.files == NAMES
        for name in NAMES:
            np.testing.assert_array_equal(archive[name], computed[name])


def test_check_passes_on_the_shipped_file(computed, monkeypatch, capsys):
    monkeypatch.setattr(script, "compute_scores", lambda: computed)
    assert script.main(["--check"]) == 0
    assert "agrees" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["grasp"].__setitem__(7, 1.0), "grasp: 1 of 77072 entries differ"),
        (lambda s: s["grasp"].__imul__(-1), "grasp: "),
        (lambda s: s["snip"].__setitem__(7, np.nan), "snip: 1 of 77072 entries differ"),
        (lambda s: s.update(synflow=s["synflow"][1:]), "synflow: shipped float32[77071]"),
        (lambda s: s.update(synflow=s["synflow"].astype(float)), "synflow: shipped float64"),
        (lambda s: s.pop("magnitude"), "names: shipped snip, grasp, synflow; computed magn"),
    ],
)
def test_check_fails_on_a_changed_file(change, message, computed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "compute_scores", lambda: computed)
    changed = {name: score.copy() for name, score in computed.items()}
    change(changed)
    script.write_npz(tmp_path / "changed.npz", changed)
    assert script.main(["--check", "--output", str(tmp_path / "changed.npz")]) == 1
    error = capsys.readouterr().err
    assert "changed.npz differs" in error
    assert message in error


def test_check_without_a_file(tmp_path, capsys):
    assert script.main(["--check", "--output", str(tmp_path / "none.npz")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_output_is_written(computed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "compute_scores", lambda: computed)
    path = tmp_path / "scores.npz"
    assert script.main(["--output", str(path)]) == 0
    assert hashlib.sha256(path.read_bytes()).hexdigest() in capsys.readouterr().out


# The scores are what their formulas say.


def test_weights_are_conv_and_linear_in_parameter_order(network):
    named = [p for name, p in network.named_parameters() if p.ndim > 1]
    scored = script.scored_weights(network)
    assert len(scored) == len(named) == 10
    assert all(a is b for a, b in zip(scored, named, strict=True))


def test_magnitude_is_the_absolute_weight(computed, network):
    flat = torch.cat([w.detach().reshape(-1) for w in script.scored_weights(network)]).numpy()
    np.testing.assert_array_equal(computed["magnitude"], np.abs(flat))  # weights are float32


def test_snip_is_the_losss_derivative_by_a_factor_on_the_weight(network, few):
    snip = script.snip(script.build_network(), *few).numpy()
    step = 1e-6
    chosen = [*np.argsort(snip)[-3:], *np.random.default_rng(0).choice(snip.size, 5)]
    for q in chosen:
        up, down = (
            float(script.loss(_scale(script.build_network(), {q: 1.0 + e}), *few).detach())
            for e in (step, -step)
        )
        slope = abs(up - down) / (2.0 * step)
        assert slope == pytest.approx(snip[q], rel=1e-4, abs=1e-8)


def test_grasp_is_half_the_gradient_flow_lost_per_share_removed(few):
    grasp = script.grasp(script.build_network(), *few).numpy()
    step = 1e-8  # short: the gradient jumps where a ReLU switches
    order = np.argsort(grasp)
    for q in (*order[:3], *order[-3:]):
        less, more = (
            _gradient_flow(_scale(script.build_network(), {q: 1.0 - e}), few) for e in (step, -step)
        )
        assert (less - more) / (2.0 * step) == pytest.approx(-2.0 * grasp[q], rel=1e-3)


def test_grasp_along_a_direction_that_moves_every_weight(few):
    grasp = script.grasp(script.build_network(), *few).numpy()
    direction = np.random.default_rng(0).choice([-1.0, 1.0], grasp.size)
    step = 1e-9
    less, more = (
        _gradient_flow(_scale(script.build_network(), 1.0 - e * direction), few)
        for e in (step, -step)
    )
    assert (less - more) / (2.0 * step) == pytest.approx(-2.0 * direction @ grasp, rel=1e-3)


def test_removing_low_grasp_raises_gradient_flow_and_removing_high_lowers_it(computed):
    batch = script.load_images()
    base = _gradient_flow(script.build_network(), batch)
    order = np.argsort(computed["grasp"])
    for q in order[:3]:
        assert _gradient_flow(_scale(script.build_network(), {q: 0.0}), batch) > base
    for q in order[-3:]:
        assert _gradient_flow(_scale(script.build_network(), {q: 0.0}), batch) < base


def _positive_flow(weights: list[torch.Tensor]) -> float:
    """R of SynFlow, written out: |θ|, no biases, BatchNorm a division, ReLU of what is ≥ 0."""
    norm = (1.0 + 1e-5) ** -0.5
    w = iter([weight.detach().abs() for weight in weights])
    x = norm * conv2d(torch.ones(1, 1, 8, 8).double(), next(w), padding=1)
    for stride in (1, 2, 2):
        y = norm * conv2d(x, next(w), stride=stride, padding=1)
        y = norm * conv2d(y, next(w), padding=1)
        x = y + (x if stride == 1 else norm * conv2d(x, next(w), stride=stride))
    return float((x.mean(dim=(2, 3)) @ next(w).T).sum())


def test_synflow_is_what_the_flow_loses_with_the_weight(computed, network):
    synflow = computed["synflow"]
    flow = _positive_flow(script.scored_weights(network))
    chosen = [*np.argsort(synflow)[-3:], *np.random.default_rng(0).choice(synflow.size, 10)]
    for q in chosen:
        without = _positive_flow(script.scored_weights(_scale(script.build_network(), {q: 0.0})))
        assert flow - without == pytest.approx(float(synflow[q]), rel=1e-4, abs=1e-12 * flow)


def test_synflow_is_conserved_through_the_first_and_the_last_layer(computed, network):
    synflow = computed["synflow"].astype(np.float64)
    flow = _positive_flow(script.scored_weights(network))
    assert synflow[:144].sum() == pytest.approx(flow, rel=1e-6)
    assert synflow[-640:].sum() == pytest.approx(flow, rel=1e-6)


def test_synflow_reads_no_data_and_changes_no_weight(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    script.synflow(network)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
