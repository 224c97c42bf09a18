"""A model without a network: deterministic answers from pixels, a loss with one parameter. For tests of any room."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from strategies.sample_pool import CLASSES, SampleNetwork
from tasks.classes import ClassMap
from tasks.nets.presets import small
from tasks.types import Batch, Losses, Prediction


class Toy(nn.Module):
    """Implements ``tasks.base.Model``. Image sides must be multiples of 16; stride 4; boxes in cells of 16 pixels."""

    def __init__(self, classes: ClassMap = CLASSES, provides: Sequence[str] | None = None) -> None:
        super().__init__()
        self.network = SampleNetwork(classes)
        self.provides = self.network.provides if provides is None else frozenset(provides)
        self.mean_colour = torch.tensor([0.4, 0.5, 0.6])
        self.bias = nn.Parameter(torch.zeros(()))
        self.calls: list[tuple[int, ...]] = []  # the shape of every batch that was predicted

    def forward(self, batch: Batch) -> Losses:
        tasks = [task for task in batch.targets if task in self.provides]
        labeled = {
            t: torch.tensor([x is not None for x in batch.targets[t]], device=batch.images.device) for t in tasks
        }
        error = (batch.images.mean((1, 2, 3)) - self.bias).square()
        return Losses({f"{t}.toy": error * labeled[t] for t in tasks}, labeled)

    def predict(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        self.calls.append(tuple(images.shape))
        wanted = self.provides if heads is None else set(heads)
        assert wanted <= self.provides, f"asked for {sorted(wanted - self.provides)}"
        return self.network.predict(images, sorted(wanted), inputs)


class Own(nn.Module):
    """A network that somebody brings: the three names of the contract, and nothing else of ours to be seen."""

    def __init__(self, classes: ClassMap, tasks: Sequence[str], *, channels: int = 8) -> None:
        super().__init__()
        self.inner = small(classes, tasks, width=channels)
        self.provides = frozenset(tasks)

    def forward(self, batch: Batch) -> Losses:
        losses: Losses = self.inner(batch)
        return losses

    def predict(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        return self.inner.predict(images, heads, inputs)


class Sensing(Own):
    """One that reads a sensor which no data set has."""

    inputs = ("rgb", "lidar")
