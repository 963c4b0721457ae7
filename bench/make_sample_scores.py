"""Make the scores that ``cops_lp.sample_scores()`` returns.

A small residual network with BatchNorm at initialization, scored four ways on the first 512
images of scikit-learn's digits, taken as one batch. For all scores higher means "keep":

- ``magnitude``: |θ|
- ``snip``: |θ ⊙ ∂L/∂θ| (Lee et al. 2019, arXiv:1810.02340), not normalized
- ``grasp``: θ ⊙ Hg, signed (Wang et al. 2020, arXiv:2002.07376), not normalized
- ``synflow``: |θ| ⊙ ∂R/∂|θ| (Tanaka et al. 2020, arXiv:2006.05467), one pass

Usage::

    python -m bench.make_sample_scores                # write cops_lp/data/sample_scores.npz
    python -m bench.make_sample_scores --output FILE  # write FILE
    python -m bench.make_sample_scores --check        # compare with the shipped file

The weights are float32 numbers; everything after is float64 and cast to float32 at the end.
On one machine the file is the same to the bit each time; for others ``--check`` allows for
rounding (`RTOL`, `ATOL`).
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

SEED = 0
IMAGES = 512
WIDTHS = (16, 32, 64)
SHIPPED = Path(__file__).resolve().parents[1] / "cops_lp" / "data" / "sample_scores.npz"
RTOL = 1e-4
ATOL = 1e-4
"""Of a score's root mean square: entries of `snip` and `grasp` are differences of larger
numbers, so an error relative to the entry alone would ask too much of the small ones."""


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or width_in != width_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width_in, width_out, 1, stride, bias=False), nn.BatchNorm2d(width_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width_in, h, w) to (n, width_out, h / stride, w / stride)."""
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class Network(nn.Module):
    """ResNet-8 for 8x8 images of one channel: 77,072 weights in Conv and Linear layers."""

    def __init__(self) -> None:
        super().__init__()
        first, *rest = WIDTHS
        self.conv = nn.Conv2d(1, first, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(first)
        wider = [Block(*widths, 2) for widths in zip(WIDTHS[:-1], rest, strict=True)]
        self.blocks = nn.Sequential(Block(first, first, 1), *wider)
        self.linear = nn.Linear(WIDTHS[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 1, 8, 8) to logits (n, 10)."""
        y = self.blocks(functional.relu(self.norm(self.conv(x))))
        logits: Tensor = self.linear(y.mean(dim=(2, 3)))
        return logits


def build_network(seed: int = SEED) -> Network:
    """Return the network at initialization, in float64.

    Conv and Linear weights: He normal by fan-in, drawn from `seed` in float64 and rounded to
    float32, so that processors which differ in a draw's last bit still agree. Biases 0;
    BatchNorm scale 1, shift 0, running mean 0, running variance 1. The caller's random state
    is left alone.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = Network().double()
        torch.manual_seed(seed)
        for weight in scored_weights(network):
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
            weight.copy_(weight.float())
        network.linear.bias.zero_()
    return network


def scored_weights(network: nn.Module) -> list[Tensor]:
    """Return the weights of Conv and Linear layers in parameter order: no bias, no norm."""
    return [
        module.weight for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)
    ]


def load_images() -> tuple[Tensor, Tensor]:
    """Return the first digits: images (512, 1, 8, 8) in [0, 1], float64, and labels (512,)."""
    digits = load_digits()
    images = torch.from_numpy(digits.data[:IMAGES] / 16.0).reshape(-1, 1, 8, 8)
    return images, torch.from_numpy(digits.target[:IMAGES].astype(np.int64))


def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return L, the mean cross-entropy over one batch, BatchNorm using the batch's statistics."""
    return functional.cross_entropy(network.train()(images), labels)


def magnitude(network: nn.Module) -> Tensor:
    """Return |θ|, flat."""
    return _flat(scored_weights(network)).abs()


def snip(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return |θ ⊙ ∂L/∂θ|, flat.

    θ_q ∂L/∂θ_q is the derivative of the loss by a factor on weight q (Lee et al. 2019). The
    paper divides by the sum of all scores; that changes no mask and is left out.
    """
    theta = scored_weights(network)
    gradient = torch.autograd.grad(loss(network, images, labels), theta)
    return (_flat(theta) * _flat(gradient)).abs()


def grasp(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return θ ⊙ Hg, flat and signed: higher means "keep".

    g = ∂L/∂θ and H = ∂²L/∂θ² over the scored weights. Removing weight q moves θ by
    δ = −θ_q e_q, which changes the gradient flow to first order by

        (gᵀg)(θ + δ) − (gᵀg)(θ) ≈ 2 δᵀHg = −2 θ_q (Hg)_q.

    Wang et al. 2020 call S = −θ ⊙ Hg the score (half of that change) and remove the weights
    where it is *highest*: those whose removal reduces the gradient flow least, or raises it
    most. Higher = keep is therefore −S = θ ⊙ Hg. A weight with a low value here is one whose
    removal raises gᵀg; one with a high value carries gradient flow.

    The paper's public code divides the logits by 200 and normalizes by the absolute sum of
    all scores; neither is done here (the second changes no mask).
    """
    theta = scored_weights(network)
    gradient = torch.autograd.grad(loss(network, images, labels), theta, create_graph=True)
    flow = torch.stack([(g * g.detach()).sum() for g in gradient]).sum()
    hessian_gradient = torch.autograd.grad(flow, theta)
    return _flat(theta) * _flat(hessian_gradient)


def synflow(network: nn.Module) -> Tensor:
    """Return |θ| ⊙ ∂R/∂|θ|, flat, after one pass.

    R is the sum of the logits for an image of ones through the network with every parameter
    and buffer replaced by its absolute value (Tanaka et al. 2020). As in the paper's public
    code BatchNorm is in evaluation mode, so that at initialization (running mean 0, running
    variance 1) it divides by √(1 + 1e-5) and nothing else. R is linear in each single weight,
    so the score is what R loses when the weight is removed.
    """
    positive = deepcopy(network).eval()
    with torch.no_grad():
        for tensor in positive.state_dict().values():
            tensor.abs_()
    theta = scored_weights(positive)
    gradient = torch.autograd.grad(positive(torch.ones(1, 1, 8, 8).double()).sum(), theta)
    return _flat(theta) * _flat(gradient)


def compute_scores() -> dict[str, np.ndarray]:
    """Return the four scores by name, float32, shape (77072,), single-threaded."""
    images, labels = load_images()
    with _deterministic():
        scores = {
            "magnitude": magnitude(build_network()),
            "snip": snip(build_network(), images, labels),
            "grasp": grasp(build_network(), images, labels),
            "synflow": synflow(build_network()),
        }
    return {name: score.numpy().astype(np.float32) for name, score in scores.items()}


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Write an uncompressed .npz whose bytes depend on the arrays alone; return its SHA-256."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # the same on every system
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w") as file:
                np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def differences(shipped: Mapping[str, np.ndarray], computed: Mapping[str, np.ndarray]) -> list[str]:
    """Say in what way the shipped scores differ from the computed ones; empty when they agree."""
    found = []
    if list(shipped) != list(computed):
        found.append(f"names: shipped {', '.join(shipped)}; computed {', '.join(computed)}")
    for name in (name for name in computed if name in shipped):
        old, new = shipped[name], computed[name]
        if old.shape != new.shape or old.dtype != new.dtype:
            found.append(
                f"{name}: shipped {old.dtype}{list(old.shape)}, "
                f"computed {new.dtype}{list(new.shape)}"
            )
            continue
        exact = new.astype(np.float64)
        error = np.abs(old - exact)
        allowed = RTOL * np.abs(exact) + ATOL * np.sqrt(np.mean(exact**2))
        bad = ~(error <= allowed)  # NaN is bad
        if bad.any():
            worst = int(np.argmax(np.where(bad, error, -1.0)))
            found.append(
                f"{name}: {int(bad.sum())} of {bad.size} entries differ beyond rounding, most at "
                f"index {worst}: shipped {old[worst]:.9g}, computed {new[worst]:.9g}"
            )
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.make_sample_scores",
        description="Make the scores that cops_lp.sample_scores() returns.",
    )
    parser.add_argument("--output", type=Path, default=SHIPPED, help="the .npz (default: shipped)")
    parser.add_argument("--check", action="store_true", help="compare with it, write nothing")
    args = parser.parse_args(argv)
    if args.check and not args.output.is_file():
        print(f"{args.output} does not exist; run without --check to make it", file=sys.stderr)
        return 2
    computed = compute_scores()
    if args.check:
        with np.load(args.output, allow_pickle=False) as archive:
            shipped = {name: archive[name] for name in archive.files}
        found = differences(shipped, computed)
        if found:
            print(f"{args.output} differs from what this script computes:", file=sys.stderr)
            print("\n".join(f"  {line}" for line in found), file=sys.stderr)
            return 1
        same = all(np.array_equal(shipped[name], computed[name]) for name in computed)
        print(f"{args.output} agrees{' to the bit' if same else ', up to rounding'}")
        return 0
    digest = write_npz(args.output, computed)
    print(f"wrote {args.output}, SHA-256 {digest}")
    return 0


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


@contextmanager
def _deterministic() -> Iterator[None]:
    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)


if __name__ == "__main__":
    sys.exit(main())
