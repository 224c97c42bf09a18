"""Small fully connected networks of one shape, one for each seed, trained all at once: a layer is one batched product.

Each seed has its own examples, first weights and order of examples, so that it learns what it would learn alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from tasks.seeding import rng_of

Activation = Literal["tanh", "relu"]
ACTIVATIONS: Mapping[Activation, nn.Module] = {"tanh": nn.Tanh(), "relu": nn.ReLU()}


@dataclass(frozen=True, eq=False)
class Examples:
    """What the networks learn from. A target that is not known counts nowhere."""

    inputs: Tensor  # [S, N, I]
    targets: Tensor  # [S, N, O]
    known: Tensor | None = None  # [S, N, O] bool; None = all of them


@dataclass(frozen=True)
class Training:
    """How a network learns: Adam on the squared error, all examples once an epoch, in a new order."""

    activation: Activation = "tanh"
    hidden: tuple[int, ...] = (128, 128, 128, 128)
    batch: int = 32
    rate: float = 1.0e-3

    def steps(self, epochs: int, examples: int) -> int:
        """Of so many epochs; what does not fill a batch waits for the next epoch's order."""
        return epochs * max(1, examples // self.batch)


class Networks(nn.Module):
    """One network for each generator, of which it draws its weights: uniform in +-1/sqrt(in), torch's own default."""

    def __init__(self, sizes: Sequence[int], activation: Activation, rngs: Sequence[np.random.Generator]) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for wide, out in pairwise(sizes):
            drawn = np.stack([rng.uniform(-1, 1, (wide + 1, out)) for rng in rngs]) / np.sqrt(wide)
            layer = torch.from_numpy(drawn.astype(np.float32))
            self.weights.append(nn.Parameter(layer[:, :-1].clone()))
            self.biases.append(nn.Parameter(layer[:, -1:].clone()))

    def forward(self, inputs: Tensor) -> Tensor:
        """``[S, N, O]`` of ``[S, N, I]``."""
        found = inputs
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            found = torch.baddbmm(bias, self.activation(found) if i else found, weight)
        return found


def fit(examples: Examples, seeds: Sequence[int], role: str, training: Training, steps: int) -> Networks:
    """The networks of all seeds after so many steps. Equal seeds and roles draw equal weights and orders."""
    count, inputs = examples.inputs.shape[1:]
    rngs = [rng_of("toy", role, seed) for seed in seeds]
    networks = Networks((inputs, *training.hidden, examples.targets.shape[2]), training.activation, rngs)
    optimizer = torch.optim.Adam(networks.parameters(), lr=training.rate, fused=True)
    known = torch.ones_like(examples.targets) if examples.known is None else examples.known.float()
    rows = torch.arange(len(seeds))[:, None]
    for _, chosen in zip(range(steps), _batches(rngs, count, min(training.batch, count)), strict=False):
        counted = known[rows, chosen]
        error = (networks(examples.inputs[rows, chosen]) - examples.targets[rows, chosen]).square() * counted
        loss = (error.sum(1) / counted.sum(1).clamp(min=1)).sum()  # of each seed and output its own mean
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return networks


def answers(networks: Networks, inputs: Tensor) -> Tensor:
    """What the networks say to ``[S, N, I]``."""
    with torch.inference_mode():
        found: Tensor = networks(inputs)
        return found


def _batches(rngs: Sequence[np.random.Generator], count: int, batch: int) -> Iterator[Tensor]:
    """Endlessly ``[S, batch]``: which examples each seed looks at next."""
    while True:
        order = torch.from_numpy(np.stack([rng.permutation(count) for rng in rngs]))
        for start in range(0, count - batch + 1, batch):
            yield order[:, start : start + batch]
