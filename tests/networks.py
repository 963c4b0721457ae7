"""Small networks and real data for tests of scores."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

LABELS = 10


def digits(count: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return the first digits, (count, 1, 8, 8) in [0, 1], and their labels."""
    data = load_digits()
    images = torch.from_numpy(data.data[:count] / 16.0).reshape(-1, 1, 8, 8).to(dtype)
    return images, torch.from_numpy(data.target[:count].astype(np.int64))


def seeded(build: Callable[[], nn.Module], dtype: torch.dtype, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().to(dtype)


def smooth(dtype: torch.dtype = torch.float64) -> nn.Module:
    """A convolutional network with tanh and BatchNorm: all derivatives exist."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3, stride=2),
            nn.BatchNorm2d(3),
            nn.Tanh(),
            nn.ConvTranspose2d(3, 2, 2, bias=False),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(2 * 4 * 4, LABELS),
        ),
        dtype,
    )


def rectified(dtype: torch.dtype = torch.float64) -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, stride=2, groups=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * 3 * 3, LABELS),
        ),
        dtype,
    )


class Attention(nn.Module):
    """One block of a transformer over the rows of an image, its Linear layers called as such."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 12), nn.Linear(12, width)
        self.head = nn.Linear(width, LABELS)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1, 2)  # (n, 8 rows, 8)
        heads = (layer(x).unsqueeze(1) for layer in (self.query, self.key, self.value))
        x = x + nn.functional.scaled_dot_product_attention(*heads).squeeze(1)
        x = x + self.down(nn.functional.gelu(self.up(self.norm(x))))
        return self.head(x.mean(1))


class Busy(nn.Module):
    """Does in its forward whatever a network may do: count, draw, keep, write to buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)
        self.first = nn.Linear(36, 16)
        self.again = nn.Linear(16, 16)
        self.tied = nn.Linear(16, 16)
        self.tied.weight = self.again.weight
        self.table = nn.Embedding(4, 16, max_norm=0.1)  # writes to its weight when it runs
        self.last = nn.Linear(16, LABELS)
        self.register_buffer("seen", torch.zeros(2))
        self.register_buffer("hidden", torch.ones(1), persistent=False)
        self.calls = 0
        self.kept: list[int] = []
        self.remembered: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.kept.append(self.calls)
        self.seen += 1.0
        self.hidden = self.hidden * 2.0
        noise = random.random() + float(np.random.rand())  # noqa: NPY002
        y = torch.relu(self.first(self.drop(torch.relu(self.norm(self.conv(x)))).flatten(1)))
        y = self.tied(torch.tanh(self.again(y)))
        self.remembered = y
        rows = torch.arange(len(y), device=y.device) % 4
        return self.last(y + self.table(rows) + 1e-3 * noise)
