"""A network that only takes time: what mtal bench --stub-ms measures instead of a real one.

It burns a given time of one thread for each image and pass, then answers with the fixed weights of ``SampleNetwork``.
So its rate on one worker is known beforehand, and what is left is how the work is handed out. It learns nothing.
"""

import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from strategies.sample_pool import SampleNetwork
from tasks.classes import ClassMap
from tasks.types import Batch, Losses, Prediction


class StubNetwork(nn.Module):
    """``ms`` milliseconds of a thread's CPU time an image and pass."""

    stride = 8

    def __init__(self, classes: ClassMap, tasks: Sequence[str], ms: float) -> None:
        super().__init__()
        self.network, self.seconds = SampleNetwork(classes), ms / 1000
        self.provides = self.network.provides & {*tasks, "features", "predicted_loss", "detection.dense"}
        self.nothing = nn.Parameter(torch.zeros(()))  # a network has a device

    def forward(self, batch: Batch) -> Losses:
        """Nothing: ``mtal bench`` times no training steps of a stub, and anybody else is told."""
        raise NotImplementedError("the stub network is for scoring and cannot be trained")

    def predict(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        end = time.thread_time() + self.seconds * len(images)
        while time.thread_time() < end:
            pass
        return self.network.predict(images, sorted(self.provides) if heads is None else heads, inputs)
